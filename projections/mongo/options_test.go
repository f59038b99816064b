package mongo

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"roombook/projections"
)

// Whatever the address asks for, reads see what is durably written, and the search for a server is short.
func TestOptions(t *testing.T) {
	for _, preferred := range []string{
		"",
		"?readPreference=secondaryPreferred&readConcernLevel=local&w=1&serverSelectionTimeoutMS=60000",
		"?readPreference=nearest&maxStalenessSeconds=120&serverSelectionTimeoutMS=500",
	} {
		uri := "mongodb://127.0.0.1/lists" + preferred
		address, err := connstring.ParseAndValidate(uri)
		if err != nil {
			t.Fatal(err)
		}
		o := clientOptions(uri, address)
		if err := o.Validate(); err != nil {
			t.Error(err)
		}
		if _, bounded := o.ReadPreference.MaxStaleness(); o.ReadPreference.Mode() != readpref.PrimaryMode || bounded {
			t.Errorf("%q: reads are of %v", preferred, o.ReadPreference)
		}
		if o.ReadConcern.Level != "majority" || o.WriteConcern.W != "majority" {
			t.Errorf("%q: reads are of %v, writes are acknowledged by %v", preferred, o.ReadConcern, o.WriteConcern)
		}
		if *o.ServerSelectionTimeout > 2*time.Second {
			t.Errorf("%q: a server is looked for %v", preferred, *o.ServerSelectionTimeout)
		}
	}
}

// failedSelections counts how often a server was looked for in vain, from the driver's log.
type failedSelections struct{ n atomic.Int64 }

func (f *failedSelections) Info(_ int, message string, _ ...any) {
	if strings.HasPrefix(message, "Server selection failed") {
		f.n.Add(1)
	}
}

func (f *failedSelections) Error(error, string, ...any) {}

// While there is no server, a query looks for one once: each look takes as long as a client can be expected to wait.
func TestAServerIsLookedForOnce(t *testing.T) {
	const uri = "mongodb://127.0.0.1:1/lists?serverSelectionTimeoutMS=50"
	address, err := connstring.ParseAndValidate(uri)
	if err != nil {
		t.Fatal(err)
	}
	var failed failedSelections
	logged := options.Logger().SetSink(&failed).SetComponentLevel(options.LogComponentServerSelection, options.LogLevelDebug)
	store, err := connect(clientOptions(uri, address).SetLoggerOptions(logged), "lists")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	p := projections.All()[0]
	if found, err := store.Find(t.Context(), p.Name, p.Schema, projections.Selection{Limit: 1}); err == nil || failed.n.Load() != 1 {
		t.Errorf("%+v, %v; a server was looked for %d times", found, err, failed.n.Load())
	}
}

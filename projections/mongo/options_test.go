package mongo

import (
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"
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

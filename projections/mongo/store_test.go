package mongo_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"roombook/projections"
	"roombook/projections/mongo"
	"roombook/projections/mongo/mongotest"
	"roombook/projections/storetest"
)

// address is the address of the server: the one that ROOMBOOK_TEST_MONGO names, or that of a FerretDB that the tests start.
var address string

func TestMain(m *testing.M) {
	code, err := mongotest.Run("ferretdb", func(at string) int {
		address = at
		code := m.Run()
		if code == 0 {
			if err := goleak.Find(goleak.IgnoreTopFunction("os/exec.(*Cmd).Start.func2")); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
		return code
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// open returns a store in a database of its own, which is dropped at the end of the test.
func open(t *testing.T) projections.Store {
	return openBy(t, func(uri string) (*mongo.Store, error) { return mongo.OpenPatient(uri, nil) })
}

func openBy(t *testing.T, open func(uri string) (*mongo.Store, error)) projections.Store {
	t.Helper()
	uri, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	uri.Path = "/test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	store, err := open(uri.String())
	if err != nil {
		t.Fatal(err)
	}
	databases.Store(store, uri.Path[1:])
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		if err := drop(uri.String(), uri.Path[1:]); err != nil {
			t.Error(err)
		}
	})
	return store
}

// databases maps stores to the names of their databases.
var databases sync.Map

// beside returns direct access to the database of a store.
func beside(t *testing.T, store projections.Store) *driver.Database {
	t.Helper()
	name, ok := databases.Load(store)
	if !ok {
		t.Fatal("not a store of these tests")
	}
	client, err := driver.Connect(options.Client().ApplyURI(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return client.Database(name.(string))
}

func drop(uri, database string) error {
	ctx := context.Background()
	client, err := driver.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return err
	}
	return errors.Join(client.Database(database).Drop(ctx), client.Disconnect(ctx))
}

func TestStore(t *testing.T) {
	storetest.Run(t, open, func(t *testing.T, store projections.Store) storetest.Beside { return collections{beside(t, store)} })
}

// collections is a [storetest.Beside].
type collections struct{ *driver.Database }

func (b collections) Indexes(ref projections.Ref) (int, error) {
	indexes, err := b.Collection(ref.String()).Indexes().ListSpecifications(context.Background())
	return len(indexes), err
}

func (b collections) Unique(ref projections.Ref) error {
	unique := driver.IndexModel{Keys: bson.D{{Key: "startDtm", Value: 1}}, Options: options.Index().SetUnique(true)}
	_, err := b.Collection(ref.String()).Indexes().CreateOne(context.Background(), unique)
	return err
}

func TestWorkers(t *testing.T) { storetest.RunWorkers(t, open) }

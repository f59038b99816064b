package mongo

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"roombook/commands/accounts/directory"
	"roombook/commands/accounts/directory/directorytest"
	"roombook/projections/mongo/mongotest"
)

// address is the address of the server: the one that ROOMBOOK_TEST_MONGO names, or that of a FerretDB that the tests start.
var address string

func TestMain(m *testing.M) {
	code, err := mongotest.Run("../../../../projections/mongo/ferretdb", func(at string) int {
		address = at
		return m.Run()
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// open returns a store in a database of its own, which is dropped at the end of the test.
func open(t *testing.T) directory.Store {
	t.Helper()
	before, after, _ := strings.Cut(address, "?")
	uri := strings.TrimSuffix(before, "/") + "/test_" + strings.ReplaceAll(uuid.NewString(), "-", "") + "?" + after
	s, err := Open(uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.people.Database().Drop(context.Background()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) { directorytest.Run(t, open) }

// Processes that start at the same time prepare the same database.
func TestPrepareAgain(t *testing.T) {
	s := open(t).(*Store)
	again, err := Open(strings.TrimSuffix(address, "/") + "/" + s.people.Database().Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Prepare(t.Context()); err != nil {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

package mongo_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"roombook/projections"
	"roombook/projections/mongo"
	"roombook/projections/storetest"
)

// address is that of the server that the tests use: the one that ROOMBOOK_TEST_MONGO names, or a FerretDB of their own.
var address string

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	address = os.Getenv("ROOMBOOK_TEST_MONGO")
	if address == "" {
		server, err := startFerretDB()
		if err != nil {
			return 0, fmt.Errorf("FerretDB, which serves these tests where ROOMBOOK_TEST_MONGO names no server: %w", err)
		}
		defer server.stop()
		address = server.address
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(goleak.IgnoreTopFunction("os/exec.(*Cmd).Start.func2")); err != nil {
			return 1, err
		}
	}
	return code, nil
}

// ferretDB is a server process.
type ferretDB struct {
	address string
	command *exec.Cmd
	stdin   io.Closer
	folder  string
}

// startFerretDB starts the server. The first time it is built, which takes a minute or two; then Go has it in its cache.
func startFerretDB() (_ *ferretDB, err error) {
	folder, err := os.MkdirTemp("", "ferretdb")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}()
	command := exec.Command("go", "run", ".", folder)
	command.Dir = "ferretdb"
	command.Env = append(os.Environ(), "GOWORK=off")
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	// Bounded below the ten minutes that tests have, so that it is this that is reported.
	tooLong := time.AfterFunc(8*time.Minute, func() { command.Process.Kill() })
	defer tooLong.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, command.Wait())
	}
	return &ferretDB{address: strings.TrimSpace(line), command: command, stdin: stdin, folder: folder}, nil
}

func (f *ferretDB) stop() {
	f.stdin.Close()
	if err := f.command.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "FerretDB ended with", err)
	}
	os.RemoveAll(f.folder)
}

// open gives a store in a database of its own, which is removed at the end of the test.
func open(t *testing.T) projections.Store {
	t.Helper()
	uri, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	uri.Path = "/test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	store, err := mongo.Open(uri.String())
	if err != nil {
		t.Fatal(err)
	}
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

func drop(uri, database string) error {
	ctx := context.Background()
	client, err := driver.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return err
	}
	return errors.Join(client.Database(database).Drop(ctx), client.Disconnect(ctx))
}

func TestStore(t *testing.T) { storetest.Run(t, open) }

func TestWorkers(t *testing.T) { storetest.RunWorkers(t, open) }

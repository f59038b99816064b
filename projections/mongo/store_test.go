package mongo_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

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

// startFerretDB builds the server, which Go caches, and starts it. A first build takes a minute or two.
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
	binary := filepath.Join(folder, "server")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	// Under an interrupted test the build must not stay behind half-way: it is bounded below the time that tests have.
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	build.Dir = "ferretdb"
	build.Env = append(os.Environ(), "GOWORK=off")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, output)
	}

	data := filepath.Join(folder, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		return nil, err
	}
	command := exec.Command(binary, data)
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

func open(t testing.TB) *mongo.Store {
	t.Helper()
	store, err := mongo.Open(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) projections.Store { return open(t) })
}

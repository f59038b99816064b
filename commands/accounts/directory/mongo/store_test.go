package mongo

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/commands/accounts/directory"
	"roombook/commands/accounts/directory/directorytest"
)

// address is the address of the server: the one that ROOMBOOK_TEST_MONGO names, or that of a FerretDB that the tests start.
var address string

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if address = os.Getenv("ROOMBOOK_TEST_MONGO"); address != "" {
		return m.Run(), nil
	}
	folder, err := os.MkdirTemp("", "ferretdb")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	server := exec.Command("go", "run", ".", folder, "127.0.0.1:0")
	server.Dir = "../../../../projections/mongo/ferretdb"
	server.Env = append(os.Environ(), "GOWORK=off")
	server.Stderr = os.Stderr
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the tests, which then close its input
	stdin, err := server.StdinPipe()
	if err != nil {
		return 0, err
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := server.Start(); err != nil {
		return 0, err
	}
	defer func() {
		stdin.Close()
		if ended := server.Wait(); ended != nil && err == nil {
			err = fmt.Errorf("FerretDB ended with %w", ended)
		}
	}()
	// The first time it is built, which takes a minute or two.
	tooLong := time.AfterFunc(8*time.Minute, func() { stdout.Close() })
	defer tooLong.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("FerretDB, which serves these tests where ROOMBOOK_TEST_MONGO names no server: %w", err)
	}
	address = strings.TrimSpace(line)
	return m.Run(), nil
}

// open returns a store in a database of its own, which is dropped at the end of the test.
func open(t *testing.T) directory.Store {
	t.Helper()
	before, after, _ := strings.Cut(address, "?")
	uri := strings.TrimSuffix(before, "/") + "/test_" + strings.ReplaceAll(uuid.NewString(), "-", "") + "?" + after
	s, err := Open(t.Context(), uri)
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
	return s
}

func TestStore(t *testing.T) { directorytest.Run(t, open) }

// Processes that start at the same time prepare the same database.
func TestOpenAgain(t *testing.T) {
	s := open(t).(*Store)
	again, err := Open(t.Context(), strings.TrimSuffix(address, "/")+"/"+s.people.Database().Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

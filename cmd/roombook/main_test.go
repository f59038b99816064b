package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"roombook/eventstore/eventstoretest"
)

// TestMain builds the program for the tests that run it as a process, and runs it in this process for scripts.
func TestMain(m *testing.M) {
	testscript.Main(builtFirst{m}, map[string]func(){
		"roombook": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// builtFirst builds the program before the tests run.
type builtFirst struct{ tests *testing.M }

func (b builtFirst) Run() int {
	dir, err := os.MkdirTemp("", "roombook")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built.path = filepath.Join(dir, "roombook")
	if out, err := exec.Command("go", "build", "-o", built.path, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		return 1
	}
	return b.tests.Run()
}

// TestCommandLine runs the scripts of testdata: what the program says about a wrong command line, environment or folder, and its exit
// code.
func TestCommandLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	store := connectionString(eventstoretest.Serve(t, ""))
	// Scripts run in parallel, after this function has returned.
	t.Cleanup(func() { taken.Close() })
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: func(e *testscript.Env) error {
		e.Setenv("TAKEN", taken.Addr().String())
		e.Setenv("STORE", store)
		return nil
	}})
}

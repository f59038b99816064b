// Command ferretdb serves MongoDB's protocol over SQLite files, for tests of the MongoDB store where no MongoDB is at hand.
//
//	ferretdb <folder>
//
// It listens on a free port of the loopback interface, prints its mongodb:// address on a line of its own once it answers,
// and ends when its standard input does, so that it never outlives the test that started it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}

func run(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: ferretdb <folder>")
	}
	folder, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: "127.0.0.1:0"},
		Handler:   "sqlite",
		SQLiteURL: (&url.URL{Scheme: "file", Path: folder + "/"}).String(),
		Logger:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	if _, err := fmt.Fprintln(stdout, server.MongoDBURI()); err != nil {
		return err
	}
	closed := make(chan struct{})
	go func() {
		io.Copy(io.Discard, stdin)
		close(closed)
	}()
	select {
	case err := <-ended:
		return err
	case <-closed:
	}
	cancel()
	select {
	case err := <-ended:
		return err
	case <-time.After(5 * time.Second):
		return errors.New("connections are still open after 5 s")
	}
}

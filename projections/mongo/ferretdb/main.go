// Command ferretdb serves MongoDB's protocol over SQLite files, for tests of the MongoDB store where no MongoDB is at hand.
// FerretDB reads and then writes what a command changes, without keeping others off; MongoDB does that atomically, document by
// document, and the store relies on it. So commands are passed on one at a time.
//
//	ferretdb <folder> <host:port>
//
// It prints its mongodb:// address on a line of its own once it answers, and ends when its standard input does, so that it never
// outlives the test that started it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}

func run(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: ferretdb <folder> <host:port>")
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
	ended := make(chan error, 2)
	go func() { ended <- server.Run(ctx) }()
	inner, err := url.Parse(server.MongoDBURI())
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	defer listener.Close()
	turns := &turns{upstream: inner.Host}
	go func() { ended <- turns.serve(listener) }()

	if _, err := fmt.Fprintf(stdout, "mongodb://%s/\n", listener.Addr()); err != nil {
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
		return nil
	}
}

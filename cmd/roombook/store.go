package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"roombook/eventstore"
	"roombook/eventstore/node"
)

// events is the event store that the program runs on: a connection, and the embedded node behind it if this process owns it.
type events struct {
	*eventstore.Store
	node     *node.Node
	listener net.Listener
	served   chan error // how serving the node ended
	stop     context.CancelFunc
	address  string // file that tells other processes where the node listens
}

// openEvents connects to the event store that c names, or starts the embedded one on its data folder.
func openEvents(c storeConfig, log *slog.Logger) (*events, error) {
	if c.eventstore != "" {
		if err := refused(c.eventstore); err != nil {
			return nil, err
		}
		store, err := eventstore.Open(eventstore.Options{ConnectionString: c.eventstore, Logger: log})
		if err != nil {
			return nil, usagef("--eventstore: %w", err)
		}
		return &events{Store: store}, nil
	}
	return startNode(c, c.node, log)
}

// refused asks an event store for a moment whether it refuses this program, which nothing but an operator can change. One that is
// away may come later.
func refused(connectionString string) error {
	store, err := eventstore.Open(eventstore.Options{ConnectionString: connectionString})
	if err != nil {
		return usagef("--eventstore: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err = store.Ping(ctx)
	if refused, ok := errors.AsType[*eventstore.Refused](err); ok {
		return errors.Join(fmt.Errorf("%w: check the user, the password and the user's rights in --eventstore", refused), store.Close())
	}
	return store.Close()
}

// attachEvents is openEvents for a program that only visits: it finds the running owner of the data folder, or opens the
// folder itself.
func attachEvents(c storeConfig, log *slog.Logger) (*events, error) {
	if c.eventstore != "" {
		return openEvents(c, log)
	}
	if _, err := os.Stat(c.eventsDir()); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no data in %s: name the folder with --data, or an event store with --eventstore", c.data)
	}
	e, err := startNode(c, "127.0.0.1:0", log)
	var locked *node.LockedError
	if !errors.As(err, &locked) {
		return e, err
	}
	address, err := os.ReadFile(c.addressFile())
	if err != nil {
		return nil, fmt.Errorf("data folder %s is in use, and where its owner listens is not told: %w", c.data, err)
	}
	store, err := eventstore.Open(eventstore.Options{ConnectionString: connectionString(strings.TrimSpace(string(address))), Logger: log})
	if err != nil {
		return nil, err
	}
	return &events{Store: store}, nil
}

func connectionString(address string) string { return "esdb://" + address + "?tls=false" }

// startNode opens the data folder, starts a node on it at the address and connects to it.
func startNode(c storeConfig, address string, log *slog.Logger) (*events, error) {
	if err := c.makeDataFolder(); err != nil {
		return nil, err
	}
	n, err := node.Open(node.Options{Dir: c.eventsDir(), Logger: log})
	if err != nil {
		var locked *node.LockedError
		if errors.As(err, &locked) {
			return nil, fmt.Errorf("%w: stop the other process, or choose another folder with --data", err)
		}
		return nil, err
	}
	e := &events{node: n, served: make(chan error, 1)}
	if e.listener, err = listen(address, "--node"); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	at := e.listener.Addr().String()
	if e.Store, err = eventstore.Open(eventstore.Options{ConnectionString: connectionString(at), Logger: log}); err != nil {
		return nil, errors.Join(err, e.listener.Close(), n.Close())
	}
	if err := os.WriteFile(c.addressFile(), []byte(at+"\n"), 0o600); err != nil {
		return nil, errors.Join(err, e.Store.Close(), e.listener.Close(), n.Close())
	}
	e.address = c.addressFile()
	ctx, stop := context.WithCancel(context.Background())
	e.stop = stop
	go func() { e.served <- n.Serve(ctx, e.listener) }()
	return e, nil
}

// run waits until ctx ends, or the embedded node fails.
func (e *events) run(ctx context.Context) error {
	if e.node == nil {
		<-ctx.Done()
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.served:
		e.served <- nil // it is told
		return fmt.Errorf("the embedded event store stopped: %w", err)
	}
}

// Close ends the connection and then the embedded node.
func (e *events) Close() error {
	err := e.Store.Close()
	if e.node == nil {
		return err
	}
	e.stop()
	return errors.Join(err, <-e.served, os.Remove(e.address), e.node.Close())
}

// listen listens on the address; its error names the flag to change.
func listen(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken by another process: stop it, or choose another address with %s", address, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: choose another address with %s", err, flag)
	}
	return l, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"roombook/eventstore"
	"roombook/eventstore/node"
)

// events is a connection to the event store, and the embedded event store itself where this process runs it.
type events struct {
	*eventstore.Store
	address     string     // of the embedded event store of this process or another; empty if the event store was named
	node        *node.Node // nil if another process runs the event store
	served      chan error // how serving the node ended
	stop        context.CancelFunc
	addressFile string
}

// openEvents connects to the event store that c names, or runs the embedded one on its data folder.
func openEvents(c storeConfig, log *slog.Logger) (*events, error) {
	if c.eventstore == "" {
		return runNode(c, c.node, log)
	}
	// It is given a moment to refuse this program's user, which only an operator can put right. If it does not answer, it may come later.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	asked, err := connect(c.eventstore, silent())
	if err != nil {
		return nil, err
	}
	err = errors.Join(asked.ask(ctx), asked.Close())
	if _, refused := errors.AsType[*eventstore.Refused](err); refused {
		return nil, err
	}
	return connect(c.eventstore, log)
}

// silent is the logger of commands other than serve for the event store: what goes wrong with it is in their error, on one line.
func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// attachHelp is what the help of those commands says that use attachEvents.
const attachHelp = "If a program is running on the data folder the command uses that program's event store, otherwise it opens the folder itself. It fails\n" +
	"if the event store does not answer within five seconds, or within the defaultDeadline of the connection string."

// attachEvents is openEvents for the commands that are not serve: where the data folder is in use, it connects to the process that
// has it. The event store must answer now.
func attachEvents(ctx context.Context, c storeConfig) (*events, error) {
	if c.eventstore == "" {
		files, err := os.ReadDir(c.eventsDir())
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(files) == 0 {
			return nil, fmt.Errorf("there is no data in %s: name the folder with --data, or an event store with --eventstore", c.data)
		}
	}
	return openOrAttach(ctx, c)
}

// openOrAttach is attachEvents for a command that may create the data folder.
func openOrAttach(ctx context.Context, c storeConfig) (*events, error) {
	e, err := reach(c)
	if err != nil {
		return nil, err
	}
	if err := e.ask(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func reach(c storeConfig) (*events, error) {
	if c.eventstore != "" {
		return connect(c.eventstore, silent())
	}
	e, err := runNode(c, "127.0.0.1:0", silent())
	if _, locked := errors.AsType[*node.LockedError](err); !locked {
		return e, err
	}
	address, err := os.ReadFile(c.addressFile())
	if err != nil {
		return nil, fmt.Errorf("data folder %s is in use by a process whose address is not known: %w; try again, or stop that process", c.data, err)
	}
	at := strings.TrimSpace(string(address))
	if e, err = connect(connectionString(at), silent()); err != nil {
		return nil, err
	}
	e.address = at
	return e, nil
}

// ask returns the error of an event store that does not answer, or refuses this program's user, with what to do in the latter case.
func (e *events) ask(ctx context.Context) error {
	err := e.Ping(ctx)
	refused, ok := errors.AsType[*eventstore.Refused](err)
	switch {
	case !ok:
		return err
	case refused.Denied:
		return fmt.Errorf("%w: give the user the right to read $all, as an administrator of the event store, with: roombook setup --eventstore esdb://admin… --user %s", refused, refused.User)
	default:
		return fmt.Errorf("%w: check the user, the password and the user's rights in --eventstore", refused)
	}
}

func connect(connectionString string, log *slog.Logger) (*events, error) {
	store, err := eventstore.Open(eventstore.Options{ConnectionString: connectionString, Logger: log})
	if err != nil {
		return nil, usagef("--eventstore: %w", err)
	}
	return &events{Store: store}, nil
}

func connectionString(address string) string { return "esdb://" + address + "?tls=false" }

// runNode opens the event store in the data folder, serves it at the address and connects to it.
func runNode(c storeConfig, address string, log *slog.Logger) (*events, error) {
	if err := c.makeDataFolder(); err != nil {
		return nil, err
	}
	n, err := node.Open(node.Options{Dir: c.eventsDir(), Logger: log})
	switch {
	case err == nil:
	case errors.As(err, new(*node.LockedError)):
		return nil, fmt.Errorf("%w: stop the other process, or choose another folder with --data", err)
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EROFS):
		return nil, badFolder(err)
	default:
		return nil, err
	}
	listener, err := listen(address, "--node")
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if !isLoopback(listener.Addr()) {
		return nil, errors.Join(usagef("--node is %s, which other machines can reach, and the embedded event store neither encrypts nor authenticates: choose an address on loopback", address),
			listener.Close(), n.Close())
	}
	local := node.NewListener(listener)
	at := listener.Addr().String()
	store, err := eventstore.Open(eventstore.Options{ConnectionString: connectionString(at), Dial: local.Dial, Logger: log})
	if err != nil {
		return nil, errors.Join(err, local.Close(), n.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &events{Store: store, address: at, node: n, served: make(chan error, 1), stop: stop}
	go func() { e.served <- n.Serve(ctx, local) }()
	if err := os.WriteFile(c.addressFile(), []byte(at+"\n"), 0o600); err != nil {
		return nil, errors.Join(badFolder(err), e.Close())
	}
	e.addressFile = c.addressFile()
	return e, nil
}

// run waits until ctx ends or the embedded event store fails.
func (e *events) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.served: // never, where another process runs the event store
		e.served <- nil // Close need not report it again
		return fmt.Errorf("the embedded event store stopped: %w", err)
	}
}

// Close closes the connection and then the embedded event store.
func (e *events) Close() error {
	err := e.Store.Close()
	if e.node == nil {
		return err
	}
	e.stop()
	err = errors.Join(err, <-e.served)
	if removed := os.Remove(e.addressFile); !errors.Is(removed, fs.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return errors.Join(err, e.node.Close())
}

// listen listens at the address that a flag has.
func listen(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is already in use: stop what listens there, or choose another address with %s", address, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: choose another address with %s", err, flag)
	}
	return l, nil
}

func isLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

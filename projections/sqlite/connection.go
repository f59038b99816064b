package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync"

	"modernc.org/sqlite"
)

// maxStatements bounds the prepared statements of a connection. Queries differ in few ways, so that when there are more of
// them most are those of generations that are gone.
const maxStatements = 128

// connection is a connection of the driver with its prepared statements. It is used without database/sql, whose care for
// many kinds of values and of connections costs a third of the time of a page. One goroutine at a time may use it.
type connection struct {
	conn     driver.Conn
	prepared map[string]driver.Stmt
	broken   bool // it was left in the middle of something, and is not to be used again
}

func connect(source string) (*connection, error) {
	conn, err := new(sqlite.Driver).Open(source)
	if err != nil {
		return nil, err
	}
	return &connection{conn: conn, prepared: map[string]driver.Stmt{}}, nil
}

func (c *connection) close() error { return errors.Join(c.forget(), c.conn.Close()) }

// errCutOff is what becomes of a fault of memory: the file is mapped, and somebody has made it shorter.
var errCutOff = errors.New("the file ends before its end")

// guarded calls a function, after whose panic the connection is closed. A fault of memory, which would end the program, is an error.
func (c *connection) guarded(do func(*connection) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	c.broken = true
	defer func() {
		if !c.broken {
			return
		}
		reason := recover()
		if _, fault := reason.(interface{ Addr() uintptr }); fault {
			err = errCutOff // and the connection is let alone: to close it would meet the same fault
			return
		}
		_ = c.close()
		if reason != nil { // else the goroutine ends
			panic(reason)
		}
	}()
	err = do(c)
	c.broken = false
	return err
}

// forget closes the prepared statements.
func (c *connection) forget() error {
	var errs []error
	for text, statement := range c.prepared {
		errs = append(errs, statement.Close())
		delete(c.prepared, text)
	}
	return errors.Join(errs...)
}

func (c *connection) prepare(text string) (driver.Stmt, error) {
	if statement := c.prepared[text]; statement != nil {
		return statement, nil
	}
	if len(c.prepared) >= maxStatements {
		if err := c.forget(); err != nil {
			return nil, err
		}
	}
	statement, err := c.conn.Prepare(text)
	if err != nil {
		return nil, err
	}
	c.prepared[text] = statement
	return statement, nil
}

// exec runs a statement and returns how many rows it changed. Arguments are int64 or string.
func (c *connection) exec(ctx context.Context, text string, args ...driver.Value) (int64, error) {
	statement, err := c.prepare(text)
	if err != nil {
		return 0, err
	}
	result, err := statement.(driver.StmtExecContext).ExecContext(ctx, named(args))
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// script runs statements that are not kept.
func (c *connection) script(ctx context.Context, text string) error {
	_, err := c.conn.(driver.ExecerContext).ExecContext(ctx, text, nil)
	return err
}

// errForeign is what becomes of a value that this package would not have written: what a damaged file says may pass for a row.
var errForeign = errors.New("a value is of another type than was written")

// query calls visit for each row. Values are int64, string, or nil; visit must not keep the slice. Where visit takes a value for what it
// is not, the error is errForeign.
func (c *connection) query(ctx context.Context, text string, args []driver.Value, visit func(values []driver.Value)) (err error) {
	statement, err := c.prepare(text)
	if err != nil {
		return err
	}
	rows, err := statement.(driver.StmtQueryContext).QueryContext(ctx, named(args))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	defer func() {
		reason := recover()
		if _, other := reason.(*runtime.TypeAssertionError); other {
			err = errForeign
		} else if reason != nil {
			panic(reason)
		}
	}()
	values := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(values); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		visit(values)
	}
}

// one queries a row of whole numbers, and reports whether there is one.
func (c *connection) one(ctx context.Context, text string, args []driver.Value, into ...*int64) (found bool, err error) {
	err = c.query(ctx, text, args, func(values []driver.Value) {
		found = true
		for i, value := range values {
			*into[i] = value.(int64)
		}
	})
	return found, err
}

func named(values []driver.Value) []driver.NamedValue {
	args := make([]driver.NamedValue, len(values))
	for i, value := range values {
		args[i] = driver.NamedValue{Ordinal: i + 1, Value: value}
	}
	return args
}

var errClosed = errors.New("the store is closed")

// pool lends connections. May be used from any goroutine.
type pool struct {
	open func() (*connection, error)
	lent chan struct{} // holds a token for each connection that is lent

	mu     sync.Mutex
	idle   []*connection // the last one is the one used last
	closed bool
}

func newPool(size int, open func() (*connection, error)) *pool {
	return &pool{open: open, lent: make(chan struct{}, size)}
}

// with lends a connection to a function.
func (p *pool) with(ctx context.Context, do func(*connection) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case p.lent <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.lent }()
	c, err := p.take()
	if err != nil {
		return err
	}
	defer func() {
		if c.broken {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.idle = append(p.idle, c)
	}()
	return c.guarded(do)
}

func (p *pool) take() (*connection, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return c, nil
	}
	c, err := p.open()
	if err != nil {
		return nil, fmt.Errorf("open a connection: %w", err)
	}
	return c, nil
}

// close waits for the connections that are lent.
func (p *pool) close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for range cap(p.lent) {
		p.lent <- struct{}{}
	}
	var errs []error
	for _, c := range p.idle {
		errs = append(errs, c.close())
	}
	for range cap(p.lent) {
		<-p.lent
	}
	return errors.Join(errs...)
}

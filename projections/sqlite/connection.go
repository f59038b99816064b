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

// maxStatements bounds the prepared statements of a connection: a list can be queried in thousands of ways, and each rebuild puts it in
// another table.
const maxStatements = 128

// connection is a connection of the driver with its prepared statements. It bypasses database/sql, whose conversions and pooling take a
// third of the time of a page. It must not be used by two goroutines at the same time.
type connection struct {
	conn     driver.Conn
	prepared map[string]driver.Stmt
	broken   bool // a call did not return, and the connection must not be used again
}

func connect(source string) (*connection, error) {
	conn, err := new(sqlite.Driver).Open(source)
	if err != nil {
		return nil, err
	}
	return &connection{conn: conn, prepared: map[string]driver.Stmt{}}, nil
}

func (c *connection) close() error { return errors.Join(c.closeStatements(), c.conn.Close()) }

// errTruncated stands for a memory fault: the file is mapped into memory, and has been truncated by somebody else.
var errTruncated = errors.New("the file was truncated while it was in use")

// guarded calls do, and closes the connection if do panics. A memory fault, which would end the program, is returned as errTruncated.
func (c *connection) guarded(do func(*connection) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	c.broken = true
	defer func() {
		if !c.broken {
			return
		}
		reason := recover()
		if _, fault := reason.(interface{ Addr() uintptr }); fault {
			err = errTruncated // the connection stays open: closing it would fault again
			return
		}
		_ = c.close()
		if reason != nil { // nil if do ended the goroutine
			panic(reason)
		}
	}()
	err = do(c)
	c.broken = false
	return err
}

func (c *connection) closeStatements() error {
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
		if err := c.closeStatements(); err != nil {
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

// exec executes a statement and returns the number of rows it changed. Arguments are int64 or string.
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

// script executes statements without keeping them prepared.
func (c *connection) script(ctx context.Context, text string) error {
	_, err := c.conn.(driver.ExecerContext).ExecContext(ctx, text, nil)
	return err
}

// errForeign means that a row has a value of a type that this package never writes there, as rows of a damaged file may.
var errForeign = errors.New("a value is of another type than was written")

// query calls visit for each row. Values are int64, string or nil; visit must not retain the slice. If visit asserts a type that a value
// does not have, the error is errForeign. Once there is a row, the end of the context does not interrupt the query any more.
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

// one reads a single row of integers, and reports whether there is one.
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

// pool hands out connections, and opens them on demand. It may be used by several goroutines at the same time.
type pool struct {
	open  func() (*connection, error)
	inUse chan struct{} // holds a token for each connection in use

	mu     sync.Mutex
	idle   []*connection // the most recently used one is at the end
	closed bool
}

func newPool(size int, open func() (*connection, error)) *pool {
	return &pool{open: open, inUse: make(chan struct{}, size)}
}

// with calls do with a connection.
func (p *pool) with(ctx context.Context, do func(*connection) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case p.inUse <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.inUse }()
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

// close waits until no connection is in use.
func (p *pool) close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for range cap(p.inUse) {
		p.inUse <- struct{}{}
	}
	var errs []error
	for _, c := range p.idle {
		errs = append(errs, c.close())
	}
	for range cap(p.inUse) {
		<-p.inUse
	}
	return errors.Join(errs...)
}

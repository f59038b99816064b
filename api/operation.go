package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// operation is one method on one path: the adapter between net/http and a handler. It does everything that all requests have in common.
type operation struct {
	route
	server  *Server
	latency prometheus.ObserverVec // by status
}

func (s *Server) operation(r route) *operation {
	return &operation{route: r, server: s, latency: s.metrics.latency(r.method, r.path)}
}

func (o *operation) serve(w http.ResponseWriter, r *http.Request, vars map[string]string) {
	start := time.Now()
	// The request's own context ends when the client closes its sending side. It may still wait for the reply: net/http cannot tell a
	// half-closed connection from a client that has gone.
	timeout := o.server.timeout
	if o.upload {
		timeout += uploadTimeout
	}
	ctx, cancel := context.WithTimeout(o.server.requests, timeout)
	x, _ := o.server.exchanges.Get().(*exchange)
	if x == nil {
		x = new(exchange)
	}
	ctx, span := o.trace(ctx, r)
	x.open(ctx, o.server, w, r, vars)

	err := o.run(x)
	x.leave()
	err = x.conclude(err)
	x.send()

	took := time.Since(start)
	o.latency.WithLabelValues(statusLabel(x.status)).Observe(took.Seconds())
	o.log(x, took, err)
	if span != nil {
		endTrace(span, x.status, x.id)
	}
	cancel()
	broken := x.sent && !x.whole && err != nil
	x.close()
	if broken {
		panic(http.ErrAbortHandler) // closes the connection, so that a partial reply is not mistaken for a complete one
	}
}

// conclude replaces the reply by what describes the error, if there is one, and gives the idempotency key back, whatever happens.
func (x *exchange) conclude(err error) error {
	if x.releaseKey != nil {
		defer x.releaseKey()
	}
	if err != nil {
		x.fail(err)
		err = x.storeRefusal(err)
		x.failPage(err)
	}
	return err
}

// run negotiates the media type and calls the handler. It returns a panic as an error.
func (o *operation) run(x *exchange) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicked{value: p, stack: debug.Stack()}
		}
	}()
	if !o.raw {
		x.header("Vary", "Accept")
		if x.mediaType, err = acceptable(x.r.Header["Accept"]); err != nil {
			return err
		}
	}
	if err := x.authenticate(&o.route); err != nil {
		return err
	}
	if o.params == nil && !o.raw && x.r.URL.RawQuery != "" {
		if err := x.params(func(string, string) error { return errUnknownParameter }); err != nil {
			return err
		}
	}
	if !o.query {
		return o.handle(x)
	}
	if err := x.admit(o.server.queryLimit); err != nil {
		return err
	}
	if err := o.handle(x); err != nil {
		return err
	}
	return x.checkNotModified()
}

// panicked is the panic of a handler.
type panicked struct {
	value any
	stack []byte
}

func (e *panicked) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// level returns the log level of a request: how much an operator cares.
func level(x *exchange, err error) slog.Level {
	switch {
	case x.status == http.StatusServiceUnavailable && err == nil:
		return slog.LevelDebug // a probe, whose failure is logged elsewhere
	case x.status == http.StatusServiceUnavailable:
		return slog.LevelWarn
	case x.status >= 500:
		return slog.LevelError
	case x.status == http.StatusNotFound, x.status == http.StatusConflict, x.status == http.StatusPreconditionFailed:
		return slog.LevelDebug // refusals by the rules are everyday business
	case x.status >= 400:
		return slog.LevelInfo
	case x.status < 300 && x.command.ID != uuid.Nil:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

func (o *operation) log(x *exchange, took time.Duration, err error) {
	logger, level := o.server.log, level(x, err)
	if o.server.accessLog {
		level = max(level, slog.LevelInfo)
	}
	if !logger.Enabled(x.ctx, level) {
		return
	}
	if !o.server.accessLog && level >= slog.LevelInfo {
		k := requestKind{level: level, method: o.method, route: o.path, status: x.status, problem: x.problem}
		if level == slog.LevelError {
			k.error = err.Error()
		}
		if o.server.logSampler.suppress(k) {
			return
		}
	}
	attrs := []slog.Attr{
		slog.String("method", x.r.Method),
		slog.String("path", x.r.URL.Path),
		slog.String("route", o.path),
		slog.Int("status", x.status),
		slog.Duration("took", took),
		slog.Int("bytes", x.out.Len()),
		slog.String("request", x.id),
		slog.String("remote", o.server.client(x.r)),
	}
	if x.problem != "" {
		attrs = append(attrs, slog.String("problem", x.problem))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	if p, ok := errors.AsType[*panicked](err); ok {
		attrs = append(attrs, slog.String("stack", string(p.stack)))
	}
	logger.LogAttrs(x.ctx, level, "request", attrs...)
}

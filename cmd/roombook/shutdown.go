package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// shutdownContext returns a context that is cancelled, with a cause that says why, once the process is told to stop: by an interrupt,
// SIGTERM or SIGHUP, or because nobody reads standard output or standard error any more. A second interrupt or SIGTERM kills the
// process. A process that was started with SIGHUP ignored, as nohup does, keeps ignoring it.
//
// out and err are the standard streams, to be used in place of the files: otherwise a broken pipe goes unnoticed.
func shutdownContext(stdout, stderr *os.File) (ctx context.Context, out, err io.Writer) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		s := <-signals
		// A second SIGHUP changes nothing: a terminal may send several when it closes.
		signal.Reset(os.Interrupt, syscall.SIGTERM)
		cancel(errors.New(s.String()))
	}()
	// By default a write to a broken pipe kills the process in the middle of its work.
	signal.Ignore(syscall.SIGPIPE)
	return ctx, &pipe{stdout, "standard output", cancel}, &pipe{stderr, "standard error", cancel}
}

// pipe is a standard stream whose reader may go away.
type pipe struct {
	file   *os.File
	name   string
	cancel context.CancelCauseFunc
}

// Write implements [io.Writer].
func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		p.cancel(errors.New("nobody reads " + p.name))
	}
	return n, err
}

// Fd tells whether the stream is a terminal: see [term.IsTerminal].
func (p *pipe) Fd() uintptr { return p.file.Fd() }

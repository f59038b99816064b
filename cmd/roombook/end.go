package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// untilToldToEnd is a context that ends, with a cause that says why, when the process is told to end: by an interrupt, a termination or a
// hangup, or when nobody reads standard output or standard error any more. A second interrupt or termination ends the process at once. A
// process that was started with hangups ignored, as by nohup, goes on ignoring them.
func untilToldToEnd(stdout, stderr *os.File) (ctx context.Context, out, err io.Writer) {
	ctx, end := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		s := <-signals
		// A second hangup changes nothing: a terminal that is closed may send several.
		signal.Reset(os.Interrupt, syscall.SIGTERM)
		end(&signalled{s})
	}()
	// Else a write to a pipe that nobody reads would end the process in the middle of its work.
	signal.Ignore(syscall.SIGPIPE)
	return ctx, &pipe{stdout, "standard output", end}, &pipe{stderr, "standard error", end}
}

// signalled is the cause of an end by a signal.
type signalled struct{ os.Signal }

func (e *signalled) Error() string { return e.String() }

// pipe is a standard stream whose reader may go away.
type pipe struct {
	file *os.File
	name string
	end  context.CancelCauseFunc
}

func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		p.end(errors.New("nobody reads " + p.name))
	}
	return n, err
}

// Fd is for whoever asks whether it is a terminal.
func (p *pipe) Fd() uintptr { return p.file.Fd() }

package eventstore

import (
	"errors"
	"fmt"

	"roombook/domain"
)

var (
	// ErrUnavailable means that the event store did not answer in time, and that nothing was asked of it that could have
	// changed it: a read, a subscription, or an append that was never sent.
	ErrUnavailable = errors.New("the event store is not available")
	// ErrOutcomeUnknown means that an append was sent and its answer was not heard: it may have been done or not, or be done
	// a little later. The same append (same event ids, same expected revision) may safely be tried again.
	ErrOutcomeUnknown = errors.New("the event store did not answer an append: its outcome is unknown")
	// ErrTooLarge means that the append is larger than the event store accepts.
	ErrTooLarge = errors.New("the append is larger than the event store accepts")
	// ErrClosed means that the store was closed by this program.
	ErrClosed = errors.New("the event store's connections are closed")
)

// WrongRevision means that an append lost a race: the stream is not at the revision it expected. Nothing was written.
type WrongRevision struct {
	Stream   string
	Expected domain.Revision // or NoStream
	Actual   domain.Revision // or NoStream
}

func (e *WrongRevision) Error() string {
	return fmt.Sprintf("stream %s is at revision %d, not %d", e.Stream, e.Actual, e.Expected)
}

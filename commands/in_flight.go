package commands

import (
	"context"
	"errors"
	"sync"

	"roombook/domain"
	"roombook/eventstore"
)

// inFlight holds the appends to booking, real-use and key streams that commands of this process have in flight, at most one per
// stream. Commands that find the same step open would all append it, all but one in vain: instead they wait for that one, and read on.
type inFlight struct {
	mu      sync.Mutex
	appends map[string]*inFlightAppend // by stream
}

type inFlightAppend struct {
	ended chan struct{}
	// named is the revision that the event store named in its answer, NoStream if it named none. It is set before ended is closed.
	named domain.Revision
}

// errMovedOn means that another command of this process has appended to the stream since it was read.
var errMovedOn = errors.New("another command has changed it meanwhile")

// begin begins an append to the stream, unless there is another one in flight, which it returns then.
func (f *inFlight) begin(stream string) (own, other *inFlightAppend) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if other := f.appends[stream]; other != nil {
		return nil, other
	}
	own = &inFlightAppend{ended: make(chan struct{}), named: eventstore.NoStream}
	f.appends[stream] = own
	return own, nil
}

func (f *inFlight) end(stream string, own *inFlightAppend) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.appends, stream)
	close(own.ended)
}

func (a *inFlightAppend) wait(ctx context.Context) error {
	select {
	case <-a.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

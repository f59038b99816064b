package commands

import (
	"context"
	"errors"
	"sync"

	"roombook/domain"
	"roombook/eventstore"
)

// inFlight are the appends to booking and real-use streams that commands of this process have under way, at most one a stream.
// Commands that find the same step open would all append it, and all but one in vain: they wait for that one, and then look.
type inFlight struct {
	mu      sync.Mutex
	appends map[string]*flight // by stream
}

// flight is an append that is under way.
type flight struct {
	landed chan struct{}
	// named is the revision that the event store named in its answer, for those who look, and NoStream if it named none; it is set before
	// landed is closed.
	named domain.Revision
}

// errMovedOn means that another command of this process has appended to the stream since it was read.
var errMovedOn = errors.New("another command has changed it meanwhile")

// takeOff begins an append to the stream, or returns the one that is under way.
func (f *inFlight) takeOff(stream string) (own, other *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if other := f.appends[stream]; other != nil {
		return nil, other
	}
	own = &flight{landed: make(chan struct{}), named: eventstore.NoStream}
	f.appends[stream] = own
	return own, nil
}

func (f *inFlight) land(stream string, own *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.appends, stream)
	close(own.landed)
}

func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.landed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

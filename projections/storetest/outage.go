package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"roombook/projections"
)

// Server is the process behind a store.
type Server interface {
	Silence() // it answers nobody any more
	Kill()
	Restart() // on what it had written, at the same address
}

// RunOutage has the server of an empty store fall silent, be killed, and start again. Queries fail within their time meanwhile, and say
// that it is the read store if they have enough of it; the worker, which nobody starts again, then brings the list up to date.
func RunOutage(t *testing.T, store projections.Store, server Server) {
	s := newSystem(t, store, rand.NewPCG(1, 2))
	p := bookingList()
	workers, _ := s.work(projections.WorkerOptions{}, p)
	s.wantVerified(p, s.happen(20))

	server.Silence()
	s.happen(20)
	s.wantNoAnswer()

	server.Kill()
	s.happen(20)
	s.until("the worker fails", func() bool { return workers.Health()[0].State == projections.Failing })
	s.wantNoAnswer()

	server.Restart()
	position := s.happen(20)
	s.until("the list is kept again", func() bool {
		h := workers.Health()[0]
		return h.State == projections.Following && h.Position >= position
	})
	s.wantVerified(p, position)
}

func (s *system) wantNoAnswer() {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := s.queries(nil).BookingLists(ctx, projections.Query{})
	if !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("%v, want that time is over", err)
	}
	// Requests have ten seconds.
	ctx, cancel = context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	if _, err := s.queries(nil).BookingLists(ctx, projections.Query{}); !errors.Is(err, projections.ErrUnavailable) {
		s.Errorf("%v, want that the read store is away", err)
	}
}

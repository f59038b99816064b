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
	Silence() // stops responding
	Kill()
	Restart() // with the data that it had written, at the same address
}

// RunOutage has the server of an empty store stop responding, be killed, and restart. Meanwhile queries fail in time, and say that the
// read store is unavailable if their deadline allows; afterwards the same worker brings the list up to date.
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
	// This is the deadline of requests.
	ctx, cancel = context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	if _, err := s.queries(nil).BookingLists(ctx, projections.Query{}); !errors.Is(err, projections.ErrUnavailable) {
		s.Errorf("%v, want that the read store is away", err)
	}
}

package eventstore

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// A log may go back: a backup is put back in its place, or another event store stands at the address. Whoever remembers something of the
// log before must forget it, since a revision there says nothing of the same revision here. So a store remembers the furthest event that it
// has seen, and looks for it whenever it connects, before any call gets through.

// Incarnation tells the logs that a store has met at its address apart, in the order that it met them.
type Incarnation int64

// ErrReplaced means that the event store's log is not the one that the caller began with. Nothing was written to the one that is there
// now. It is an [ErrUnavailable].
var ErrReplaced = fmt.Errorf("%w: its log is not the one that was seen before", ErrUnavailable)

// Incarnation is that of the log that the store is on.
func (s *Store) Incarnation() Incarnation { return s.connections.log.current() }

// On is a context for calls that are to meet the log of an incarnation and no other: on any other they are [ErrReplaced].
func On(ctx context.Context, i Incarnation) context.Context {
	return context.WithValue(ctx, incarnationKey{}, i)
}

type incarnationKey struct{}

// log is what is known of the log that a store is on. Goroutines may share it.
type log struct {
	seen atomic.Pointer[sighting] // the furthest, or nil

	mu          sync.Mutex
	incarnation Incarnation
}

// sighting is an event that was seen in the log.
type sighting struct {
	of       Incarnation
	position Position
	id       uuid.UUID
}

func (l *log) current() Incarnation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.incarnation
}

// saw takes note of an event that stays in the log for ever.
func (l *log) saw(of Incarnation, p Position, id uuid.UUID) {
	for {
		seen := l.seen.Load()
		if seen != nil && (seen.of > of || seen.of == of && seen.position >= p) {
			return
		}
		if l.seen.CompareAndSwap(seen, &sighting{of, p, id}) {
			return
		}
	}
}

// replaced takes note that the log of an incarnation is gone, and reports whether that is news.
func (l *log) replaced(gone Incarnation) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.incarnation != gone {
		return false
	}
	l.incarnation++
	return true
}

// stays reports whether the events of a stream stay in the log for ever.
func stays(stream string) bool { return !strings.HasPrefix(stream, "$") }

// dial connects to the member, unless the log there is not the one that its calls are for.
func (m *member) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := m.check(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// check looks for the furthest event that was seen in the log of the member's incarnation. If it is not there, the log was replaced: the
// member is left for good, and calls go on by another one.
func (m *member) check(ctx context.Context) error {
	l := &m.route.log
	if l.current() != m.incarnation { // another has found out
		m.leave()
		return ErrReplaced
	}
	seen := l.seen.Load()
	if seen == nil || seen.of != m.incarnation {
		return nil
	}
	is, err := m.has(ctx, seen)
	if err != nil {
		return fmt.Errorf("look for the event at position %d, which was seen there: %w", seen.position, err)
	}
	if is {
		return nil
	}
	if l.replaced(m.incarnation) {
		m.route.logger.Error("the event store's log is not the one that was seen before: a backup was put back, or it is another event store; what is remembered of it is forgotten",
			"address", m.address, "position", seen.position, "event", seen.id)
		m.route.metrics.replaced.Inc()
	}
	m.leave()
	return ErrReplaced
}

// leave has nobody call the member any more, and ends the calls that are under way.
func (m *member) leave() {
	m.route.leave(m, "")
	m.route.work.Go(func() { // Close may wait for the dialer, which may be who calls this
		for _, conn := range m.connections {
			_ = conn.Close() // fails only if it is closed already
		}
	})
}

// check looks whether the log is still the one that was seen, without a new connection being the occasion: a stream is shorter than it was.
func (r *route) check(ctx context.Context) error {
	m := r.at.Load()
	if m == nil || !m.enter() {
		return nil
	}
	defer m.release()
	return m.check(ctx)
}

// has reports whether the member's log has the event. A member that is not the leader may be behind, and is taken at its word only if it has
// it: what commands rest on is not asked of it.
func (m *member) has(ctx context.Context, seen *sighting) (bool, error) {
	conn, err := grpc.NewClient(m.address, m.route.authenticated()...)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	ctx = metadata.NewOutgoingContext(ctx, requiresLeader)
	var trailer metadata.MD
	answer, err := streams.NewStreamsClient(conn).Read(ctx, readAllFrom(seen.position), grpc.Trailer(&trailer))
	if err != nil {
		return false, err
	}
	event, err := answer.Recv()
	switch {
	case err == nil:
		e := event.GetEvent().GetEvent()
		return Position(e.GetCommitPosition()) == seen.position && eventID(e) == seen.id, nil
	case endsRead(err):
		return false, nil
	}
	_, follower := leaderOf(trailer)
	if follower {
		return true, nil
	}
	return false, err
}

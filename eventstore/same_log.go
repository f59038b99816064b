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

	"roombook/domain"
)

// A log may be replaced: a backup is restored, or another event store answers at the address. Whoever remembers something of the former log
// must forget it, since a revision there says nothing about the same revision here. So a store remembers the furthest event that it has
// seen, and looks for it whenever it connects, before any call gets through.

// Incarnation numbers the logs that a store has met at its address, in the order in which it met them.
type Incarnation int64

// ErrReplaced means that the event store's log is not the one that the caller began with. Nothing was written to the one that is there
// now. It is an [ErrUnavailable].
var ErrReplaced = fmt.Errorf("%w: its log is not the one that was seen before", ErrUnavailable)

// Incarnation is that of the store's present log.
func (s *Store) Incarnation() Incarnation { return s.connections.log.current() }

// On binds calls to one incarnation of the log: on any other they fail with [ErrReplaced].
func On(ctx context.Context, i Incarnation) context.Context {
	return context.WithValue(ctx, incarnationKey{}, i)
}

type incarnationKey struct{}

// log is what a store knows of the log that it reads and writes. Goroutines may share it.
type log struct {
	seen atomic.Pointer[seenEvent] // the furthest, or nil

	mu          sync.Mutex
	incarnation Incarnation
}

// seenEvent is an event that was seen in the log.
type seenEvent struct {
	of       Incarnation
	position Position
	id       uuid.UUID
}

func (l *log) current() Incarnation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.incarnation
}

// saw remembers an event, of those that stay in the log forever, if it is further than the one remembered.
func (l *log) saw(of Incarnation, p Position, id uuid.UUID) {
	for {
		seen := l.seen.Load()
		if seen != nil && (seen.of > of || seen.of == of && seen.position >= p) {
			return
		}
		if l.seen.CompareAndSwap(seen, &seenEvent{of, p, id}) {
			return
		}
	}
}

// replaced begins a new incarnation after the one that is gone, and reports whether this call did so.
func (l *log) replaced(gone Incarnation) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.incarnation != gone {
		return false
	}
	l.incarnation++
	return true
}

// stays reports whether the events of a stream stay in the log forever. Of snapshots only the last does.
func stays(stream string) bool {
	return !strings.HasPrefix(stream, "$") && !strings.HasPrefix(stream, domain.SnapshotCategory+"-")
}

// dial connects to the member, unless its log is not the one that the member's calls are for.
func (m *member) dial(ctx context.Context, address string) (net.Conn, error) {
	m.appendsSingly.Store(false) // it may be another version
	conn, err := m.route.connections.dial(ctx, address)
	if err != nil {
		return nil, err
	}
	if err := m.check(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// check looks for the furthest event that was seen in the log of the member's incarnation. If it is not there the log was replaced: the
// member is dropped, and later calls go to one of the new incarnation.
func (m *member) check(ctx context.Context) error {
	l := &m.route.log
	if l.current() != m.incarnation { // another check found out
		m.drop()
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
	m.drop()
	return ErrReplaced
}

// drop makes later calls go to another member, and ends those that are under way.
func (m *member) drop() {
	m.route.drop(m, "")
	m.route.work.Go(m.close) // not here: Close waits for the dialer, which may be the caller
}

// check looks whether the log is still the one that was seen, without waiting for a new connection: a stream has become shorter.
func (r *route) check(ctx context.Context) error {
	m := r.current.Load()
	if m == nil || !m.acquire() {
		return nil
	}
	defer m.release()
	return m.check(ctx)
}

// has reports whether the member's log has the event. A follower may lack it because it is behind, so it is taken to have it: commands do
// not depend on what a follower says.
func (m *member) has(ctx context.Context, seen *seenEvent) (bool, error) {
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

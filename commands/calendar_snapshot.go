package commands

import (
	"context"
	"errors"
	"math"
	"sync/atomic"

	"roombook/domain"
	"roombook/eventstore"
)

const (
	// snapshotEvery is after how many events a calendar gets another snapshot, or a quarter as many as it has reservations if those are
	// more: an event of a room that is read costs the event store about as much as 100 reservations in a snapshot.
	snapshotEvery = 128
	// snapshotPeek is how many events of a room that is not remembered are read before a snapshot is looked for: most rooms have no more.
	snapshotPeek = 32
)

// snapshots are the calendars' snapshots. They save reads and nothing depends on them: one that cannot be written or read is done without.
type snapshots struct {
	store   Store
	metrics *metrics
	every   int // is snapshotEvery
	peek    int // is snapshotPeek

	writing atomic.Bool // one at a time
	refused atomic.Bool // the event store lets this user write none
}

// load returns the room's calendar as of its snapshot and the events after it, or nil if there is no snapshot that fits.
func (s *snapshots) load(ctx context.Context, room domain.RoomID) (*calendar, error) {
	var last domain.CalendarSnapshot
	for r, err := range s.store.ReadStream(ctx, room.SnapshotStream(), 0) {
		if _, refused := errors.AsType[*eventstore.Refused](err); refused {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		last, _ = r.Event.(domain.CalendarSnapshot)
	}
	c, ok := last.Calendar(room)
	if !ok {
		return nil, nil
	}
	c, fits, err := s.goOn(ctx, c, last.EventID, math.MaxInt64)
	if err != nil || !fits {
		return nil, err
	}
	cal := newCalendar()
	cal.Calendar = c
	cal.snapshot.Store(int64(last.Revision))
	return cal, nil
}

// goOn folds what followed the snapshot that c was made of, up to a revision. It does not fit if the stream has another event, or none, at
// the snapshot's revision.
func (s *snapshots) goOn(ctx context.Context, c domain.Calendar, eventID string, last domain.Revision) (_ domain.Calendar, fits bool, failed error) {
	c = c.EvolveAll(func(yield func(domain.Revision, domain.Event) bool) {
		for r, err := range s.store.ReadStream(ctx, c.Room().Stream(), c.Revision()) {
			if err == nil {
				err = readable(r)
			}
			if failed = err; err != nil {
				return
			}
			if !fits {
				if fits = r.Revision == c.Revision() && r.ID.String() == eventID; !fits {
					return
				}
			} else if !yield(r.Revision, r.Event) {
				return
			}
			if r.Revision >= last {
				return
			}
		}
	})
	return c, fits, failed
}

// consider writes a snapshot of the calendar, in the background, if its last one is old enough and no other is being written.
func (s *snapshots) consider(ctx context.Context, room domain.RoomID, cal *calendar) {
	last, now := cal.snapshot.Load(), int64(cal.Revision())
	if now-last < int64(max(s.every, cal.Len()/4)) || s.refused.Load() || !s.writing.CompareAndSwap(false, true) {
		return
	}
	cal.snapshot.Store(now)
	ctx = context.WithoutCancel(ctx) // the event store's time-outs bound it
	go func() {
		defer s.writing.Store(false)
		switch err := s.write(ctx, room, cal.Calendar, last < 0); {
		case err == nil:
			s.metrics.snapshots.Inc()
		case !errors.Is(err, errNoSnapshot):
			s.metrics.snapshotFailures.Inc()
			if _, refused := errors.AsType[*eventstore.Refused](err); refused {
				s.refused.Store(true)
			}
		}
	}()
}

// errNoSnapshot means that there can be no snapshot of the calendar.
var errNoSnapshot = errors.New("no snapshot of this calendar is possible")

// write writes a snapshot. The first one that is known of a room limits its stream to the last.
func (s *snapshots) write(ctx context.Context, room domain.RoomID, c domain.Calendar, first bool) error {
	var last eventstore.Recorded
	for r, err := range s.store.ReadStream(ctx, room.Stream(), c.Revision()) {
		if err != nil {
			return err
		}
		last = r
		break
	}
	snapshot, ok := c.Snapshot(last.ID.String())
	if !ok || last.Revision != c.Revision() {
		return errNoSnapshot
	}
	if first {
		if err := s.store.SetMaxCount(ctx, room.SnapshotStream(), 1); err != nil {
			return err
		}
	}
	_, err := s.store.Append(ctx, room.SnapshotStream(), eventstore.Any, eventstore.Proposed{
		Event: snapshot, Metadata: eventstore.Metadata{OccurredAt: last.Metadata.OccurredAt},
	})
	return err
}

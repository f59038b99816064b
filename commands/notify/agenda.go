package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
)

// checkpointStream stores the position from which the log is read at a start. It never passes the oldest failure that another attempt follows,
// or an event that cannot be decoded: it may be such a failure, for a version of the program that can decode it.
const checkpointStream = "dispatch-checkpoint"

const (
	checkpointEvery   = 512              // events between checkpoints
	maxAnnounced      = 256              // streams that are appended to in a row
	concurrentAppends = 8                // of them at a time
	agendaTick        = time.Second      // at most between looks at the clock, which may be set
	appendAgain       = 10 * time.Second // before an event that was appended, or lost the race, is appended again if it has not been seen
)

// agenda appends NotificationDue when the time of a next attempt has come. It follows the notification streams and keeps what is to be
// attempted again in memory. There may be one in every process: each appends at the revision that it knows of, so that one of them succeeds.
type agenda struct {
	store   Store
	broken  *eventstore.Trouble
	refused *eventstore.Trouble
	growing *eventstore.Trouble
	changed chan struct{} // signalled when there is something new to do

	mu        sync.Mutex
	streams   map[string]*agendaStream // with a next attempt
	next      time.Time                // no attempt is due before
	last      eventstore.Position      // of the last event that was folded
	undecoded *eventstore.Position     // before the first event that cannot be decoded; nil if all can
	folded    int                      // events since the last checkpoint
	caughtUp  bool
	err       error // why the log cannot be followed
}

// agendaStream is a notification stream.
type agendaStream struct {
	revision domain.Revision // of its last event
	attempts []nextAttempt
}

// nextAttempt is the next attempt to deliver a notification on a channel.
type nextAttempt struct {
	eventstore.Metadata // of the event that appends it
	domain.NotificationDue
	due    time.Time
	failed time.Time           // when the last attempt failed
	after  eventstore.Position // before that failure: folding the log from there finds it again
}

func newAgenda(store Store, log *slog.Logger) *agenda {
	return &agenda{
		store: store, changed: make(chan struct{}, 1), streams: map[string]*agendaStream{},
		broken:  eventstore.NewTrouble(log, slog.LevelError, "notifications that failed are not attempted again", "notifications that failed are attempted again"),
		refused: eventstore.NewTrouble(log, slog.LevelError, "a notification that failed cannot be attempted again", ""),
		growing: eventstore.NewTrouble(log, slog.LevelWarn, "the stream "+checkpointStream+" keeps former positions, which are of no use", ""),
	}
}

// run appends what is due until the context ends, whose error it returns.
func (a *agenda) run(ctx context.Context) error {
	for pauses := newBackOff(); ; {
		err := a.follow(ctx, pauses.Reset)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.report(err)
		if err := eventstore.Sleep(ctx, pauses.NextBackOff()); err != nil {
			return err
		}
	}
}

func (a *agenda) report(err error) {
	a.mu.Lock()
	a.err = err
	a.mu.Unlock()
	if err != nil {
		a.broken.Failed(err)
	} else {
		a.broken.Over()
	}
}

// trouble returns why nothing is attempted again, or nil.
func (a *agenda) trouble() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// follow folds the log from the checkpoint on, and appends what is due, until the log cannot be followed. It calls alive when it has reached the
// end of the log.
func (a *agenda) follow(ctx context.Context, alive func()) error {
	ctx = eventstore.On(ctx, a.store.Incarnation())
	after, err := a.store.LoadCheckpoint(ctx, checkpointStream)
	if err != nil {
		return err
	}
	if err := Setup(ctx, a.store); err != nil {
		if _, refused := errors.AsType[*eventstore.Refused](err); !refused {
			return err
		}
		a.growing.Failed(commands.NeedsSetup(err))
	}
	a.mu.Lock()
	clear(a.streams)
	a.last, a.undecoded, a.folded, a.caughtUp = after, nil, 0, false
	a.mu.Unlock()
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error {
		for batch, err := range a.store.Subscribe(ctx, after, eventstore.Filter{StreamPrefixes: []string{domain.NotificationCategory + "-"}}) {
			if err != nil {
				return fmt.Errorf("follow the log: %w", err)
			}
			if a.fold(batch, time.Now()) {
				alive()
				a.report(nil)
			}
		}
		return nil
	})
	parts.Go(func() error {
		for saved := after; ; {
			wait, err := a.announce(ctx, &saved)
			if err != nil {
				return err
			}
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-a.changed:
			case <-ctx.Done():
			}
			timer.Stop()
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	})
	return parts.Wait()
}

// fold folds the next events of the log, and reports whether they are the first after which its end has been reached.
func (a *agenda) fold(batch eventstore.Batch, now time.Time) (caughtUp bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range batch.Events {
		switch e := r.Event.(type) {
		case domain.NotificationDelivered:
			a.remove(r.Stream, e.NotificationID, e.Channel)
		case domain.NotificationDue:
			a.remove(r.Stream, e.NotificationID, e.Channel)
		case domain.NotificationFailed:
			a.remove(r.Stream, e.NotificationID, e.Channel)
			if !e.Again.IsZero() {
				a.add(r, e, now)
			}
		}
		if s := a.streams[r.Stream]; s != nil {
			s.revision = r.Revision
		}
		if a.undecoded == nil && readable(r) != nil {
			a.undecoded = new(a.last)
		}
		a.last = r.Position
		a.folded++
	}
	if caughtUp = batch.CaughtUp && !a.caughtUp; caughtUp {
		a.caughtUp, a.folded = true, checkpointEvery // each start saves a checkpoint
	}
	return caughtUp
}

// add adds the attempt that follows a failure. The clock of the process that recorded it may be wrong, so that the pause counts: from now on if
// it has just been recorded, and from now on at most otherwise.
func (a *agenda) add(r eventstore.Recorded, e domain.NotificationFailed, now time.Time) {
	due := now.Add(e.Again.Sub(e.At))
	if !a.caughtUp && e.Again.Before(due) {
		due = e.Again
	}
	s := a.streams[r.Stream]
	if s == nil {
		s = &agendaStream{}
		a.streams[r.Stream] = s
	}
	s.attempts = append(s.attempts, nextAttempt{
		Metadata:        eventstore.Metadata{CorrelationID: r.Metadata.CorrelationID, CausationID: r.ID.String(), Actor: "roombook", TraceParent: r.Metadata.TraceParent},
		NotificationDue: domain.NotificationDue{NotificationID: e.NotificationID, BookingID: e.BookingID, Channel: e.Channel},
		due:             due, failed: e.At, after: a.last,
	})
	if a.next.IsZero() || due.Before(a.next) {
		a.next = due
		select {
		case a.changed <- struct{}{}:
		default:
		}
	}
}

// forget removes all that is to be attempted again of a stream.
func (a *agenda) forget(stream string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.streams, stream)
}

func (a *agenda) remove(stream string, id domain.NotificationID, on domain.Channel) {
	s := a.streams[stream]
	if s == nil {
		return
	}
	s.attempts = slices.DeleteFunc(s.attempts, func(n nextAttempt) bool { return n.NotificationID == id && n.Channel == on })
	if len(s.attempts) == 0 {
		delete(a.streams, stream)
	}
}

// announce appends what is due, and saves the checkpoint now and then. It returns how long to wait until the next call.
func (a *agenda) announce(ctx context.Context, saved *eventstore.Position) (wait time.Duration, err error) {
	var appends errgroup.Group
	appends.SetLimit(concurrentAppends)
	for _, e := range a.due(time.Now()) {
		appends.Go(func() error {
			_, err := a.store.Append(ctx, e.stream, e.revision, e.events...)
			_, lost := errors.AsType[*eventstore.WrongRevision](err)
			refused, _ := errors.AsType[*eventstore.Refused](err)
			switch {
			case lost:
				return nil
			case errors.Is(err, eventstore.ErrDeleted):
				a.refused.Failed(err)
				a.forget(e.stream)
				return nil
			case refused != nil && refused.Denied: // an operator may give the right
				a.refused.Failed(err)
				return nil
			}
			return err
		})
	}
	if err := appends.Wait(); err != nil {
		return 0, err
	}
	if p := a.checkpoint(); p > *saved {
		if err := a.store.SaveCheckpoint(ctx, checkpointStream, p); err != nil {
			return 0, err
		}
		*saved = p
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.next.IsZero() || !a.caughtUp {
		return agendaTick, nil
	}
	return min(max(time.Until(a.next), 0), agendaTick), nil
}

// announcement is what to append to a stream.
type announcement struct {
	stream   string
	revision domain.Revision
	first    time.Time // when the first of it was due
	events   []eventstore.Proposed
}

// due returns what is due, oldest first.
func (a *agenda) due(now time.Time) (due []announcement) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.caughtUp || now.Before(a.next) {
		return nil
	}
	for name, s := range a.streams {
		e := announcement{stream: name, revision: s.revision}
		for _, n := range s.attempts {
			if n.due.After(now) {
				continue
			}
			if len(e.events) == 0 || n.due.Before(e.first) {
				e.first = n.due
			}
			n.At, n.OccurredAt = now.UTC(), now.UTC()
			e.events = append(e.events, eventstore.Proposed{Event: n.NotificationDue, Metadata: n.Metadata})
		}
		if len(e.events) > 0 {
			due = append(due, e)
		}
	}
	slices.SortFunc(due, func(a, b announcement) int { return cmp.Or(a.first.Compare(b.first), cmp.Compare(a.stream, b.stream)) })
	due = due[:min(len(due), maxAnnounced)]
	for _, e := range due {
		for i := range a.streams[e.stream].attempts {
			if n := &a.streams[e.stream].attempts[i]; !n.due.After(now) {
				n.due = now.Add(appendAgain)
			}
		}
	}
	a.next = time.Time{}
	for _, s := range a.streams {
		for _, n := range s.attempts {
			if a.next.IsZero() || n.due.Before(a.next) {
				a.next = n.due
			}
		}
	}
	return due
}

// checkpoint returns the position from which the log has to be folded again to find what there is to do now, 0 if it need not be saved yet.
func (a *agenda) checkpoint() eventstore.Position {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.caughtUp || a.folded < checkpointEvery {
		return 0
	}
	a.folded = 0
	p := a.last
	if a.undecoded != nil {
		p = *a.undecoded
	}
	for _, s := range a.streams {
		for _, n := range s.attempts {
			p = min(p, n.after)
		}
	}
	return p
}

// waiting returns the number of notifications that wait for their next attempt, and when the oldest of them failed last, by channel.
func (a *agenda) waiting() (n map[domain.Channel]int, oldest map[domain.Channel]time.Time) {
	n, oldest = map[domain.Channel]int{}, map[domain.Channel]time.Time{}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.streams {
		for _, next := range s.attempts {
			if n[next.Channel]++; oldest[next.Channel].IsZero() || next.failed.Before(oldest[next.Channel]) {
				oldest[next.Channel] = next.failed
			}
		}
	}
	return n, oldest
}

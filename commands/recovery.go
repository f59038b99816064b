package commands

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"roombook/domain"
	"roombook/eventstore"
)

// Log is what recovery needs of the event store beside [Store]. See [eventstore.Store] for the contract.
type Log interface {
	Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error]
	LoadCheckpoint(ctx context.Context, stream string) (eventstore.Position, error)
	SaveCheckpoint(ctx context.Context, stream string, p eventstore.Position) error
	SetMaxCount(ctx context.Context, stream string, n int) error
}

// toEnd reads what passes the filter after a position, up to the present end of the log.
func toEnd(ctx context.Context, log Log, after eventstore.Position, f eventstore.Filter, each func(eventstore.Batch)) error {
	for batch, err := range log.Subscribe(ctx, after, f) {
		if err != nil {
			return err
		}
		each(batch)
		if batch.CaughtUp {
			break
		}
	}
	return nil
}

// checkpointStream stores the position up to which recovery has nothing left to do. It never passes the oldest open step.
const checkpointStream = "recovery-checkpoint"

// RecoveryOptions configure a [Recovery].
type RecoveryOptions struct {
	// Grace is how long a step may stay open before it is settled, which leaves its own command time to do it. It affects efficiency,
	// not correctness. 0 or less is 5 s.
	Grace  time.Duration
	Logger *slog.Logger // nil discards
}

// Recovery finishes what commands left half-done: it follows the log, keeps track of the bookings and rooms with an open step, and settles
// those that are still open after the grace period. Any number of recoveries may run on one store at the same time.
type Recovery struct {
	handler *Handler
	log     Log
	grace   time.Duration
	tick    time.Duration // between checks for what is due
	logger  *slog.Logger

	unfollowed, unsettled *eventstore.Trouble

	mu   sync.Mutex
	open map[subject]*recovered
	err  error // why the log cannot be followed at the moment
}

// recovered is a booking with an open step, as recovery knows it.
type recovered struct {
	since    time.Time // when its oldest open step was decided
	steps    []string
	due      time.Time // when it will be settled if it is still open
	settling bool
	settled  eventstore.Position // the last event that was folded before it was settled; 0 once note has seen it
	failures int
	pauses   backoff.ExponentialBackOff // after failures
	err      error                      // of the last failure
}

// NewRecovery returns the recovery of the handler's commands.
func NewRecovery(h *Handler, log Log, o RecoveryOptions) *Recovery {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Grace <= 0 {
		o.Grace = 5 * time.Second
	}
	return &Recovery{
		handler: h,
		log:     log,
		grace:   o.Grace,
		tick:    min(max(o.Grace/4, time.Millisecond), time.Second),
		logger:  o.Logger,
		open:    make(map[subject]*recovered),

		unfollowed: eventstore.NewTrouble(o.Logger, slog.LevelWarn, "recovery cannot follow the log and tries again", "recovery follows the log again"),
		unsettled:  eventstore.NewTrouble(o.Logger, slog.LevelWarn, "a booking or room cannot be settled; recovery tries again", ""),
	}
}

// OpenBooking is a booking with an open step, or a room some of whose bookings are to be cancelled.
type OpenBooking struct {
	Booking  domain.BookingID
	Room     domain.RoomID // empty for a booking
	Steps    []string      // that are open
	Since    time.Time     // when its oldest open step was decided
	Failures int           // failed attempts of this process to settle it
	Err      error         // of the last one
}

// Of names the booking, or the room.
func (b OpenBooking) Of() string { return subject{b.Booking, b.Room}.String() }

// Status lists the bookings that have an open step, oldest first, and the reason why the log cannot be followed at the moment, if it cannot.
func (r *Recovery) Status() ([]OpenBooking, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []OpenBooking
	for id, b := range r.open {
		list = append(list, OpenBooking{Booking: id.booking, Room: id.room, Steps: b.steps, Since: b.since, Failures: b.failures, Err: b.err})
	}
	oldestFirst(list)
	return list, r.err
}

// OpenBookings folds the log from recovery's checkpoint to its present end and lists the bookings that have an open step, oldest first,
// each with the time when its oldest open step was decided. They include those of commands that are still running.
func OpenBookings(ctx context.Context, log Log) ([]OpenBooking, error) {
	after, err := log.LoadCheckpoint(ctx, checkpointStream)
	if err != nil {
		return nil, err
	}
	steps := newOpenSteps(after)
	if err := steps.catchUp(ctx, log); err != nil {
		return nil, err
	}
	var list []OpenBooking
	for id, b := range steps.bookings {
		list = append(list, OpenBooking{Booking: id.booking, Room: id.room, Steps: b.names(), Since: b.since()})
	}
	oldestFirst(list)
	return list, nil
}

func oldestFirst(list []OpenBooking) {
	slices.SortFunc(list, func(a, b OpenBooking) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Booking, b.Booking), cmp.Compare(a.Room, b.Room))
	})
}

// Run recovers until ctx ends, and returns nil then. While the event store is unavailable it retries with back-off.
func (r *Recovery) Run(ctx context.Context) error {
	for wait := recoveryPauses(); ; {
		err := r.follow(ctx, func() {
			wait.Reset()
			r.followed(nil)
			r.unfollowed.Over()
		})
		if ctx.Err() != nil {
			return nil
		}
		r.followed(err)
		r.unfollowed.Failed(err)
		if eventstore.Sleep(ctx, wait.NextBackOff()) != nil {
			return nil
		}
	}
}

// recoveryPauses are the pauses after failures, from a tenth of a second to half a minute.
func recoveryPauses() backoff.ExponentialBackOff {
	return pauses(100*time.Millisecond, 20*time.Second, 0.5)
}

// followed records whether the log could be followed.
func (r *Recovery) followed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// follow folds the log from the checkpoint on and settles what stays open, until ctx ends or the log cannot be followed. It calls alive
// when it has reached the end of the log. Before that nothing is settled, since the event that closes a step may be still to come.
func (r *Recovery) follow(ctx context.Context, alive func()) error {
	// What is known about this log, and its checkpoint, must not be used for another one.
	incarnation := r.handler.store.Incarnation()
	ctx = eventstore.On(ctx, incarnation)
	after, err := r.log.LoadCheckpoint(ctx, checkpointStream)
	if err != nil {
		return fmt.Errorf("load the recovery checkpoint: %w", err)
	}
	if err := r.log.SetMaxCount(ctx, checkpointStream, 1); err != nil {
		return fmt.Errorf("prepare the recovery checkpoint: %w", NeedsSetup(err))
	}
	steps, saved, changes := newOpenSteps(after), after, 0
	r.begin()
	var working sync.WaitGroup
	defer working.Wait()
	following, stop := context.WithCancel(ctx)
	defer stop()
	batches := make(chan eventstore.Batch)
	var failed error // set before batches is closed
	working.Go(func() {
		defer close(batches)
		for batch, err := range r.log.Subscribe(following, after, Streams()) {
			if failed = err; err != nil {
				return
			}
			select {
			case batches <- batch:
			case <-following.Done():
				return
			}
		}
	})
	places, freed := make(chan struct{}, settlers), make(chan struct{}, 1)
	settleDue := func() {
		for _, id := range r.due(steps, places) {
			where, last := steps.bookings[id].places(), steps.last
			working.Go(func() {
				r.settle(ctx, id, where, last)
				<-places
				select {
				case freed <- struct{}{}:
				default:
				}
			})
		}
	}
	tick := time.NewTicker(r.tick)
	defer tick.Stop()
	for caughtUp := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-freed:
			settleDue()
			continue
		case batch, more := <-batches:
			if !more {
				return fmt.Errorf("follow the log: %w", failed)
			}
			steps.addAll(batch)
			if caughtUp || !batch.CaughtUp {
				continue
			}
			caughtUp = true
			alive()
		case <-tick.C:
			if !caughtUp {
				continue
			}
		}
		if r.handler.store.Incarnation() != incarnation {
			return eventstore.ErrReplaced
		}
		r.note(steps)
		// Saving a checkpoint appends to the log that is being followed, so it is not done unless something has changed.
		if p := steps.checkpoint(); p > saved && steps.changes > changes {
			if err := r.log.SaveCheckpoint(ctx, checkpointStream, p); err != nil {
				return fmt.Errorf("save the recovery checkpoint: %w", err)
			}
			saved, changes = p, steps.changes
		}
		settleDue()
	}
}

// begin forgets which bookings were settled, since those positions were read from a former subscription.
func (r *Recovery) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.open {
		b.settled = 0
	}
}

// settlers is how many bookings are settled at the same time, so that one that hangs does not hold up the others.
const settlers = 8

// note brings r.open up to date. That is done only now and then, since most steps are soon closed by their own command.
func (r *Recovery) note(steps *openSteps) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, b := range r.open {
		if b.settled > 0 {
			steps.settled(id, b.settled)
			b.settled = 0
		}
		if steps.bookings[id] == nil {
			delete(r.open, id)
		}
	}
	now := time.Now()
	for id, b := range steps.bookings {
		known := r.open[id]
		if known == nil {
			// The grace period starts when the step was decided, not when it was first seen here, so that even a process that lives for a short
			// time settles what an earlier one left; unless that one's clock was fast. It varies, so that replicas do not all settle a booking
			// at the same time.
			decided := b.since()
			if decided.After(now) {
				decided = now
			}
			known = &recovered{due: decided.Add(r.grace + rand.N(r.grace/4+1)), pauses: recoveryPauses()}
			r.open[id] = known
		}
		known.steps, known.since = b.names(), b.since()
	}
	r.handler.metrics.openBookings.Set(float64(len(r.open)))
}

// due picks bookings that are due and still open, as many as there are places.
func (r *Recovery) due(steps *openSteps, places chan<- struct{}) []subject {
	r.mu.Lock()
	defer r.mu.Unlock()
	var due []subject
	now := time.Now()
	for id, b := range r.open {
		if b.settling || now.Before(b.due) || steps.bookings[id] == nil {
			continue
		}
		select {
		case places <- struct{}{}:
			b.settling = true
			due = append(due, id)
		default:
			return due
		}
	}
	return due
}

// settle settles what has open steps as of the event at position last, and records the result.
func (r *Recovery) settle(ctx context.Context, id subject, places []place, last eventstore.Position) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	found := true // something to be settled, which a room need not have
	err := func() error {
		ctx, end, err := r.handler.begin(ctx)
		if err != nil {
			return err
		}
		defer end()
		if id.room != "" {
			last, err := r.handler.clear(ctx, id.room, places)
			found = last > 0
			return err
		}
		_, err = r.handler.settle(ctx, id.booking, places...)
		return err
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.open[id]
	if b == nil {
		return
	}
	b.settling = false
	b.err = err
	if err == nil {
		b.settled = last
		b.due = time.Now().Add(r.grace)
		if r.unsettled.Over(); found {
			r.handler.metrics.recovered.Inc()
			r.logger.Info("settled what a command had left half-way", "what", id.String())
		}
		return
	}
	b.failures++
	b.due = time.Now().Add(r.grace + b.pauses.NextBackOff())
	r.handler.metrics.recoveryFailures.Inc()
	r.unsettled.Failed(err, "what", id.String())
}

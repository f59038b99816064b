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

// toEnd follows what commands wrote after a position, to the present end of the log.
func toEnd(ctx context.Context, log Log, after eventstore.Position, each func(eventstore.Batch)) error {
	for batch, err := range log.Subscribe(ctx, after, Streams()) {
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

// checkpointStream keeps up to where recovery has nothing left to do. It never passes the oldest open step.
const checkpointStream = "recovery-checkpoint"

// RecoveryOptions are the choices of a Recovery.
type RecoveryOptions struct {
	// Grace is how long a step may stay open before it is settled: time for its own command to do it. Only economy depends on
	// it. 0 and less is 5 s.
	Grace  time.Duration
	Logger *slog.Logger // nil discards
}

// Recovery finishes what commands left half-way: it follows the log, keeps in memory which bookings have an open step, and settles
// those that are still open after the grace period. Any number of them may run at once on one store.
type Recovery struct {
	handler *Handler
	log     Log
	grace   time.Duration
	tick    time.Duration // between two looks at what is due
	logger  *slog.Logger

	unfollowed, unsettled *eventstore.Trouble

	mu   sync.Mutex
	open map[domain.BookingID]*recovered
	err  error // why the log cannot be followed at present
}

// recovered is a booking with an open step, as recovery sees it.
type recovered struct {
	since    time.Time // when its oldest open step was decided
	steps    []string
	due      time.Time // when it is to be settled, if it is still open
	settling bool
	settled  eventstore.Position // of the last event that was folded before it was settled; 0 once that is taken note of
	failures int
	pauses   backoff.ExponentialBackOff // after failures
	err      error
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
		open:    make(map[domain.BookingID]*recovered),

		unfollowed: eventstore.NewTrouble(o.Logger, slog.LevelWarn, "recovery cannot follow the log and tries again", "recovery follows the log again"),
		unsettled:  eventstore.NewTrouble(o.Logger, slog.LevelWarn, "a booking cannot be settled; recovery tries again", ""),
	}
}

// OpenBooking is a booking with an open step.
type OpenBooking struct {
	Booking  domain.BookingID
	Steps    []string  // what it waits for
	Since    time.Time // when its oldest open step was decided
	Failures int       // tries of this process to settle it that failed
	Err      error     // of the last of them
}

// Status lists the bookings that have an open step, the oldest first, and the error for which the log cannot be followed at
// present.
func (r *Recovery) Status() ([]OpenBooking, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []OpenBooking
	for id, b := range r.open {
		list = append(list, OpenBooking{Booking: id, Steps: b.steps, Since: b.since, Failures: b.failures, Err: b.err})
	}
	oldestFirst(list)
	return list, r.err
}

// OpenBookings folds the log from recovery's checkpoint to its present end and lists the bookings that have an open step, the
// oldest first, each with the time when its oldest open step was decided. Commands that are under way are among them.
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
		list = append(list, OpenBooking{Booking: id, Steps: b.names(), Since: b.since()})
	}
	oldestFirst(list)
	return list, nil
}

func oldestFirst(list []OpenBooking) {
	slices.SortFunc(list, func(a, b OpenBooking) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Booking, b.Booking)) })
}

// Run recovers until ctx ends, and returns nil then. While the event store is away it tries again with back-off.
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
		if sleep(ctx, wait.NextBackOff()) != nil {
			return nil
		}
	}
}

// recoveryPauses are those after failures, from a tenth of a second to half a minute.
func recoveryPauses() backoff.ExponentialBackOff {
	return pauses(100*time.Millisecond, 20*time.Second, 0.5)
}

// followed notes whether the log could be followed.
func (r *Recovery) followed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// follow folds the log from the checkpoint on and settles what stays open, until ctx ends or the log cannot be followed.
// It calls alive once it has reached the end of the log. Until then nothing is settled: what closes a step may be yet to come.
func (r *Recovery) follow(ctx context.Context, alive func()) error {
	// What is known of the log, and what is saved for it, is of no use for another one.
	incarnation := r.handler.store.Incarnation()
	ctx = eventstore.On(ctx, incarnation)
	after, err := r.log.LoadCheckpoint(ctx, checkpointStream)
	if err != nil {
		return fmt.Errorf("load the recovery checkpoint: %w", err)
	}
	if err := r.log.SetMaxCount(ctx, checkpointStream, 1); err != nil {
		return fmt.Errorf("prepare the recovery checkpoint: %w", err)
	}
	steps, saved, changes := newOpenSteps(after), after, 0
	r.begin()
	var working sync.WaitGroup
	defer working.Wait()
	following, stop := context.WithCancel(ctx)
	defer stop()
	batches := make(chan eventstore.Batch)
	var failed error // when batches is closed
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
			rooms, last := steps.bookings[id].rooms(), steps.last
			working.Go(func() {
				r.settle(ctx, id, rooms, last)
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
		// Where nothing has changed the checkpoint is as good as a later one: to save one is to append to the log that is followed.
		if p := steps.checkpoint(); p > saved && steps.changes > changes {
			if err := r.log.SaveCheckpoint(ctx, checkpointStream, p); err != nil {
				return fmt.Errorf("save the recovery checkpoint: %w", err)
			}
			saved, changes = p, steps.changes
		}
		settleDue()
	}
}

// begin forgets which bookings were settled: that was in the log that was followed before.
func (r *Recovery) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.open {
		b.settled = 0
	}
}

// settlers bounds how many bookings are settled at once, so that one which hangs holds up no other.
const settlers = 8

// note takes over which bookings are open. It looks now and then only: most steps are closed by their own command long before.
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
			// The step's own clock counts, so that a process which does not live long settles what one before it left; unless that clock
			// was fast. Replicas that see it at the same time are not all to settle it at the same time.
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

// due takes bookings whose time has come and which are still open, as many as there are places.
func (r *Recovery) due(steps *openSteps, places chan<- struct{}) []domain.BookingID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var due []domain.BookingID
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

// settle settles one booking, whose steps are open as of the event at a position, and notes how that went.
func (r *Recovery) settle(ctx context.Context, id domain.BookingID, rooms []domain.RoomID, last eventstore.Position) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := func() error {
		ctx, end, err := r.handler.begin(ctx)
		if err != nil {
			return err
		}
		defer end()
		_, err = r.handler.settle(ctx, id, rooms...)
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
		r.handler.metrics.recovered.Inc()
		r.logger.Info("settled a booking that a command had left half-way", "booking", id)
		r.unsettled.Over()
		return
	}
	b.failures++
	b.due = time.Now().Add(r.grace + b.pauses.NextBackOff())
	r.handler.metrics.recoveryFailures.Inc()
	r.unsettled.Failed(err, "booking", id)
}

package eventstoretest

import (
	"context"
	"iter"
	"strings"

	"github.com/google/uuid"

	"roombook/eventstore"
)

// Part is a store whose subscriptions yield only the events of one test, with checkpoints of its own. It is for subscribers that act on
// all events, in a log that other tests may write to as well.
type Part struct {
	*eventstore.Store
	// After is where subscriptions begin at the earliest. What others wrote before need not be read.
	After eventstore.Position
	of    func(eventstore.Recorded) bool
	name  string
}

// PartOf is the part of the log with the events for which of returns true.
func PartOf(store *eventstore.Store, of func(eventstore.Recorded) bool) *Part {
	return &Part{Store: store, of: of, name: uuid.NewString()}
}

// Naming is true of events whose stream or data contains one of the texts: ids of bookings or rooms, say.
func Naming[T ~string](texts ...T) func(eventstore.Recorded) bool {
	return func(r eventstore.Recorded) bool {
		for _, text := range texts {
			if strings.Contains(r.Stream, string(text)) || strings.Contains(string(r.Data), string(text)) {
				return true
			}
		}
		return false
	}
}

// Subscribe is [eventstore.Store.Subscribe] without the events of others.
func (p *Part) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	return func(yield func(eventstore.Batch, error) bool) {
		for batch, err := range p.Store.Subscribe(ctx, max(after, p.After), f) {
			var own []eventstore.Recorded
			for _, r := range batch.Events {
				if p.of(r) {
					own = append(own, r)
				}
			}
			batch.Events = own
			if !yield(batch, err) {
				return
			}
		}
	}
}

// LoadCheckpoint is [eventstore.Store.LoadCheckpoint] with a stream of this part's own.
func (p *Part) LoadCheckpoint(ctx context.Context, stream string) (eventstore.Position, error) {
	return p.Store.LoadCheckpoint(ctx, stream+"-"+p.name)
}

// LoadPosition is [eventstore.Store.LoadPosition] with a stream of this part's own.
func (p *Part) LoadPosition(ctx context.Context, stream string) (eventstore.Position, error) {
	return p.Store.LoadPosition(ctx, stream+"-"+p.name)
}

// SaveCheckpoint is [eventstore.Store.SaveCheckpoint] with a stream of this part's own.
func (p *Part) SaveCheckpoint(ctx context.Context, stream string, at eventstore.Position) error {
	return p.Store.SaveCheckpoint(ctx, stream+"-"+p.name, at)
}

// SetMaxCount is [eventstore.Store.SetMaxCount] with a stream of this part's own.
func (p *Part) SetMaxCount(ctx context.Context, stream string, n int) error {
	return p.Store.SetMaxCount(ctx, stream+"-"+p.name, n)
}

package notify

import (
	"context"
	"errors"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// ErrNotFailed means that no channel has given the notification up: it is delivered, or still tried.
var ErrNotFailed = errors.New("the notification has not failed")

// Retry asks for a notification that was given up to be delivered after all, with as many attempts as a new one, and returns where in the
// log that was asked. Whoever dispatches notifications does it. The error is [ErrNotFailed], or one of package eventstore; then nothing has
// changed, or with [eventstore.ErrOutcomeUnknown] may have.
func Retry(ctx context.Context, store Streams, id domain.NotificationID, actor, correlation string) (eventstore.Position, error) {
	for {
		var state domain.Deliveries
		revision := eventstore.NoStream
		for r, err := range store.ReadStream(ctx, id.Stream(), 0) {
			if err != nil {
				return 0, err
			}
			state, revision = state.Evolve(r.Event), r.Revision
		}
		now := time.Now().UTC()
		decided := domain.DecideRetry(state, id, now)
		if len(decided) == 0 {
			return 0, ErrNotFailed
		}
		appended, err := store.Append(ctx, id.Stream(), revision, eventstore.Proposed{
			Event: decided[0], Metadata: eventstore.Metadata{CorrelationID: correlation, Actor: actor, OccurredAt: now},
		})
		if _, lost := errors.AsType[*eventstore.WrongRevision](err); !lost {
			return appended.Position, err
		}
	}
}

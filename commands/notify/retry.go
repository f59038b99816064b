package notify

import (
	"context"
	"errors"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// ErrNotFailed means that the notification is not parked: it has been delivered, or is still being attempted.
var ErrNotFailed = errors.New("the notification has not failed")

// Retry requests that a parked notification is attempted again, as often as a new one, by whichever process dispatches notifications. Client
// is the network that the request came from, or empty. Retry returns the position of the request in the log. The error is [ErrNotFailed],
// *[domain.Forbidden] or one of package eventstore; nothing was requested then, except perhaps with [eventstore.ErrOutcomeUnknown].
func Retry(ctx context.Context, store Streams, id domain.NotificationID, actor domain.Actor, client, correlation string) (eventstore.Position, error) {
	if err := actor.May(domain.RetrySending, domain.SomebodyElse); err != nil {
		return 0, err
	}
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
			Event: decided[0], Metadata: eventstore.Metadata{CorrelationID: correlation, Actor: string(actor.User), Client: client, OccurredAt: now},
		})
		if _, lost := errors.AsType[*eventstore.WrongRevision](err); !lost {
			return appended.Position, err
		}
	}
}

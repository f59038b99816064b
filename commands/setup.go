package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	"roombook/eventstore"
)

// NotificationGroup is the persistent subscription that hands out the events of which somebody is notified.
const NotificationGroup = "roombook-notifications"

// NotificationSettings are those of [NotificationGroup], beginning at a position. It has one consumer at a time, the other replicas stand
// by: so events come in the order of the log, and whoever is notified of several is so in their order, whichever bookings they are of. An
// event may stay in a consumer's hands through a long outage of whatever it sends to, and how often it tries is for the consumer to say.
func NotificationSettings(from eventstore.Position) eventstore.GroupSettings {
	return eventstore.GroupSettings{
		Filter:           eventstore.Filter{StreamPrefixes: []string{"booking-", "realuse-"}},
		From:             from,
		Strategy:         eventstore.Pinned,
		MaxConsumers:     1,
		MessageTimeout:   time.Hour,
		MaxRetries:       1000,
		CheckpointAfter:  time.Second,
		CheckpointEvents: 32,
	}
}

// SetupStore is what [Setup] needs of the event store. See [eventstore.Store] for the contract.
type SetupStore interface {
	End(ctx context.Context) (eventstore.Position, error)
	SetMaxCount(ctx context.Context, stream string, n int) error
	EnsureGroup(ctx context.Context, group string, g eventstore.GroupSettings) (changed bool, err error)
}

// Setup makes in an event store what the program needs there besides events, and what its own user may have no right to make: the
// persistent subscription, which begins at the present end of the log, and the metadata of streams that keep their last event only. What is
// there is left as it is. changed reports whether the persistent subscription was made or changed.
func Setup(ctx context.Context, store SetupStore) (changed bool, err error) {
	if err := store.SetMaxCount(ctx, checkpointStream, 1); err != nil {
		return false, err
	}
	end, err := store.End(ctx)
	if err != nil {
		return false, err
	}
	return store.EnsureGroup(ctx, NotificationGroup, NotificationSettings(end))
}

// NeedsSetup adds to an error that calls for [Setup] by an operator what to do about it.
func NeedsSetup(err error) error {
	refused, _ := errors.AsType[*eventstore.Refused](err)
	_, missing := errors.AsType[*eventstore.NoGroup](err)
	if missing || refused != nil && refused.Denied {
		return fmt.Errorf("%w: an administrator of the event store has to run: roombook setup --eventstore esdb://admin…", err)
	}
	return err
}

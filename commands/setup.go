package commands

import (
	"context"
	"errors"
	"fmt"

	"roombook/eventstore"
)

// SetupStore is what [Setup] needs of the event store. See [eventstore.Store] for the contract.
type SetupStore interface {
	SetMaxCount(ctx context.Context, stream string, n int) error
}

// Setup sets the metadata of the stream that keeps its last event only, which the program's own user may have no right to do. What is set
// already is left as it is.
func Setup(ctx context.Context, store SetupStore) error {
	return store.SetMaxCount(ctx, checkpointStream, 1)
}

// NeedsSetup adds what to do to an error that means that an operator has to set up the event store.
func NeedsSetup(err error) error {
	refused, _ := errors.AsType[*eventstore.Refused](err)
	_, missing := errors.AsType[*eventstore.NoGroup](err)
	if missing || refused != nil && refused.Denied {
		return fmt.Errorf("%w: an administrator of the event store has to run: roombook setup --eventstore esdb://admin…", err)
	}
	return err
}

package projections

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"roombook/eventstore"
)

// OtherLog means that a list was built from a different log: a backup of the log was restored, or the address is that of another event
// store. Such a list must not be shown and can only be rebuilt.
type OtherLog struct {
	Projection string
	Position   eventstore.Position // where the log does not have the last event of the list
}

func (e *OtherLog) Error() string {
	return fmt.Sprintf("the list %s was built from another log, which had another event at position %d: a program that keeps lists rebuilds it, and so does roombook replay %[1]s", e.Projection, e.Position)
}

// origin checks that a generation was built from the log, and returns the event after which to continue.
func origin(ctx context.Context, log Log, g Generation) (after Point, err error) {
	last := g.Last()
	if last.Position > 0 {
		id, found, err := log.EventAt(ctx, last.Position)
		switch {
		case err != nil:
			return Point{}, err
		case !found || last.Event != uuid.Nil && last.Event != id:
			return Point{}, &OtherLog{g.Projection, last.Position}
		}
		last.Event = id
	}
	if further := g.Considered; further.Position > last.Position {
		// The event may be gone because its stream is truncated. Then what lies between is read again.
		id, found, err := log.EventAt(ctx, further.Position)
		switch {
		case err != nil:
			return Point{}, err
		case found && id == further.Event:
			return further, nil
		}
	}
	return last, nil
}

package projections

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"roombook/eventstore"
)

// OtherLog means that a list was made from another log than the present one: the log went back, because a backup was put in its
// place, or another event store stands at its address. What such a list says is not to be shown, and cannot be mended but by
// making it anew.
type OtherLog struct {
	Projection string
	Position   eventstore.Position // of the last event of the list, which the log does not have there
}

func (e *OtherLog) Error() string {
	return fmt.Sprintf("the list %s was made from another log, which had another event at position %d: a program that keeps lists makes it anew, and so does roombook replay %[1]s", e.Projection, e.Position)
}

// origin checks that a generation was made from the log, and returns the event after which to go on.
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
		// The event may also be gone because its stream keeps only the latest. Then what lies between is read again.
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

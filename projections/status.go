package projections

import (
	"slices"
	"strings"

	"roombook/domain"
)

// Status says where a booking is in its life, as the lists show it.
type Status string

const (
	StatusBooked    Status = "BOOKED"    // waits for the administrator's answer
	StatusConfirmed Status = "CONFIRMED" // the administrator said yes
	StatusInUse     Status = "IN_USE"    // the use has started
	StatusEnded     Status = "ENDED"     // the use has ended, and with it the booking
	StatusCancelled Status = "CANCELLED" // over without having been used
)

// StatusAll, in a [Query], asks for documents of every status.
const StatusAll = "all"

// after folds one event.
func (s Status) after(event domain.Event) Status {
	switch e := event.(type) {
	case domain.BookingCreated, domain.ConfirmRequested:
		return StatusBooked
	case domain.ConfirmCompleted:
		if s == StatusBooked {
			return StatusConfirmed
		}
	case domain.BookingCheckedIn:
		return StatusInUse
	case domain.BookingCancelled:
		if e.Reason == domain.CancelledByUseEnd {
			return StatusEnded
		}
		return StatusCancelled
	}
	return s
}

// statuses are those that the documents of a list can have, and those that it shows when it is not asked for others: all if
// shown is nil.
type statuses struct{ all, shown []string }

// choose translates the statuses of a query into those of a selection.
func (s statuses) choose(asked []string) ([]string, error) {
	if len(asked) == 0 {
		return s.shown, nil
	}
	for _, status := range asked {
		if status == StatusAll {
			return nil, nil
		}
		if !slices.Contains(s.all, status) {
			return nil, &InvalidQuery{ParameterStatus, "must be one of " + strings.Join(s.all, ", ") + ", " + StatusAll}
		}
	}
	return asked, nil
}

func bookingStatuses() statuses {
	shown := []string{string(StatusBooked), string(StatusConfirmed), string(StatusInUse), string(StatusEnded)}
	return statuses{all: append(shown[:len(shown):len(shown)], string(StatusCancelled)), shown: shown}
}

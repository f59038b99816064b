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
type statuses struct {
	all, shown []string
	// keys are those of the documents that have a status, where that is not the only one.
	keys map[string][]string
	// answers are the keys of the documents that have an answer of the administrator; nil where that is not asked for.
	answers map[string][]string
}

// choose translates the statuses, or the answers, of a query into the keys of a selection.
func (s statuses) choose(asked []string, answers []domain.Answer) ([]string, error) {
	if len(answers) > 0 {
		var keys []string
		for _, answer := range answers {
			of := s.answers[string(answer)]
			if of == nil || len(asked) > 0 {
				return nil, &InvalidQuery{ParameterStatus, "must be either statuses or answers that this list has"}
			}
			keys = append(keys, of...)
		}
		return keys, nil
	}
	if len(asked) == 0 {
		return s.keysOf(s.shown), nil
	}
	for _, status := range asked {
		if status == StatusAll {
			return nil, nil
		}
		if !slices.Contains(s.all, status) {
			return nil, &InvalidQuery{ParameterStatus, "must be one of " + strings.Join(s.all, ", ") + ", " + StatusAll}
		}
	}
	return s.keysOf(asked), nil
}

func (s statuses) keysOf(statuses []string) []string {
	if s.keys == nil {
		return statuses
	}
	var keys []string
	for _, status := range statuses {
		if of := s.keys[status]; of != nil {
			keys = append(keys, of...)
		} else {
			keys = append(keys, status)
		}
	}
	return keys
}

func bookingStatuses() statuses {
	shown := []string{string(StatusBooked), string(StatusConfirmed), string(StatusInUse), string(StatusEnded)}
	return statuses{all: append(shown[:len(shown):len(shown)], string(StatusCancelled)), shown: shown}
}

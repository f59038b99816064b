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
	// used are the keys of the documents with a status that have a real use; nil where that is not asked for.
	used map[string][]string
	// answers are the keys of the documents that have an answer of the administrator; nil where that is not asked for.
	answers map[string][]string
}

// choose translates the statuses, or the answers, of a query into the keys of a selection, each of them once and in order.
func (s statuses) choose(q Query) ([]string, error) {
	if len(q.Answers) > 0 {
		var keys []string
		for _, answer := range q.Answers {
			of := s.answers[string(answer)]
			if of == nil || len(q.Statuses) > 0 || q.Used {
				return nil, &InvalidQuery{ParameterStatus, "must be either statuses or answers that this list has"}
			}
			keys = append(keys, of...)
		}
		return distinct(keys), nil
	}
	if q.Used && s.used == nil {
		return nil, &InvalidQuery{ParameterStatus, "must be of a list that has real uses"}
	}
	asked := q.Statuses
	switch {
	case len(asked) == 0 && (s.shown == nil || q.Used):
		asked = s.all
	case len(asked) == 0:
		asked = s.shown
	}
	for _, status := range asked {
		if status != StatusAll && !slices.Contains(s.all, status) {
			return nil, &InvalidQuery{ParameterStatus, "must be one of " + strings.Join(s.all, ", ") + ", " + StatusAll}
		}
	}
	if slices.Contains(asked, StatusAll) {
		asked = s.all
	}
	var keys []string
	for _, status := range asked {
		if q.Used {
			keys = append(keys, s.used[status]...)
		} else {
			keys = append(keys, s.keysOf(status)...)
		}
	}
	return distinct(keys), nil
}

func distinct(keys []string) []string {
	slices.Sort(keys)
	return slices.Compact(keys)
}

// keysOf are the keys of the documents with a status.
func (s statuses) keysOf(status string) []string {
	if of := s.keys[status]; of != nil {
		return of
	}
	return []string{status}
}

// every is every key that a document can have.
func (s statuses) every() []string {
	var keys []string
	for _, status := range s.all {
		keys = append(keys, s.keysOf(status)...)
	}
	return distinct(keys)
}

func bookingStatuses() statuses {
	shown := []string{string(StatusBooked), string(StatusConfirmed), string(StatusInUse), string(StatusEnded)}
	return statuses{all: append(shown[:len(shown):len(shown)], string(StatusCancelled)), shown: shown}
}

package projections

import (
	"slices"
	"strings"

	"roombook/domain"
)

// Status is the state of a booking as the lists show it.
type Status string

const (
	StatusBooked    Status = "BOOKED"    // awaits the administrator's answer
	StatusConfirmed Status = "CONFIRMED" // confirmed by the administrator
	StatusInUse     Status = "IN_USE"    // the use has started
	StatusEnded     Status = "ENDED"     // the use has ended, and the booking with it
	StatusCancelled Status = "CANCELLED" // over for any other reason
)

// StatusAll, in a [Query], selects documents of every status.
const StatusAll = "all"

// after is the status after one more event.
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

// statuses are the statuses of a list, and the status keys that documents are selected by. A key says more than a status where a query can
// ask for more.
type statuses struct {
	all   []string
	shown []string // the statuses that are shown by default; nil for all
	// keys are the keys of each status that has others than itself.
	keys map[string][]string
	// used are the keys of each status whose documents have a real use; nil if a query cannot ask for that.
	used map[string][]string
	// answers are the keys of each answer of the administrator; nil if a query cannot ask for that.
	answers map[string][]string
}

// keysFor translates the statuses or answers of a query into the distinct keys to select, in order.
func (s statuses) keysFor(q Query) ([]string, error) {
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

// occupying are the keys of the bookings that may hold a room for some time.
func (s statuses) occupying() []string {
	var keys []string
	for _, status := range s.shown {
		keys = append(keys, s.keysOf(status)...)
	}
	return distinct(keys)
}

func distinct(keys []string) []string {
	slices.Sort(keys)
	return slices.Compact(keys)
}

// keysOf are the keys of a status.
func (s statuses) keysOf(status string) []string {
	if of := s.keys[status]; of != nil {
		return of
	}
	return []string{status}
}

// every returns all keys.
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

package domain

// Event is a fact in one of this package's streams. Events are stored forever: a field may be added, but never renamed or
// given another meaning; fields of older versions are upcast when they are read.
type Event interface {
	// EventType is the name the event is stored under.
	EventType() string
}

// OnBehalfOf is the user whom an event of a booking or of its use is for, or in whose name an answer was given, whoever caused it; empty if
// it is nobody's.
func OnBehalfOf(event Event) UserID {
	switch e := event.(type) {
	case BookingCreated:
		return e.UserID
	case BookingChanged:
		return e.UserID
	case BookingHandedOver:
		return e.UserID
	case BookingCancelled:
		return e.UserID
	case ConfirmCompleted:
		return e.ConfirmUserID
	case ConfirmDenied:
		return e.ConfirmUserID
	case UseStarted:
		return e.UserID
	case UseEnded:
		return e.UserID
	}
	return ""
}

// Fold evolves a state by events in the order of their stream.
func Fold[S interface{ Evolve(Event) S }](state S, events ...Event) S {
	for _, e := range events {
		state = state.Evolve(e)
	}
	return state
}

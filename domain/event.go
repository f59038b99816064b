package domain

// Event is a fact of one of this package's streams. Events are stored for ever: a field may be added, never renamed or
// given another meaning; what a field once meant is translated when it is read.
type Event interface {
	// EventType is the name the event is stored under.
	EventType() string
}

// Fold evolves a state by events in the order of their stream.
func Fold[S interface{ Evolve(Event) S }](state S, events ...Event) S {
	for _, e := range events {
		state = state.Evolve(e)
	}
	return state
}

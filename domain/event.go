package domain

// Event is a fact in one of this package's streams. Events are stored forever: a field may be added, but never renamed or
// given another meaning; fields of older versions are upcast when they are read.
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

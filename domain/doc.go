// Package domain holds the rules of meeting rooms: who holds which room when, and what may happen to a booking next.
//
// It has three aggregates, each with a stream of its own:
//
//   - [Calendar], one a room: the consistency boundary of "one room, one booking". It holds reservations.
//   - [Booking]: what a user asked for, what an administrator answered, and how it ended. A live booking stands on
//     exactly one reservation of a calendar.
//   - [RealUse], one a booking: when the room was really entered and left.
//
// An aggregate is a decider: a state, an Evolve function that folds one event into it, and Decide functions that turn a
// state and a command into the events that follow, or into a typed error. A decision without events is a repeat: what was
// asked for is already so. All are plain functions over plain values. Time, ids and the policy arrive as values; nothing
// here reads a clock, makes a random number or does I/O, and every function may be called from any goroutine.
//
//	booking := domain.Fold(domain.Booking{}, history...)
//	events, err := domain.DecideCancel(booking, domain.Cancel{Reason: domain.CancelledByUser, At: now})
package domain

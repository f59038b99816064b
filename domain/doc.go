// Package domain holds the rules of meeting rooms: who holds which room when, and what may happen to a booking next.
//
// It has three aggregates, each with a stream of its own:
//
//   - [Calendar], one per room: the consistency boundary of "one room, one booking". It holds reservations, and what the room's own events
//     say, a [Room]: what is known of it, the [Rules] of its bookings, and when it is closed. So whatever decides on a slot is decided at the
//     revision of the rules too.
//   - [Booking]: what a user asked for, what an administrator answered, and how it ended. Exactly one reservation of a
//     calendar backs a live booking.
//   - [RealUse], one per booking: when the room was really entered and left.
//
// A fourth, [Key], remembers what a caller's idempotency key was used for.
//
// An aggregate is a decider: a state, an Evolve method that folds one event into it, and Decide functions that turn a
// state and a command into the events that follow, or into a typed error. A decision without events is a repeat: what was
// asked for is already the case. The phase of a booking or of a real use follows from what it has, so that the two cannot
// contradict each other. All are plain functions over plain values: states are shared, and Evolve copies what it changes.
// Time, ids and the policy arrive as values; nothing here reads a clock, generates a random number or does I/O, and every
// function may be called from any goroutine.
//
//	booking := domain.Fold(domain.Booking{}, history...)
//	events, err := domain.DecideCancel(booking, domain.Cancel{Reason: domain.CancelledByUser, At: now})
package domain

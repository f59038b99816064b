// Package commands is the write side: what users and administrators ask for becomes events, or an error that says why not.
//
// # Commands
//
// Every command is one call of transact with its decision. transact takes the aggregate as it is remembered, or loads it, lets package
// domain decide, and appends at the revision that was decided on; if another append came first, it reads on and decides again. It also
// does what all commands have in common: it claims the caller's key, gives a repeated command the answer of its first try, checks the
// caller's condition, reserves a slot where the decision needs one, and settles the aggregate before it refuses. Nothing is refused, and
// nothing is taken to be done already, because of what is remembered.
//
// A command is a row of appends, one of which decides. What is decided goes forward whatever happens: the remaining steps are taken
// by the command itself, by another command that finds them undone in its way, or by [Recovery], all through the same function,
// settle. So a reply comes after the last step, and an error after the deciding one ([eventstore.ErrOutcomeUnknown]) means "will be
// finished".
//
// # Rooms
//
// The revisions of the calendars alone keep rooms from being double-booked. Commands of one process that want the same room go
// through its roomQueue: each decides on what the previous ones will leave, and they share appends and reads. Folded calendars are
// cached, so that a free slot is taken without a read; what has long been over is left out, and whatever needs it reads the whole stream.
//
// What is known of a room, its rules, its closures and its retirement are events of the same calendar. The commands that write them go through
// the room's queue as well, so that they are ordered with its bookings. A closure that cancels bookings is decided by its own event; each
// booking is then settled by itself.
//
// # Files
//
// transact.go is the loop, key.go and retry.go are its parts; booking.go, confirm.go, real_use.go and release.go are the commands on bookings;
// room.go and photo.go are those on rooms, and closure.go what follows from them; reservation.go takes and releases slots, by way of room_queue.go,
// calendar.go and calendar_snapshot.go, and blocker.go settles what is in the way; stream.go is an aggregate as it is known, with in_flight.go
// for appends of other commands to the same stream; cache.go is what is remembered of both; settle.go finishes what was left half-done, and
// recovery.go finds it with the help of open_step.go. audit.go checks a log against the rules; setup.go prepares an event store.
//
// Single resources are read here too, folded from their streams: always what has been committed.
package commands

// Package projections keeps the read models: the lists of what is booked, what was really used, and what users are told.
//
// Five ideas:
//
//   - A list is a fold over the log. A pure function folds each event into one document, so the documents can be deleted and rebuilt
//     from the log at any time.
//   - A document is a struct, such as [BookingList]. Its tags name the fields once for every store; a [Schema] describes them. Times are
//     cut to whole milliseconds, the resolution of every reply.
//   - Delivery is at least once and in order; the result is effectively once. Each document stores the position of the last event folded
//     into it, and neither a fold nor a store ever moves it backwards. So any number of workers may write the same projection.
//   - A projection writes to a generation, and a pointer names the active one. A rebuild writes the next generation beside it and flips the
//     pointer once it has caught up: readers never see a half-built list, and a failed rebuild changes nothing.
//   - A generation stores the id of the last event folded into it. If the log has a different event at that position, or none, the log is not
//     the one the generation was built from (a backup was restored), and the generation is discarded and rebuilt.
//
// The directory of rooms is read as a whole and kept in memory until a room changes. What takes a room, and which rooms can be booked, is
// answered from it and the booking list by the rules of package domain.
//
// Readers use [Queries]. Only [Workers] and a [Rebuilder] write to a [Store].
package projections

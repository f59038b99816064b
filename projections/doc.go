// Package projections keeps the lists: what is booked, what was really used, and what users are told.
//
// Four ideas:
//
//   - A list is a fold. Each event of the log is folded into one document by a pure function; the documents of a projection
//     are nothing but the log, read in one way, and can be thrown away and made again.
//   - Events arrive at least once, in order, and count once. A document stores the position of the last event folded into it,
//     and neither a fold nor a store ever lets it go backwards. So any number of workers may write the same projection.
//   - A projection writes to a generation, and a pointer names the one that readers see. A rebuild makes the next generation
//     beside it and flips the pointer when it has caught up: readers never see a half-built list, and a rebuild that fails
//     changes nothing.
//   - A generation knows the last event that was folded into it, and so the log that it was made from. Where the log has another event
//     there, or none, because a backup was put back, the generation is taken from readers and made anew.
//
// Readers use [Queries]. What is in a [Store] is written by [Workers] and by a [Rebuilder] alone.
package projections

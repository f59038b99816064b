// Package projections keeps the lists: what is booked, what was really used, and what users are told.
//
// Three ideas:
//
//   - A list is a fold. Each event of the log is folded into one document by a pure function; the documents of a projection
//     are nothing but the log, read in one way, and can be thrown away and made again.
//   - Events arrive at least once, in order, and count once. A document stores the position of the last event folded into it,
//     and neither a fold nor a store ever lets it go backwards. So any number of workers may write the same projection.
//   - A projection writes to a generation, and a pointer names the one that readers see. A rebuild makes the next generation
//     beside it and flips the pointer when it has caught up: readers never see a half-built list, and a rebuild that fails
//     changes nothing.
//
// Readers use [Queries]. What is in a [Store] is written by [Worker] and by [Rebuild] alone.
package projections

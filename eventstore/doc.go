// Package eventstore is EventStoreDB as the rest of the program needs it: append to one stream at an expected revision, read
// a stream, read or follow the log, share the events of the log between consumers. It takes the connection strings of the official client,
// github.com/EventStore/EventStore-Client-Go, and speaks the protocol with that client's generated code; no error of either reaches
// the callers of this package.
//
// Five ideas:
//
//   - An append writes events to one stream, all or nothing, at the revision that it expects. Of two callers that do the same thing,
//     only that revision decides which one succeeds.
//   - The appends of a store share one BatchAppend call to the leader, and so its messages and system calls. An event store that does not
//     offer that gets a call for each.
//   - Events are stored as JSON under the name of their type, with metadata. The codec turns them into the structs of package domain and
//     translates older schemas on the way. An event that it cannot decode is yielded with a nil Event and fails nobody.
//   - A subscription is a reader's own: it sees all events, in order, and the reader keeps its position. A group, a persistent subscription,
//     hands each event to one of its consumers until that settles it, and its position is the event store's.
//   - Everything that waits takes a context and returns when it ends.
package eventstore

// Package eventstore is EventStoreDB as the rest of the program needs it: append to one stream at an expected revision, read
// a stream, read or follow the log. It takes the connection strings of the official client,
// github.com/EventStore/EventStore-Client-Go, and speaks the protocol with that client's generated code; nothing above this
// package sees an error of either.
//
// Three ideas:
//
//   - An append is one row of events to one stream, all or nothing, and it names the revision that it expects. That
//     revision, and nothing else, decides which of two callers is done.
//   - What is stored is JSON under the event's type name, with metadata. The codec turns it into the structs of package
//     domain, translating older schemas on the way; what it does not know comes back with a nil Event and fails nobody.
//   - Everything that waits takes a context and leaves when it ends.
package eventstore

// Package node is a single-node event store in-process: a server that speaks EventStoreDB's gRPC protocol as version 24.10
// does, over a Pebble database in one folder. Any EventStoreDB client can use it; it knows nothing of what the events mean.
//
// Its ideas:
//
//   - One log. Every event has a position, dense and increasing from 1, and belongs to one stream, where it has a revision.
//     An append is atomic: its events are neighbours in the log. The first event of a new log is the server's own.
//   - Whole or not opened. A folder that lacks a file or a part of one is refused and left as it is, and damage that is found
//     later fails the node.
//   - Durable or not there. An append is answered after its sync. Nothing beyond the last durable position is ever shown to a
//     reader, and a refusal that rests on events still being synced waits for them too. A failed sync fails the node for good.
//   - Subscriptions pull. There is no buffer a subscriber: each follows the log at its own pace, from the memory of recent
//     events while it keeps up and from disk when it does not, so that nothing is lost or doubled.
//
// The rules come from EventStoreDB's public source (EventStore/EventStore, tag v24.10.4, below src/EventStore.Core). Persistent
// subscriptions answer UNIMPLEMENTED and are not announced.
//
//	n, err := node.Open(node.Options{Dir: "data/events"})
//	if err != nil {
//		return err
//	}
//	defer n.Close()
//	listener, err := net.Listen("tcp", "127.0.0.1:2113")
//	if err != nil {
//		return err
//	}
//	return n.Serve(ctx, listener)
package node

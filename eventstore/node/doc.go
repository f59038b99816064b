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
//   - One way to write. Appends, batches, deletes, and what persistent subscriptions write down of themselves go through the same
//     log and share its syncs.
//   - Subscriptions pull. There is no buffer a subscriber: each follows the log at its own pace, from the memory of recent
//     events while it keeps up and from disk when it does not, so that nothing is lost or doubled. A persistent subscription
//     does the same and remembers positions only of what it has handed out.
//
// The rules come from EventStoreDB's public source (EventStore/EventStore, tag v24.10.4, below src/EventStore.Core) and from
// recordings of that version, in testdata/conversations, which TestConversations plays.
//
//	behaviour                            defined in EventStoreDB                                     held by
//	expected revisions, idempotency      Services/Storage/ReaderIndex/IndexWriter.cs                 append/*, TestAppendExpectation, TestAppendIdempotency
//	delete, tombstone, re-creation       Services/Storage/StorageWriterService.cs                    delete/*, tombstone/*, TestDeletesAfterRestart
//	batches                              Services/Transport/Grpc/Streams.BatchAppend.cs              batchappend/*, TestKill
//	metadata, truncation                 Data/StreamMetadata.cs, Services/Storage/ReaderIndex        read/*, TestSoftDeleted
//	reads, links, filters                Services/Transport/Grpc/Streams.Read.cs                     read/*, TestRead, TestReadPages
//	subscriptions, checkpoints           Services/Transport/Enumerators                              subscribe/*, TestSubscription
//	persistent subscriptions             Services/PersistentSubscription                             persistent/*, TestGroupAfterRestart, TestGroupWithoutAcks, TestPinned
//	errors, trailers                     Services/Transport/Grpc/RpcExceptions.cs                    all of the conversations
//	durability                           -                                                           TestKill, TestPowerLoss, TestFailedSync
//	damaged files                        -                                                           TestSpoiltFiles, TestLogIsNotWhole, TestDamageWhileRunning
//
// What is answered otherwise, for good:
//
//	conversation, or what happens           EventStoreDB                           here                                     why
//	append or tombstone of stream $$        the process ends                       INVALID_ARGUMENT                         a fault of the server's
//	delete of $$x, x tombstoned             the process ends                       INVALID_ARGUMENT                         a fault of the server's
//	two appends of one id at the same time  the second times out                   both succeed                             a fault of the server's
//	append of known ids in reverse order    no answer                              success                                  a fault of the server's
//	read of $all with count 0, without      no answer                              an error                                 a fault of the server's
//	  uuid_option, or with window 0
//	batchappend/half-close-*                the call never ends                    it ends with OK                          kinder
//	fragment after a faulty one of a batch  the rest is appended                   nothing is                               kinder
//	persistent/ack-bad-id                   later acks of the call are ignored     they count                               kinder
//	persistent/replay-parked-stop-at-zero   the group never replays again          it does                                  kinder
//	parked events that are being replayed   are lost if the server stops           can be replayed again                    kinder
//	a regular expression that takes more    goes on                                an error; a group takes the event        bounded time
//	  than 200 ms on one event
//	group reads with a huge buffer_size     as many in flight                      65,536 at most                           bounded memory
//	GetInfo: status, measurements           all of its states, and histograms      Behind or Live, none                     not served
//	read/all-odd-positions                  InvalidPosition between records        every number up to the end is one        positions are dense
//	  and backwards from beyond the end     an error                               the newest events                        kinder
//	links, batches: .NET's texts of what    the exception's text                   one of ours where none is recorded       a text of .NET
//	  is malformed
//	other/unary-without-message             Incomplete message.                    gRPC's text, with the same code          a text of gRPC
//	other/supported-methods                 announces all                          announces what is served                 not served
//	projections, scavenges, clustering,     (several)                              UNIMPLEMENTED                            not served
//	  users, redaction, monitoring, TLS
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

package node_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"roombook/eventstore/node"
)

// The variables make the test binary a node on that folder with writers of its own, see writeUntilKilled.
const (
	crashDirVariable   = "ROOMBOOK_NODE_CRASH_DIR"
	crashRoundVariable = "ROOMBOOK_NODE_CRASH_ROUND"
)

var crashRounds = flag.Int("crash.rounds", 6, "how often TestKill kills a process")

const (
	// crashWriters is the number of writers of each kind, each with a stream of its own.
	crashWriters = 8
	// crashGroup is a group of the events that are appended, but for those of streams that are deleted.
	crashGroup = "g"
	// crashPark is every how many events its consumer parks one.
	crashPark = 7
)

// writeUntilKilled serves the folder and writes to it in every way, and prints a line for each write that was acknowledged:
// "event stream revision id", "deleted stream" or "tombstoned stream". A consumer prints "received revision@stream" before it
// acknowledges an event to the node, and parks some events without a word.
func writeUntilKilled(dir, round string) int {
	n, err := node.Open(node.Options{Dir: dir})
	if err != nil {
		return crashed(err)
	}
	n.BeginEmpty()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return crashed(err)
	}
	go n.Serve(context.Background(), l)
	c, err := connect(l.Addr().String())
	if err != nil {
		return crashed(err)
	}
	raw, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return crashed(err)
	}
	var out sync.Mutex
	say := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf(format, args...)
	}
	failed := make(chan error)
	for w := range crashWriters {
		go func() { failed <- appendUntilKilled(c, say, fmt.Sprintf("s-%d", w)) }()
		go func() { failed <- batchUntilKilled(raw, say, fmt.Sprintf("b-%s-%d", round, w)) }()
		go func() { failed <- deleteUntilKilled(c, say, fmt.Sprintf("d-%s-%d", round, w)) }()
	}
	go func() { failed <- consumeUntilKilled(c, say) }()
	return crashed(<-failed)
}

func appendUntilKilled(c *esdb.Client, say func(string, ...any), stream string) error {
	var expected esdb.ExpectedRevision = esdb.Any{} // it may be there from a round before
	for {
		first, second := event("A"), event("B")
		r, err := c.AppendToStream(context.Background(), stream, esdb.AppendToStreamOptions{ExpectedRevision: expected}, first, second)
		if err != nil {
			return err
		}
		expected = esdb.Revision(r.NextExpectedVersion)
		say("event %s %d %s\nevent %s %d %s\n", stream, r.NextExpectedVersion-1, first.EventID, stream, r.NextExpectedVersion, second.EventID)
	}
}

// batchUntilKilled has a number of batches of two events under way at a time.
func batchUntilKilled(c *grpc.ClientConn, say func(string, ...any), stream string) error {
	const underWay = 8
	call, err := streams.NewStreamsClient(c).BatchAppend(context.Background())
	if err != nil {
		return err
	}
	for sent := 0; ; sent++ {
		o := &streams.BatchAppendReq_Options{StreamIdentifier: streamIdentifier(stream)}
		o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_Any{Any: &emptypb.Empty{}}
		request := &streams.BatchAppendReq{CorrelationId: structuredOf(uuid.New()), Options: o, IsFinal: true}
		for i := range 2 {
			p := proposed("A")
			p.Id = structuredOf(uuid.NewSHA1(uuid.Nil, fmt.Append(nil, stream, sent, i)))
			request.ProposedMessages = append(request.ProposedMessages, &streams.BatchAppendReq_ProposedMessage{Id: p.Id, Metadata: p.Metadata, Data: p.Data})
		}
		if err := call.Send(request); err != nil {
			return err
		}
		if sent < underWay {
			continue
		}
		answer, err := call.Recv()
		if err != nil {
			return err
		}
		last := answer.GetSuccess().GetCurrentRevision()
		// Answers come in the order of the batches, of which there are two events each.
		for i := range 2 {
			id := uuid.NewSHA1(uuid.Nil, fmt.Append(nil, stream, sent-underWay, i))
			say("event %s %d %s\n", stream, int(last)-1+i, id)
		}
	}
}

func deleteUntilKilled(c *esdb.Client, say func(string, ...any), stream string) error {
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s-%d", stream, i)
		if _, err := c.AppendToStream(context.Background(), name, esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, event("A"), event("B")); err != nil {
			return err
		}
		var err error
		if i%2 == 0 {
			_, err = c.DeleteStream(context.Background(), name, esdb.DeleteStreamOptions{ExpectedRevision: esdb.Revision(1)})
		} else {
			_, err = c.TombstoneStream(context.Background(), name, esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Revision(1)})
		}
		if err != nil {
			return err
		}
		say("%s %s\n", []string{"deleted", "tombstoned"}[i%2], name)
	}
}

func consumeUntilKilled(c *esdb.Client, say func(string, ...any)) error {
	settings := esdb.SubscriptionSettingsDefault()
	settings.CheckpointUpperBound = 20
	err := c.CreatePersistentSubscriptionToAll(context.Background(), crashGroup, esdb.PersistentAllSubscriptionOptions{
		StartFrom: esdb.Start{}, Settings: &settings, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"s-", "b-"}},
	})
	if e, ok := esdb.FromError(err); !ok && e.Code() != esdb.ErrorCodeResourceAlreadyExists {
		return err
	}
	sub, err := c.SubscribeToPersistentSubscriptionToAll(context.Background(), crashGroup, esdb.SubscribeToPersistentSubscriptionOptions{BufferSize: 50})
	if err != nil {
		return err
	}
	for {
		e := sub.Recv()
		if e.SubscriptionDropped != nil {
			return e.SubscriptionDropped.Error
		}
		event := e.EventAppeared.Event.OriginalEvent()
		if event.EventNumber%crashPark == 0 {
			err = sub.Nack("", esdb.NackActionPark, e.EventAppeared.Event)
		} else {
			say("received %d@%s\n", event.EventNumber, event.StreamID)
			err = sub.Ack(e.EventAppeared.Event)
		}
		if err != nil {
			return err
		}
	}
}

func crashed(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// TestKill kills a process again and again in the middle of appends, batches, deletes and a group's traffic: all that was
// acknowledged is there afterwards, the log is whole, and the group has had every event or has it parked.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]uuid.UUID{} // by revision@stream
	deleted := map[string]bool{}           // by stream; true: for good
	received := map[string]bool{}          // by revision@stream
	for round := range *crashRounds {
		runUntilKilled(t, dir, round, acknowledged, deleted, received)
	}
	s := startIn(t, dir)
	c := s.client(t)
	events := verifyKilled(t, c, s.Position(), acknowledged)
	for stream, forGood := range deleted {
		r, err := c.ReadStream(t.Context(), stream, esdb.ReadStreamOptions{}, 1)
		if err == nil {
			_, err = r.Recv()
			r.Close()
		}
		want := esdb.ErrorCodeResourceNotFound
		if forGood {
			want = esdb.ErrorCodeStreamDeleted
		}
		if e, ok := esdb.FromError(err); ok || e.Code() != want {
			t.Errorf("%s was deleted and reads as %v", stream, err)
		}
	}
	for _, link := range readStream(t, c, "$persistentsubscription-$all::"+crashGroup+"-parked", esdb.ReadStreamOptions{}) {
		received[string(link.Data)] = true
	}
	total, before := 0, len(received)
	for stream, count := range events {
		if strings.HasPrefix(stream, "s-") || strings.HasPrefix(stream, "b-") {
			total += int(count)
		}
	}
	sub, err := c.SubscribeToPersistentSubscriptionToAll(t.Context(), crashGroup, esdb.SubscribeToPersistentSubscriptionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if _, err := c.AppendToStream(t.Context(), "s-last", esdb.AppendToStreamOptions{}, event("A")); err != nil {
		t.Fatal(err)
	}
	for !received["0@s-last"] {
		e := sub.Recv()
		if e.SubscriptionDropped != nil {
			t.Fatal(e.SubscriptionDropped.Error)
		}
		if e.EventAppeared != nil {
			event := e.EventAppeared.Event.OriginalEvent()
			received[fmt.Sprintf("%d@%s", event.EventNumber, event.StreamID)] = true
			if err := sub.Ack(e.EventAppeared.Event); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := len(received) - 1; got != total {
		t.Errorf("the group has handed out or parked %d of %d events", got, total)
	}
	t.Logf("the group had handed out or parked %d of %d events", before, total)
	t.Logf("%d events in %d rounds", s.Position(), *crashRounds)
}

// runUntilKilled runs a process until it has said enough, and takes down what it said.
func runUntilKilled(t *testing.T, dir string, round int, acknowledged map[string]uuid.UUID, deleted map[string]bool, received map[string]bool) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashDirVariable+"="+dir, crashRoundVariable+"="+strconv.Itoa(round))
	child.Stderr = os.Stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said, last := 0, 1+rand.IntN(2000)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		words := strings.Split(lines.Text(), " ")
		switch {
		case words[0] == "event" && len(words) == 4 && len(words[3]) == 36: // not cut off by the kill
			acknowledged[words[2]+"@"+words[1]] = uuid.MustParse(words[3])
		case words[0] == "deleted" && len(words) == 2:
			deleted[words[1]] = false
		case words[0] == "tombstoned" && len(words) == 2:
			deleted[words[1]] = true
		case words[0] == "received" && len(words) == 2:
			received[words[1]] = true
		}
		if said++; said == last {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("child ended with %v", err)
	}
}

// verifyKilled checks that the log is whole and has what was acknowledged. It returns how many events the streams have.
func verifyKilled(t *testing.T, c *esdb.Client, position uint64, acknowledged map[string]uuid.UUID) map[string]uint64 {
	t.Helper()
	r, err := c.ReadAll(t.Context(), esdb.ReadAllOptions{}, 1<<63)
	if err != nil {
		t.Fatal(err)
	}
	next := map[string]uint64{}
	log := collect(t, r)
	last := uint64(0)
	for _, e := range log {
		if e.Position.Commit <= last {
			t.Fatalf("position %d follows %d", e.Position.Commit, last)
		}
		last = e.Position.Commit
		if e.EventType == "$streamDeleted" {
			continue
		}
		if e.EventNumber != next[e.StreamID] {
			t.Fatalf("%s: revision %d follows %d", e.StreamID, e.EventNumber, next[e.StreamID])
		}
		next[e.StreamID]++
		place := fmt.Sprintf("%d@%s", e.EventNumber, e.StreamID)
		if id, ok := acknowledged[place]; ok && id != e.EventID {
			t.Errorf("%v was acknowledged with another id", place)
		}
		delete(acknowledged, place)
	}
	for place := range acknowledged {
		t.Errorf("%v was acknowledged and is lost", place)
	}
	for stream, count := range next {
		if strings.HasPrefix(stream, "$") || strings.HasPrefix(stream, "d-") {
			continue
		}
		if count%2 != 0 {
			t.Errorf("%s has half an append", stream)
		}
		if events := readStream(t, c, stream, esdb.ReadStreamOptions{}); uint64(len(events)) != count {
			t.Errorf("%s has %d events in $all and %d in its own order", stream, count, len(events))
		}
	}
	hidden := uint64(0)
	for _, suffix := range []string{"checkpoint", "parked"} {
		own := readStream(t, c, "$persistentsubscription-$all::"+crashGroup+"-"+suffix, esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}})
		if len(own) > 0 {
			hidden += own[0].EventNumber + 1
		}
	}
	if position != uint64(len(log))+hidden {
		t.Errorf("position is %d, the log has %d events and %d of the group", position, len(log), hidden)
	}
	return next
}

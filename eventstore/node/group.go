package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// group is one persistent subscription: it hands the events of a stream or of $all out to its clients, once to one of them, and
// again until they are acknowledged.
//
// It keeps no events: what waits and what is in flight is known by position only and is read again when it is sent, so that
// memory is bounded by numbers (the history buffer, and the clients' buffers) whatever the events' size. There is no live buffer
// either: a group reads the log as fast as its buffer empties, from the memory of recent events while it keeps up.
//
// Its methods may be called from several goroutines.
type group struct {
	log      *eventLog
	groups   *groups
	settings groupSettings
	filter   *filter // nil: none, or a stream's

	mu       sync.Mutex
	stopped  bool
	next     int64 // revision or position to read next
	sequence int64 // of the next delivery
	live     bool  // the end was reached
	grown    bool  // and there may be more since
	// Deliveries that wait, in order: those that were sent before or are replayed, and those that were not sent yet.
	retries, buffer []*delivery
	inFlight        map[eventID]*delivery
	unsettled       []*delivery // in order of sequence, settled ones among them
	settledCount    int         // of unsettled

	clients    []*groupClient
	free       int // slots of all clients
	nextClient int // index of the client that is asked first
	pinned     []*groupClient

	checkpointed     int64 // sequence up to which the last checkpoint goes
	checkpointPlace  int64 // noPlace: there is none yet
	checkpointTime   time.Time
	passedOver       int64 // events that the filter left out since the last checkpoint
	lastKnown        int64 // revision or position of the last event read, noPlace if there is none
	delivered        int64
	created          time.Time
	parkedReplayed   int64 // number in the parked stream up to which events were replayed
	parkedTruncation int64 // number that the parked stream begins at
	replayTo         int64 // number in the parked stream up to which events are to be replayed
}

// noPlace is the revision or position before the first.
const noPlace = -1

// delivery is an event on its way through a group.
type delivery struct {
	id       eventID
	position uint64 // of the event, or of the link, that was read
	number   int64  // its revision
	sequence int64  // order in which it was read; that of replayed events is negative
	before   int64  // revision or position of the event read before it
	retries  int32
	bucket   int // see pinBuckets
	settled  bool
	client   *groupClient // has it in flight
	due      time.Time    // when it is to be sent again
}

// replayedSequence is that of the replayed event with this number in the parked stream.
func replayedSequence(number int64) int64 { return math.MinInt64 + number }

func (d *delivery) replayed() bool { return d.sequence < 0 }

// groupClient is a client that reads from a group.
type groupClient struct {
	name      string
	slots     int
	inFlight  int
	delivered int64
	since     time.Time
	wake      chan struct{} // has an element when there is something in queue, or the client is dropped

	// Guarded by the group's mu.
	queue   []outgoing
	dropped bool
}

// outgoing is a delivery that a client is to be sent.
type outgoing struct {
	position uint64
	retries  int32
	resolve  bool
}

// maxSlots bounds what one client has in flight, whatever it asks for.
const maxSlots = 1 << 16

func newGroup(groups *groups, settings groupSettings) (*group, error) {
	g := &group{
		log: groups.log, groups: groups, settings: settings, inFlight: map[eventID]*delivery{}, pinned: make([]*groupClient, pinBuckets),
		checkpointPlace: noPlace, lastKnown: noPlace, created: time.Now(), checkpointTime: time.Now(),
	}
	var err error
	if g.filter, err = settings.Filter.compile(); err != nil {
		return nil, err
	}
	if g.filter != nil && g.filter.regex != nil {
		groups.patterns.Store(true)
	}
	checkpoint, err := g.log.shown(g.stream(checkpointSuffix), lastRevision)
	if err != nil {
		return nil, err
	}
	switch place, ok := parsePlace(checkpoint); {
	case ok:
		g.checkpointPlace, g.lastKnown = place, place
		g.next = place + 1
	case settings.StartPosition == endPlace:
		g.next, err = g.end()
	default:
		g.next = int64(settings.StartPosition)
	}
	if err != nil {
		return nil, err
	}
	parked, err := g.parked()
	g.parkedReplayed, g.parkedTruncation = parked.first, parked.first
	return g, err
}

// stream is the name of one of the group's own streams.
func (g *group) stream(suffix string) string { return groupStreamPrefix + g.settings.key() + suffix }

// end is the place after the last event.
func (g *group) end() (int64, error) {
	durable := g.log.position()
	if g.settings.all() {
		return int64(durable) + 1, nil
	}
	v, err := g.log.view(g.settings.Stream, durable)
	if v.last == tombstoneRevision {
		return v.last, err
	}
	return v.last + 1, err
}

func (g *group) parked() (streamView, error) {
	return g.log.view(g.stream(parkedSuffix), g.log.position())
}

// advance is called when the log has grown. It reads and sends what there is to read and to send.
func (g *group) advance() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grown = true
	g.advanceLocked()
}

func (g *group) advanceLocked() {
	if g.stopped {
		return
	}
	for {
		read, err := g.read()
		if err != nil {
			g.groups.report("read for a group", err)
			return
		}
		sent := g.push()
		if !read && !sent {
			return
		}
	}
}

// read takes in a batch of events if there is room. It reports whether there may be more.
func (g *group) read() (bool, error) {
	if more, err := g.readParked(); more || err != nil {
		return more, err
	}
	if g.live && !g.grown {
		return false, nil
	}
	batch := max(int(g.settings.ReadBatchSize), 1)
	room := max(int(g.settings.HistoryBufferSize), 1) - len(g.buffer)
	if room < batch && len(g.buffer) > 0 {
		return false, nil
	}
	g.grown = false // as of now
	if g.settings.all() {
		return g.readAll(min(batch, room))
	}
	return g.readStream(min(batch, room))
}

func (g *group) readAll(limit int) (bool, error) {
	durable := g.log.position()
	if uint64(g.next) > durable {
		g.live = true
		return false, nil
	}
	g.live = false
	var p page
	if _, err := g.log.read(&p, max(uint64(g.next), 1), durable, uint64(limit)); err != nil {
		return false, err
	}
	for i := range p.events {
		e := &p.events[i]
		// An expression that takes too long on an event chooses it: none may be lost.
		if chosen, err := g.filter.match(g.groups.ctx, e.record); chosen || err != nil && !e.hidden() {
			g.add(e, int64(e.position))
		} else if !e.hidden() {
			g.passedOver++
		}
		g.next = int64(e.position) + 1
	}
	return true, nil
}

func (g *group) readStream(limit int) (bool, error) {
	durable := g.log.position()
	v, err := g.log.view(g.settings.Stream, durable)
	if err != nil {
		return false, err
	}
	if v.tombstoned {
		if v.last != tombstoneRevision || g.next < 0 {
			return false, nil
		}
		tombstone, err := g.log.lastEvent(g.settings.Stream, durable)
		if err == nil {
			g.add(tombstone, tombstoneRevision)
			g.next = noPlace // there is nothing more
		}
		return false, err
	}
	if !v.exists {
		g.live = true
		return false, nil
	}
	var p page
	next, more, err := g.log.readStream(&p, v, g.next, false, uint64(limit))
	if err != nil {
		return false, err
	}
	for i := range p.events {
		g.add(&p.events[i], p.events[i].revision())
	}
	g.next = max(g.next, next)
	g.live = !more
	return more, nil
}

// readParked takes in events that are to be replayed.
func (g *group) readParked() (bool, error) {
	if g.parkedReplayed >= g.replayTo || len(g.retries) > max(int(g.settings.HistoryBufferSize), 1) {
		return false, nil
	}
	v, err := g.parked()
	if err != nil || !v.exists {
		g.replayTo = 0
		return false, err
	}
	var p page
	limit := min(int64(max(g.settings.ReadBatchSize, 1)), g.replayTo-g.parkedReplayed)
	next, more, err := g.log.readStream(&p, v, g.parkedReplayed, false, uint64(limit))
	if err != nil {
		return false, err
	}
	for i := range p.events {
		e := &p.events[i]
		if e.revision() >= g.replayTo {
			break
		}
		g.retry(&delivery{id: e.id(), position: e.position, number: e.revision(), sequence: replayedSequence(e.revision()), bucket: g.bucketOf(e)})
	}
	g.parkedReplayed = min(next, g.replayTo)
	if !more {
		g.parkedReplayed = g.replayTo
	}
	return g.parkedReplayed < g.replayTo, nil
}

// add puts an event that was read behind those that wait.
func (g *group) add(e *event, place int64) {
	d := &delivery{id: e.id(), position: e.position, number: e.revision(), sequence: g.sequence, before: g.lastKnown, bucket: g.bucketOf(e)}
	if d.before == noPlace && place > 0 && g.checkpointPlace == noPlace {
		d.before = place - 1
	}
	g.sequence++
	g.lastKnown = place
	g.buffer = append(g.buffer, d)
	g.unsettled = append(g.unsettled, d)
}

// retry puts a delivery among those that are sent first.
func (g *group) retry(d *delivery) {
	at, _ := slices.BinarySearchFunc(g.retries, d.sequence, func(r *delivery, sequence int64) int {
		if r.sequence < sequence {
			return -1
		}
		return 1
	})
	g.retries = slices.Insert(g.retries, at, d)
}

// push sends what it can, and reports whether it has sent something.
func (g *group) push() bool {
	before := g.delivered
	g.retries = g.pushFrom(g.retries)
	g.buffer = g.pushFrom(g.buffer)
	return g.delivered != before
}

func (g *group) pushFrom(queue []*delivery) (left []*delivery) {
	for i, d := range queue {
		if g.free == 0 {
			if left == nil {
				return queue[i:]
			}
			return append(left, queue[i:]...)
		}
		var c *groupClient
		if g.inFlight[d.id] == nil { // else one with the same id is under way
			c = g.choose(d)
		}
		if c == nil {
			left = append(left, d)
			continue
		}
		g.send(c, d)
	}
	return left
}

func (g *group) send(c *groupClient, d *delivery) {
	d.client = c
	d.due = time.Now().Add(time.Duration(g.settings.MessageTimeout) * time.Millisecond)
	g.inFlight[d.id] = d
	g.free--
	g.delivered++
	c.inFlight++
	c.delivered++
	c.queue = append(c.queue, outgoing{d.position, d.retries, g.settings.ResolveLinkTos || d.replayed()})
	c.signal()
}

func (c *groupClient) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// land takes a delivery out of flight.
func (g *group) land(d *delivery) {
	delete(g.inFlight, d.id)
	d.client.inFlight--
	if !d.client.dropped {
		g.free++
	}
	d.client = nil
}

// settle is called when nothing more is to be done about a delivery that is not in flight any more.
func (g *group) settle(d *delivery) {
	d.settled = true
	if d.replayed() {
		return
	}
	g.settledCount++
	first := 0
	for first < len(g.unsettled) && g.unsettled[first].settled {
		first++
	}
	g.unsettled = g.unsettled[first:]
	if g.settledCount -= first; g.settledCount > 64 && g.settledCount > len(g.unsettled)/2 {
		g.unsettled = slices.DeleteFunc(g.unsettled, func(d *delivery) bool { return d.settled })
		g.settledCount = 0
	}
}

// ack settles what is in flight under these ids.
func (g *group) ack(ids []eventID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return
	}
	for _, id := range ids {
		if d := g.inFlight[id]; d != nil {
			g.land(d)
			g.settle(d)
		}
	}
	g.checkpoint(false)
	g.truncateParked()
	g.advanceLocked()
}

// nakAction is what becomes of an event that a client does not acknowledge.
type nakAction int

const (
	nakRetry nakAction = iota
	nakPark
	nakSkip
)

// nack deals with what is in flight under these ids.
func (g *group) nack(ids []eventID, action nakAction, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return
	}
	for _, id := range ids {
		d := g.inFlight[id]
		if d == nil {
			continue
		}
		g.land(d)
		switch action {
		case nakRetry:
			g.again(d)
		case nakPark:
			g.park(d, "Client explicitly NAK'ed message.\n"+reason)
		case nakSkip:
			g.settle(d)
		}
	}
	g.checkpoint(false)
	g.truncateParked()
	g.advanceLocked()
}

// again has a delivery sent once more, or parked if that was done too often.
func (g *group) again(d *delivery) {
	if d.retries >= g.settings.MaxRetryCount {
		g.park(d, fmt.Sprintf("Reached retry count of %d", g.settings.MaxRetryCount))
		return
	}
	d.retries++
	g.retry(d)
}

// parkedMetadata is the metadata of a parked event.
type parkedMetadata struct {
	Added                   string `json:"added"`
	Reason                  string `json:"reason"`
	SubscriptionEventNumber int64  `json:"subscriptionEventNumber,omitempty"`
}

// park links the event from the group's parked stream.
func (g *group) park(d *delivery, reason string) {
	e, err := g.log.event(d.position)
	var shown resolvedEvent
	if err == nil {
		shown, err = g.shown(e, d.replayed())
	}
	if err != nil {
		g.groups.report("park an event", err)
		g.retry(d)
		return
	}
	parked := shown.event
	if parked == nil {
		parked = shown.link
	}
	var metadata bytes.Buffer
	encoder := json.NewEncoder(&metadata)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	added := time.Now().UTC().Format("2006-01-02T15:04:05.0000000Z")
	if err := encoder.Encode(parkedMetadata{added, reason, d.number}); err != nil {
		g.groups.report("park an event", err)
	}
	link := newRecord(g.stream(parkedSuffix), newEventID(), []byte(linkType), false, bytes.TrimSpace(metadata.Bytes()),
		fmt.Appendf(nil, "%d@%s", parked.revision(), parked.stream()))
	if err := g.groups.write(change{stream: g.stream(parkedSuffix), expected: expectAny, events: []*event{{record: link}}}); err != nil {
		g.groups.report("park an event", err)
		g.retry(d)
		return
	}
	g.settle(d)
}

// shown is e as the group's clients see it.
func (g *group) shown(e *event, resolve bool) (resolvedEvent, error) {
	if !resolve && !g.settings.ResolveLinkTos {
		return resolvedEvent{event: e}, nil
	}
	return g.log.resolve(e)
}

// tick is called every second.
func (g *group) tick(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return
	}
	var late []*delivery
	for _, d := range g.inFlight {
		if !d.due.After(now) {
			late = append(late, d)
		}
	}
	slices.SortFunc(late, func(a, b *delivery) int { return compare(a.sequence, b.sequence) })
	for _, d := range late {
		g.land(d)
		g.again(d)
	}
	g.checkpoint(true)
	g.truncateParked()
	g.advanceLocked()
}

// checkpoint writes down, if it is time, up to where all is settled.
func (g *group) checkpoint(timed bool) {
	sequence, place := g.sequence, g.lastKnown
	if len(g.unsettled) > 0 {
		sequence, place = g.unsettled[0].sequence, g.unsettled[0].before
	} else if g.filter != nil && g.passedOver > 0 {
		place = g.next - 1
	}
	count := sequence - g.checkpointed
	due := count > 0 && count >= int64(g.settings.MaxCheckPointCount)
	if timed && g.settings.CheckPointAfter > 0 && time.Since(g.checkpointTime) >= time.Duration(g.settings.CheckPointAfter)*time.Millisecond {
		due = due || count > 0 && count >= int64(g.settings.MinCheckPointCount) ||
			g.filter != nil && g.passedOver >= int64(max(g.filter.interval, 1)) && place > g.checkpointPlace
	}
	if !due || place <= noPlace || place == g.checkpointPlace {
		return
	}
	stream := g.stream(checkpointSuffix)
	if g.checkpointPlace == noPlace {
		metadata := metadataEvent(metastreamOf(stream), []byte(`{"$maxCount":2}`))
		if err := g.groups.write(change{stream: metastreamOf(stream), expected: expectAny, events: []*event{metadata}}); err != nil {
			g.groups.report("write a checkpoint", err)
			return
		}
	}
	record := newRecord(stream, newEventID(), []byte(checkpointType), true, nil, []byte(g.settings.placeJSON(place)))
	if err := g.groups.write(change{stream: stream, expected: expectAny, events: []*event{{record: record}}}); err != nil {
		g.groups.report("write a checkpoint", err)
		return
	}
	g.checkpointed, g.checkpointPlace, g.checkpointTime, g.passedOver = sequence, place, time.Now(), 0
}

const checkpointType = "$SubscriptionCheckpoint"

// truncateParked cuts off the parked events that were replayed and are settled.
func (g *group) truncateParked() {
	to := g.parkedReplayed
	if len(g.retries) > 0 && g.retries[0].replayed() {
		to = min(to, g.retries[0].number)
	}
	if to <= g.parkedTruncation {
		return
	}
	for _, d := range g.inFlight {
		if d.replayed() {
			to = min(to, d.number)
		}
	}
	if to <= g.parkedTruncation {
		return
	}
	metastream := metastreamOf(g.stream(parkedSuffix))
	data := fmt.Appendf(nil, `{"$tb":%d,"$acl":{"$r":"$admins","$w":"$admins","$d":"$admins","$mr":"$admins","$mw":"$admins"}}`, to)
	if err := g.groups.write(change{stream: metastream, expected: expectAny, events: []*event{metadataEvent(metastream, data)}}); err != nil {
		g.groups.report("truncate parked events", err)
		return
	}
	g.parkedTruncation = to
}

// replay has the parked events sent again, up to the one with the number stop.
func (g *group) replay(stop int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	v, err := g.parked()
	if err != nil || !v.exists {
		return err
	}
	if g.parkedReplayed >= g.replayTo { // else one is under way
		g.parkedReplayed = max(g.parkedReplayed, v.first)
		g.replayTo = min(stop, v.last+1)
	}
	g.advanceLocked()
	return nil
}

var errTooManyClients = errors.New("too many clients")

// join adds a client with room for so many events.
func (g *group) join(name string, slots int) (*groupClient, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil, errStopped
	}
	if limit := int(g.settings.MaxSubscriberCount); limit > 0 && len(g.clients) >= limit {
		return nil, errTooManyClients
	}
	c := &groupClient{name: name, slots: min(slots, maxSlots), since: time.Now(), wake: make(chan struct{}, 1)}
	g.clients = append(g.clients, c)
	g.free += c.slots
	g.pin(c)
	return c, nil
}

// leave removes a client. What it had in flight is sent to others.
func (g *group) leave(c *groupClient) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := slices.Index(g.clients, c) // not there once the group has stopped
	if at < 0 {
		return
	}
	g.clients = slices.Delete(g.clients, at, at+1)
	g.free -= c.slots - c.inFlight
	c.dropped = true
	g.unpin(c)
	var lost []*delivery
	for _, d := range g.inFlight {
		if d.client == c {
			lost = append(lost, d)
		}
	}
	for _, d := range lost {
		g.land(d)
		d.retries++
		g.retry(d)
	}
	g.advanceLocked()
}

// take returns what a client is to be sent, and whether it is dropped.
func (g *group) take(c *groupClient) (queue []outgoing, dropped bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	queue, c.queue = c.queue, nil
	return queue, c.dropped
}

// stop drops all clients; the group does nothing more.
func (g *group) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
	for _, c := range g.clients {
		c.dropped = true
		c.signal()
	}
	g.clients = nil
}

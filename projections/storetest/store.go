// Package storetest is the conformance suite of [projections.Store].
package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

// Run tests a store against its contract. Open may return a store that is shared, as the suite uses unique names, and must close it when
// the test ends.
func Run(t *testing.T, open func(t *testing.T) projections.Store, beside func(t *testing.T, store projections.Store) Beside) {
	store := open(t)
	for name, test := range map[string]func(*testing.T, *list){
		"Begin":             testBegin,
		"Activate":          testActivate,
		"ActivateOnce":      testActivateOnce,
		"Guard":             testGuard,
		"GuardWhileWriting": testGuardWhileWriting,
		"AnyDelivery":       testAnyDelivery,
		"Checkpoint":        testCheckpoint,
		"Retired":           testRetired,
		"WriteAll":          func(t *testing.T, l *list) { testWriteAll(t, l, beside(t, store)) },
		"Drop":              testDrop,
		"Find":              testFind,
		"Pages":             testPages,
		"PagesWhileWriting": testPagesWhileWriting,
		"FindWhileReplaced": testFindWhileReplaced,
		"Scan":              testScan,
		"Ensure":            func(t *testing.T, l *list) { testEnsure(t, l, beside(t, store)) },
		"Discard":           testDiscard,
		"WrittenIsLoaded":   testWrittenIsLoaded,
		"Documents":         testDocuments,
		"NestedDocuments":   testNestedDocuments,
		"Rooms":             testRooms,
		"Unwritable":        func(t *testing.T, l *list) { testUnwritable(t, l, beside(t, store)) },
		"Cancelled":         testCancelled,
	} {
		t.Run(name, func(t *testing.T) { test(t, newList(t, store)) })
	}
	t.Run("Closed", func(t *testing.T) { testClosed(t, open(t)) })
}

// Beside gives direct access to the database of a store.
type Beside interface {
	// Indexes returns the number of indexes of a generation.
	Indexes(ref projections.Ref) (int, error)
	// Unique makes the database reject documents of a generation with the same start.
	Unique(ref projections.Ref) error
}

// document is the type of the suite's documents.
type document struct {
	ID      string    `json:"id" bson:"id" key:"id"`
	Booking string    `json:"bookingId" bson:"bookingId" key:"booking"`
	Room    string    `json:"roomId" bson:"roomId" key:"room"`
	User    string    `json:"userId" bson:"userId" key:"user"`
	Start   time.Time `json:"startDtm" bson:"startDtm" key:"start"`
	End     time.Time `json:"endDtm" bson:"endDtm" key:"end"`
	Text    string    `json:"text" bson:"text"`
	Remark  string    `json:"remark,omitzero" bson:"remark,omitempty"`
	Number  int       `json:"number" bson:"number"`
	More    int       `json:"more,omitzero" bson:"more,omitempty"`
	Time    time.Time `json:"dtm" bson:"dtm"`
	Later   time.Time `json:"laterDtm,omitzero" bson:"laterDtm,omitempty"`
}

// of is a row's document.
func of(row projections.Row) *document { return row.Document.(*document) }

// schema has an index of every kind.
func schema() projections.Schema {
	return projections.SchemaOf[document](
		projections.Index{},
		projections.Index{Order: projections.Order{Start: true}, Covered: []projections.Column{projections.ColumnEnd}},
		projections.Index{Order: projections.Order{By: projections.ColumnRoom, Start: true}, Covered: []projections.Column{projections.ColumnEnd, projections.ColumnUser}},
		projections.Index{Order: projections.Order{By: projections.ColumnUser, Start: true}},
		projections.Index{Order: projections.Order{By: projections.ColumnBooking, Start: true}},
	)
}

// orders are the orders of the indexes.
func orders() []projections.Order {
	var orders []projections.Order
	for _, index := range schema().Indexes {
		orders = append(orders, index.Order)
	}
	return orders
}

// byPaths returns a selection without a path and with each path that can answer it.
func byPaths(s projections.Selection, statuses ...string) []projections.Selection {
	ways := []projections.Selection{s}
	if len(s.Statuses) == 0 {
		s.Statuses = statuses
	}
	want := s.Order
	if want.By == projections.ColumnStatus {
		want.By = ""
	}
	for _, index := range orders() {
		has := index
		if s.Has(index.By) != "" && want.By != index.By {
			has.By = "" // is the same in all documents
		}
		sorted, inOrder := s, s
		sorted.Path = &projections.Path{Index: index, Sort: true}
		ways = append(ways, sorted)
		if has == want {
			inOrder.Path = &projections.Path{Index: index}
			ways = append(ways, inOrder)
		}
	}
	return ways
}

// list is a projection with a unique name.
type list struct {
	*testing.T
	store projections.Store
	name  string
}

func newList(t *testing.T, store projections.Store) *list {
	l := &list{T: t, store: store, name: "list_" + uuid.NewString()[:8]}
	t.Cleanup(func() {
		for _, g := range l.state().Generations {
			if err := store.Drop(context.Background(), g.Ref); err != nil && !errors.Is(err, projections.ErrActive) {
				t.Error(err)
			}
		}
	})
	return l
}

func (l *list) state() projections.State {
	l.Helper()
	state, err := l.store.State(context.Background(), l.name)
	if err != nil {
		l.Fatal(err)
	}
	return state
}

func (l *list) begin() projections.Ref {
	l.Helper()
	g, err := l.store.Begin(l.Context(), l.name, 1, schema())
	if err != nil {
		l.Fatal(err)
	}
	return g.Ref
}

// active begins and activates a generation.
func (l *list) active() projections.Ref {
	l.Helper()
	ref := l.begin()
	l.activate(l.state().Active, ref.Number)
	return ref
}

func (l *list) activate(from, to int) {
	l.Helper()
	if err := l.store.Activate(l.Context(), l.name, from, to); err != nil {
		l.Fatal(err)
	}
}

func (l *list) write(ref projections.Ref, position eventstore.Position, rows ...projections.Row) {
	l.Helper()
	if err := l.store.Write(l.Context(), ref, schema(), rows, checkpoint(position, rows)); err != nil {
		l.Fatal(err)
	}
}

func checkpoint(position eventstore.Position, rows []projections.Row) projections.Checkpoint {
	c := projections.Checkpoint{Position: position, Event: event(position)}
	for _, row := range rows {
		c.Longest = max(c.Longest, of(row).End.Sub(of(row).Start).Microseconds())
	}
	return c
}

// event is the id of the event at a position.
func event(position eventstore.Position) uuid.UUID {
	return uuid.NewSHA1(uuid.Nil, fmt.Append(nil, position))
}

func (l *list) find(s projections.Selection) projections.Found {
	l.Helper()
	found, err := l.store.Find(l.Context(), l.name, schema(), s)
	if err != nil {
		l.Fatal(err)
	}
	return found
}

// documents are the names of all documents of a generation, in the order in which they were created.
func (l *list) documents(ref projections.Ref) []string {
	l.Helper()
	rows, err := l.store.Scan(l.Context(), ref, schema(), 0, 1000)
	if err != nil {
		l.Fatal(err)
	}
	return documents(rows)
}

func documents(rows []projections.Row) []string {
	all := make([]string, len(rows))
	for i, row := range rows {
		all[i] = name(row.Created, eventstore.Position(of(row).Number))
	}
	return all
}

func (l *list) wantErr(err, want error) {
	l.Helper()
	if !errors.Is(err, want) {
		l.Errorf("got error %v, want %v", err, want)
	}
}

func (l *list) wantDocuments(ref projections.Ref, want ...string) {
	l.Helper()
	if got := l.documents(ref); !slices.Equal(got, want) {
		l.Errorf("got documents %v, want %v", got, want)
	}
}

// row returns a document that was created at one position and last changed at another.
func row(created, position eventstore.Position) projections.Row {
	id := fmt.Sprint("id-", created)
	start := at(int64(created) * 100)
	return projections.Row{
		ID: id, Created: created, Position: position, Status: "S",
		Document: &document{
			ID: id, Booking: "b", Room: "r", User: "u", Start: start, End: start.Add(50 * time.Millisecond), Number: int(position), Time: start,
		},
	}
}

// name identifies a document and its state in test failures.
func name(created, position eventstore.Position) string {
	return fmt.Sprintf("%d at %d", created, position)
}

// at is a time in milliseconds since 1970.
func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func testBegin(t *testing.T, l *list) {
	if state := l.state(); state.Active != 0 || len(state.Generations) != 0 {
		t.Errorf("a projection that was never begun has state %+v", state)
	}
	if _, err := l.store.Find(t.Context(), l.name, schema(), projections.Selection{Limit: 1}); !errors.Is(err, projections.ErrNotBuilt) {
		t.Errorf("found in nothing: %v", err)
	}
	first, err := l.store.Begin(t.Context(), l.name, 7, schema())
	if err != nil {
		t.Fatal(err)
	}
	if first.Version != 7 || first.Position != 0 {
		t.Errorf("began %+v", first)
	}
	second := l.begin()
	if err := l.store.Drop(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	third := l.begin()
	if first.Number != 1 || second.Number != 2 || third.Number != 3 {
		t.Errorf("numbers %d, %d and, after a drop, %d", first.Number, second.Number, third.Number)
	}
	state := l.state()
	if state.Active != 0 || len(state.Generations) != 2 || state.Generations[0].Version != 7 || state.Generations[1].Number != 3 {
		t.Errorf("state %+v", state)
	}
	if _, err := l.store.Find(t.Context(), l.name, schema(), projections.Selection{Limit: 1}); !errors.Is(err, projections.ErrNotBuilt) {
		t.Errorf("found in an unfinished generation: %v", err)
	}
}

func testActivate(t *testing.T, l *list) {
	one, two := l.begin(), l.begin()
	l.wantErr(l.store.Activate(t.Context(), l.name, 1, 2), projections.ErrFlipped)
	l.activate(0, one.Number)
	l.wantErr(l.store.Activate(t.Context(), l.name, 0, 2), projections.ErrFlipped)
	l.wantErr(l.store.Activate(t.Context(), l.name, 1, 9), projections.ErrFlipped)

	l.write(one, 20, row(1, 20))
	l.write(two, 19, row(1, 19))
	l.wantErr(l.store.Activate(t.Context(), l.name, 1, 2), projections.ErrNotCaughtUp)
	if found := l.find(projections.Selection{Limit: 9}); found.Ref.Number != 1 || found.Position != 20 {
		t.Errorf("after refused flips found in %+v", found.Ref)
	}
	l.write(two, 20, row(1, 20))
	l.activate(1, 2)
	if found := l.find(projections.Selection{Limit: 9}); found.Ref.Number != 2 || found.Position != 20 {
		t.Errorf("after the flip found in %+v", found.Ref)
	}
	if state := l.state(); state.Active != 2 || len(state.Generations) != 2 {
		t.Errorf("after the flip the state is %+v", state)
	}
}

// Of concurrent activations exactly one succeeds.
func testActivateOnce(t *testing.T, l *list) {
	l.active()
	refs := make([]projections.Ref, 4)
	for i := range refs {
		refs[i] = l.begin()
	}
	var mu sync.Mutex
	var won []int
	var group sync.WaitGroup
	for _, ref := range refs {
		group.Go(func() {
			err := l.store.Activate(t.Context(), l.name, 1, ref.Number)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won = append(won, ref.Number)
			case !errors.Is(err, projections.ErrFlipped):
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(won) != 1 || l.state().Active != won[0] {
		t.Errorf("%v flipped, %d is active", won, l.state().Active)
	}
}

func testGuard(t *testing.T, l *list) {
	ref := l.active()
	l.write(ref, 10, row(1, 10), row(2, 5))
	l.wantDocuments(ref, name(1, 10), name(2, 5))

	same, older, newer := row(1, 10), row(1, 9), row(2, 11)
	of(same).Number, of(same).Room = -1, "elsewhere"
	of(older).Number = -2
	l.write(ref, 10, same)
	for _, stale := range []projections.Row{same, older} {
		stale.Loaded, of(stale).Room = true, "r"
		l.write(ref, 10, stale)
	}
	l.write(ref, 10, older, newer, row(3, 3))
	l.wantDocuments(ref, name(1, 10), name(2, 11), name(3, 3))

	moved := row(2, 12)
	moved.Status = "T"
	*of(moved) = document{ID: moved.ID, Booking: "b2", Room: "r2", User: "u2", Start: at(1), End: at(2), Number: 12}
	settled := row(3, 12)
	settled.Status, settled.Loaded = "T", true
	moved.Loaded = true
	unexpected := row(4, 12)
	unexpected.Loaded = true
	l.write(ref, 12, moved, settled, unexpected)
	l.wantDocuments(ref, name(1, 10), name(2, 12), name(3, 12), name(4, 12))
	if got := documents(l.find(projections.Selection{Room: "r2", User: "u2", Booking: "b2", Statuses: []string{"T"}, Limit: 9}).Rows); !slices.Equal(got, []string{name(2, 12)}) {
		t.Errorf("by the new keys found %v", got)
	}
	if got := documents(l.find(projections.Selection{Room: "r", Limit: 9}).Rows); !slices.Equal(got, []string{name(1, 10), name(3, 12), name(4, 12)}) {
		t.Errorf("by the old keys found %v", got)
	}
	if got := documents(l.find(projections.Selection{Statuses: []string{"T"}, Limit: 9}).Rows); !slices.Equal(got, []string{name(2, 12), name(3, 12)}) {
		t.Errorf("by the new status found %v", got)
	}

	loaded, err := l.store.Load(t.Context(), ref, schema(), []string{"id-3", "id-77", "id-2"})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(loaded, func(a, b projections.Row) int { return int(a.Created) - int(b.Created) })
	if len(loaded) != 2 || loaded[0].ID != "id-2" || loaded[0].Position != 12 || loaded[0].Created != 2 || !slices.Equal(documents(loaded), []string{name(2, 12), name(3, 12)}) {
		t.Errorf("loaded %+v", loaded)
	}
}

// However concurrent writes interleave, the newest document remains.
func testGuardWhileWriting(t *testing.T, l *list) {
	const writers, documents, rounds = 4, 5, 6
	ref := l.active()
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for round := range rounds {
				rows := make([]projections.Row, documents)
				for i := range rows {
					created := eventstore.Position(i + 1)
					rows[i] = row(created, 10+eventstore.Position((round*writers+writer)))
					rows[i].Loaded = round > 0
				}
				if err := l.store.Write(t.Context(), ref, schema(), rows, checkpoint(rows[0].Position, rows)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	want := make([]string, documents)
	const last = 10 + writers*rounds - 1
	for i := range want {
		want[i] = name(eventstore.Position(i+1), last)
	}
	l.wantDocuments(ref, want...)
	if g, _ := l.state().Generation(ref.Number); g.Position != last {
		t.Errorf("the checkpoint is %d, want %d", g.Position, last)
	}
}

// Batches that are delivered in any order, any number of times, lead to the same documents.
func testAnyDelivery(t *testing.T, l *list) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	ref := l.active()
	var batches [][]projections.Row
	latest := map[eventstore.Position]eventstore.Position{}
	for at := eventstore.Position(10); at < 60; at += 5 {
		var rows []projections.Row
		for created := eventstore.Position(1); created <= 6; created++ {
			if random.IntN(2) == 0 {
				rows = append(rows, row(created, at))
				latest[created] = at
			}
		}
		batches = append(batches, rows)
	}
	deliveries := append(slices.Clone(batches), batches...)
	random.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
	for _, rows := range deliveries {
		l.write(ref, 1, rows...)
	}
	var want []string
	for created := eventstore.Position(1); created <= 6; created++ {
		if at, ok := latest[created]; ok {
			want = append(want, name(created, at))
		}
	}
	l.wantDocuments(ref, want...)
}

func testCheckpoint(t *testing.T, l *list) {
	ref := l.begin()
	l.write(ref, 7)
	before := l.state().Generations[0]
	if before.Position != 7 || before.Event != event(7) || before.Considered != (projections.Point{}) {
		t.Errorf("after a write without documents the generation is %+v", before)
	}
	long := row(1, 9)
	of(long).End = of(long).Start.Add(4321 * time.Millisecond)
	l.write(ref, 9, long)
	l.write(ref, 3, row(2, 3))
	further := projections.Point{Position: 20, Event: event(20)}
	for _, at := range []projections.Point{further, {Position: 11, Event: event(11)}} {
		if err := l.store.Write(t.Context(), ref, schema(), nil, projections.Checkpoint{Considered: at, Changed: at.Position % 12}); err != nil {
			t.Fatal(err)
		}
	}
	g := l.state().Generations[0]
	if g.Position != 9 || g.Event != event(9) || g.Longest != 4_321_000 || g.Changed != 11 || g.Considered != further {
		t.Errorf("after a write from before the generation is %+v", g)
	}
	if g.Writes <= before.Writes {
		t.Errorf("it was written to %d times and then %d", before.Writes, g.Writes)
	}
	l.wantDocuments(ref, name(1, 9), name(2, 3))
	l.activate(0, ref.Number)
	if found := l.find(projections.Selection{}); found.Ref != ref || found.Position != 9 || found.Changed != 11 {
		t.Errorf("readers see %+v", found)
	}

	// Another program may raise the position without an event.
	if err := l.store.Write(t.Context(), ref, schema(), nil, projections.Checkpoint{Position: 12}); err != nil {
		t.Fatal(err)
	}
	if g := l.state().Generations[0]; g.Position != 12 || g.Event != uuid.Nil {
		t.Errorf("of an event that was not noted the generation says %+v", g)
	}
}

// A write is visible to the next read: a worker that folded on an older document would lose events.
func testWrittenIsLoaded(t *testing.T, l *list) {
	ref := l.active()
	for at := eventstore.Position(1); at <= 20; at++ {
		r := row(1, at)
		r.Loaded = at > 1
		l.write(ref, at, r)
		loaded, err := l.store.Load(t.Context(), ref, schema(), []string{r.ID})
		if err != nil || len(loaded) != 1 || loaded[0].Position != at || *of(loaded[0]) != *of(r) {
			t.Fatalf("after a write at %d there is %+v, %v", at, loaded, err)
		}
		if g, _ := l.state().Generation(ref.Number); g.Position != at {
			t.Fatalf("after a write at %d the generation is at %d", at, g.Position)
		}
		if found := l.find(projections.Selection{ID: r.ID, Limit: 1}); found.Position != at || len(found.Rows) != 1 || *of(found.Rows[0]) != *of(r) {
			t.Fatalf("after a write at %d readers see %+v", at, found)
		}
	}
}

// Documents are read as they were written, whatever their fields hold, and optional fields can be emptied again.
func testDocuments(t *testing.T, l *list) {
	ref := l.active()
	long := strings.Repeat("é", 100_000)
	for i, d := range []document{
		{},
		{Start: at(-1), End: at(0), Time: at(-62135596800000 + 1), Later: time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)},
		{Text: "\"\\\x00\n\x1b\x1b0\x1f\x1b1\u2028'$.{}", Remark: long, Number: math.MinInt64, More: math.MaxInt64},
		{Text: "$set", Remark: " ", Number: math.MaxInt32 + 1, More: math.MinInt32, Time: time.Date(1969, 12, 31, 23, 59, 59, 1e6, time.UTC)},
	} {
		position := eventstore.Position(i + 1)
		d.ID, d.Booking, d.Room, d.User = fmt.Sprint("id-", position), "b", "r", "u"
		r := projections.Row{ID: d.ID, Created: position, Position: position, Status: "S", Document: &d}
		l.write(ref, position, r)
		got := map[string][]projections.Row{"found": l.find(projections.Selection{ID: d.ID, Limit: 1}).Rows}
		var err, scanErr error
		got["loaded"], err = l.store.Load(t.Context(), ref, schema(), []string{d.ID})
		got["scanned"], scanErr = l.store.Scan(t.Context(), ref, schema(), position-1, 1)
		if err := errors.Join(err, scanErr); err != nil {
			t.Fatal(err)
		}
		for how, rows := range got {
			if len(rows) != 1 || rows[0].Foreign != "" || *of(rows[0]) != d {
				t.Errorf("%s %.200v, want %.200v", how, rows, d)
			}
		}
		d.Remark, d.More, d.Later = "", 0, time.Time{} // an update without optional fields
		r.Position, r.Loaded = 100, true
		l.write(ref, position, r)
		if rows := l.find(projections.Selection{ID: d.ID, Limit: 1}).Rows; len(rows) != 1 || *of(rows[0]) != d {
			t.Errorf("found %+v, want %+v", rows, d)
		}
	}
}

// nested is a document whose fields have parts.
type nested struct {
	ID    string        `json:"id" bson:"id" key:"id"`
	Texts []string      `json:"texts,omitzero" bson:"texts,omitempty"`
	Parts []part        `json:"parts,omitzero" bson:"parts,omitempty"`
	Rules *domain.Rules `json:"rules,omitzero" bson:"rules,omitempty"`
}

type part struct {
	Time time.Time `json:"dtm" bson:"dtm"`
	Text string    `json:"text,omitzero" bson:"text,omitempty"`
}

// Fields with parts are read as they were written.
func testNestedDocuments(t *testing.T, l *list) {
	of := projections.SchemaOf[nested](projections.Index{})
	g, err := l.store.Begin(t.Context(), l.name, 1, of)
	if err != nil {
		t.Fatal(err)
	}
	var rows []projections.Row
	for i, d := range []nested{
		{},
		{Texts: []string{"", "\"\\\n\x1b\x1b0\x1f\x1b1'$.{}"}, Parts: []part{{Time: at(-1)}, {Time: at(5), Text: "\x1f"}}, Rules: &domain.Rules{}},
		{Rules: &domain.Rules{Hours: &domain.WeekHours{}, EarlyUseMinutes: new(0)}},
		{Rules: &domain.Rules{Hours: &domain.WeekHours{Sunday: []domain.Hours{{From: "00:00", To: "24:00"}}}, GapMinutes: 10, Approval: domain.ApprovalNone, EarlyUseMinutes: new(5)}},
	} {
		d.ID = fmt.Sprint("id-", i)
		position := eventstore.Position(i + 1)
		rows = append(rows, projections.Row{ID: d.ID, Created: position, Position: position, Status: "S", Document: &d})
	}
	if err := l.store.Write(t.Context(), g.Ref, of, rows, checkpoint(10, nil)); err != nil {
		t.Fatal(err)
	}
	stored, err := l.store.Scan(t.Context(), g.Ref, of, 0, 10)
	if err != nil || len(stored) != len(rows) {
		t.Fatalf("%d documents, %v", len(stored), err)
	}
	for i, row := range stored {
		if !reflect.DeepEqual(row.Document, rows[i].Document) {
			t.Errorf("got  %+v, %s\nwant %+v", row.Document, row.Foreign, rows[i].Document)
		}
	}
}

// Documents of some rooms are found in any order.
func testRooms(t *testing.T, l *list) {
	ref := l.active()
	var rows []projections.Row
	for position := range eventstore.Position(40) {
		r := row(position+1, position+1)
		of(r).Room, r.Status = fmt.Sprint("room ", position%5, "'"), []string{"S", "T"}[position%2]
		rows = append(rows, r)
	}
	l.write(ref, 40, rows...)
	from, to := int64(0), int64(1)<<60
	byRoom := projections.Path{Index: projections.Order{By: projections.ColumnRoom, Start: true}}
	for _, test := range []struct {
		rooms []string
		path  *projections.Path
		want  int
	}{
		{nil, nil, 40}, {[]string{}, nil, 0}, {[]string{"room 1'"}, nil, 8}, {[]string{"room 4'", "none", "room 1'"}, nil, 16},
		{[]string{"room 4'", "none", "room 1'"}, &byRoom, 16}, {[]string{}, &byRoom, 0},
	} {
		got := l.find(projections.Selection{Rooms: test.rooms, Statuses: []string{"S", "T"}, From: &from, To: &to, Unordered: true, Path: test.path, Limit: 100}).Rows
		for _, r := range got {
			if test.rooms != nil && !slices.Contains(test.rooms, of(r).Room) {
				t.Errorf("of %q: %+v", test.rooms, of(r))
			}
		}
		if len(got) != test.want {
			t.Errorf("of %q: %d documents, want %d", test.rooms, len(got), test.want)
		}
		if some := l.find(projections.Selection{Rooms: test.rooms, Statuses: []string{"S", "T"}, Unordered: true, Path: test.path, Limit: 3}).Rows; len(some) != min(3, test.want) {
			t.Errorf("of %q: %d documents, at most 3 were asked for", test.rooms, len(some))
		}
	}
}

// If the database rejects a document the checkpoint does not move.
func testUnwritable(t *testing.T, l *list, beside Beside) {
	ref := l.active()
	l.write(ref, 5, row(1, 5), row(3, 5))
	if err := beside.Unique(ref); err != nil {
		t.Fatal(err)
	}
	added, changed := row(2, 7), row(3, 7)
	of(added).Start, of(changed).Start, changed.Loaded = of(row(1, 5)).Start, of(row(1, 5)).Start, true
	for _, refused := range []projections.Row{added, changed} {
		if err := l.store.Write(t.Context(), ref, schema(), []projections.Row{row(4, 6), refused}, checkpoint(7, nil)); err == nil {
			t.Error("a document was written that cannot be")
		}
		if g, _ := l.state().Generation(ref.Number); g.Position != 5 || g.Event != event(5) {
			t.Errorf("after a write that failed the generation is at %d", g.Position)
		}
	}
	l.write(ref, 7, row(2, 7), row(4, 6))
	l.wantDocuments(ref, name(1, 5), name(2, 7), name(3, 5), name(4, 6))
}

func testRetired(t *testing.T, l *list) {
	old := l.active()
	l.write(old, 10, row(1, 10))
	beside, aside := l.begin(), l.begin()
	l.write(beside, 10, row(1, 10))
	l.write(old, 10, row(2, 4)) // is still allowed while another one is built
	l.activate(old.Number, beside.Number)

	l.wantErr(l.store.Write(t.Context(), old, schema(), []projections.Row{row(1, 12)}, projections.Checkpoint{Position: 12}), projections.ErrRetired)
	if g, _ := l.state().Generation(old.Number); g.Position != 10 {
		t.Errorf("a retired generation's checkpoint went to %d", g.Position)
	}
	l.write(aside, 11, row(1, 11)) // a rebuild that started after the active one
	l.write(beside, 12, row(1, 12))
	l.wantDocuments(beside, name(1, 12))

	if err := l.store.Drop(t.Context(), aside); err != nil {
		t.Fatal(err)
	}
	l.wantErr(l.store.Write(t.Context(), aside, schema(), []projections.Row{row(1, 12)}, projections.Checkpoint{Position: 12}), projections.ErrRetired)
	l.wantErr(l.store.Write(t.Context(), aside, schema(), nil, projections.Checkpoint{Position: 12}), projections.ErrRetired)
	if _, ok := l.state().Generation(aside.Number); ok {
		t.Error("a write has brought back a generation that was dropped")
	}
}

// What is written to several lists is written to each as if it were alone, though one of them has been retired and another cannot be written.
func testWriteAll(t *testing.T, l *list, beside Beside) {
	lists := []*list{l, newList(t, l.store), newList(t, l.store), newList(t, l.store)}
	updates := make([]projections.Update, len(lists))
	for i, list := range lists {
		updates[i] = projections.Update{Ref: list.active(), Schema: schema(), Rows: []projections.Row{row(1, 5), row(2, 5)}, Checkpoint: checkpoint(5, nil)}
	}
	wantAll := func(position eventstore.Position, of ...int) {
		t.Helper()
		for _, i := range of {
			lists[i].wantDocuments(updates[i].Ref, name(1, position), name(2, position))
			if g, _ := lists[i].state().Generation(updates[i].Number); g.Position != position || g.Event != event(position) {
				t.Errorf("list %d is at %d", i, g.Position)
			}
		}
	}
	for i, err := range l.store.WriteAll(t.Context(), updates) {
		lists[i].wantErr(err, nil)
	}
	wantAll(5, 0, 1, 2, 3)

	next := lists[1].begin()
	lists[1].write(next, 5)
	lists[1].activate(updates[1].Number, next.Number)
	if err := beside.Unique(updates[2].Ref); err != nil {
		t.Fatal(err)
	}
	for i := range updates {
		updates[i].Rows, updates[i].Checkpoint = []projections.Row{row(1, 7), row(2, 7)}, checkpoint(7, nil)
	}
	same := updates[2].Rows[1]
	of(same).Start = of(updates[2].Rows[0]).Start
	errs := l.store.WriteAll(t.Context(), updates)
	lists[1].wantErr(errs[1], projections.ErrRetired)
	if errs[0] != nil || errs[2] == nil || errs[3] != nil {
		t.Errorf("the errors are %v", errs)
	}
	wantAll(7, 0, 3)
	if g, _ := lists[2].state().Generation(updates[2].Number); g.Position != 5 {
		t.Errorf("the list that cannot be written is at %d", g.Position)
	}
}

func testDrop(t *testing.T, l *list) {
	one := l.active()
	l.write(one, 5, row(1, 5))
	two := l.begin()
	l.write(two, 5, row(1, 5))
	l.wantErr(l.store.Drop(t.Context(), one), projections.ErrActive)
	l.wantDocuments(one, name(1, 5))
	l.activate(one.Number, two.Number)
	for range 2 { // the second time there is nothing to drop
		if err := l.store.Drop(t.Context(), one); err != nil {
			t.Error(err)
		}
	}
	if state := l.state(); len(state.Generations) != 1 || state.Active != two.Number {
		t.Errorf("after the drop the state is %+v", state)
	}
	l.wantDocuments(two, name(1, 5))
}

// Discard removes even the active generation, and nothing can be written to it afterwards.
func testDiscard(t *testing.T, l *list) {
	one := l.active()
	l.write(one, 90, row(1, 90))
	for range 2 { // the second time there is nothing to discard
		if err := l.store.Discard(t.Context(), one); err != nil {
			t.Error(err)
		}
	}
	if state := l.state(); state.Active != 0 || len(state.Generations) != 0 {
		t.Errorf("after it was discarded the state is %+v", state)
	}
	if _, err := l.store.Find(t.Context(), l.name, schema(), projections.Selection{Limit: 1}); !errors.Is(err, projections.ErrNotBuilt) {
		t.Errorf("found in what was discarded: %v", err)
	}
	l.wantErr(l.store.Write(t.Context(), one, schema(), []projections.Row{row(1, 91)}, checkpoint(91, nil)), projections.ErrRetired)

	two := l.begin() // from another, shorter log
	l.write(two, 3, row(1, 3))
	l.activate(0, two.Number)
	l.wantErr(l.store.Activate(t.Context(), l.name, one.Number, two.Number), projections.ErrFlipped)
	three := l.begin()
	if err := l.store.Discard(t.Context(), three); err != nil { // not the active one
		t.Error(err)
	}
	if state := l.state(); two.Number <= one.Number || state.Active != two.Number || len(state.Generations) != 1 {
		t.Errorf("the state is %+v", state)
	}
	l.wantDocuments(two, name(1, 3))
}

func testFind(t *testing.T, l *list) {
	ref := l.active()
	var rows []projections.Row
	for _, d := range []struct {
		id, booking, room, user, status string
		start, end                      int64
	}{
		{"a", "x", "1", "u", "NEW", 100, 200},
		{"b", "x", "1", "v", "OLD", 200, 300},
		{"c", "y", "2", "u", "NEW", -50, 500},
		{"d", "y", "10", "v", "OLD", 200, 210},
		{"e", "z", "10", "u", "ODD", 200, 220},
	} {
		position := eventstore.Position(11 + len(rows))
		rows = append(rows, projections.Row{ID: d.id, Created: position, Position: position, Status: d.status,
			Document: &document{ID: d.id, Booking: d.booking, Room: d.room, User: d.user, Start: at(d.start), End: at(d.end)}})
	}
	l.write(ref, 20, rows...)
	const ms = 1000 // microseconds
	at := func(t int64) *int64 { t *= ms; return &t }
	tests := []struct {
		name string
		projections.Selection
		want string // the ids in order
	}{
		{"all, as they began", projections.Selection{}, "abcde"},
		{"the latest first", projections.Selection{Descending: true}, "edcba"},
		{"by start", projections.Selection{Order: projections.Order{Start: true}}, "cabde"},
		{"by start, the latest first", projections.Selection{Order: projections.Order{Start: true}, Descending: true}, "edbac"},
		{"by room and start", projections.Selection{Order: projections.Order{By: projections.ColumnRoom, Start: true}}, "abdec"},
		{"by user and start", projections.Selection{Order: projections.Order{By: projections.ColumnUser, Start: true}}, "caebd"},
		{"by user, the last first", projections.Selection{Order: projections.Order{By: projections.ColumnUser}, Descending: true}, "dbeca"},
		{"by status and start", projections.Selection{Order: projections.Order{By: projections.ColumnStatus, Start: true}}, "caebd"},
		{"by booking", projections.Selection{Order: projections.Order{By: projections.ColumnBooking}}, "abcde"},
		{"an id", projections.Selection{ID: "d"}, "d"},
		{"an id that is not there", projections.Selection{ID: "q"}, ""},
		{"a room", projections.Selection{Room: "10"}, "de"},
		{"a user", projections.Selection{User: "u", Order: projections.Order{Start: true}}, "cae"},
		{"a booking", projections.Selection{Booking: "y"}, "cd"},
		{"a room and a user", projections.Selection{Room: "1", User: "v"}, "b"},
		{"a room and another's id", projections.Selection{Room: "1", ID: "c"}, ""},
		{"a status", projections.Selection{Statuses: []string{"OLD"}, Order: projections.Order{Start: true}}, "bd"},
		{"two statuses", projections.Selection{Statuses: []string{"OLD", "ODD"}}, "bde"},
		{"a status of a user", projections.Selection{Statuses: []string{"NEW"}, User: "u"}, "ac"},
		{"what overlaps a time", projections.Selection{From: at(150), To: at(200), Order: projections.Order{Start: true}}, "ca"},
		{"what ends where it begins is not in", projections.Selection{From: at(200), To: at(201)}, "bcde"},
		{"what ends later", projections.Selection{From: at(220), Order: projections.Order{Start: true}}, "cb"},
		{"what starts earlier", projections.Selection{To: at(200)}, "ac"},
		{"what overlaps, in a room", projections.Selection{Room: "10", From: at(215)}, "e"},
		{"what comes after a mark", projections.Selection{Order: projections.Order{Start: true}, After: &projections.Mark{Start: 200 * ms, Created: 12}}, "de"},
		{"what comes after a mark, the latest first", projections.Selection{Order: projections.Order{Start: true}, Descending: true, After: &projections.Mark{Start: 200 * ms, Created: 14}}, "bac"},
		{"what comes after a mark of a room", projections.Selection{Order: projections.Order{By: projections.ColumnRoom, Start: true}, After: &projections.Mark{By: "1", Start: 200 * ms, Created: 12}}, "dec"},
		{"what comes after a document that is gone", projections.Selection{Order: projections.Order{Start: true}, After: &projections.Mark{Start: 150 * ms, Created: 99}}, "bde"},
		{"what comes after a mark of the log", projections.Selection{After: &projections.Mark{Created: 13}}, "de"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, s := range byPaths(test.Selection, "NEW", "ODD", "OLD") {
				s.Limit, s.Count = 10, 10
				found, err := l.store.Find(t.Context(), l.name, schema(), s)
				if err != nil {
					t.Fatalf("by %+v: %v", s.Path, err)
				}
				got := ""
				for _, row := range found.Rows {
					got += of(row).ID
				}
				if got != test.want {
					t.Errorf("by %+v found %v, want %v", s.Path, got, test.want)
				}
				s.After, s.Limit = nil, 10
				if all := len(l.find(s).Rows); found.Count != int64(all) {
					t.Errorf("by %+v counted %d, want %d", s.Path, found.Count, all)
				}
				if found.Position != 20 || found.Ref != ref {
					t.Errorf("found in %+v", found.Ref)
				}
			}
		})
	}
	if found := l.find(projections.Selection{Limit: 2, Count: 10, After: &projections.Mark{Created: 11}}); len(found.Rows) != 2 || found.Rows[0].Created != 12 || found.Count != 5 {
		t.Errorf("a page of two is %+v", found)
	}
	for count := range int64(7) {
		if found := l.find(projections.Selection{Count: count}); found.Count != min(count, 5) {
			t.Errorf("of five documents %d were counted up to %d", found.Count, count)
		}
	}
	if found := l.find(projections.Selection{Count: 10}); len(found.Rows) != 0 || found.Count != 5 {
		t.Errorf("a count alone is %+v", found)
	}
}

// The pages together are the whole list, in every order and direction, even if documents differ only in their creation.
func testPages(t *testing.T, l *list) {
	ref := l.active()
	var rows []projections.Row
	for created := eventstore.Position(1); created <= 20; created++ {
		r := row(created, created)
		r.Status = []string{"S", "T"}[created%5/3]
		d := of(r)
		d.Room, d.User, d.Start = fmt.Sprint(created%3), fmt.Sprint(created%2), at(int64(created%4))
		d.End = d.Start.Add(time.Millisecond)
		rows = append(rows, r)
	}
	l.write(ref, 20, rows...)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, order := range append(orders(), projections.Order{By: projections.ColumnStatus, Start: true}) {
		for _, descending := range []bool{false, true} {
			s := projections.Selection{Order: order, Descending: descending, Limit: 50}
			if random.IntN(2) == 0 {
				s.Room = "1"
			}
			whole := documents(l.find(s).Rows)
			for _, s := range byPaths(s, "S", "T", "none") {
				s.Limit = 2 + random.IntN(5)
				var paged []string
				for {
					found := l.find(s).Rows
					paged = append(paged, documents(found)...)
					if len(found) < s.Limit {
						break
					}
					s.After = mark(order, rows[found[len(found)-1].Created-1])
				}
				if !slices.Equal(paged, whole) {
					t.Errorf("%+v by %+v in pages: %v, whole: %v", s, s.Path, paged, whole)
				}
			}
		}
	}
}

func mark(o projections.Order, row projections.Row) *projections.Mark {
	keys := schema().Keys(row.Document)
	keys.Status = row.Status
	m := o.Mark(keys, row.Created)
	return &m
}

// Paging while documents are written returns each document that existed throughout exactly once.
func testPagesWhileWriting(t *testing.T, l *list) {
	ref := l.active()
	var rows []projections.Row
	for created := eventstore.Position(10); created <= 100; created += 10 {
		rows = append(rows, row(created, created))
	}
	l.write(ref, 100, rows...)
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for at := eventstore.Position(101); ; at++ {
			select {
			case <-stop:
				return
			default:
			}
			extra := row(at, at)
			of(extra).Start = somewhere(at)
			of(extra).End = of(extra).Start.Add(time.Millisecond)
			changed := row(10*(at%10)+10, at)
			changed.Loaded = true
			if err := l.store.Write(context.WithoutCancel(t.Context()), ref, schema(), []projections.Row{extra, changed}, checkpoint(at, []projections.Row{extra, changed})); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 3 {
		seen := map[eventstore.Position]int{}
		s := projections.Selection{Order: projections.Order{Start: true}, Limit: 4}
		for {
			found := l.find(s).Rows
			for _, r := range found {
				seen[r.Created]++
			}
			if len(found) < s.Limit {
				break
			}
			s.After = mark(s.Order, found[len(found)-1])
		}
		for _, r := range rows {
			if seen[r.Created] != 1 {
				t.Errorf("document %d was on the pages %d times", r.Created, seen[r.Created])
			}
		}
		for created, times := range seen {
			if times > 1 {
				t.Errorf("document %d was on the pages %d times", created, times)
			}
		}
	}
	close(stop)
	writing.Wait()
}

// somewhere returns a time among those of row.
func somewhere(position eventstore.Position) time.Time { return at(int64(position*37%1000) * 10) }

// While generations replace each other queries never fail and never see an unfinished one.
func testFindWhileReplaced(t *testing.T, l *list) {
	const flips = 4
	rows := []projections.Row{row(1, 10), row(2, 10)}
	l.write(l.active(), 10, rows...)
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			found, err := l.store.Find(context.WithoutCancel(t.Context()), l.name, schema(), projections.Selection{Limit: 9})
			if err != nil || len(found.Rows) != 2 || found.Position != 10 {
				t.Errorf("found %+v, %v", found, err)
				return
			}
		}
	})
	old := projections.Ref{Projection: l.name, Number: 1}
	for range flips {
		next := l.begin()
		l.write(next, 5, rows[0])
		l.write(next, 10, rows[1])
		l.activate(old.Number, next.Number)
		if err := l.store.Drop(t.Context(), old); err != nil {
			t.Error(err)
		}
		old = next
	}
	close(stop)
	reading.Wait()
}

func testScan(t *testing.T, l *list) {
	ref := l.begin() // not active
	l.write(ref, 9, row(3, 8), row(1, 9), row(2, 2))
	rows, err := l.store.Scan(t.Context(), ref, schema(), 1, 1)
	if err != nil || len(rows) != 1 || rows[0].ID != "id-2" || rows[0].Created != 2 || rows[0].Position != 2 || rows[0].Status != "S" || *of(rows[0]) != *of(row(2, 2)) || rows[0].Foreign != "" {
		t.Errorf("scanned %+v, %v", rows, err)
	}
	l.wantDocuments(ref, name(1, 9), name(2, 2), name(3, 8))
}

func testEnsure(t *testing.T, l *list, beside Beside) {
	indexes := func(ref projections.Ref) int {
		n, err := beside.Indexes(ref)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	bare := schema()
	bare.Indexes = nil
	g, err := l.store.Begin(t.Context(), l.name, 1, bare)
	if err != nil {
		t.Fatal(err)
	}
	l.write(g.Ref, 9, row(1, 9))
	before := indexes(g.Ref)
	for range 2 {
		if err := l.store.Ensure(t.Context(), g.Ref, schema()); err != nil {
			t.Fatal(err)
		}
	}
	whole := l.begin()
	if got, want := indexes(g.Ref), before+len(schema().Indexes); got != want || indexes(whole) != want {
		t.Errorf("there are %d indexes, in a generation begun with them %d; want %d", got, indexes(whole), want)
	}
	l.wantDocuments(g.Ref, name(1, 9))
}

func testCancelled(t *testing.T, l *list) {
	ref := l.active()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(nil)
	_, err := l.store.Find(ctx, l.name, schema(), projections.Selection{Limit: 1})
	l.wantErr(err, context.Canceled)
	l.wantErr(l.store.Write(ctx, ref, schema(), []projections.Row{row(1, 1)}, projections.Checkpoint{Position: 1}), context.Canceled)
	_, err = l.store.State(ctx, l.name)
	l.wantErr(err, context.Canceled)
	l.wantDocuments(ref)
}

func testClosed(t *testing.T, store projections.Store) {
	if err := store.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Ping(t.Context()); err == nil {
		t.Error("a closed store answers")
	}
	if _, err := store.State(t.Context(), "list"); err == nil {
		t.Error("a closed store has a state")
	}
	if err := store.Write(t.Context(), projections.Ref{Projection: "list", Number: 1}, schema(), nil, projections.Checkpoint{}); err == nil {
		t.Error("a closed store was written to")
	}
}

package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
)

// Older gives direct access to lists in the form of the versions of this program that stored each document as one JSON text.
type Older interface {
	// Make creates a list whose first generation is active.
	Make(projection string, version int, checkpoint projections.Checkpoint, documents []OlderDocument) error
	// Texts returns the documents of that generation by id.
	Texts(projection string) (map[string]string, error)
}

// OlderDocument is a document with its bookkeeping.
type OlderDocument struct {
	projections.Row // without a Document
	projections.Keys
	Text string
}

// RunOlder tests that a store reads, keeps and rebuilds lists of older versions. Open must return an empty store.
func RunOlder(t *testing.T, open func(t *testing.T) projections.Store, older func(t *testing.T, store projections.Store) Older) {
	for _, p := range Queried() { // the others have no older versions
		t.Run(p.Name, func(t *testing.T) {
			s := newSystem(t, open(t), rand.NewPCG(5, 6))
			testOlder(t, s, p, older(t, s.store))
		})
	}
}

// Until a list of an older version has been rebuilt it answers each query as a list of this version does, and is kept in its own form.
func testOlder(t *testing.T, s *system, p projections.Projection, older Older) {
	position := s.happen(60)
	other := p
	other.Name = "other"
	if err := projections.NewRebuilder(s.store, s.log, projections.RebuilderOptions{}).Rebuild(t.Context(), other, nil); err != nil {
		t.Fatal(err)
	}
	g := s.state(other).Generations[0]
	rows, err := s.store.Scan(t.Context(), g.Ref, p.Schema, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var documents []OlderDocument
	for _, row := range rows {
		text := olderText(p.Schema, row.Document)
		keys := p.Schema.Keys(row.Document)
		keys.Status, row.Document = row.Status, nil
		documents = append(documents, OlderDocument{row, keys, text})
	}
	if err := older.Make(p.Name, p.Version-1, g.Checkpoint, documents); err != nil {
		t.Fatal(err)
	}
	s.wantSameAnswers(p, other)
	if rows, err := s.store.Scan(t.Context(), projections.Ref{Projection: p.Name, Number: 1}, p.Schema, 0, 1000); err != nil || len(rows) != len(documents) {
		t.Errorf("scanned %d rows, %v", len(rows), err)
	}

	log := &unread{Log: s.log, let: make(chan struct{})}
	workers, _ := s.workOn(log, projections.WorkerOptions{Abandoned: 100 * time.Millisecond}, p, other)
	s.until("it is rebuilt and kept", func() bool { h := workers.Health()[0]; return h.Rebuilding && h.State == projections.Following })
	position = s.happen(40)
	for _, p := range []projections.Projection{p, other} {
		s.until("it is kept", func() bool { g := s.state(p).Generations[0]; return g.Position >= position })
	}
	if active := s.state(p).Active; active != 1 {
		t.Errorf("generation %d is active before it can be", active)
	}
	s.wantSameAnswers(p, other)
	texts, err := older.Texts(p.Name)
	if err != nil || len(texts) < len(documents) {
		t.Errorf("there are %d texts, %v", len(texts), err)
	}
	for id, text := range texts {
		wantReadable(t, p.Schema, id, text)
	}

	close(log.let)
	s.until("the rebuilt list is active", func() bool {
		state := s.state(p)
		g, _ := state.Generation(state.Active)
		return g.Number > 1 && g.Version == p.Version
	})
	s.wantVerified(p, s.happen(5))
	s.until("the old one is removed", func() bool { return len(s.state(p).Generations) == 1 })
}

// olderText encodes a document as older versions did: with every field, where an empty string stands for no value, and without minutes.
func olderText(schema projections.Schema, document any) string {
	var fields []string
	d := reflect.ValueOf(document).Elem()
	for _, f := range schema.Fields {
		var value any = ""
		switch v := d.Field(f.Index).Interface().(type) {
		case int:
			value = v
		case time.Time:
			if !v.IsZero() {
				value = v.Add(999 * time.Nanosecond).Format(time.RFC3339Nano) // which documents no longer hold
			}
		default:
			value = fmt.Sprint(v)
		}
		if strings.HasSuffix(f.Name, "Minutes") {
			continue
		}
		text, _ := json.Marshal(value)
		fields = append(fields, fmt.Sprintf("%q:%s", f.Name, text))
	}
	return "{" + strings.Join(fields, ",") + "}"
}

// wantReadable decodes a text as older versions do, for which a missing field is empty.
func wantReadable(t *testing.T, schema projections.Schema, id, text string) {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	for _, f := range schema.Fields {
		switch value, there := fields[f.Name]; {
		case !there && !f.Optional:
			if !strings.HasSuffix(f.Name, "Minutes") {
				t.Errorf("%s has no %s", text, f.Name)
			}
		case there && schema.Document.Field(f.Index).Type == reflect.TypeFor[time.Time]() && value != "":
			if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(value)); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
	if field, _ := schema.Field(projections.ColumnID); fields[field.Name] != id {
		t.Errorf("%s is stored as %s", text, id)
	}
}

// wantSameAnswers compares the answers of two lists with the same documents.
func (s *system) wantSameAnswers(p, other projections.Projection) {
	s.Helper()
	asked := 0
	for i, q := range EveryQuery(s, p) {
		if i%eventstoretest.Rounds(67, 3) != 0 || q.Cursor != "" { // a sample
			continue
		}
		q.Size = 7
		for {
			got, next, err := s.ask(s.store, p, q)
			want, _, wantErr := s.ask(renamed{s.store, other.Name}, p, q)
			if err != nil || wantErr != nil {
				s.Fatalf("%+v: %v, %v", q, err, wantErr)
			}
			if !reflect.DeepEqual(got, want) {
				s.Fatalf("%+v:\ngot  %+v\nwant %+v", q, got, want)
			}
			asked++
			if next == "" {
				break
			}
			q.Cursor = next
		}
	}
	s.Logf("%d pages are the same", asked)
}

// ask queries a page of a list.
func (s *system) ask(store projections.Store, p projections.Projection, q projections.Query) (items any, next string, err error) {
	queries := projections.NewQueries(store, projections.QueryOptions{Budget: patience})
	switch p.Name {
	case projections.BookingListName:
		page, err := queries.BookingLists(s.Context(), q)
		return page.Items, page.Next, err
	case projections.RoomUseListName:
		page, err := queries.RoomUseLists(s.Context(), q)
		return page.Items, page.Next, err
	default:
		page, err := queries.Notifications(s.Context(), q)
		return page.Items, page.Next, err
	}
}

// renamed is a store in which queries of any list read the one with this name.
type renamed struct {
	projections.Store
	name string
}

func (n renamed) Find(ctx context.Context, _ string, schema projections.Schema, s projections.Selection) (projections.Found, error) {
	return n.Store.Find(ctx, n.name, schema, s)
}

// unread is a log in which subscriptions from the beginning block until they are let.
type unread struct {
	projections.Log
	let chan struct{}
}

func (l *unread) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	if after > 0 {
		return l.Log.Subscribe(ctx, after, f)
	}
	return (&held{Log: l.Log, let: l.let}).Subscribe(ctx, after, f)
}

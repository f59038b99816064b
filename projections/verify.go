package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/google/uuid"

	"roombook/eventstore"
)

// Difference is a document that is not what the log says.
type Difference struct {
	Projection string
	ID         string
	// Created is the position of the event that the document began with.
	Created eventstore.Position
	// Stored and Expected are the documents as JSON, or what is stored in the place of one; empty where there is none.
	Stored, Expected string
	// StoredPosition and ExpectedPosition are those of the last event in each.
	StoredPosition, ExpectedPosition eventstore.Position
	// StoredStatus and ExpectedStatus are what each is found by.
	StoredStatus, ExpectedStatus string
}

func (d Difference) String() string {
	switch {
	case d.Stored == "":
		return fmt.Sprintf("%s %s: missing; at position %d it should be %s", d.Projection, d.ID, d.ExpectedPosition, d.Expected)
	case d.Expected == "":
		return fmt.Sprintf("%s %s: there are no events for it; stored at position %d is %s", d.Projection, d.ID, d.StoredPosition, d.Stored)
	case d.Stored == d.Expected && d.StoredPosition == d.ExpectedPosition && d.StoredStatus != d.ExpectedStatus:
		return fmt.Sprintf("%s %s: it is found as %q, and should be as %q", d.Projection, d.ID, d.StoredStatus, d.ExpectedStatus)
	default:
		return fmt.Sprintf("%s %s: stored at position %d is %s; at position %d it should be %s", d.Projection, d.ID, d.StoredPosition, d.Stored, d.ExpectedPosition, d.Expected)
	}
}

// Verdict is what Verify found of a list.
type Verdict struct {
	Projection string
	// Position is how far the list says that it is, and Behind counts the events of its streams that the log has after it.
	Position eventstore.Position
	Behind   int
	// Differences are the documents that are not what the log says, in the order in which they began.
	Differences []Difference
	// Unseen says what is wrong with how readers find documents that are themselves as they should be.
	Unseen []string
}

// Faults is the number of things that are wrong with the list. To be behind is none.
func (v Verdict) Faults() int { return len(v.Differences) + len(v.Unseen) }

// scanned is how many documents Verify reads at a time.
const scanned = 500

// Verify folds the log again, in memory, and tells what of the active generation differs from that, the documents themselves and what
// readers find them by. It judges what the list claims to have; workers may go on meanwhile. ErrNotBuilt means that there is no list,
// *OtherLog that it was made from another log.
func Verify(ctx context.Context, store Store, log Log, p Projection) (Verdict, error) {
	for {
		verdict, err := verify(ctx, store, log, p)
		if errors.Is(err, errReplaced) {
			continue
		}
		if err != nil {
			return Verdict{}, fmt.Errorf("verify %s: %w", p.Name, err)
		}
		return verdict, nil
	}
}

// verify returns errReplaced if the generation was replaced meanwhile, and so may have been read in part.
func verify(ctx context.Context, store Store, log Log, p Projection) (Verdict, error) {
	state, err := store.State(ctx, p.Name)
	if err != nil {
		return Verdict{}, err
	}
	g, ok := state.Generation(state.Active)
	if !ok {
		return Verdict{}, ErrNotBuilt
	}
	if _, err := origin(ctx, log, g); err != nil {
		return Verdict{}, err
	}
	v := &verification{memory: memory{projection: p, rows: map[string]Row{}}, generation: g, newer: map[string]Row{}}
	v.Projection, v.Position = p.Name, g.Position
	err = v.run(ctx, store, log)
	again, stateErr := store.State(ctx, p.Name)
	switch {
	case stateErr == nil && again.Active != g.Number:
		return Verdict{}, errReplaced
	case err != nil || stateErr != nil:
		return Verdict{}, cmp.Or(err, stateErr)
	}
	return v.Verdict, nil
}

// verification is one comparison of a generation with the log. What the checkpoint covers has to be there, all of it. A document past
// the checkpoint was written by a worker since: what it says has to be so at its own position.
type verification struct {
	Verdict
	memory
	generation Generation
	newer      map[string]Row // the stored documents that are past the checkpoint
	scanned    int
	longest    int64 // of the stored documents
}

func (v *verification) run(ctx context.Context, store Store, log Log) error {
	var stored []Row
	for after := eventstore.Position(0); ; {
		rows, err := store.Scan(ctx, v.generation.Ref, v.projection.Schema, after, scanned)
		if err != nil {
			return err
		}
		for _, row := range rows {
			after = row.Created
			if row.Position > v.generation.Position {
				v.newer[row.ID] = row
			} else {
				stored = append(stored, row)
			}
		}
		v.scanned += len(rows)
		if len(rows) < scanned {
			break
		}
	}
	if err := v.fold(ctx, log); err != nil {
		return err
	}
	for _, row := range stored {
		v.compare(row)
	}
	for _, row := range v.newer {
		v.compare(row)
	}
	for _, row := range v.rows {
		if row.Position <= v.generation.Position {
			v.differ(Row{ID: row.ID, Created: row.Created}, row)
		}
	}
	slices.SortFunc(v.Differences, func(a, b Difference) int { return cmp.Compare(a.Created, b.Created) })
	if v.longest > v.generation.Longest {
		v.Unseen = append(v.Unseen, fmt.Sprintf("%s: the longest document is known as %d µs and is of %d: who asks for a time may not be shown it", v.Projection, v.generation.Longest, v.longest))
	}
	return v.look(ctx, store)
}

// fold folds the whole log: up to the checkpoint everything, and after it each of the newer documents up to its own position. It goes
// on until it has met the last event that the list has and the subscription has caught up: one that has caught up may follow a member of
// a cluster that is behind.
func (v *verification) fold(ctx context.Context, log Log) error {
	last := v.generation.Position
	for _, row := range v.newer {
		last = max(last, row.Position)
	}
	var at eventstore.Position
	for batch, err := range log.Subscribe(ctx, 0, v.projection.Filter) {
		if err != nil {
			return err
		}
		covered := batch.Events
		for len(covered) > 0 && covered[len(covered)-1].Position > v.generation.Position {
			covered = covered[:len(covered)-1]
		}
		if err := v.foldAll(ctx, covered); err != nil {
			return err
		}
		beyond := batch.Events[len(covered):]
		v.Behind += len(beyond)
		for i := range beyond {
			if err := v.foldNewer(ctx, beyond[i:i+1]); err != nil {
				return err
			}
		}
		if n := len(batch.Events); n > 0 {
			at = batch.Events[n-1].Position
		}
		if batch.CaughtUp && (at >= last || v.generation.Event == uuid.Nil) {
			return nil
		}
	}
	return ctx.Err()
}

func (v *verification) foldNewer(ctx context.Context, event []eventstore.Recorded) error {
	done, err := v.projection.fold(ctx, v.load, event)
	if err != nil {
		return err
	}
	for _, row := range done.rows {
		if row.Position <= v.newer[row.ID].Position {
			v.rows[row.ID] = row
		}
	}
	return nil
}

// memory is a generation in memory.
type memory struct {
	projection Projection
	rows       map[string]Row
}

func (m *memory) load(_ context.Context, ids []string) ([]Row, error) {
	found := make([]Row, 0, len(ids))
	for _, id := range ids {
		if row, ok := m.rows[id]; ok {
			found = append(found, row)
		}
	}
	return found, nil
}

func (m *memory) foldAll(ctx context.Context, events []eventstore.Recorded) error {
	done, err := m.projection.fold(ctx, m.load, events)
	if err != nil {
		return err
	}
	for _, row := range done.rows {
		m.rows[row.ID] = row
	}
	return nil
}

// compare judges a stored document, and forgets what was expected of it.
func (v *verification) compare(stored Row) {
	expected := v.rows[stored.ID]
	delete(v.rows, stored.ID)
	if stored.Position <= v.generation.Position && stored.Document != nil { // and so not written since the generation was looked at
		keys := v.projection.keys(stored.Document)
		v.longest = max(v.longest, keys.End-keys.Start)
	}
	if stored != (Row{ID: stored.ID, Created: expected.Created, Position: expected.Position, Status: expected.Status, Document: stored.Document}) ||
		!reflect.DeepEqual(stored.Document, expected.Document) {
		v.differ(stored, expected)
	}
}

// differ notes that a stored document is not what was expected.
func (v *verification) differ(stored, expected Row) {
	v.Differences = append(v.Differences, Difference{
		Projection: v.Projection, ID: stored.ID, Created: stored.Created,
		Stored: cmp.Or(stored.Foreign, text(stored.Document)), StoredPosition: stored.Position, StoredStatus: stored.Status,
		Expected: text(expected.Document), ExpectedPosition: expected.Position, ExpectedStatus: expected.Status,
	})
}

// text is a document as people are shown it; empty for none.
func text(document any) string {
	if document == nil {
		return ""
	}
	text, err := DocumentText(document)
	if err != nil {
		return err.Error()
	}
	return text
}

// look walks the pages of every index, as readers do, and counts: an index that has lost a document hides it from them. Pages that
// change meanwhile are walked again; if they always do, nothing is said of them.
func (v *verification) look(ctx context.Context, store Store) error {
	const attempts = 5
	for _, index := range v.projection.Schema.Indexes {
		order := index.Order
		for range attempts {
			seen, still, err := v.walk(ctx, store, order)
			if err != nil {
				return err
			}
			if still && seen < v.scanned {
				v.Unseen = append(v.Unseen, fmt.Sprintf("%s: of %d documents only %d are found in the order of %s", v.Projection, v.scanned, seen, order))
			}
			if still {
				break
			}
		}
	}
	return nil
}

// walk counts the documents on the pages of an order, and reports whether the list was still meanwhile.
func (v *verification) walk(ctx context.Context, store Store, order Order) (seen int, still bool, err error) {
	s := Selection{Statuses: v.projection.statuses, Order: order, Limit: scanned, Path: &Path{Index: order}}
	still = true
	for began := eventstore.Position(0); ; {
		found, err := store.Find(ctx, v.Projection, v.projection.Schema, s)
		if errors.Is(err, ErrForeign) { // it is among the differences
			return seen, false, nil
		}
		if err != nil {
			return seen, still, err
		}
		if found.Ref != v.generation.Ref {
			return seen, still, errReplaced
		}
		if began == 0 {
			began = found.Position
		}
		still = still && found.Position == began
		seen += len(found.Rows)
		if len(found.Rows) < scanned {
			return seen, still, nil
		}
		last := found.Rows[len(found.Rows)-1]
		mark := order.Mark(v.projection.keys(last.Document), last.Created)
		s.After = &mark
	}
}

func (o Order) String() string {
	var names []string
	for _, c := range o.Columns() {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}

package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"roombook/eventstore"
)

// Difference is a document that differs from what the log says.
type Difference struct {
	Projection string
	ID         string
	// Created is the position of the event that created the document.
	Created eventstore.Position
	// Stored and Expected are the documents as JSON, or whatever is stored instead; empty if there is none.
	Stored, Expected string
	// StoredPosition and ExpectedPosition are the positions of the last event in each.
	StoredPosition, ExpectedPosition eventstore.Position
	// StoredStatus and ExpectedStatus are the status keys.
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

// Verdict is the result of Verify.
type Verdict struct {
	Projection string
	// Position is the position of the list's checkpoint, and Behind the number of events of its streams that the log has after it.
	Position eventstore.Position
	Behind   int
	// Differences are the documents that differ from what the log says, in the order in which they were created.
	Differences []Difference
	// Unseen says which documents, correct in themselves, queries may not find.
	Unseen []string
}

// Faults is the number of faults of the list. Being behind is not one.
func (v Verdict) Faults() int { return len(v.Differences) + len(v.Unseen) }

// scanLimit is the number of documents that Verify reads at a time.
const scanLimit = 500

// Verify folds the log in memory and compares the active generation with the result: the documents, and whether queries find them. It
// judges only what the list's checkpoint covers, so workers may keep writing. It returns ErrNotBuilt if there is no list, and *OtherLog if
// it was built from another log.
func Verify(ctx context.Context, store Store, log Log, p Projection) (Verdict, error) {
	verdicts, errs := VerifyAll(ctx, store, log, []Projection{p})
	return verdicts[0], errs[0]
}

// VerifyAll is Verify for several lists with the same filter, for all of which it reads the log once. It returns a verdict or an error for
// each.
func VerifyAll(ctx context.Context, store Store, log Log, of []Projection) ([]Verdict, []error) {
	all := make([]*verification, len(of))
	for {
		var begun []*verification
		for i, p := range of {
			if all[i] == nil || errors.Is(all[i].err, errReplaced) {
				all[i] = &verification{memory: memory{projection: p, rows: map[string]Row{}}, newer: map[string]Row{}}
				all[i].err = all[i].begin(ctx, store, log)
				begun = append(begun, all[i])
			}
		}
		if len(begun) == 0 {
			break
		}
		foldTogether(ctx, log, begun)
		var judging sync.WaitGroup
		for _, v := range begun {
			judging.Go(func() { v.judge(ctx, store, log) })
		}
		judging.Wait()
	}
	verdicts, errs := make([]Verdict, len(of)), make([]error, len(of))
	for i, v := range all {
		if v.err != nil {
			errs[i] = fmt.Errorf("verify %s: %w", v.projection.Name, v.err)
		} else {
			verdicts[i] = v.Verdict
		}
	}
	return verdicts, errs
}

// verification compares a generation with the log. Everything that the checkpoint covers must be there. A document past the checkpoint,
// which a worker has just written, must be correct as of its own position.
type verification struct {
	Verdict
	memory
	generation Generation
	at         eventstore.Position // of the last event that was folded
	newer      map[string]Row      // the stored documents past the checkpoint
	scanned    int64               // the number of stored documents
	longest    int64               // the greatest End-Start of the stored documents
	// err is why there is no verdict: errReplaced if the generation was replaced meanwhile, so that only a part of it may have been read.
	err error
}

func (v *verification) begin(ctx context.Context, store Store, log Log) error {
	state, err := store.State(ctx, v.projection.Name)
	if err != nil {
		return err
	}
	g, ok := state.Generation(state.Active)
	if !ok {
		return ErrNotBuilt
	}
	v.generation, v.Projection, v.Position = g, v.projection.Name, g.Position
	_, err = origin(ctx, log, g)
	return err
}

// foldTogether folds the log into each, up to its checkpoint.
func foldTogether(ctx context.Context, log Log, all []*verification) {
	caughtUp := false
	unfinished := func(v *verification) bool {
		return v.err == nil && v.at < v.generation.Position && !(caughtUp && v.generation.Event == uuid.Nil)
	}
	if !slices.ContainsFunc(all, unfinished) {
		return
	}
	for batch, err := range log.Subscribe(ctx, 0, all[0].projection.Filter) {
		for _, v := range all {
			if unfinished(v) {
				v.err = cmp.Or(err, v.add(ctx, batch.Events))
			}
		}
		caughtUp = batch.CaughtUp
		if !slices.ContainsFunc(all, unfinished) {
			return
		}
	}
	for _, v := range all {
		if unfinished(v) {
			v.err = ctx.Err()
		}
	}
}

// add folds the events that the checkpoint covers.
func (v *verification) add(ctx context.Context, events []eventstore.Recorded) error {
	if len(events) == 0 {
		return nil
	}
	v.at = events[len(events)-1].Position
	for len(events) > 0 && events[len(events)-1].Position > v.generation.Position {
		events = events[:len(events)-1]
	}
	return v.foldAll(ctx, events)
}

// judge compares what is stored with what was folded.
func (v *verification) judge(ctx context.Context, store Store, log Log) {
	if v.err != nil {
		return
	}
	v.err = v.run(ctx, store, log)
	switch state, err := store.State(ctx, v.Projection); {
	case err != nil:
		v.err = cmp.Or(v.err, err)
	case state.Active != v.generation.Number:
		v.err = errReplaced
	}
}

func (v *verification) run(ctx context.Context, store Store, log Log) error {
	for after := eventstore.Position(0); ; {
		rows, err := store.Scan(ctx, v.generation.Ref, v.projection.Schema, after, scanLimit)
		if err != nil {
			return err
		}
		for _, row := range rows {
			after = row.Created
			if row.Document != nil {
				v.scanned++
			}
			if row.Position > v.generation.Position {
				v.newer[row.ID] = row
			} else {
				v.compare(row)
			}
		}
		if len(rows) < scanLimit {
			break
		}
	}
	if err := v.foldBeyond(ctx, log); err != nil {
		return err
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
	return v.findAll(ctx, store)
}

// foldBeyond folds each newer document from the checkpoint up to its own position. It continues until it has seen the last event of them
// and the subscription has caught up, which alone proves nothing: the cluster member may be behind.
func (v *verification) foldBeyond(ctx context.Context, log Log) error {
	var last, at eventstore.Position
	for _, row := range v.newer {
		last = max(last, row.Position)
	}
	for batch, err := range log.Subscribe(ctx, v.generation.Position, v.projection.Filter) {
		if err != nil {
			return err
		}
		v.Behind += len(batch.Events)
		for i, r := range batch.Events {
			at = r.Position
			if err := v.foldNewer(ctx, batch.Events[i:i+1]); err != nil {
				return err
			}
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

// memory holds a generation in memory.
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

// compare compares a stored document with the expected one, and removes the latter.
func (v *verification) compare(stored Row) {
	expected := v.rows[stored.ID]
	delete(v.rows, stored.ID)
	if stored.Position <= v.generation.Position && stored.Document != nil { // otherwise it was written after the checkpoint was read
		keys := v.projection.keys(stored.Document)
		v.longest = max(v.longest, keys.End-keys.Start)
	}
	if stored != (Row{ID: stored.ID, Created: expected.Created, Position: expected.Position, Status: expected.Status, Document: stored.Document}) ||
		!reflect.DeepEqual(stored.Document, expected.Document) {
		v.differ(stored, expected)
	}
}

// differ adds a difference.
func (v *verification) differ(stored, expected Row) {
	v.Differences = append(v.Differences, Difference{
		Projection: v.Projection, ID: stored.ID, Created: stored.Created,
		Stored: cmp.Or(stored.Foreign, text(stored.Document)), StoredPosition: stored.Position, StoredStatus: stored.Status,
		Expected: text(expected.Document), ExpectedPosition: expected.Position, ExpectedStatus: expected.Status,
	})
}

// text is a document as text; empty for none.
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

// findAll counts the documents in every index, as queries do, to detect an index that lacks some.
func (v *verification) findAll(ctx context.Context, store Store) error {
	for _, index := range v.projection.Schema.Indexes {
		order := index.Order
		found, err := store.Find(ctx, v.Projection, v.projection.Schema, Selection{
			Statuses: v.projection.statuses, Order: order, Path: &Path{Index: order}, Count: v.scanned,
		})
		switch {
		case err != nil:
			return err
		case found.Ref != v.generation.Ref:
			return errReplaced
		case found.Count < v.scanned:
			v.Unseen = append(v.Unseen, fmt.Sprintf("%s: of %d documents only %d are found in the order of %s", v.Projection, v.scanned, found.Count, order))
		}
	}
	return nil
}

func (o Order) String() string {
	var names []string
	for _, c := range o.Columns() {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}

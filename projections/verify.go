package projections

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"roombook/eventstore"
)

// Difference is a document that is not what the log says.
type Difference struct {
	Projection string
	ID         string
	// Created is the position of the event that the document began with.
	Created eventstore.Position
	// Stored and Expected are the documents as JSON; empty where there is none.
	Stored, Expected string
	// StoredPosition and ExpectedPosition are those of the last event in each.
	StoredPosition, ExpectedPosition eventstore.Position
}

func (d Difference) String() string {
	switch {
	case d.Stored == "":
		return fmt.Sprintf("%s %s: missing; at position %d it should be %s", d.Projection, d.ID, d.ExpectedPosition, d.Expected)
	case d.Expected == "":
		return fmt.Sprintf("%s %s: there are no events for it; stored at position %d is %s", d.Projection, d.ID, d.StoredPosition, d.Stored)
	default:
		return fmt.Sprintf("%s %s: stored at position %d is %s; at position %d it should be %s", d.Projection, d.ID, d.StoredPosition, d.Stored, d.ExpectedPosition, d.Expected)
	}
}

// scanned is how many documents Verify reads at a time.
const scanned = 500

// Verify folds the log again, in memory, and lists the documents of the active generation that differ from that, in the order in
// which they began. It judges what the list claims to have; workers may go on meanwhile. ErrNotBuilt means that there is no list.
func Verify(ctx context.Context, store Store, log Log, p Projection) ([]Difference, error) {
	differences, err := verify(ctx, store, log, p)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", p.Name, err)
	}
	return differences, nil
}

func verify(ctx context.Context, store Store, log Log, p Projection) ([]Difference, error) {
	state, err := store.State(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	g, ok := state.Generation(state.Active)
	if !ok {
		return nil, ErrNotBuilt
	}
	end, err := log.End(ctx)
	if err != nil {
		return nil, err
	}
	if g.Position > end {
		return nil, &AheadOfLog{p.Name, g.Position, end}
	}

	// What the checkpoint covers has to be there, all of it. A document past the checkpoint was written by a worker since: what it
	// says has to be so at its own position.
	expected := memory{projection: p, rows: map[string]Row{}}
	if err := expected.foldTo(ctx, log, 0, g.Position); err != nil {
		return nil, err
	}
	var differences []Difference
	newer := map[string]Row{}
	for after := eventstore.Position(0); ; {
		rows, err := store.Scan(ctx, g.Ref, after, scanned)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			after = row.Created
			if row.Position > g.Position {
				newer[row.ID] = row
			} else {
				differences = expected.compare(row, differences)
			}
		}
		if len(rows) < scanned {
			break
		}
	}
	if len(newer) > 0 {
		if err := expected.foldEachTo(ctx, log, g.Position, newer); err != nil {
			return nil, err
		}
		for _, row := range newer {
			differences = expected.compare(row, differences)
		}
	}
	for _, row := range expected.rows {
		if row.Position <= g.Position {
			differences = append(differences, Difference{Projection: p.Name, ID: row.ID, Created: row.Created, Expected: row.Document, ExpectedPosition: row.Position})
		}
	}
	slices.SortFunc(differences, func(a, b Difference) int { return cmp.Compare(a.Created, b.Created) })
	return differences, nil
}

// memory is a generation in memory.
type memory struct {
	projection Projection
	rows       map[string]Row
}

func (m memory) load(_ context.Context, ids []string) ([]Row, error) {
	found := make([]Row, 0, len(ids))
	for _, id := range ids {
		if row, ok := m.rows[id]; ok {
			found = append(found, row)
		}
	}
	return found, nil
}

// foldTo folds what comes after a position up to another one, which the log has.
func (m memory) foldTo(ctx context.Context, log Log, after, to eventstore.Position) error {
	if after >= to {
		return nil
	}
	for batch, err := range log.Subscribe(ctx, after, m.projection.Filter) {
		if err != nil {
			return err
		}
		events := batch.Events
		for len(events) > 0 && events[len(events)-1].Position > to {
			events = events[:len(events)-1]
		}
		done, err := m.projection.fold(ctx, m.load, events)
		if err != nil {
			return err
		}
		for _, row := range done.rows {
			m.rows[row.ID] = row
		}
		if batch.Position >= to || batch.CaughtUp {
			return nil
		}
	}
	return ctx.Err()
}

// foldEachTo folds what comes after a position into some documents, each up to a position of its own.
func (m memory) foldEachTo(ctx context.Context, log Log, after eventstore.Position, to map[string]Row) error {
	var last eventstore.Position
	for _, row := range to {
		last = max(last, row.Position)
	}
	for batch, err := range log.Subscribe(ctx, after, m.projection.Filter) {
		if err != nil {
			return err
		}
		for i := range batch.Events {
			done, err := m.projection.fold(ctx, m.load, batch.Events[i:i+1])
			if err != nil {
				return err
			}
			for _, row := range done.rows {
				if row.Position <= to[row.ID].Position {
					m.rows[row.ID] = row
				}
			}
		}
		if batch.Position >= last || batch.CaughtUp {
			return nil
		}
	}
	return ctx.Err()
}

// compare judges a stored document, and forgets what was expected of it.
func (m memory) compare(stored Row, differences []Difference) []Difference {
	expected := m.rows[stored.ID]
	delete(m.rows, stored.ID)
	if stored.Document == expected.Document && stored.Position == expected.Position && stored.Created == expected.Created {
		return differences
	}
	return append(differences, Difference{
		Projection: m.projection.Name, ID: stored.ID, Created: stored.Created,
		Stored: stored.Document, StoredPosition: stored.Position,
		Expected: expected.Document, ExpectedPosition: expected.Position,
	})
}

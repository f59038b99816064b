package projections_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"roombook/eventstore/eventstoretest"
	"roombook/projections"
)

// hiding is a store whose readers do not find a document in one of the orders, as where an index has lost it.
type hiding struct {
	projections.Store
	in projections.Order
	id string // part of the document
}

func (s hiding) Find(ctx context.Context, projection string, sel projections.Selection) (projections.Found, error) {
	found, err := s.Store.Find(ctx, projection, sel)
	if sel.Order == s.in {
		found.Rows = slices.DeleteFunc(found.Rows, func(r projections.Row) bool { return strings.Contains(r.Document, s.id) })
	}
	return found, err
}

// A document that is right, and that readers do not find in one of the orders, is told.
func TestVerifyWalksEveryOrder(t *testing.T) {
	log, store := eventstoretest.Open(t), openSQLite(t)
	p, _ := projections.Named(projections.BookingListName)
	h := history(14)
	happen(t, log, h, 30)
	if err := projections.NewRebuilder(store, log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	for _, index := range p.Schema.Indexes {
		order := index.Order
		verdict, err := projections.Verify(t.Context(), hiding{store, order, strings.TrimPrefix(h.Events[0].Stream, "booking-")}, log, p)
		if err != nil || len(verdict.Differences) != 0 || len(verdict.Unseen) != 1 || verdict.Faults() != 1 || !strings.HasSuffix(verdict.Unseen[0], "in the order of "+order.String()) {
			t.Errorf("hidden in %s: %+v, %v", order, verdict, err)
		}
	}
	if verdict, err := projections.Verify(t.Context(), store, log, p); err != nil || verdict.Faults() != 0 || verdict.Behind != 0 {
		t.Errorf("hidden nowhere: %+v, %v", verdict, err)
	}
}

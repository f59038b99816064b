package mongo

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"roombook/projections"
	"roombook/projections/sqlite"
	"roombook/projections/storetest"
)

// An index serves every query of every list: it starts with the fields that the filter fixes, the status key (of which there may be several)
// and possibly another key, followed by what the query is sorted by or by the field of its time range. MongoDB merges the ranges of several
// statuses. The selections come from queries of a SQLite store, as no server is needed.
func TestEveryQueryHasAnIndex(t *testing.T) {
	for name, crowded := range map[string]bool{"few": false, "many": true} {
		t.Run(name, func(t *testing.T) {
			store, err := sqlite.Open(filepath.Join(t.TempDir(), "views.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			for _, selected := range storetest.Selections(t, store, crowded) {
				if fault := served(selected); fault != "" {
					t.Errorf("%+v: %s", selected.Query, fault)
				}
			}
		})
	}
}

func served(selected storetest.Selected) string {
	s, form := selected.Selection, form{schema: selected.Schema}
	fixed, bounded := map[string]bool{}, map[string]bool{}
	for _, term := range form.filter(projections.Generation{}, s) {
		if _, relation := term[0].Value.(bson.D); relation && term[0].Key != form.name(projections.ColumnStatus) {
			bounded[term[0].Key] = true
		} else {
			fixed[term[0].Key] = true
		}
	}
	if s.ID != "" {
		if !fixed["_id"] {
			return "it is not looked up by its id"
		}
		return ""
	}
	i := slices.IndexFunc(selected.Schema.Indexes, func(i projections.Index) bool { return i.Order == s.Path.Index })
	if i < 0 {
		return fmt.Sprintf("there is no index by %s", s.Path.Index)
	}
	index := form.keys(selected.Schema.Indexes[i].Columns(), 1)
	equal, order, window := storetest.Reads(s)
	for _, c := range equal {
		if index[0].Key != form.name(c) || !fixed[index[0].Key] {
			return fmt.Sprintf("%s is not what comes next in the index by %s, or is not fixed", c, s.Path.Index)
		}
		index = index[1:]
	}
	for i, key := range form.keys(order, 1) {
		if index[i] != key {
			return fmt.Sprintf("it is sorted by %v, and what is left of the index is %v", order, index)
		}
	}
	if window && (index[0].Key != form.name(projections.ColumnStart) || !bounded[index[0].Key]) {
		return fmt.Sprintf("its time is not bounded by what is left of the index, %v", index)
	}
	return ""
}

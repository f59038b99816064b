package sqlite_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"roombook/projections"
	"roombook/projections/storetest"
)

// Verify reports each document that was edited by hand, be it in its fields or in its keys, and no other.
func TestVerifyFindsWhatWasChangedByHand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "views.db")
	history := storetest.NewHistory(rand.New(rand.NewPCG(7, 8)))
	store, log, db := open(t, file), history.Open(t), besideFile(t, file)
	for range 60 {
		stream, expected, events := history.Step()
		if _, err := log.Append(t.Context(), stream, expected, events...); err != nil {
			t.Fatal(err)
		}
	}
	changes := map[string][]string{
		projections.BookingListName: {
			`room = 'elsewhere'`, `start = start + 1000`, `"end" = 0`, `status = 'GONE'`, `booking = 'b'`, `position = position - 1`, `created = created + 1000000`, `id = 'other'`,
			`document = replace(document, 'user', 'other')`, `document = document || ' '`, `document = substr(document, 2)`, `document = document || char(31)`,
			`document = ''`, `document = '{}'`, `document = replace(document, char(31), char(31) || '1')`,
		},
		projections.RoomUseListName:  {`document = replace(document, '0', '00')`, `document = replace(document, '0', '0x')`},
		projections.NotificationName: {`"end" = 0`, `booking = 'b'`, `document = replace(document, 'o', '0')`, `status = 'DELIVERED'`},
		projections.RoomListName:     {`document = replace(document, 'e', 'E')`, `status = 'OPEN'`},
	}
	for _, p := range projections.All() {
		if err := projections.NewRebuilder(store, log, projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil); err != nil {
			t.Fatal(err)
		}
		for _, change := range append(changes[p.Name], `position = position`) {
			table := projections.Ref{Projection: p.Name, Number: 1}.String()
			var id string
			if err := db.QueryRow(`SELECT id FROM ` + table + ` ORDER BY created LIMIT 1 OFFSET 2`).Scan(&id); err != nil {
				t.Fatal(err)
			}
			for _, statement := range []string{
				`CREATE TEMP TABLE before AS SELECT * FROM ` + table,
				fmt.Sprintf(`UPDATE %s SET %s WHERE id = '%s'`, table, change, id),
			} {
				if _, err := db.Exec(statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
			verdict, err := projections.Verify(t.Context(), store, log, p)
			told := false
			for _, d := range verdict.Differences {
				told = told || d.ID == id
			}
			if changed := change != `position = position`; err != nil || told != changed || !changed && verdict.Faults() > 0 || changed && len(verdict.Differences) > 2 {
				t.Errorf("after %s of %s: %v, %v", change, id, verdict, err)
			}
			for _, statement := range []string{`DELETE FROM ` + table, `INSERT INTO ` + table + ` SELECT * FROM before`, `DROP TABLE before`} {
				if _, err := db.Exec(statement); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

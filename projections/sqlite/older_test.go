package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"roombook/eventstore/eventstoretest"
	"roombook/projections"
	"roombook/projections/storetest"
)

// Lists of versions that stored a document as one JSON text are read, kept and rebuilt.
func TestOlderLists(t *testing.T) {
	var file string
	open := func(t *testing.T) projections.Store {
		file = filepath.Join(t.TempDir(), "views.db")
		return open(t, file)
	}
	storetest.RunOlder(t, open, func(t *testing.T, _ projections.Store) storetest.Older { return texts{besideFile(t, file)} })
}

// texts is a [storetest.Older].
type texts struct{ *sql.DB }

func (db texts) Make(projection string, version int, c projections.Checkpoint, documents []storetest.OlderDocument) error {
	table := projections.Ref{Projection: projection, Number: 1}.String()
	statements := []string{
		fmt.Sprintf(`CREATE TABLE "%s" (created INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, position INTEGER NOT NULL, booking TEXT NOT NULL,
			room TEXT NOT NULL, user TEXT NOT NULL, status TEXT NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL, document TEXT NOT NULL)`, table),
		fmt.Sprintf(`INSERT INTO projections VALUES ('%s', 1, 1)`, projection),
		fmt.Sprintf(`INSERT INTO generations (projection, number, version, position, longest, touched, event) VALUES ('%s', 1, %d, %d, %d, 1, '%s')`, projection, version, c.Position, c.Longest, c.Last()),
	}
	// Only one of its indexes. A worker creates the missing ones; queries must do without them until then.
	statements = append(statements, fmt.Sprintf(`CREATE INDEX "%s_status_created" ON "%[1]s" (status, created, start, "end")`, table))
	for _, statement := range statements {
		if _, err := db.Exec(statement); err != nil {
			return err
		}
	}
	for _, d := range documents {
		k := d.Keys
		_, err := db.Exec(`INSERT INTO `+table+` VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			int64(d.Created), d.ID, int64(d.Position), k.Booking, k.Room, k.User, k.Status, k.Start, k.End, d.Text)
		if err != nil {
			return err
		}
	}
	return nil
}

func (db texts) Texts(projection string) (map[string]string, error) {
	rows, err := db.Query(`SELECT id, document FROM ` + projection + `_g1`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	texts := map[string]string{}
	for rows.Next() {
		var id, text string
		if err := rows.Scan(&id, &text); err != nil {
			return nil, err
		}
		texts[id] = text
	}
	return texts, rows.Err()
}

// A list whose documents have other fields, or the same in another order, is read and kept as it is.
func TestFieldsOfAnotherVersion(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "views.db"))
	other := projections.SchemaOf[struct {
		Gone string `json:"gone" bson:"gone"`
		Text string `json:"text" bson:"text"`
		ID   string `json:"id" bson:"id" key:"id"`
	}]()
	g, err := s.Begin(t.Context(), "list", 1, other)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Activate(t.Context(), "list", 0, g.Number); err != nil {
		t.Fatal(err)
	}
	want := document{ID: "1", Text: "new"}
	row := projections.Row{ID: "1", Created: 1, Position: 1, Document: &want}
	if err := s.Write(t.Context(), g.Ref, schema(), []projections.Row{row}, projections.Checkpoint{Position: 1}); err != nil {
		t.Fatal(err)
	}
	rows, err := s.Scan(t.Context(), g.Ref, schema(), 0, 9)
	if err != nil || len(rows) != 1 || rows[0].Foreign != "" || *rows[0].Document.(*document) != want {
		t.Errorf("found %+v, %v", rows, err)
	}
}

// Scan reports what is not a document, and only reads of that one fail.
func TestForeignDocuments(t *testing.T) {
	for _, text := range []string{``, `{}`, "id-7", "id-7\x1fa\x1fb"} {
		s, file, _ := filled(t)
		if _, err := besideFile(t, file).Exec(`UPDATE list_g1 SET document = ? WHERE created = 7`, text); err != nil {
			t.Fatal(err)
		}
		ref := projections.Ref{Projection: "list", Number: 1}
		rows, err := s.Scan(t.Context(), ref, schema(), 6, 2)
		if err != nil || len(rows) != 2 || rows[0].Document != nil || !strings.HasPrefix(rows[0].Foreign, text) || rows[1].Document == nil {
			t.Errorf("%s: %+v, %v", text, rows, err)
		}
		if found, err := s.Find(t.Context(), "list", schema(), projections.Selection{ID: "id-7", Limit: 1}); !errors.Is(err, projections.ErrForeign) {
			t.Errorf("%s: found %+v, %v", text, found, err)
		}
		if rows, err := s.Load(t.Context(), ref, schema(), []string{"id-7"}); !errors.Is(err, projections.ErrForeign) || !strings.Contains(err.Error(), "id-7") {
			t.Errorf("%s: loaded %+v, %v", text, rows, err)
		}
		if found, err := s.Find(t.Context(), "list", schema(), projections.Selection{ID: "id-8", Limit: 1}); err != nil || len(found.Rows) != 1 {
			t.Errorf("another one: %+v, %v", found, err)
		}
	}
}

// Lists of the version that stored each field in a column are rebuilt, and removed first.
func TestListsWithAColumnForEachField(t *testing.T) {
	file := filepath.Join(t.TempDir(), "views.db")
	if err := open(t, file).Close(); err != nil {
		t.Fatal(err)
	}
	p, _ := projections.Named(projections.BookingListName)
	db := besideFile(t, file)
	_, err := db.Exec(`ALTER TABLE generations DROP COLUMN fields; ALTER TABLE generations DROP COLUMN changed;
		CREATE TABLE booking_list_g1 (created INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, "document.bookingDtm" INTEGER NOT NULL);
		INSERT INTO projections VALUES ('booking_list', 1, 1);
		INSERT INTO generations VALUES ('booking_list', 1, 4, 7, 0, 1, '', '')`)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, file)
	if state, err := s.State(t.Context(), p.Name); err != nil || len(state.Generations) != 0 {
		t.Errorf("the state is %+v, %v", state, err)
	}
	if err := projections.NewRebuilder(s, eventstoretest.Open(t), projections.RebuilderOptions{}).Rebuild(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	state, err := s.State(t.Context(), p.Name)
	if err != nil || state.Active != 2 || len(state.Generations) != 1 {
		t.Errorf("the state is %+v, %v", state, err)
	}
}

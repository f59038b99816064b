package sqlite_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"roombook/projections"
	"roombook/projections/storetest"
)

// Lists of programs that stored a document as one text are read, kept and rebuilt.
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
		fmt.Sprintf(`INSERT INTO generations VALUES ('%s', 1, %d, %d, %d, 1, '%s', '')`, projection, version, c.Position, c.Longest, c.Last()),
	}
	// One of its indexes: those that are missing are made by whoever keeps the list, and done without until then.
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

// A program that knows documents only as texts fails when it looks for them where there are none, whatever it asks for.
func TestOlderProgramsFail(t *testing.T) {
	_, file, _ := filled(t)
	rows, err := besideFile(t, file).Query(`SELECT created, document FROM list_g1 WHERE room = 'none'`)
	if err == nil {
		rows.Close()
		t.Error("they find nothing")
	}
}

// A list that was made before its documents had one of their fields is read and kept without it.
func TestAFieldThatIsNotThereYet(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "views.db"))
	before := schema()
	before.Fields = before.Fields[:1]
	g, err := s.Begin(t.Context(), "list", 1, before)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Activate(t.Context(), "list", 0, g.Number); err != nil {
		t.Fatal(err)
	}
	row := projections.Row{ID: "1", Created: 1, Position: 1, Document: &document{ID: "1", Text: "new"}}
	if err := s.Write(t.Context(), g.Ref, schema(), []projections.Row{row}, projections.Checkpoint{Position: 1}); err != nil {
		t.Fatal(err)
	}
	found, err := s.Find(t.Context(), "list", schema(), projections.Selection{Limit: 9})
	if err != nil || len(found.Rows) != 1 || *found.Rows[0].Document.(*document) != (document{ID: "1"}) {
		t.Errorf("found %+v, %v", found, err)
	}
}

package sqlite

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"roombook/commands/accounts/directory"
	"roombook/commands/accounts/directory/directorytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	directorytest.Run(t, func(t *testing.T) directory.Store { return open(t, filepath.Join(t.TempDir(), "accounts.db")) })
}

// Who is forgotten is in no file any more, also while other processes have the directory open.
func TestForgottenForGood(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "accounts.db")
	s, other := open(t, path), open(t, path)
	const secret = "Annabella Zeppelin-Quux"
	if about, err := os.Stat(path); err != nil || about.Mode().Perm() != 0o600 {
		t.Errorf("the file may be read by others: %v, %v", about.Mode(), err)
	}
	there := func() (found bool) {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.Contains(content, []byte(secret))
		}
		return found
	}
	if err := s.AddPerson(t.Context(), directory.Person{User: "u1", Name: "ann", FullName: secret}); err != nil {
		t.Fatal(err)
	}
	if p, err := other.Person(t.Context(), "u1"); err != nil || p.FullName != secret || !there() {
		t.Fatalf("another process reads %v, %v; in a file: %t", p, err, there())
	}
	if err := s.Forget(t.Context(), "u1"); err != nil {
		t.Fatal(err)
	}
	if there() {
		t.Error("a file still has the name")
	}
}

// A file of a version that knew neither languages nor sessions at a provider is taken as it is.
func TestAFileWithoutLanguages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts.db")
	s := open(t, path)
	if _, err := s.db.Exec(`ALTER TABLE people DROP COLUMN language; DROP TABLE codes;
		ALTER TABLE sessions DROP COLUMN issuer; ALTER TABLE sessions DROP COLUMN subject; ALTER TABLE sessions DROP COLUMN provider_id; ALTER TABLE sessions DROP COLUMN id_token;
		INSERT INTO sessions VALUES ('s1', 'u1', 1, 2, 3); INSERT INTO people VALUES ('u1', 'ann', '', '', 'hash')`); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		again := open(t, path)
		if p, err := again.Person(t.Context(), "u1"); err != nil || p != (directory.Person{User: "u1", Name: "ann", Password: "hash"}) {
			t.Errorf("%+v, %v", p, err)
		}
		if n, err := again.Session(t.Context(), "s1"); err != nil || n.Epoch != 1 || n.Provider != (directory.ProviderSession{}) {
			t.Errorf("%+v, %v", n, err)
		}
		if err := again.PruneCodes(t.Context(), time.Now()); err != nil {
			t.Error(err)
		}
	}
}

func TestAFolderThatIsNotThere(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none", "accounts.db")); err == nil {
		t.Error("opened")
	}
}

package sqlite_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"roombook/projections"
	"roombook/projections/sqlite"
	"roombook/projections/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, file string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(file)
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
	storetest.Run(t, func(t *testing.T) projections.Store { return open(t, filepath.Join(t.TempDir(), "views.db")) })
}

func TestWorkers(t *testing.T) {
	storetest.RunWorkers(t, func(t *testing.T) projections.Store { return open(t, filepath.Join(t.TempDir(), "views.db")) })
}

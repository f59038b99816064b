package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"roombook/projections"
)

// A panic while a connection is in use costs neither its place in the pool nor the writer's lock, and rolls back what had been written.
func TestPanics(t *testing.T) {
	store, err := Open(filepath.Join(t.TempDir(), "views.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	g, err := store.Begin(t.Context(), "list", 1, projections.Schema{})
	if err != nil {
		t.Fatal(err)
	}
	wantPanic := func(do func()) {
		t.Helper()
		defer func() {
			if r := recover(); r != "oh" {
				t.Errorf("the panic became %v", r)
			}
		}()
		do()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	opened := store.current.Load()
	for range 3 * cap(opened.readers.inUse) {
		wantPanic(func() { _ = store.read(ctx, func(*file, *connection) error { panic("oh") }) })
		wantPanic(func() {
			_ = store.transaction(ctx, func(ctx context.Context, w *connection) error {
				if _, err := w.exec(ctx, "UPDATE generations SET position = 99"); err != nil {
					t.Error(err)
				}
				panic("oh")
			})
		})
	}
	if err := store.Write(ctx, g.Ref, projections.Schema{}, nil, projections.Checkpoint{Position: 5}); err != nil {
		t.Error(err)
	}
	state, err := store.State(ctx, "list")
	if err != nil || state.Generations[0].Position != 5 {
		t.Errorf("afterwards: %+v, %v", state, err)
	}
	if n := len(opened.readers.idle); n > 1 || len(opened.readers.inUse) > 0 {
		t.Errorf("%d connections are idle, %d in use", n, len(opened.readers.inUse))
	}
	// After a mere error the connection is kept.
	failed := errors.New("no")
	for range 3 {
		if err := store.read(ctx, func(*file, *connection) error { return failed }); !errors.Is(err, failed) {
			t.Error(err)
		}
	}
	if n := len(opened.readers.idle); n != 1 {
		t.Errorf("%d connections are idle", n)
	}
}

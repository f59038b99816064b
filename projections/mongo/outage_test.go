package mongo_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/projections"
	"roombook/projections/mongo"
	"roombook/projections/storetest"
)

// The server falls silent, is killed, and is started again on its files. Queries fail within their time meanwhile; the worker, which
// nobody starts again, then brings the list up to date.
func TestTheServerGoesAway(t *testing.T) {
	folder := t.TempDir()
	server := startServer(t, folder, "127.0.0.1:0")
	store, err := mongo.Open(server.address + "roombook")
	if err != nil {
		t.Fatal(err)
	}
	log := eventstoretest.Open(t)
	p, _ := projections.Named(projections.BookingListName)
	workers := projections.NewWorkers(store, log, []projections.Projection{p}, projections.WorkerOptions{Gather: time.Nanosecond})
	working, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- workers.Run(working) }()
	t.Cleanup(func() {
		stop()
		<-ended
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})

	history := storetest.NewHistory(rand.New(rand.NewPCG(1, 2)))
	happen := func(steps int) (last eventstore.Position) {
		for range steps {
			stream, expected, events := history.Step()
			appended, err := log.Append(t.Context(), stream, expected, events...)
			if err != nil {
				t.Fatal(err)
			}
			last = appended.Position
		}
		return last
	}
	until := func(what string, so func(projections.Health) bool) {
		for deadline := time.Now().Add(time.Minute); !so(workers.Health()[0]); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("it never came that %s; the worker says %+v", what, workers.Health()[0])
			}
		}
	}
	wantNoAnswer := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := projections.NewQueries(store, projections.QueryOptions{}).BookingLists(ctx, projections.Query{})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that time is over", err)
		}
	}

	position := happen(20)
	until("the list is kept", func(h projections.Health) bool { return h.Position >= position })

	if err := server.signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	happen(20)
	wantNoAnswer()

	if err := server.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = server.stop()
	happen(20)
	until("the worker fails", func(h projections.Health) bool { return h.State == projections.Failing })
	wantNoAnswer()

	startServer(t, folder, strings.TrimSuffix(strings.TrimPrefix(server.address, "mongodb://"), "/"))
	position = happen(20)
	until("the list is kept again", func(h projections.Health) bool { return h.State == projections.Following && h.Position >= position })
	differences, err := projections.Verify(t.Context(), store, log, p)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		t.Error(d)
	}
}

// startServer starts a server until the end of the test.
func startServer(t *testing.T, folder, at string) *ferretDB {
	t.Helper()
	server, err := startFerretDB(folder, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.stop() })
	return server
}

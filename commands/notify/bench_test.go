package notify

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// BenchmarkLog tells what it costs to log what is told of a booking, event store included. The bookings are made before.
func BenchmarkLog(b *testing.B) {
	store, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://" + eventstoretest.Serve(b, b.TempDir()) + "?tls=false"})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if _, err := EnsureGroup(b.Context(), store, MainGroup); err != nil {
		b.Fatal(err)
	}
	handler := commands.New(store, commands.Options{Policy: domain.DefaultPolicy()})
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range b.N {
		_, err := handler.CreateBooking(b.Context(), commands.CreateBooking{
			Request: commands.Request{ID: uuid.New(), Actor: domain.Anyone("test"), At: time.Now()}, Room: domain.RoomID(fmt.Sprint(i)), User: domain.UserID(fmt.Sprint(i % 50)), Slot: domain.Slot{Start: start, End: start.Add(time.Hour)},
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	var lines counter
	d, err := New(store, Options{Logger: slog.New(slog.NewTextHandler(&lines, nil))})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ResetTimer()
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	for lines.Load() < int64(b.N) {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	cancel()
	<-done
}

// counter counts the messages that are logged.
type counter struct{ atomic.Int64 }

func (c *counter) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("msg=notification ")) {
		c.Add(1)
	}
	return len(line), nil
}

package node_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"roombook/eventstore/node"
)

// BenchmarkAppend appends one event to a new stream an operation, through the official client over loopback. It reports the
// processor time of client and node together, which other load on the machine does not change.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			c := startIn(b, b.TempDir()).client(b)
			data := []byte(`{"bookingId":"0191f0a0-7b1c-7000-8000-000000000000","roomId":"room-1","userId":"user-1","start":"2026-01-01T10:00:00Z","end":"2026-01-01T11:00:00Z"}`)
			metadata := []byte(`{"$correlationId":"0191f0a0-7b1c-7000-8000-000000000000","$causationId":"0191f0a0-7b1c-7000-8000-000000000000","actor":"user-1","occurredAt":"2026-01-01T09:00:00Z","schemaVersion":1}`)
			appendOne := func() {
				e := esdb.EventData{EventID: uuid.New(), EventType: "BookingCreated", ContentType: esdb.ContentTypeJson, Data: data, Metadata: metadata}
				if _, err := c.AppendToStream(context.Background(), "booking-"+e.EventID.String(), esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, e); err != nil {
					b.Error(err)
				}
			}
			appendOne() // connects
			before := processorTime(b)
			b.ResetTimer()
			b.ReportAllocs()
			took := make([]time.Duration, b.N)
			var next atomic.Int64
			run(writers, b.N, func() {
				begun := time.Now()
				appendOne()
				took[next.Add(1)-1] = time.Since(begun)
			})
			b.StopTimer()
			report(b, before)
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkFollow appends from 64 writers while subscriptions follow.
func BenchmarkFollow(b *testing.B) {
	for _, subscriptions := range []int{3, 32} {
		b.Run(fmt.Sprintf("subscriptions=%d", subscriptions), func(b *testing.B) { benchmarkFollow(b, subscriptions) })
	}
}

func benchmarkFollow(b *testing.B, subscriptions int) {
	s := startIn(b, b.TempDir())
	writer, reader := s.client(b), s.client(b)
	appendOne := func() {
		e := event("BookingCreated")
		e.Data, e.Metadata = make([]byte, 150), make([]byte, 200)
		if _, err := writer.AppendToStream(context.Background(), "booking-"+e.EventID.String(), esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, e); err != nil {
			b.Error(err)
		}
	}
	var followed sync.WaitGroup
	for range subscriptions {
		sub, err := reader.SubscribeToAll(b.Context(), esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"booking-"}}})
		if err != nil {
			b.Fatal(err)
		}
		defer sub.Close()
		followed.Go(func() {
			for events := 0; events < b.N; {
				e := sub.Recv()
				if e.SubscriptionDropped != nil {
					b.Error(e.SubscriptionDropped.Error)
					return
				}
				if e.EventAppeared != nil {
					events++
				}
			}
		})
	}
	before := processorTime(b)
	b.ResetTimer()
	b.ReportAllocs()
	run(64, b.N, appendOne)
	followed.Wait()
	b.StopTimer()
	report(b, before)
}

// BenchmarkRead reads a stream of three events an operation.
func BenchmarkRead(b *testing.B) {
	c := startIn(b, b.TempDir()).client(b)
	const streams = 1_000
	for i := range streams {
		if _, err := c.AppendToStream(b.Context(), fmt.Sprint("s-", i), esdb.AppendToStreamOptions{}, event("A"), event("B"), event("C")); err != nil {
			b.Fatal(err)
		}
	}
	before := processorTime(b)
	b.ResetTimer()
	b.ReportAllocs()
	var i atomic.Int64
	run(16, b.N, func() {
		if events := readStream(b, c, fmt.Sprint("s-", i.Add(1)%streams), esdb.ReadStreamOptions{}); len(events) != 3 {
			b.Errorf("read %d events", len(events))
		}
	})
	b.StopTimer()
	report(b, before)
}

// BenchmarkCatchUp receives one event of a filtered subscription an operation, out of a log on disk.
func BenchmarkCatchUp(b *testing.B) {
	dir := b.TempDir()
	const events = 50_000
	c := startIn(b, dir).client(b)
	for range events / 500 {
		batch := make([]esdb.EventData, 500)
		for i := range batch {
			batch[i] = event("BookingCreated")
			batch[i].Data = make([]byte, 200)
		}
		if _, err := c.AppendToStream(b.Context(), "booking-"+uuid.NewString(), esdb.AppendToStreamOptions{}, batch...); err != nil {
			b.Fatal(err)
		}
	}
	before := processorTime(b)
	b.ResetTimer()
	b.ReportAllocs()
	for done := 0; done < b.N; {
		sub, err := c.SubscribeToAll(b.Context(), esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"booking-"}}})
		if err != nil {
			b.Fatal(err)
		}
		for e := sub.Recv(); e.CaughtUp == nil && done < b.N; e = sub.Recv() {
			if e.EventAppeared != nil {
				done++
			}
		}
		sub.Close()
	}
	b.StopTimer()
	report(b, before)
}

// run does n operations from many goroutines.
func run(goroutines, n int, operation func()) {
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan struct{})
	for range goroutines {
		go func() {
			for left.Add(-1) >= 0 {
				operation()
			}
			done <- struct{}{}
		}()
	}
	for range goroutines {
		<-done
	}
}

func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func report(b *testing.B, before time.Duration) {
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// BenchmarkBatchAppend appends one event to a new stream an operation, in batches of their own over one call, so many under way
// at a time.
func BenchmarkBatchAppend(b *testing.B) {
	for _, underWay := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("underWay=%d", underWay), func(b *testing.B) {
			call, err := streams.NewStreamsClient(startIn(b, b.TempDir()).dial(b)).BatchAppend(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			before := processorTime(b)
			free := make(chan struct{}, underWay)
			go func() {
				for range b.N {
					free <- struct{}{}
					if err := call.Send(batchOf(uuid.New(), "booking-"+uuid.NewString(), 1, 400)); err != nil {
						b.Error(err)
						return
					}
				}
			}()
			for range b.N {
				if answer, err := call.Recv(); err != nil || answer.GetSuccess() == nil {
					b.Fatal(answer, err)
				}
				<-free
			}
			report(b, before)
		})
	}
}

// BenchmarkGroup has 8 consumers of one group take an event an operation and acknowledge each.
func BenchmarkGroup(b *testing.B) {
	const consumers = 8
	c := startIn(b, b.TempDir()).dial(b)
	appendMany(b, c, "s", b.N)
	createGroup(b, c, "s", "g", groupSettings(nil))
	before := processorTime(b)
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var group sync.WaitGroup
	done := make(chan struct{})
	var ends []context.CancelFunc
	for range consumers {
		k := consume(b, c, "s", "g", 100)
		group.Go(func() {
			for {
				m, err := k.call.Recv()
				if err != nil {
					return
				}
				if left.Add(-1) == 0 {
					close(done)
				}
				if k.call.Send(ackOf(m.GetEvent().GetEvent().GetId())) != nil {
					return // it is over
				}
			}
		})
		ends = append(ends, k.cancel)
	}
	<-done
	report(b, before)
	for _, end := range ends {
		end()
	}
	group.Wait()
}

var largeEvents = flag.Int("large.events", 200_000, "length of the log of BenchmarkLargeLog")

// BenchmarkLargeLog appends a large log, opens it and reads all of it through the official client. Run it with -benchtime 1x.
func BenchmarkLargeLog(b *testing.B) {
	dir := b.TempDir()
	appended := false
	b.Run("append", func(b *testing.B) {
		if !appended {
			appended = true
			appendLarge(b, dir)
		}
	})
	b.Run("open", func(b *testing.B) {
		for range b.N {
			before := processorTime(b)
			n, err := node.Open(node.Options{Dir: dir})
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			report(b, before)
			if err := n.Close(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("read", func(b *testing.B) {
		c := startIn(b, dir).client(b)
		before := processorTime(b)
		b.ResetTimer()
		events := 0
		for range b.N {
			r, err := c.ReadAll(b.Context(), esdb.ReadAllOptions{}, 1<<63)
			if err != nil {
				b.Fatal(err)
			}
			for _, err = r.Recv(); err == nil; _, err = r.Recv() {
				events++
			}
			if !errors.Is(err, io.EOF) {
				b.Fatal(err)
			}
			r.Close()
		}
		b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(events), "cpu-µs/event")
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		b.ReportMetric(float64(memory.Sys>>20), "memory-MiB")
	})
}

// appendLarge appends the events of lives of bookings, five to a stream.
func appendLarge(b *testing.B, dir string) {
	const perStream, underWay = 5, 512
	call, err := streams.NewStreamsClient(startIn(b, dir).dial(b)).BatchAppend(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	appends := *largeEvents / perStream
	free := make(chan struct{}, underWay)
	go func() {
		for range appends {
			free <- struct{}{}
			booking := uuid.NewString()
			r := batchOf(uuid.New(), "booking-"+booking, perStream, 0)
			for _, p := range r.ProposedMessages {
				p.Data = fmt.Appendf(nil, `{"bookingId":"%s","reservationId":"%s","roomId":"room-1","userId":"user-1","start":"2026-01-01T10:00:00Z","end":"2026-01-01T11:00:00Z"}`, booking, uuid.NewString())
				p.CustomMetadata = fmt.Appendf(nil, `{"$correlationId":"%s","$causationId":"%s","actor":"user-1","occurredAt":"2026-01-01T09:00:00Z","schemaVersion":1}`, booking, uuid.NewString())
			}
			if call.Send(r) != nil {
				return // Recv says why
			}
		}
	}()
	for range appends {
		if answer, err := call.Recv(); err != nil || answer.GetSuccess() == nil {
			b.Fatal(answer, err)
		}
		<-free
	}
	b.ReportMetric(float64(appends*perStream)/b.Elapsed().Seconds(), "events/s")
	size := int64(0)
	files, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil { // else it was removed meanwhile
			size += info.Size()
		}
	}
	b.ReportMetric(float64(size)/float64(appends*perStream), "bytes/event")
}

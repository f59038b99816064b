package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkServe starts "roombook serve" and loads it with 1, 16 and 64 clients, each of which has one connection and one request at a
// time:
//
//	book      every booking wants a slot of its own, and is accepted
//	contend   all bookings want the same slot: one is accepted, the others are refused
//	list      a page of 20 of the booking list
//
// The program's data is under $TMPDIR, so that is the disk that is measured. ROOMBOOK_EVENTSTORE and ROOMBOOK_MONGO name servers to
// use instead; what is booked stays in them.
func BenchmarkServe(b *testing.B) {
	var args []string
	if store := os.Getenv(variable("eventstore")); store != "" {
		args = []string{"--eventstore", store}
	}
	p := startServe(b, filepath.Join(b.TempDir(), "data"), append(args, "--log-level", "error", "--read-wait", "9s")...)
	c := newCaller(b, p)
	run := time.Now().UnixNano() // no other run has this run's rooms
	var booked atomic.Int64
	// booking returns the body of a booking whose slot no other booking wants.
	booking := func() string {
		n := booked.Add(1)
		start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n/1000) * time.Hour)
		return fmt.Sprintf(`{"roomId":"bench-%d-%d","useStartDtm":%q,"useEndDtm":%q,"bookingUserId":"bench"}`,
			run, n%1000, start.Format(time.RFC3339), start.Add(time.Hour).Format(time.RFC3339))
	}
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("book/clients=%d", clients), func(b *testing.B) {
			answers := load(b, p, clients, func() string { return request("POST", "/bookings", booking()) })
			if answers[http.StatusCreated] != b.N {
				b.Errorf("%d bookings of free slots were answered %v", b.N, answers)
			}
		})
		b.Run(fmt.Sprintf("contend/clients=%d", clients), func(b *testing.B) {
			same := request("POST", "/bookings", booking())
			answers := load(b, p, clients, func() string { return same })
			if answers[http.StatusCreated] != 1 || answers[http.StatusConflict] != b.N-1 {
				b.Errorf("%d bookings of one slot were answered %v", b.N, answers)
			}
		})
		b.Run(fmt.Sprintf("list/clients=%d", clients), func(b *testing.B) {
			var position string
			for range 20 {
				status, at, err := c.call("POST", "/bookings", booking(), nil, nil)
				if err != nil || status != http.StatusCreated {
					b.Fatal(status, err)
				}
				position = at
			}
			c.list(b, "bookingLists", "&roomId=none", position) // waits for what was booked so far
			page := request("GET", "/bookingLists?size=20", "")
			answers := load(b, p, clients, func() string { return page })
			if answers[http.StatusOK] != b.N {
				b.Errorf("%d requests for the list were answered %v", b.N, answers)
			}
		})
	}
	p.stop(b)
}

func request(method, path, body string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
}

// load sends b.N requests, reports the rate and the latencies of the replies, and counts them by status.
//
// The clients share the processors with the server, so they do without [http.Client]: with it a list page takes 35 µs of their processor
// time, beside 95 of the server's; reading replies from a plain connection with [http.ReadResponse] takes 20.
func load(b *testing.B, p *process, clients int, request func() string) (answers map[int]int) {
	b.Helper()
	var sent atomic.Int64
	var mu sync.Mutex
	answers = map[int]int{}
	var latencies []time.Duration
	client := func() error {
		connection, err := net.Dial("tcp", p.address)
		if err != nil {
			return err
		}
		defer connection.Close()
		reader := bufio.NewReader(connection)
		var took []time.Duration
		statuses := map[int]int{}
		for sent.Add(1) <= int64(b.N) {
			out := request()
			asked := time.Now()
			if _, err := io.WriteString(connection, out); err != nil {
				return err
			}
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, response.Body); err != nil {
				return err
			}
			took = append(took, time.Since(asked))
			statuses[response.StatusCode]++
		}
		mu.Lock()
		defer mu.Unlock()
		latencies = append(latencies, took...)
		for status, n := range statuses {
			answers[status] += n
		}
		return nil
	}
	var all sync.WaitGroup
	b.ResetTimer()
	for range clients {
		all.Go(func() {
			if err := client(); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	if len(latencies) == 0 {
		b.FailNow()
	}
	slices.Sort(latencies)
	quantile := func(q float64) float64 { return latencies[int(q*float64(len(latencies)-1))].Seconds() * 1000 }
	b.ReportMetric(float64(len(latencies))/b.Elapsed().Seconds(), "answers/s")
	b.ReportMetric(quantile(0.50), "p50-ms")
	b.ReportMetric(quantile(0.99), "p99-ms")
	return answers
}

package main

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roombook/commands/notify/notifytest"
)

// BenchmarkWithoutNotifications tells whether anything waits for notifications: how long the same bookings, confirmations and pages of a list
// take with the sending process killed, and while the mail server refuses, is silent, is slow, or works. Each is measured five times, in
// another order each time; what is reported are medians, and their ratios to that without a sending process. That a mail server works costs
// time as well: it runs, like all the rest, on this machine.
func BenchmarkWithoutNotifications(b *testing.B) {
	const rounds, clients, each = 5, 8, 20
	dir := b.TempDir()
	data := filepath.Join(dir, "data")
	server := notifytest.NewMailServer(b, false)
	main := startServe(b, data, "--roles", "api,projections,recovery", "--log-level", "error")
	main.awaitReady(b)
	c := newCaller(b, main)
	dispatch := func() *process {
		return startServeBy(b, trusting(b, server), filepath.Join(dir, "dispatch"), append(mailFlags(server), "--roles", "dispatch", "--eventstore", nodeOf(b, data), "--log-level", "error")...)
	}
	var booked atomic.Int64
	work := func() time.Duration {
		began := time.Now()
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				for range each {
					i := booked.Add(1)
					start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Hour)
					var made struct {
						BookingID string `json:"bookingId"`
					}
					body := fmt.Sprintf(`{"roomId":"r%d","useStartDtm":%q,"useEndDtm":%q,"bookingUserId":"u%d"}`, i%20, start.Format(time.RFC3339), start.Add(time.Hour).Format(time.RFC3339), i%50)
					if status, _, err := c.call("POST", "/bookings", body, nil, &made); err != nil || status != http.StatusCreated {
						b.Errorf("book: %d, %v", status, err)
					}
					if status, _, err := c.call("PATCH", "/confirms/"+made.BookingID, `{"status":"CONFIRMED"}`, nil, nil); err != nil || status != http.StatusOK {
						b.Errorf("confirm: %d, %v", status, err)
					}
					if status, _, err := c.call("GET", "/bookingLists?size=20&sort=bookingDtm,desc", "", nil, nil); err != nil || status != http.StatusOK {
						b.Errorf("list: %d, %v", status, err)
					}
				}
			})
		}
		all.Wait()
		return time.Since(began)
	}
	sender := dispatch()
	awaitGroup(b, nodeOf(b, data))
	var silent net.Listener
	states := []struct {
		name         string
		begin, after func()
	}{
		{"working", func() {}, func() {}},
		{"refusing", server.Stop, func() { server.Start(b) }},
		{"silent", func() {
			server.Stop()
			var err error
			if silent, err = net.Listen("tcp", server.Address()); err != nil {
				b.Fatal(err)
			}
		}, func() {
			silent.Close()
			server.Start(b)
		}},
		{"slow", func() {
			server.Answer(func(string) error {
				time.Sleep(200 * time.Millisecond)
				return nil
			})
		}, func() { server.Answer(nil) }},
		{"killed", func() { sender.kill() }, func() { sender = dispatch() }},
	}
	work() // warm
	took := map[string][]time.Duration{}
	for b.Loop() {
		for round := range rounds {
			for i := range states {
				s := &states[(i*(1+round%4)+round)%len(states)]
				s.begin()
				took[s.name] = append(took[s.name], work())
				s.after()
				awaitMails(b, nodeOf(b, data), 5*time.Minute) // each begins with nothing left of the one before
			}
		}
	}
	median := func(name string) float64 {
		slices.Sort(took[name])
		return took[name][len(took[name])/2].Seconds()
	}
	b.ReportMetric(0, "ns/op")
	for _, s := range states {
		b.ReportMetric(3*clients*each/median(s.name), s.name+"-requests/s")
		if s.name != "killed" {
			b.ReportMetric(median(s.name)/median("killed"), s.name+"-ratio")
		}
	}
	sender.kill()
	main.kill()
}

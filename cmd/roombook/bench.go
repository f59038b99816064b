package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"roombook/projections"
)

// The workloads of a bench.
const (
	workloadBook    = "book"
	workloadList    = "list"
	workloadContend = "contend"
)

var allWorkloads = []string{workloadBook, workloadList, workloadContend}

// answerWait is how long a client waits for an answer. It is longer than a server's own time limit usually is, so that the
// server has the first word.
const answerWait = 30 * time.Second

// listWait is how long a list may take to have what was booked before the bench gives it up.
const listWait = 2 * time.Minute

func newBenchCommand() *cobra.Command {
	var c benchConfig
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Load a running server and tell how fast it answers",
		Long: `Bench loads a running server, to tell what a machine can bear. The workloads are

  book      POST /bookings: each books another slot, so that all are accepted
  list      GET /bookingLists?size=20, once the list has at least --fill bookings
  contend   POST /bookings: all want the same slot, so that one is accepted (201)
            and the others are refused (409)

Each workload runs once for each number of clients. A client has one connection and sends its next request as soon as it
has the answer to the last; a time is that from the request to the whole answer. The last column counts the answers by
status, and the requests without an answer.

What bench books stays in the event log for good: load a server whose data folder you can throw away.`,
		Example: `  roombook serve --data /tmp/scratch
  roombook bench --workloads book --clients 1,64 --duration 30s`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			target, err := c.check()
			if err != nil {
				return err
			}
			b := &bench{
				benchConfig: c,
				target:      target,
				rooms:       fmt.Sprintf("bench-%08x-", rand.Uint32()),
				firstStart:  time.Now().UTC().Truncate(time.Hour).Add(24 * time.Hour),
			}
			return b.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.register(cmd.Flags())
	return cmd
}

// benchConfig is everything that bench can be told.
type benchConfig struct {
	url         string
	workloads   []string
	clients     []int
	duration    time.Duration
	requests    int
	roomCount   int
	fill        int
	allowRemote bool
}

func (c *benchConfig) register(f *pflag.FlagSet) {
	f.StringVar(&c.url, "url", "http://127.0.0.1:8080", "the server to load")
	f.StringSliceVar(&c.workloads, "workloads", allWorkloads, "what to ask of it")
	f.IntSliceVar(&c.clients, "clients", []int{1, 16, 64}, "numbers of clients that ask at once")
	f.DurationVar(&c.duration, "duration", 10*time.Second, "longest time for each workload and number of clients")
	f.IntVar(&c.requests, "requests", 0, "most requests for each workload and number of clients; 0 for no bound but --duration")
	f.IntVar(&c.roomCount, "rooms", 1000, "number of rooms that are booked")
	f.IntVar(&c.fill, "fill", 1000, "least number of bookings in the list before it is asked for, at most 10000")
	f.BoolVar(&c.allowRemote, "allow-remote", false, "load a server on another machine")
}

// check finds what is wrong with the values and returns the server that they name.
func (c *benchConfig) check() (*target, error) {
	u, err := url.Parse(c.url)
	if err != nil {
		return nil, usagef("--url: %w", err)
	}
	if u.Scheme != "http" || u.Hostname() == "" {
		return nil, usagef("--url is %q; it must be http://HOST or http://HOST:PORT", c.url)
	}
	if len(c.workloads) == 0 {
		return nil, usagef("--workloads names no workload; there are %s", strings.Join(allWorkloads, ", "))
	}
	for _, w := range c.workloads {
		if !slices.Contains(allWorkloads, w) {
			return nil, usagef("--workloads: there is no workload %q; there are %s", w, strings.Join(allWorkloads, ", "))
		}
	}
	if len(c.clients) == 0 || slices.Min(c.clients) < 1 {
		return nil, usagef("--clients must be numbers from 1")
	}
	if c.duration <= 0 {
		return nil, usagef("--duration must be longer than 0")
	}
	if c.requests < 0 || c.fill < 0 || c.fill > projections.MaxTotal {
		return nil, usagef("--requests and --fill must be at least 0, and --fill at most %d, up to which lists are counted", projections.MaxTotal)
	}
	if c.roomCount < 1 {
		return nil, usagef("--rooms must be at least 1")
	}
	return newTarget(u, c.allowRemote), nil
}

// bench is one run of all workloads.
type bench struct {
	benchConfig
	target     *target
	rooms      string    // what the ids of this run's rooms begin with: no other run has it, so runs do not collide
	firstStart time.Time // start of each room's first slot
	booked     atomic.Int64
	position   uint64 // highest Roombook-Position answered so far
}

// run prints a row for each workload and number of clients.
func (b *bench) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := b.target.reach(ctx); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%-8s %8s %11s %9s %9s %9s %9s  %s\n",
		"workload", "clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "max ms", "answers")
	for _, workload := range b.workloads {
		if workload == workloadList {
			if err := b.prepareList(ctx, stderr); err != nil {
				return err
			}
		}
		for i, clients := range b.clients {
			l := load{clients: clients, duration: b.duration, requests: int64(b.requests)}
			switch workload {
			case workloadBook:
				l.request = b.book
			case workloadList:
				l.request = b.list
			case workloadContend:
				l.request = b.contend(i)
			}
			r, err := b.load(ctx, l)
			if r.latency.count == 0 {
				if err == nil {
					err = fmt.Errorf("no request was answered (%s)", r.answersText())
				}
				return fmt.Errorf("%s with %d clients: %w", workload, clients, err)
			}
			fmt.Fprintf(stdout, "%-8s %8d %11.1f %9.2f %9.2f %9.2f %9.2f  %s\n",
				workload, clients, r.rate(), ms(r.latency.quantile(0.50)), ms(r.latency.quantile(0.95)),
				ms(r.latency.quantile(0.99)), ms(r.latency.max), r.answersText())
			if err != nil {
				return fmt.Errorf("%s with %d clients, which is not all that was asked for: %w", workload, clients, err)
			}
			if n := r.answers[http.StatusCreated]; workload == workloadContend && n > 1 {
				return fmt.Errorf("%d bookings of one slot were accepted: the server does not keep rooms from being double-booked", n)
			}
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// book appends a request for a slot that nobody else wants.
func (b *bench) book(out []byte) []byte {
	n := b.booked.Add(1) - 1
	room, slot := n%int64(b.roomCount), n/int64(b.roomCount)
	return b.target.appendBooking(out, b.rooms+strconv.FormatInt(room, 10), b.firstStart.Add(time.Duration(slot)*time.Hour))
}

// contend returns a source of requests that all want the same slot. The run's i-th source has a room of its own.
func (b *bench) contend(i int) func([]byte) []byte {
	request := b.target.appendBooking(nil, fmt.Sprintf("%scontended-%d", b.rooms, i), b.firstStart)
	return func(out []byte) []byte { return append(out, request...) }
}

func (b *bench) list(out []byte) []byte { return b.target.appendGet(out, "/bookingLists?size=20") }

// prepareList books until the list has enough to show, and waits until it has all that was booked: a list that still catches
// up would be measured together with the catching up.
func (b *bench) prepareList(ctx context.Context, stderr io.Writer) error {
	if err := b.awaitList(ctx); err != nil {
		return err
	}
	total, err := b.listTotal(ctx)
	if err != nil {
		return err
	}
	missing := int64(b.fill) - total
	if missing <= 0 {
		return nil
	}
	fmt.Fprintf(stderr, "booking %d slots so that the list has %d\n", missing, b.fill)
	r, err := b.load(ctx, load{clients: 16, duration: 24 * time.Hour, requests: missing, request: b.book})
	if err != nil {
		return fmt.Errorf("fill the list: %w", err)
	}
	if n := r.answers[http.StatusCreated]; n != missing {
		return fmt.Errorf("fill the list: of %d bookings %d were accepted (%s)", missing, n, r.answersText())
	}
	return b.awaitList(ctx)
}

// awaitList waits until the list has what was booked so far, or [listWait] has passed. A server that answers no positions is
// not waited for.
func (b *bench) awaitList(ctx context.Context) error {
	if b.position == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, listWait)
	defer cancel()
	for {
		status, _, err := b.target.get(limited, "/bookingLists?size=1", http.Header{
			"Roombook-Position": {strconv.FormatUint(b.position, 10)},
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case limited.Err() != nil:
			return fmt.Errorf("the list has not come to position %d within %v: see /readyz and the log of the server", b.position, listWait)
		case err != nil:
			return err
		case status == http.StatusOK:
			return nil
		case status != http.StatusServiceUnavailable:
			return fmt.Errorf("GET /bookingLists was answered with status %d", status)
		}
		// The server has waited itself before it answers so, unless it was told not to.
		select {
		case <-limited.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// listTotal is the number of bookings that the list shows.
func (b *bench) listTotal(ctx context.Context) (int64, error) {
	const path = "/bookingLists?size=1&total=true"
	status, body, err := b.target.get(ctx, path, nil)
	if err != nil {
		return 0, err
	}
	var list struct {
		Page struct {
			TotalElements *int64 `json:"totalElements"`
		} `json:"page"`
	}
	if err := json.Unmarshal(body, &list); err != nil || list.Page.TotalElements == nil {
		return 0, fmt.Errorf("GET %s was answered with status %d and no page.totalElements", path, status)
	}
	return *list.Page.TotalElements, nil
}

// load is a number of clients that ask at once, until the time is over or all requests are sent.
type load struct {
	clients  int
	duration time.Duration
	requests int64 // 0 for no bound
	// request appends the next request. Clients call it concurrently.
	request func([]byte) []byte
}

// result is how a load was answered.
type result struct {
	took     time.Duration
	latency  histogram     // of the requests that were answered
	answers  map[int]int64 // requests by status; those without an answer under noAnswer
	position uint64        // highest Roombook-Position
}

// noAnswer stands for the status of a request whose connection broke.
const noAnswer = 0

func (r *result) add(other *result) {
	r.latency.add(&other.latency)
	for status, n := range other.answers {
		r.answers[status] += n
	}
	r.position = max(r.position, other.position)
}

// rate is the number of answers a second.
func (r *result) rate() float64 { return float64(r.latency.count) / r.took.Seconds() }

func (r *result) answersText() string {
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(r.answers)) {
		if status != noAnswer {
			parts = append(parts, fmt.Sprintf("%d: %d", status, r.answers[status]))
		}
	}
	if n := r.answers[noAnswer]; n > 0 {
		parts = append(parts, fmt.Sprintf("no answer: %d", n))
	}
	return strings.Join(parts, ", ")
}

// load runs l. All clients are connected before the first request is sent. What was answered before an error is told with it.
func (b *bench) load(ctx context.Context, l load) (*result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	total := &result{answers: map[int]int64{}}
	clients := make([]*client, l.clients)
	defer func() {
		for _, c := range clients {
			if c != nil {
				c.connection.close()
			}
		}
	}()
	for i := range clients {
		connection, err := b.target.dial(ctx)
		if err != nil {
			return total, err
		}
		clients[i] = &client{target: b.target, connection: connection, result: result{answers: map[int]int64{}}}
	}

	var sent atomic.Int64
	started := time.Now()
	for _, c := range clients {
		group.Go(func() error { return c.run(ctx, l, started, &sent) })
	}
	err := group.Wait()
	total.took = time.Since(started)
	for _, c := range clients {
		total.add(&c.result)
	}
	b.position = max(b.position, total.position)
	return total, err
}

// client asks, one request after the other.
type client struct {
	target     *target
	connection *connection
	result     result
}

// run asks until the load's time is over or its requests, counted in sent, are used up. A connection that breaks is counted
// and replaced by another; one that cannot be replaced is an error.
func (c *client) run(ctx context.Context, l load, started time.Time, sent *atomic.Int64) error {
	var request []byte
	for now := started; now.Sub(started) < l.duration; {
		if l.requests > 0 && sent.Add(1) > l.requests {
			return nil
		}
		request = l.request(request[:0])
		asked := time.Now()
		answer, err := c.connection.do(request, asked.Add(answerWait))
		now = time.Now()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			c.result.answers[answer.status]++
			c.result.latency.record(now.Sub(asked))
			c.result.position = max(c.result.position, answer.position)
			if !answer.last {
				continue
			}
		} else {
			c.result.answers[noAnswer]++
			if errors.Is(err, errMalformed) {
				return err
			}
		}
		c.connection.close()
		next, err := c.target.dial(ctx)
		if err != nil {
			return err
		}
		c.connection = next
	}
	return nil
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// runBench carries out a bench command line against a server.
func runBench(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	var out strings.Builder
	cmd := newBenchCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(t.Output())
	err = cmd.ExecuteContext(t.Context())
	goleak.VerifyNone(t, leaks)
	return out.String(), err
}

// row is a line of the table.
type row struct {
	workload string
	clients  int
	answers  string
}

var rowForm = regexp.MustCompile(`^(\w+) +(\d+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)  (.*)$`)

// rows reads a table, and finds fault with numbers that cannot be.
func rows(t *testing.T, table string) []row {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	if !strings.HasPrefix(lines[0], "workload ") {
		t.Fatalf("the table has no head:\n%s", table)
	}
	var rows []row
	for _, line := range lines[1:] {
		m := rowForm.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("row %q has not the form %v", line, rowForm)
		}
		number := func(i int) float64 {
			f, err := strconv.ParseFloat(m[i], 64)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		if number(3) <= 0 {
			t.Errorf("row %q has no rate", line)
		}
		if !slices.IsSorted([]float64{number(4), number(5), number(6), number(7)}) {
			t.Errorf("row %q: the times do not rise", line)
		}
		rows = append(rows, row{workload: m[1], clients: int(number(2)), answers: m[8]})
	}
	return rows
}

func checkRows(t *testing.T, table string, want ...row) {
	t.Helper()
	if got := rows(t, table); !slices.Equal(got, want) {
		t.Errorf("got rows\n%v\nwant\n%v", got, want)
	}
}

// rooms is a server that books rooms and lists as far as a bench sees it.
type rooms struct {
	mu          sync.Mutex
	taken       map[string]bool // room and start
	booked      int
	listed      int // entries that the list has; it catches up when it is asked for a position
	behind      int // how often the list is to say that it has not yet come to a position
	lists       int
	connections int
	faults      []string
}

func startRooms(t *testing.T) (*rooms, string) {
	s := &rooms{taken: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bookings", s.book)
	mux.HandleFunc("GET /bookingLists", s.list)
	server := httptest.NewUnstartedServer(mux)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.connections++
		}
	}
	server.Start()
	t.Cleanup(func() {
		server.Close()
		for _, fault := range s.faults {
			t.Error(fault)
		}
	})
	return s, server.URL
}

func (s *rooms) faultLocked(format string, args ...any) {
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

func (s *rooms) book(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := r.Header.Get("Content-Type"); got != "application/json" {
		s.faultLocked("Content-Type is %q", got)
	}
	var body struct {
		RoomID, BookingUserID  string
		UseStartDtm, UseEndDtm time.Time
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		s.faultLocked("body: %v", err)
	}
	// Slots begin at full hours: different ones do not overlap if they are at most an hour long.
	start := body.UseStartDtm
	if body.RoomID == "" || body.BookingUserID == "" || !start.Equal(start.Truncate(time.Hour)) ||
		!body.UseEndDtm.After(start) || body.UseEndDtm.After(start.Add(time.Hour)) {
		s.faultLocked("body: %+v", body)
	}
	slot := body.RoomID + " " + start.String()
	if s.taken[slot] {
		w.WriteHeader(http.StatusConflict)
		return
	}
	s.taken[slot] = true
	s.booked++
	w.Header().Set("Roombook-Position", strconv.Itoa(1000+s.booked))
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, `{"status": "BOOKED"}`)
}

func (s *rooms) list(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := r.Header.Get("Roombook-Position"); p != "" {
		if want := strconv.Itoa(1000 + s.booked); p != want {
			s.faultLocked("asked for position %s, want the last one, %s", p, want)
		}
		if s.behind > 0 {
			s.behind--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.listed = s.booked
	}
	if r.URL.Query().Get("total") == "true" {
		fmt.Fprintf(w, `{"page": {"size": 1, "totalElements": %d}}`, s.listed)
		return
	}
	if r.URL.RawQuery == "size=20" {
		s.lists++
		if s.listed < s.booked {
			s.faultLocked("the list was measured with %d of %d bookings", s.listed, s.booked)
		}
	}
	// More than net/http's buffer: it comes in chunks.
	io.WriteString(w, strings.Repeat(" ", 10000)+"{}")
}

func TestBenchBooksSlotsThatDoNotCollide(t *testing.T) {
	s, url := startRooms(t)
	args := []string{"--url", url + "/", "--workloads", "book", "--clients", "1,7", "--requests", "100", "--rooms", "3", "--duration", "1h"}
	for range 2 {
		table, err := runBench(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		checkRows(t, table, row{"book", 1, "201: 100"}, row{"book", 7, "201: 100"})
	}
	if s.booked != 400 {
		t.Errorf("%d slots are booked, want 400", s.booked)
	}
	perRun := map[string]int{}
	for slot := range s.taken {
		room, _, _ := strings.Cut(slot, " ")
		perRun[room]++
	}
	if len(perRun) != 6 {
		t.Errorf("%d rooms are booked, want 3 in each of 2 runs: %v", len(perRun), perRun)
	}
	// A run keeps its connections: one to see whether the server is there, and one a client.
	if want := 2 * (1 + 1 + 7); s.connections != want {
		t.Errorf("%d connections, want %d", s.connections, want)
	}
}

func TestBenchEndsWithItsDuration(t *testing.T) {
	_, url := startRooms(t)
	table, err := runBench(t, "--url", url, "--workloads", "book", "--clients", "2", "--duration", "20ms")
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(t, table); len(got) != 1 {
		t.Errorf("got rows %v, want one", got)
	}
}

func TestBenchContendsForOneSlot(t *testing.T) {
	_, url := startRooms(t)
	table, err := runBench(t, "--url", url, "--workloads", "contend", "--clients", "1,8", "--requests", "50")
	if err != nil {
		t.Fatal(err)
	}
	checkRows(t, table, row{"contend", 1, "201: 1, 409: 49"}, row{"contend", 8, "201: 1, 409: 49"})
}

func TestBenchTellsOfADoubleBooking(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
	defer server.Close()
	table, err := runBench(t, "--url", server.URL, "--workloads", "contend", "--clients", "2", "--requests", "5")
	if err == nil || !strings.Contains(err.Error(), "5 bookings of one slot were accepted") {
		t.Errorf("got error %v, want one that tells of 5 bookings of one slot", err)
	}
	checkRows(t, table, row{"contend", 2, "201: 5"})
}

func TestBenchFillsTheListAndWaitsForIt(t *testing.T) {
	s, url := startRooms(t)
	s.booked, s.listed, s.behind = 10, 10, 2
	table, err := runBench(t, "--url", url, "--workloads", "book,list", "--clients", "3", "--requests", "40", "--fill", "75")
	if err != nil {
		t.Fatal(err)
	}
	checkRows(t, table, row{"book", 3, "201: 40"}, row{"list", 3, "200: 40"})
	if s.booked != 75 || s.lists != 40 || s.behind != 0 {
		t.Errorf("%d booked, %d lists asked for, %d times to be behind left; want 75, 40, 0", s.booked, s.lists, s.behind)
	}
}

func TestBenchCountsErrorsByStatus(t *testing.T) {
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) % 4 {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 1:
			panic(http.ErrAbortHandler) // the connection breaks
		case 2:
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusCreated)
		case 3:
			w.WriteHeader(http.StatusCreated)
		}
	}))
	defer server.Close()
	table, err := runBench(t, "--url", server.URL, "--workloads", "book", "--clients", "4", "--requests", "80")
	if err != nil {
		t.Fatal(err)
	}
	checkRows(t, table, row{"book", 4, "201: 40, 503: 20, no answer: 20"})
}

func TestBenchStopsWhenTheServerGoes(t *testing.T) {
	var server *httptest.Server
	var once sync.Once
	server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		once.Do(func() { server.Listener.Close() })
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	_, err := runBench(t, "--url", server.URL, "--workloads", "book", "--clients", "2", "--duration", "1h")
	if err == nil || !strings.HasPrefix(err.Error(), "book with 2 clients: dial tcp ") {
		t.Errorf("got error %v, want the failed connection", err)
	}
}

// What was answered before the server went is told all the same, and the exit code is that of a failure.
func TestBenchTellsWhatItHasWhenTheServerGoes(t *testing.T) {
	var server *httptest.Server
	var asked atomic.Int64
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) > 3 {
			server.Listener.Close()
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusCreated)
	}))
	defer server.Close()
	table, err := runBench(t, "--url", server.URL, "--workloads", "book", "--clients", "1", "--duration", "1h")
	if err == nil || !strings.Contains(err.Error(), "not all that was asked for: dial tcp ") {
		t.Errorf("got error %v, want the failed connection", err)
	}
	if got := rows(t, table); len(got) != 1 || got[0].answers != "201: 3, no answer: 1" {
		t.Errorf("rows %v", got)
	}
}

func TestBenchFailsWhenNothingIsAnswered(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer server.Close()
	table, err := runBench(t, "--url", server.URL, "--workloads", "book", "--clients", "1", "--requests", "3")
	if err == nil || !strings.Contains(err.Error(), "no request was answered (no answer: 3)") {
		t.Errorf("got error %v", err)
	}
	if got := rows(t, table); len(got) != 0 {
		t.Errorf("rows %v", got)
	}
}

func TestBenchIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		cancel()
		<-release
	}))
	defer server.Close()
	defer close(release)
	cmd := newBenchCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"--url", server.URL, "--workloads", "book", "--clients", "2", "--duration", "1h"})
	cmd.SetOut(io.Discard)
	if err := cmd.ExecuteContext(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
}

func TestBenchRefusesBadCommandLines(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	tests := map[string]struct {
		args  []string
		usage bool
		want  string
	}{
		"another machine": {[]string{"--url", "http://192.0.2.1:8080"}, true, "192.0.2.1:8080 is another machine"},
		"any address":     {[]string{"--url", "http://[2001:db8::1]"}, true, "[2001:db8::1] is another machine"},
		"not http":        {[]string{"--url", "https://127.0.0.1"}, true, "must be http://"},
		"no host":         {[]string{"--url", "http:///bookings"}, true, "must be http://"},
		"workload":        {[]string{"--workloads", "read"}, true, `no workload "read"`},
		"no workload":     {[]string{"--workloads", ""}, true, "names no workload"},
		"clients":         {[]string{"--clients", "4,0"}, true, "--clients"},
		"duration":        {[]string{"--duration", "0s"}, true, "--duration"},
		"requests":        {[]string{"--requests", "-1"}, true, "--requests"},
		"fill":            {[]string{"--fill", "-1"}, true, "--fill"},
		"more fill":       {[]string{"--fill", "10001"}, true, "--fill at most 10000"},
		"rooms":           {[]string{"--rooms", "0"}, true, "--rooms"},
		"argument":        {[]string{"now"}, true, "now"},
		"nobody there":    {[]string{"--url", closed.URL}, false, "nothing listens at " + closed.URL},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := runBench(t, test.args...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got error %v, want one with %q", err, test.want)
			}
			if _, usage := errors.AsType[*usageError](err); usage != test.usage {
				t.Errorf("%v: usage error %v, want %v", err, usage, test.usage)
			}
		})
	}
}

func TestRemoteIsAllowedOnDemand(t *testing.T) {
	u := &url.URL{Scheme: "http", Host: "192.0.2.1:8080"}
	if newTarget(u, true).dialer.Control != nil {
		t.Error("a target that may be remote still looks at addresses")
	}
}

func TestConnectionReadsAnswers(t *testing.T) {
	const next = "HTTP/1.1 204 No Content\r\n\r\n"
	tests := map[string]struct {
		response string
		want     answer
		err      error
	}{
		"length":             {"HTTP/1.1 201 Created\r\ncontent-length: 5\r\nRoombook-Position: 77\r\n\r\nhello", answer{status: 201, position: 77}, nil},
		"empty":              {"HTTP/1.1 409 Conflict\r\nContent-Length:0\r\n\r\n", answer{status: 409}, nil},
		"no reason":          {"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", answer{status: 200}, nil},
		"bare line feeds":    {"HTTP/1.1 200 OK\nContent-Length: 1\n\nx", answer{status: 200}, nil},
		"chunks":             {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1A;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n", answer{status: 200}, nil},
		"trailer":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n", answer{status: 200}, nil},
		"interim":            {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\nx", answer{status: 201}, nil},
		"longer than buffer": {"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000), answer{status: 200}, nil},
		"closes":             {"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 1\r\n\r\nx", answer{status: 200, last: true}, nil},
		"to the end":         {"HTTP/1.0 200 OK\r\n\r\nhello", answer{status: 200, last: true}, nil},
		"nothing":            {"", answer{}, io.ErrUnexpectedEOF},
		"cut in the head":    {"HTTP/1.1 200 OK\r\nContent-", answer{}, io.ErrUnexpectedEOF},
		"cut in the body":    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", answer{}, io.ErrUnexpectedEOF},
		"cut in a chunk":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", answer{}, io.ErrUnexpectedEOF},
		"cut before the end": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", answer{}, io.ErrUnexpectedEOF},
		"not HTTP":           {"SSH-2.0-OpenSSH_9.2\r\n", answer{}, errMalformed},
		"status":             {"HTTP/1.1 2x1 Created\r\n\r\n", answer{}, errMalformed},
		"long status":        {"HTTP/1.1 2010 Created\r\n\r\n", answer{}, errMalformed},
		"no colon":           {"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", answer{}, errMalformed},
		"negative length":    {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", answer{}, errMalformed},
		"huge length":        {"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n", answer{}, errMalformed},
		"other encoding":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", answer{}, errMalformed},
		"chunk size":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n", answer{}, errMalformed},
		"huge chunk":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello\r\n", answer{}, errMalformed},
		"chunk too long":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n", answer{}, errMalformed},
		"endless header":     {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 100000), answer{}, errMalformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			client, server := net.Pipe()
			c := newConnection(t.Context(), client)
			served := make(chan error, 1)
			go func() {
				defer server.Close()
				r := bufio.NewReader(server)
				if _, err := r.ReadString('\n'); err != nil {
					served <- err
					return
				}
				io.WriteString(server, test.response) // fails where the client has seen enough
				if test.err == nil && !test.want.last {
					if _, err := r.ReadString('\n'); err != nil {
						served <- err
						return
					}
					io.WriteString(server, next)
				}
				served <- nil
			}()
			deadline := time.Now().Add(time.Minute)
			got, err := c.do([]byte("request\n"), deadline)
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, test.want, test.err)
			}
			// Nothing of the answer is left over for the next one.
			if test.err == nil && !test.want.last {
				if got, err := c.do([]byte("request\n"), deadline); err != nil || got != (answer{status: 204}) {
					t.Errorf("the answer after it: got %+v, %v", got, err)
				}
			}
			c.close()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestConnectionGivesUpAtTheDeadline(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	c := newConnection(t.Context(), client)
	defer c.close()
	_, err := c.do([]byte("request\n"), time.Unix(1, 0))
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("got error %v, want a time-out", err)
	}
}

func TestConnectionAllocatesNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	target := newTarget(&url.URL{Scheme: "http", Host: listener.Addr().String()}, false)
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		response := []byte("HTTP/1.1 201 Created\r\nContent-Length: 5\r\nRoombook-Position: 123456789\r\n\r\nhello")
		request := make([]byte, 4096)
		for {
			if _, err := conn.Read(request); err != nil {
				served <- err
				return
			}
			if _, err := conn.Write(response); err != nil {
				served <- err
				return
			}
		}
	}()
	c, err := target.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var request []byte
	start, deadline := time.Unix(1900000000, 0).UTC(), time.Now().Add(time.Minute)
	failures := 0
	allocations := testing.AllocsPerRun(100, func() {
		request = target.appendBooking(request[:0], "bench-01234567-890", start)
		if _, err := c.do(request, deadline); err != nil {
			failures++
		}
	})
	c.close()
	if err := <-served; err != io.EOF {
		t.Error(err)
	}
	if failures > 0 || allocations > 0 {
		t.Errorf("%v allocations a request, %d failures; want none", allocations, failures)
	}
}

func TestHistogramQuantiles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{1, 2, 100, 10000} {
		exact := make([]time.Duration, n)
		var whole, half histogram
		for i := range exact {
			exact[i] = time.Duration(random.Uint64() >> (1 + random.IntN(63)))
			if i%2 == 0 {
				whole.record(exact[i])
			} else {
				half.record(exact[i])
			}
		}
		whole.add(&half)
		slices.Sort(exact)
		for _, q := range []float64{0.01, 0.5, 0.95, 0.99, 1} {
			want := exact[max(int(float64(n)*q+0.9999999), 1)-1]
			got := whole.quantile(q)
			if got < want || got-want > want/100 {
				t.Errorf("of %d durations quantile %v is %d, want %d to 1 %% more", n, q, got, want)
			}
		}
		if whole.max != exact[n-1] || whole.count != uint64(n) {
			t.Errorf("greatest of %d is %d, want %d of %d", whole.count, whole.max, exact[n-1], n)
		}
	}
}

func TestHistogramBucketsFollowEachOther(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing is %d, want 0", got)
	}
	next := uint64(0)
	for i := range h.buckets {
		if got := bucket(next); got != i {
			t.Fatalf("%d is in bucket %d, want %d", next, got, i)
		}
		end := bucketEnd(i)
		if got := bucket(end); got != i {
			t.Fatalf("%d is in bucket %d, want %d", end, got, i)
		}
		if end-next > next/100 {
			t.Fatalf("bucket %d is %d to %d: wider than 1 %%", i, next, end)
		}
		next = end + 1
	}
	if next != 0 {
		t.Errorf("the last bucket ends before %d", next)
	}
}

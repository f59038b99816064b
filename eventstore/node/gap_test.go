package node

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/grpc"
)

// call is the server's side of a read, which counts what is sent.
type call struct {
	grpc.ServerStream
	ctx  context.Context
	sent int
}

func (c *call) Context() context.Context { return c.ctx }

func (c *call) SendMsg(any) error {
	c.sent++
	return nil
}

func (c *call) Send(*streams.ReadResp) error { return c.SendMsg(nil) }

// forget empties the memory of recent events.
func (r *ring) forget() {
	for i := range r.slots {
		r.slots[i].Store(nil)
	}
}

// readers are all ways to read.
var readers = map[string]readRequest{
	"all forwards":              {all: true, start: true, limit: math.MaxUint64},
	"all forwards, filtered":    {all: true, start: true, limit: math.MaxUint64, filter: &filter{prefixes: [][]byte{[]byte("x")}, interval: 1}},
	"all backwards":             {all: true, end: true, backward: true, limit: math.MaxUint64},
	"stream forwards":           {stream: "s", start: true, limit: math.MaxUint64},
	"stream backwards":          {stream: "s", end: true, backward: true, limit: math.MaxUint64},
	"all, subscribed":           {all: true, start: true, subscription: true},
	"all, subscribed, filtered": {all: true, start: true, subscription: true, filter: &filter{prefixes: [][]byte{[]byte("x")}, interval: 1}},
	"stream, subscribed":        {stream: "s", start: true, subscription: true},
}

// TestGap takes an event, or its place in its stream, out of the middle of a log: whoever comes to where it was is not kept there
// and does not pass it by, and whoever serves hears what is missing.
func TestGap(t *testing.T) {
	const events, gap = 1000, 700
	for missing, key := range map[string][]byte{
		"position 700":            appendEventKey(nil, gap),
		`event 699 of stream "s"`: appendStreamKey(nil, "s", gap-1),
	} {
		for name, r := range readers {
			if r.all && key[0] == streamPrefix {
				continue // does not look there
			}
			t.Run(missing+", "+name, func(t *testing.T) {
				n, err := Open(Options{})
				if err != nil {
					t.Fatal(err)
				}
				for range events {
					if _, err := n.log.append(t.Context(), change{stream: "s", expected: expectAny, events: []*event{newEvent("s")}}); err != nil {
						t.Fatal(err)
					}
				}
				n.log.recent.forget()
				if err := n.log.db.Delete(key, pebble.Sync); err != nil {
					t.Fatal(err)
				}
				s := &streamsService{log: n.log, errors: n.errors, stopping: context.Background(), patterns: &n.patterns}
				err = s.serve(r, &call{ctx: t.Context()})
				if _, damaged := errors.AsType[*DamagedError](err); !damaged || !strings.Contains(err.Error(), missing) {
					t.Errorf("got %v", err)
				}
				if err := n.Serve(t.Context(), listen(t)); !errors.As(err, new(*DamagedError)) {
					t.Errorf("Serve returned %v", err)
				}
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestReadersLookAtTheirContext: no reader goes through the log for a client that has gone.
func TestReadersLookAtTheirContext(t *testing.T) {
	n, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for range 1000 {
		if _, err := n.log.append(t.Context(), change{stream: "s", expected: expectAny, events: []*event{newEvent("s")}}); err != nil {
			t.Fatal(err)
		}
	}
	s := &streamsService{log: n.log, errors: n.errors, stopping: context.Background(), patterns: &n.patterns}
	gone, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the client has gone")
	cancel(reason)
	for name, r := range readers {
		c := &call{ctx: gone}
		if err := s.serve(r, c); !errors.Is(err, reason) || c.sent > 2 {
			t.Errorf("%s: got %v after %d messages", name, err, c.sent)
		}
	}
	slow, err := parseFilter(regexOptions("a*"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.match(gone, newEvent("s").record); !errors.Is(err, reason) {
		t.Errorf("a regular expression: got %v", err)
	}
}

// regexOptions choose stream names by a regular expression.
func regexOptions(regex string) *streams.ReadReq_Options_FilterOptions {
	return &streams.ReadReq_Options_FilterOptions{
		Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{
			StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Regex: regex},
		},
		Window: &streams.ReadReq_Options_FilterOptions_Count{},
	}
}

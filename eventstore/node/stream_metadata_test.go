package node_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// setMetadata writes raw metadata of a stream.
func setMetadata(t testing.TB, c *grpc.ClientConn, stream, json string) {
	t.Helper()
	p := proposed("$metadata")
	p.Id = structuredID(uuid.New())
	p.Data = []byte(json)
	if answer, _, err := call(t, c, appendOptions("$$"+stream, expectAny), proposal(p)); answer.GetSuccess() == nil {
		t.Fatalf("%v, %v", answer, err)
	}
}

// TestTruncation reads a stream of A, B, C, D whose metadata hides some of it.
func TestTruncation(t *testing.T) {
	for _, test := range []struct {
		metadata string
		then     string
	}{
		{`{}`, "A B C D"},
		{`{"$maxCount":2}`, "C D"},
		{`{"$maxCount":1}`, "D"},
		{`{"$maxCount":9}`, "A B C D"},
		{`{"$maxCount":0}`, "A B C D"},
		{`{"$maxCount":-1}`, "A B C D"},
		{`{"$tb":1}`, "B C D"},
		{`{"$tb":4}`, ""},
		{`{"$tb":400}`, ""},
		{`{"$tb":-1}`, "A B C D"},
		{`{"$tb":1,"$maxCount":2}`, "C D"},
		{`{"$tb":3,"$maxCount":2}`, "D"},
		{`{"$tb":9223372036854775807}`, "not found: s"},
		{`{"$maxAge":3600}`, "A B C D"},
		{`{"$maxAge":9223372036854775807}`, "A B C D"},
		{`{"$maxCount":2,"custom":{"a":[1]},"$acl":{"$r":"$all"}}`, "C D"},
		{`{"$maxCount":2,"$tb":"1"}`, "A B C D"},
		{`{"$maxCount":2.5}`, "A B C D"},
		{`{"$maxCount":null}`, "A B C D"},
		{`{"$maxCount":2,"$cacheControl":true}`, "A B C D"},
		{`{"$maxCount":2`, "A B C D"},
		{`[]`, "A B C D"},
		{`null`, "A B C D"},
		{`{"$maxCount":2} and more`, "C D"},
		{`{"$maxCount":1,"$maxCount":2}`, "C D"},
		{`{"$maxcount":2}`, "A B C D"},
		{`{"$maxCount":2,"$MAXCOUNT":1,"$TB":"x"}`, "C D"},
		{`{"$maxCount":2e0}`, "A B C D"},
		{`{"$maxCount":2,"$maxAge":922337203685}`, "C D"},
		{`{"$maxCount":2,"$maxAge":922337203686}`, "A B C D"},
		{`{"$maxCount":2,"$cacheControl":-922337203686}`, "A B C D"},
		{`{"$maxCount":2,"$tmp":false}`, "C D"},
		{`{"$maxCount":2,"$tmp":null}`, "A B C D"},
		{`{"$maxCount":2,"$tmp":1}`, "A B C D"},
		{`{"$maxCount":2,"$acl":{"$r":["a","b"],"$w":"c","$d":[],"$mr":"","$mw":"$all"}}`, "C D"},
		{`{"$maxCount":2,"$acl":{}}`, "C D"},
		{`{"$maxCount":2,"$acl":5}`, "A B C D"},
		{`{"$maxCount":2,"$acl":null}`, "A B C D"},
		{`{"$maxCount":2,"$acl":{"$r":null}}`, "A B C D"},
		{`{"$maxCount":2,"$acl":{"$r":["a",1]}}`, "A B C D"},
		{`{"$maxCount":2,"$acl":{"$r":["a",null]}}`, "A B C D"},
		{`{"$maxCount":2,"$acl":{"other":"a"}}`, "A B C D"},
	} {
		t.Run(test.metadata, func(t *testing.T) {
			c := start(t).dial(t)
			appendNamed(t, c, "s", expectAny, "A", "B", "C", "D")
			setMetadata(t, c, "s", test.metadata)
			for _, direction := range []streams.ReadReq_Options_ReadDirection{forwards, backwards} {
				from := "start"
				if direction == backwards {
					from = "end"
				}
				got, err := read(t, c, &streams.ReadReq_Options{StreamOption: ofStream("s", from), ReadDirection: direction,
					CountOption: count(9), FilterOption: unfiltered, UuidOption: structured})
				if err != nil {
					t.Fatal(err)
				}
				if direction == backwards {
					slices.Reverse(got)
				}
				if strings.Join(got, " ") != test.then {
					t.Errorf("%v: got %v, want %v", direction, got, test.then)
				}
			}
			// Expected revisions go by the stream's real end, and $all by everything.
			if got, want := outcome(appendNamed(t, c, "s", expectRevision(3), "E")), "success 4 at 6"; got != want {
				t.Errorf("append: got %s, want %s", got, want)
			}
			got, err := read(t, c, &streams.ReadReq_Options{StreamOption: ofAll("start"), CountOption: count(6), FilterOption: unfiltered, UuidOption: structured})
			if want := "A B C D $metadata E"; strings.Join(got, " ") != want || err != nil {
				t.Errorf("$all is %v, %v", got, err)
			}
		})
	}
}

func TestStreamMetadata(t *testing.T) {
	c := start(t).client(t)
	if _, err := c.GetStreamMetadata(t.Context(), "s", esdb.ReadStreamOptions{}); err == nil {
		t.Error("a stream without metadata has some")
	} else if e, ok := errors.AsType[*esdb.Error](err); !ok || e.Code() != esdb.ErrorCodeResourceNotFound {
		t.Errorf("got %v", err)
	}
	for revision := range uint64(3) {
		var metadata esdb.StreamMetadata
		metadata.SetMaxCount(revision + 1)
		metadata.AddCustomProperty("key", "value")
		r, err := c.SetStreamMetadata(t.Context(), "s", esdb.AppendToStreamOptions{}, metadata)
		if err != nil {
			t.Fatal(err)
		}
		if r.NextExpectedVersion != revision {
			t.Errorf("metadata has revision %d, want %d", r.NextExpectedVersion, revision)
		}
		got, err := c.GetStreamMetadata(t.Context(), "s", esdb.ReadStreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if *got.MaxCount() != revision+1 {
			t.Errorf("got $maxCount %d, want %d", *got.MaxCount(), revision+1)
		}
	}
	if all := readStream(t, c, "$$s", esdb.ReadStreamOptions{}); len(all) != 1 || all[0].EventNumber != 2 {
		t.Errorf("the metadata stream shows %v", all)
	}
}

// TestSoftDeleted: metadata can say that a stream is deleted. Its revisions go on when it comes back, and its former events
// stay hidden.
func TestSoftDeleted(t *testing.T) {
	const deleted = `{"$tb":9223372036854775807,"custom":1}`
	get := func(t *testing.T, c *grpc.ClientConn, stream string) string {
		got, err := read(t, c, &streams.ReadReq_Options{StreamOption: ofStream(stream, "start"), CountOption: count(9), FilterOption: unfiltered, UuidOption: structured})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(got, " ")
	}
	for _, test := range []struct {
		name   string
		when   any
		then   string
		stream string
	}{
		{"no stream", expectNoStream, "success 2 at 4", "C"},
		{"any", expectAny, "success 2 at 4", "C"},
		{"last revision", expectRevision(1), "success 2 at 4", "C"},
		{"earlier revision", expectRevision(0), "wrong, at 1", "not found: s"},
		{"stream exists", expectStreamExists, "FailedPrecondition", "not found: s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			c := s.dial(t)
			appendNamed(t, c, "s", expectAny, "A", "B")
			setMetadata(t, c, "s", deleted)
			if got := get(t, c, "s"); got != "not found: s" {
				t.Fatalf("got %s", got)
			}
			if got := outcome(appendNamed(t, c, "s", test.when, "C")); got != test.then {
				t.Errorf("got %s, want %s", got, test.then)
			}
			if got := get(t, c, "s"); got != test.stream {
				t.Errorf("stream is %s, want %s", got, test.stream)
			}
			if test.stream != "C" {
				return
			}
			metadata := readStream(t, s.client(t), "$$s", esdb.ReadStreamOptions{})
			if got, want := string(metadata[0].Data), `{"$tb":2,"custom":1}`; got != want {
				t.Errorf("metadata is %s, want %s", got, want)
			}
			if got, want := outcome(appendNamed(t, c, "s", expectStreamExists, "D")), "success 3 at 6"; got != want {
				t.Errorf("afterwards: got %s, want %s", got, want)
			}
			if got, want := outcome(appendNamed(t, c, "s", expectNoStream, "A", "B")), "success 1, no position"; got != want {
				t.Errorf("retry of a hidden append: got %s, want %s", got, want)
			}
		})
	}
	t.Run("by metadata", func(t *testing.T) {
		s := start(t)
		c := s.dial(t)
		appendNamed(t, c, "s", expectAny, "A", "B")
		setMetadata(t, c, "s", deleted)
		setMetadata(t, c, "s", `{"custom":2}`)
		if got := get(t, c, "s"); got != "" {
			t.Errorf("got %s, want an empty stream", got)
		}
		metadata := readStream(t, s.client(t), "$$s", esdb.ReadStreamOptions{})
		if got, want := string(metadata[0].Data), `{"custom":2,"$tb":2}`; got != want {
			t.Errorf("metadata is %s, want %s", got, want)
		}
	})
	t.Run("after a restart", func(t *testing.T) {
		dir := t.TempDir()
		t.Run("before", func(t *testing.T) {
			c := startIn(t, dir).dial(t)
			appendNamed(t, c, "s", expectAny, "A", "B")
			setMetadata(t, c, "s", deleted)
		})
		c := startIn(t, dir).dial(t)
		if got, want := outcome(appendNamed(t, c, "s", expectNoStream, "C")), "success 2 at 4"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := get(t, c, "s"); got != "C" {
			t.Errorf("stream is %s", got)
		}
	})
}

// TestNothingToSoftDeleted: an append of no events brings a stream back, empty.
func TestNothingToSoftDeleted(t *testing.T) {
	for _, expected := range []any{expectAny, expectRevision(1)} {
		s := start(t)
		c := s.dial(t)
		appendNamed(t, c, "s", expectAny, "A", "B")
		setMetadata(t, c, "s", `{"$tb":9223372036854775807}`)
		if got, want := outcome(appendNamed(t, c, "s", expected)), "success 1 at 4"; got != want {
			t.Errorf("%T: got %s, want %s", expected, got, want)
		}
		if events := readStream(t, s.client(t), "s", esdb.ReadStreamOptions{}); len(events) > 0 {
			t.Errorf("%T: the stream shows %v", expected, events)
		}
		metadata := readStream(t, s.client(t), "$$s", esdb.ReadStreamOptions{})
		if got, want := string(metadata[0].Data), `{"$tb":2}`; got != want {
			t.Errorf("%T: metadata is %s, want %s", expected, got, want)
		}
	}
}

// TestMetadataOfMetadata: what looks like the metadata of a metadata stream has no effect on it.
func TestMetadataOfMetadata(t *testing.T) {
	c := start(t).dial(t)
	appendNamed(t, c, "s", expectAny, "A", "B")
	setMetadata(t, c, "s", `{"$maxCount":1}`)
	setMetadata(t, c, "$$s", `{"$tb":9223372036854775807}`)
	if got, want := outcome(appendNamed(t, c, "$$s", expectStreamExists, "other")), "success 1 at 5"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for stream, want := range map[string]string{"$$s": "other", "$$$$s": "$metadata", "s": "A B"} {
		got, err := read(t, c, &streams.ReadReq_Options{StreamOption: ofStream(stream, "start"), CountOption: count(9), FilterOption: unfiltered, UuidOption: structured})
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%s is %v, %v; want %s", stream, got, err, want)
		}
	}
}

// TestStreamDeletedTrailer: the name of a stream is in a trailer, which is ASCII.
func TestStreamDeletedTrailer(t *testing.T) {
	for stream, want := range map[string]string{
		"plain 50%-~":     "plain 50%-~",
		"Raum für 50%":    "Raum f%C3%BCr 50%25",
		"line\nfeed \x7f": "line%0Afeed %7F",
	} {
		c := start(t).dial(t)
		setMetadata(t, c, stream, `{"$tb":9223372036854775807}`)
		_, trailers, err := call(t, c, appendOptions(stream, expectStreamExists), proposal(proposed("A")))
		if got := trailers.Get("stream-name"); status.Code(err) != codes.FailedPrecondition || len(got) != 1 || got[0] != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

// TestCompressedRequest: a client may compress what it sends.
func TestCompressedRequest(t *testing.T) {
	c := start(t).dial(t, grpc.WithDefaultCallOptions(grpc.UseCompressor("gzip")))
	if got, want := outcome(appendNamed(t, c, "s", expectAny, "A")), "success 0 at 1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got, err := read(t, c, &streams.ReadReq_Options{StreamOption: ofStream("s", "start"), CountOption: count(9), FilterOption: unfiltered, UuidOption: structured})
	if strings.Join(got, " ") != "A" || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
	"roombook/eventstore/node"
)

// storedEvents are the events of an event store that an export has.
func storedEvents(t *testing.T, connectionString string) (all []eventstore.Stored) {
	t.Helper()
	store, err := eventstore.Open(eventstore.Options{ConnectionString: connectionString})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for e, err := range store.StoredAfter(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// photo is the photo of a room.
func (c caller) photo(t *testing.T, room string) string {
	t.Helper()
	reply, err := c.http.Get(c.base + "/rooms/" + room + "/photo")
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	picture, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != http.StatusOK || len(picture) == 0 {
		t.Fatal(reply.Status, len(picture), err)
	}
	return string(picture)
}

// A trial on the embedded event store moves to another one with nothing lost: the same events in the same order, whatever their data, and
// a system that goes on from there. Both commands go on where they were stopped.
func TestExportAndImport(t *testing.T) {
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "rooms.jsonl")
	p := startServe(t, data)
	c := newCaller(t, p)
	ids := c.bookSome(t, "1", 12)
	c.wantListed(t, ids)
	const gif = "GIF87a\x02\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x02\x00\x01\x00\x00\x02\x02D\n\x00;"
	for _, sent := range [][4]string{{"POST", "/rooms", `{"roomId":"red","name":"Red"}`, "application/json"}, {"PUT", "/rooms/red/photo?alt=a%20wall", gif, "image/gif"}} {
		if status, _, err := c.call(sent[0], sent[1], sent[2], http.Header{"Content-Type": {sent[3]}}, nil); err != nil || status/100 != 2 {
			t.Fatal(sent, status, err)
		}
	}
	photo := c.photo(t, "red")
	for _, odd := range []struct{ data, metadata string }{
		{`{"a": 1,` + "\n" + `"a": "\u00e9<&>", "n": 1.0e0}`, `{ "x" : [ ] }`}, {"\x00\xff no JSON", ""}, {"", "null"}, {`{"broken":`, `{"ü":"\u2028"}`}, {`"x"`, "\n"},
	} {
		eventstoretest.AppendRaw(t, nodeOf(t, data), "odd-"+uuid.NewString(), "Odd\n\"type\"", odd.data, odd.metadata)
	}
	original := storedEvents(t, nodeOf(t, data))

	verb(t, "export", file, "--data", data) // of a running program
	p.stop(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	if len(lines) != len(original)+2 { // the last line and what is after it
		t.Fatalf("%d lines for %d events", len(lines), len(original))
	}

	// Interrupted in the middle of a line, it is continued to the same file; of another log it is refused.
	if err := os.WriteFile(file, append(bytes.Join(lines[:7], nil), lines[7][:20]...), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, "is not complete", "import", file, "--data", filepath.Join(dir, "early"))
	verb(t, "export", file, "--data", data)
	if again, err := os.ReadFile(file); err != nil || !bytes.Equal(again, whole) {
		t.Errorf("continued, the export is another: %v, %s", err, again)
	}
	refused(t, "is a complete export already", "export", file, "--data", data)

	// The other event store already has a part of it.
	target := "esdb://" + eventstoretest.Serve(t, "") + "?tls=false" // an import needs an empty one, which a given server is not
	store, err := eventstore.Open(eventstore.Options{ConnectionString: target})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	part := 0
	for e, err := range readLogFile(open(t, file), newLogSum()) {
		if err == nil {
			err = store.AppendStored(t.Context(), e)
		}
		if err != nil {
			t.Fatal(err)
		}
		if part++; part == 9 {
			break
		}
	}
	for range 2 { // once more changes nothing
		verb(t, "import", file, "--eventstore", target)
	}
	moved := storedEvents(t, target)
	if !slices.EqualFunc(moved, original, func(a, b eventstore.Stored) bool {
		return a.ID == b.ID && a.Stream == b.Stream && a.Revision == b.Revision && a.Type == b.Type && a.JSON == b.JSON &&
			bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Metadata, b.Metadata)
	}) {
		t.Errorf("%d events were imported, which are not the %d that were exported", len(moved), len(original))
	}
	other := filepath.Join(dir, "other")
	p = startServe(t, other, "--eventstore", target)
	c = newCaller(t, p)
	c.wantListed(t, append(ids, c.bookSome(t, "2", 2)...))
	if moved := c.photo(t, "red"); moved != photo {
		t.Errorf("of the photo of %d bytes there are %d", len(photo), len(moved))
	}
	p.awaitReady(t)
	p.stop(t)
	verb(t, "verify", "--data", other, "--eventstore", target)
	refused(t, "is not in the file", "import", file, "--eventstore", target)

	// What setup has written stands in the way of an import, which would be told to everybody.
	prepared := filepath.Join(dir, "prepared")
	if err := os.Mkdir(prepared, 0o750); err != nil {
		t.Fatal(err)
	}
	empty, err := node.Open(node.Options{Dir: filepath.Join(prepared, "events")})
	if err != nil {
		t.Fatal(err)
	}
	if err := empty.Close(); err != nil {
		t.Fatal(err)
	}
	verb(t, "setup", "--data", prepared)
	refused(t, "before roombook setup", "import", file, "--data", prepared)
	refused(t, "is no regular file", "export", os.DevNull, "--data", data) // others have no end, and were read until memory was full
	refused(t, "is no regular file", "import", os.DevNull, "--data", prepared)
}

// What somebody has deleted or truncated in an event store cannot be made again in another one. Where that is a stream of this program the
// commands say so, by its name, before they write; a stream of others is left out, and named.
func TestMoveOfStreamsWithGaps(t *testing.T) {
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "rooms.jsonl")
	p := startServe(t, data)
	id := newCaller(t, p).bookSome(t, "1", 2)[0]
	client := eventstoretest.Client(t, nodeOf(t, data))
	for range 2 { // the first metadata makes way for the second
		if _, err := client.SetStreamMetadata(t.Context(), "calendar-1", esdb.AppendToStreamOptions{}, esdb.StreamMetadata{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, stream := range []string{"odd-deleted", "odd-whole"} {
		eventstoretest.AppendRaw(t, nodeOf(t, data), stream, "Odd", "{}", "")
	}
	if _, err := client.TombstoneStream(t.Context(), "odd-deleted", esdb.TombstoneStreamOptions{}); err != nil {
		t.Fatal(err)
	}
	verb(t, "export", file, "--data", data)

	moved := filepath.Join(dir, "moved")
	out, err := exec.CommandContext(t.Context(), program(t), "import", file, "--data", moved).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "left out, since events are missing: odd-deleted\n") {
		t.Errorf("%v, %s", err, out)
	}
	verb(t, "import", file, "--data", moved) // once more changes nothing
	q := startServe(t, moved)
	streams := map[string]int{}
	for _, e := range storedEvents(t, nodeOf(t, moved)) {
		streams[e.Stream]++
	}
	q.stop(t)
	if streams["odd-whole"] != 1 || streams["odd-deleted"] != 0 || streams["booking-"+id] == 0 || streams["$$calendar-1"] != 0 {
		t.Errorf("moved were %v", streams)
	}

	// The file says that an event of the calendar is missing, and is whole otherwise.
	truncated, sum, text := filepath.Join(dir, "truncated.jsonl"), newLogSum(), []byte(nil)
	for e, err := range readLogFile(open(t, file), newLogSum()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Stream == "calendar-1" && e.Revision == 0 {
			continue
		}
		line, err := formatEvent(e)
		if err != nil {
			t.Fatal(err)
		}
		sum.add(e)
		text = append(text, line...)
	}
	text = fmt.Appendf(text, `{"events":%d,"sha256":%q}`+"\n", sum.events, sum.end().SHA256)
	if err := os.WriteFile(truncated, text, 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(dir, "fresh")
	refused(t, "stream calendar-1 lacks its events 0 to 0", "import", truncated, "--data", fresh)
	if _, err := os.Stat(fresh); err == nil {
		t.Error("something was written")
	}

	if _, err := client.TombstoneStream(t.Context(), "booking-"+id, esdb.TombstoneStreamOptions{}); err != nil {
		t.Fatal(err)
	}
	refused(t, "stream booking-"+id+" was deleted", "export", filepath.Join(dir, "again.jsonl"), "--data", data)
	p.stop(t)
}

// A photo that was deleted stays deleted in another event store, and one that was uploaded again begins there with its first event.
func TestMoveOfDeletedPhotos(t *testing.T) {
	dir := t.TempDir()
	data, file, moved := filepath.Join(dir, "data"), filepath.Join(dir, "rooms.jsonl"), filepath.Join(dir, "moved")
	p := startServe(t, data)
	c := newCaller(t, p)
	client := eventstoretest.Client(t, nodeOf(t, data))
	upload := func(room string, width int) (stream string) {
		var photo bytes.Buffer
		if err := png.Encode(&photo, image.NewGray(image.Rect(0, 0, width, 1))); err != nil {
			t.Fatal(err)
		}
		if status, _, err := c.call("PUT", "/rooms/"+room+"/photo?alt=a%20wall", photo.String(), http.Header{"Content-Type": {"image/png"}}, nil); err != nil || status/100 != 2 {
			t.Fatal(room, status, err)
		}
		return fmt.Sprintf("%s-%x", domain.PhotoCategory, sha256.Sum256([]byte(c.photo(t, room))))
	}
	streams := map[string]string{}
	for i, room := range []string{"again", "deleted", "for-good"} {
		if status, _, err := c.call("POST", "/rooms", `{"roomId":"`+room+`","name":"Red"}`, http.Header{"Content-Type": {"application/json"}}, nil); err != nil || status != http.StatusCreated {
			t.Fatal(room, status, err)
		}
		streams[room] = upload(room, i+1)
	}
	for _, room := range []string{"again", "deleted"} {
		if _, err := client.DeleteStream(t.Context(), streams[room], esdb.DeleteStreamOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.TombstoneStream(t.Context(), streams["for-good"], esdb.TombstoneStreamOptions{}); err != nil {
		t.Fatal(err)
	}
	upload("again", 1)
	photo := c.photo(t, "again")
	verb(t, "export", file, "--data", data)
	p.stop(t)

	verb(t, "import", file, "--data", moved)
	p = startServe(t, moved)
	c = newCaller(t, p)
	if now := c.photo(t, "again"); now != photo {
		t.Errorf("of the photo of %d bytes there are %d", len(photo), len(now))
	}
	for _, e := range storedEvents(t, nodeOf(t, moved)) {
		if strings.HasPrefix(e.Stream, domain.PhotoCategory+"-") && (e.Stream != streams["again"] || e.Revision != 0) {
			t.Errorf("moved was event %d of %s", e.Revision, e.Stream)
		}
	}
	p.awaitReady(t)
	p.stop(t)
	verb(t, "verify", "--data", moved)
}

// Everything is made from these streams, so that none may lack an event, whatever version has written it; those of others may.
func TestGapsInStreamsOfTheProgram(t *testing.T) {
	for stream, refused := range map[string]bool{
		domain.BookingID("1").Stream(): true, domain.RoomID("1").Stream(): true, domain.RealUseID("1").Stream(): true, domain.NotificationID("1").Stream(): true,
		domain.UserID("1").Stream(): true, domain.TokenID("1").Stream(): true, "other-1": false,
	} {
		g := newGaps()
		g.add(eventstore.Stored{Stream: stream, Revision: 1, Type: "OfALaterVersion"})
		if (g.program != nil) != refused || g.others[stream] == refused {
			t.Errorf("%s: %v, %v", stream, g.program, g.others)
		}
	}
}

// A file that is damaged is refused before anything is written.
func TestDamagedExportIsRefused(t *testing.T) {
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "rooms.jsonl")
	p := startServe(t, data)
	newCaller(t, p).bookSome(t, "1", 3)
	p.stop(t)
	verb(t, "export", file, "--data", data)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for damage, text := range map[string][]byte{
		"a value":        bytes.Replace(whole, []byte(`"roomId":"1"`), []byte(`"roomId":"2"`), 1),
		"a missing line": whole[bytes.IndexByte(whole, '\n')+1:],
		"more":           append(bytes.Clone(whole), whole...),
		"another file":   []byte("# Roombook\n"),
		"no file":        nil,
	} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		fresh := filepath.Join(dir, "fresh")
		refused(t, file, "import", file, "--data", fresh)
		if _, err := os.Stat(fresh); err == nil {
			t.Errorf("%s: something was written", damage)
		}
	}

	// A line that does not end is not read into memory, by the command that continues the file either.
	if err := os.WriteFile(file, whole[:bytes.IndexByte(whole, '\n')+1], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, maxLine+1<<20); err != nil { // zeros, as a crash may leave
		t.Fatal(err)
	}
	for _, command := range []string{"import", "export"} {
		refused(t, file+", line 2: the file is damaged: the line is longer", command, file, "--data", data)
	}
}

func open(t *testing.T, file string) *os.File {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// refused runs a command that must fail with one line that has the words.
func refused(t *testing.T, words string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program(t), args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), words) || strings.Count(string(out), "\n") != 1 {
		t.Errorf("roombook %s: %v, %s", strings.Join(args, " "), err, out)
	}
}

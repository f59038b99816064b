package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"iter"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
)

// A log file has an event on each line, in the order of the log, and at its end a line with their number and hash. It is JSON lines, so
// that other programs can read it.

// eventLine is an event in a log file. Data and metadata that are JSON on one line are there as they are stored, byte by byte, others in
// base 64.
type eventLine struct {
	Position       eventstore.Position `json:"position"`
	Stream         string              `json:"stream"`
	Revision       domain.Revision     `json:"revision"`
	ID             uuid.UUID           `json:"id"`
	Type           string              `json:"type"`
	Created        time.Time           `json:"created"`
	Binary         bool                `json:"binary,omitzero"` // the event store is told that the data is not JSON
	Data           jsontext.Value      `json:"data,omitzero"`
	DataBase64     []byte              `json:"dataBase64,omitempty"`
	Metadata       jsontext.Value      `json:"metadata,omitzero"`
	MetadataBase64 []byte              `json:"metadataBase64,omitempty"`
}

// endLine is the last line of a complete log file.
type endLine struct {
	Events int64  `json:"events"`
	SHA256 string `json:"sha256"`
}

// asIs are the options that leave the JSON of an event as it is stored.
var asIs = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.PreserveRawStrings(true))

// formatEvent is the line of an event, with its end.
func formatEvent(e eventstore.Stored) ([]byte, error) {
	line := eventLine{Position: e.Position, Stream: e.Stream, Revision: e.Revision, ID: e.ID, Type: e.Type, Created: e.Created, Binary: !e.JSON}
	if fitsLine(e.Data) {
		line.Data = e.Data
	} else {
		line.DataBase64 = e.Data
	}
	if fitsLine(e.Metadata) {
		line.Metadata = e.Metadata
	} else {
		line.MetadataBase64 = e.Metadata
	}
	text, err := json.Marshal(line, asIs)
	return append(text, '\n'), err
}

// fitsLine reports whether the text is JSON that a log file can have as it is.
func fitsLine(text []byte) bool {
	written, err := json.Marshal(jsontext.Value(text), asIs)
	return err == nil && bytes.Equal(written, text)
}

// parseEvent is the event of a line.
func parseEvent(text []byte) (eventstore.Stored, error) {
	var line eventLine
	if err := json.Unmarshal(text, &line, asIs, json.RejectUnknownMembers(true)); err != nil {
		return eventstore.Stored{}, err
	}
	if line.Stream == "" || line.Type == "" || line.ID == uuid.Nil || line.Revision < 0 {
		return eventstore.Stored{}, errors.New("it has no stream, type, id or revision")
	}
	e := eventstore.Stored{
		ID: line.ID, Stream: line.Stream, Revision: line.Revision, Position: line.Position, Type: line.Type, Created: line.Created, JSON: !line.Binary,
		Data: line.DataBase64, Metadata: line.MetadataBase64,
	}
	if line.Data != nil {
		e.Data = line.Data
	}
	if line.Metadata != nil {
		e.Metadata = line.Metadata
	}
	return e, nil
}

// logSum is the number of events and a hash of all that stays the same when they are moved to another event store: all but their
// positions and when they were written.
type logSum struct {
	events int64
	hash   hash.Hash
}

func newLogSum() *logSum { return &logSum{hash: sha256.New()} }

func (s *logSum) add(e eventstore.Stored) {
	s.events++
	b := binary.BigEndian.AppendUint64(nil, uint64(e.Revision))
	b = append(b, e.ID[:]...)
	kind := byte(0)
	if e.JSON {
		kind = 1
	}
	b = append(b, kind)
	for _, part := range [][]byte{[]byte(e.Stream), []byte(e.Type), e.Data, e.Metadata} {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(part))), part...)
	}
	s.hash.Write(b)
}

func (s *logSum) end() endLine { return endLine{s.events, hex.EncodeToString(s.hash.Sum(nil))} }

// gaps finds the streams that lack events, because somebody has truncated or deleted them: no event store can be filled with those.
type gaps struct {
	seed maphash.Seed
	next map[uint64]domain.Revision // by the hash of a stream's name, which may be one of millions
	// program is the first gap in a stream of this program, without whose events nothing is known of a booking.
	program error
	// others are the streams of others that have gaps.
	others map[string]bool
}

func newGaps() *gaps {
	return &gaps{seed: maphash.MakeSeed(), next: map[uint64]domain.Revision{}, others: map[string]bool{}}
}

// revision is the revision that the next event of the stream must have.
func (g *gaps) revision(stream string) domain.Revision {
	return g.next[maphash.String(g.seed, stream)]
}

// add looks whether the event is the one that its stream has to have next.
func (g *gaps) add(e eventstore.Stored) {
	key := maphash.String(g.seed, e.Stream)
	next := g.next[key]
	category, _, _ := strings.Cut(e.Stream, "-")
	switch {
	case e.Revision == next:
		g.next[key]++
	case !eventstore.Known(e.Type) && !slices.Contains(programCategories, category):
		g.others[e.Stream] = true
	case g.program != nil:
	case e.Revision == math.MaxInt64:
		g.program = fmt.Errorf("stream %s was deleted, and cannot be moved without its events: restore the event store from a backup", e.Stream)
	default:
		g.program = fmt.Errorf("stream %s lacks its events %d to %d, and cannot be moved without them: restore the event store from a backup", e.Stream, next, e.Revision-1)
	}
}

// programCategories are the categories of the streams that everything else can be made from.
var programCategories = []string{domain.BookingCategory, domain.CalendarCategory, domain.FaultsCategory, domain.RealUseCategory, domain.KeyCategory, domain.NotificationCategory, domain.UserCategory, domain.TokenCategory}

// openLogFile opens a file that can be read from its start more than once. A device may have no end.
func openLogFile(file string, flag int) (*os.File, error) {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file: name another", file)
	}
	f, err := os.OpenFile(file, flag, 0o640)
	return f, badFile(err)
}

// readLogFile yields the events of a log file, and adds each to sum before that. The error that may come last is an [*unfinished] if the file
// lacks its end.
func readLogFile(f *os.File, sum *logSum) iter.Seq2[eventstore.Stored, error] {
	return func(yield func(eventstore.Stored, error) bool) {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			yield(eventstore.Stored{}, err)
			return
		}
		lines, size := bufio.NewScanner(f), int64(0)
		lines.Buffer(make([]byte, 1<<20), maxLine)
		lines.Split(wholeLines)
		damaged := func(err error) {
			yield(eventstore.Stored{}, fmt.Errorf("%s, line %d: %w", f.Name(), sum.events+1, err))
		}
		for lines.Scan() {
			line := lines.Bytes()
			size += int64(len(line))
			if bytes.HasPrefix(line, []byte(`{"events":`)) {
				if err := checkEnd(line, sum.end(), f, size); err != nil {
					damaged(err)
				}
				return
			}
			e, err := parseEvent(line)
			if err != nil {
				damaged(err)
				return
			}
			sum.add(e)
			if !yield(e, nil) {
				return
			}
		}
		switch err := lines.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			damaged(errors.New("the file is damaged: the line is longer than that of any event"))
		case err != nil:
			yield(eventstore.Stored{}, err)
		default:
			yield(eventstore.Stored{}, &unfinished{file: f.Name(), size: size})
		}
	}
}

// maxLine is more than the line of any event has: an event store sends none of more than 17 MiB, of which each byte takes six at most.
const maxLine = 6*17<<20 + 4<<10

// wholeLines is a [bufio.SplitFunc] for lines with their ends.
func wholeLines(text []byte, _ bool) (advance int, line []byte, err error) {
	if n := bytes.IndexByte(text, '\n') + 1; n > 0 {
		return n, text[:n], nil
	}
	return 0, nil, nil
}

// checkEnd compares the last line with what the lines before it have, and looks that nothing follows.
func checkEnd(line []byte, read endLine, f *os.File, size int64) error {
	var end endLine
	if err := json.Unmarshal(line, &end); err != nil {
		return err
	}
	if end != read {
		return fmt.Errorf("the file is damaged: it has %d events with the hash %s, and says that it has %d with %s", read.Events, read.SHA256, end.Events, end.SHA256)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != size {
		return errors.New("the file is damaged: something follows its end")
	}
	return nil
}

// unfinished means that a log file has no end.
type unfinished struct {
	file string
	size int64 // of its whole lines
}

func (e *unfinished) Error() string {
	return fmt.Sprintf("%s is not complete: run roombook export again with the same file, which continues it", e.file)
}

package eventstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"roombook/domain"
)

// maxAppendBytes is the size of an append that an event store accepts unless it is configured otherwise: data, metadata and
// type of all its events. Source: EventStoreDB v24.10, MaxAppendSize.
const maxAppendBytes = 1 << 20

// Append writes the events to the stream, all or none, one after the other and in their order, if the stream is at the expected
// revision: that of its last event, or [NoStream], or [Any].
//
// The events get random ids, which are the same over this call's own tries and in no other call: a real EventStoreDB drops an
// append with an id that is on its way in another one, and its caller waits for seconds (KurrentDB issue 1915). So it is the
// expected revision alone that keeps two callers from doing the same thing twice.
//
// The outcome is one of
//
//   - nil: the events are in the stream, and [Appended] says where the last one is.
//   - [*WrongRevision]: the stream is at another revision, and the events are not in it where they were expected. Nothing was
//     written, nor will be.
//   - [ErrUnavailable]: nothing could be sent within the time-out. Nothing was written, nor will be.
//   - [ErrOutcomeUnknown]: something was sent, and no answer was heard within the time-out or until ctx ended. The events may
//     be in the stream, or not, or get there later. Another append at the same revision can only be done if this one has not
//     been and never will be.
//   - ctx's error, if ctx ended and nothing had been sent. If something had, the error is both that and [ErrOutcomeUnknown].
//   - [ErrTooLarge], [ErrClosed], or another error if the event store refuses the append or there is something wrong with it: no
//     events, a type that this program cannot store, an impossible revision or stream name. Nothing was written.
//
// An answer that is not heard is asked for again until the time-out, with the same ids and the same expected revision: the
// event store compares the ids with what is stored from that revision on, and so neither writes anything twice nor forgets
// what it has written. With [Any] it compares with what it remembers, which is not everything and not for ever.
func (s *Store) Append(ctx context.Context, stream string, expected domain.Revision, events ...Proposed) (Appended, error) {
	start := time.Now()
	proposed, err := s.propose(stream, expected, events)
	if err != nil {
		return Appended{}, fmt.Errorf("append to %q: %w", stream, err)
	}
	appended, err := s.append(ctx, stream, expected, proposed)
	if err != nil {
		if errors.Is(err, ErrOutcomeUnknown) {
			s.metrics.unknown.Inc()
		}
		return Appended{}, fmt.Errorf("append to %q: %w", stream, err)
	}
	s.metrics.appends.Observe(time.Since(start).Seconds())
	appended.IDs = make([]uuid.UUID, len(proposed))
	for i, e := range proposed {
		appended.IDs[i] = e.EventID
	}
	return appended, nil
}

// propose checks an append and encodes it.
func (s *Store) propose(stream string, expected domain.Revision, events []Proposed) ([]esdb.EventData, error) {
	switch {
	case !validStream(stream):
		return nil, errNoStreamName
	case expected < Any:
		return nil, fmt.Errorf("there is no revision %d", expected)
	case len(events) == 0:
		return nil, errors.New("no events")
	}
	buffer := make([]byte, 0, 768*len(events)) // what most events and their metadata have room in
	proposed := make([]esdb.EventData, len(events))
	size := 0
	for i, e := range events {
		data, metadata, all, err := s.codec.encode(buffer, e)
		if err != nil {
			return nil, err
		}
		buffer = all
		proposed[i] = esdb.EventData{
			EventID:     uuid.New(),
			EventType:   e.Event.EventType(),
			ContentType: esdb.ContentTypeJson,
			Data:        data,
			Metadata:    metadata,
		}
		size += len(data) + len(metadata) + 2*len(proposed[i].EventType)
	}
	if size > maxAppendBytes {
		return nil, fmt.Errorf("%w: %d bytes, of %d", ErrTooLarge, size, maxAppendBytes)
	}
	return proposed, nil
}

var errNoStreamName = errors.New("not a name of a stream")

// validStream reports whether the event store can have a stream of the name.
func validStream(name string) bool {
	return name != "" && name != "$$" && name != "$all" && utf8.ValidString(name)
}

// append tries until there is an answer or no time left.
func (s *Store) append(ctx context.Context, stream string, expected domain.Revision, events []esdb.EventData) (Appended, error) {
	timed, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	options := esdb.AppendToStreamOptions{ExpectedRevision: expectation(expected)}
	unheard := false // something was sent, and its answer not heard
	for try := 0; ; try++ {
		if try > 0 {
			s.metrics.appendRetry.Inc()
		}
		c, err := s.connections.begin(timed)
		if err != nil {
			return Appended{}, s.gaveUp(ctx, unheard, err)
		}
		result, err := c.conn.client.AppendToStream(c, stream, options, events...)
		sent := c.entered() && mayHaveBeenDone(err)
		c.done()
		switch {
		case err == nil:
			return Appended{Revision: domain.Revision(result.NextExpectedVersion), Position: Position(result.CommitPosition)}, nil
		case isWrongRevision(err):
			// If an earlier try is unheard, this answers for it as well: the ids in the stream after the expected revision are not
			// ours, so it has not been done; and the stream never goes back to that revision, so it never will be. That holds for
			// a revision that was read; with Any, only as far as the server remembers.
			return Appended{}, s.wrongRevision(timed, stream, expected, err)
		}
		failure := c.failed(err)
		var refused *refusal
		switch {
		case errors.As(failure, &refused) && !unheard:
			return Appended{}, refused.err
		case errors.As(failure, &refused):
			return Appended{}, fmt.Errorf("%w (tried again, it was refused: %w)", ErrOutcomeUnknown, refused.err)
		}
		unheard = unheard || sent
		if !pause(timed, try) {
			return Appended{}, s.gaveUp(ctx, unheard, failure)
		}
	}
}

// gaveUp is the error of an append whose time is over.
func (s *Store) gaveUp(ctx context.Context, unheard bool, failure error) error {
	ended := ctx.Err()
	switch {
	case unheard && ended != nil:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ended)
	case unheard:
		return fmt.Errorf("%w: %v", ErrOutcomeUnknown, failure)
	case ended != nil:
		return ended
	case errors.Is(failure, ErrClosed):
		return ErrClosed
	default:
		return fmt.Errorf("%w: %v", ErrUnavailable, failure)
	}
}

func expectation(expected domain.Revision) esdb.ExpectedRevision {
	switch expected {
	case NoStream:
		return esdb.NoStream{}
	case Any:
		return esdb.Any{}
	default:
		return esdb.Revision(uint64(expected))
	}
}

// mayHaveBeenDone reports whether an append that failed so may have reached the event store whole. The library wraps the
// errors of opening and of sending; unwrapped is what came while it waited for the answer. An append is whole, and can be
// done, once its sending has ended. All the same an EOF while sending counts as unheard: the server's reason for ending the call is
// lost with it.
func mayHaveBeenDone(err error) bool {
	_, waiting := err.(*esdb.Error)
	return waiting || errors.Is(err, io.EOF)
}

func isWrongRevision(err error) bool {
	var e *esdb.Error
	return errors.As(err, &e) && e.Code() == esdb.ErrorCodeWrongExpectedVersion
}

// wrongRevision is the error of an append that the event store answered with another revision, which is only in the answer's
// text.
func (s *Store) wrongRevision(ctx context.Context, stream string, expected domain.Revision, err error) error {
	s.metrics.conflicts.Inc()
	actual, ok := actualRevision(err.Error())
	if !ok {
		last, err := s.lastStored(ctx, stream)
		if err != nil {
			return fmt.Errorf("read the revision after a lost race: %w", err)
		}
		actual = NoStream
		if last != nil {
			actual = domain.Revision(last.EventNumber)
		}
	}
	return &WrongRevision{Stream: stream, Expected: expected, Actual: actual}
}

// actualRevision finds the stream's revision in the library's "wrong expected version: expecting '4' but got '7'".
func actualRevision(text string) (domain.Revision, bool) {
	_, after, _ := strings.Cut(text, " but got '")
	value, _, found := strings.Cut(after, "'")
	if !found {
		return 0, false
	}
	if value == "no_stream" {
		return NoStream, true
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return domain.Revision(n), err == nil && n >= 0
}

// pause waits before the next try, longer after each, and reports whether there is time left for one.
func pause(ctx context.Context, try int) bool {
	wait := min(5*time.Millisecond<<min(try, 10), 200*time.Millisecond)
	wait = wait/2 + rand.N(wait/2+1)
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

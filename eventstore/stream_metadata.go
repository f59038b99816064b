package eventstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"roombook/domain"
)

// SetMaxCount lets the event store keep only the stream's last n events, from 1; the others can be read no longer and are
// removed at some time. What else the stream's metadata says is kept, and nothing is written if it says so already. Its
// errors are those of [Store.Append].
func (s *Store) SetMaxCount(ctx context.Context, stream string, n int) error {
	if err := s.setMaxCount(ctx, stream, n); err != nil {
		return fmt.Errorf("set the maximum count of %q: %w", stream, err)
	}
	return nil
}

func (s *Store) setMaxCount(ctx context.Context, stream string, n int) error {
	if !validStream(stream) {
		return errNoStreamName
	}
	if n < 1 {
		return fmt.Errorf("there is no maximum count of %d", n)
	}
	count := json.RawMessage(strconv.Itoa(n))
	for {
		last, err := s.lastStored(ctx, "$$"+stream)
		if err != nil {
			return err
		}
		members := map[string]json.RawMessage{}
		revision := NoStream
		if last != nil {
			revision = domain.Revision(last.EventNumber)
			// The event store takes metadata that is no JSON object for none.
			if json.Unmarshal(last.Data, &members) != nil || members == nil {
				members = map[string]json.RawMessage{}
			}
		}
		if bytes.Equal(members["$maxCount"], count) {
			return nil
		}
		members["$maxCount"] = count
		data, err := json.Marshal(members)
		if err != nil {
			return err
		}
		_, err = s.append(ctx, "$$"+stream, revision, []esdb.EventData{{
			EventID:     uuid.New(),
			EventType:   "$metadata",
			ContentType: esdb.ContentTypeJson,
			Data:        data,
		}})
		var lost *WrongRevision
		if !errors.As(err, &lost) {
			return err
		}
	}
}

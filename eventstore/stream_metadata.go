package eventstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"roombook/domain"
)

// SetMaxCount makes the stream keep only its last n events, from 1; earlier ones can no longer be read and are removed in time. The rest
// of the stream's metadata stays as it is, and nothing is written if the maximum is already n. The errors are those of [Store.Append].
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
	count := jsontext.Value(strconv.Itoa(n))
	pauses := newPauses()
	for least := NoStream; ; {
		last, err := s.lastEvent(ctx, s.connections.leader, "$$"+stream)
		if err != nil {
			return err
		}
		members := map[string]jsontext.Value{}
		revision := NoStream
		if last != nil {
			revision = domain.Revision(last.GetStreamRevision())
			// To the event store, metadata that is not a JSON object is as good as none.
			if json.Unmarshal(last.GetData(), &members, storedJSON) != nil || members == nil {
				members = map[string]jsontext.Value{}
			}
		}
		if bytes.Equal(members["$maxCount"], count) {
			return nil
		}
		var lost *WrongRevision
		if revision >= least { // otherwise the event that won the race cannot be read yet
			members["$maxCount"] = count
			data, err := json.Marshal(members, storedJSON)
			if err != nil {
				return err
			}
			_, err = s.append(ctx, "$$"+stream, revision, []proposed{newProposed("$metadata", data, nil)})
			if !errors.As(err, &lost) {
				return err
			}
			least = lost.Actual
		}
		if !pause(ctx, pauses) {
			return ctx.Err()
		}
	}
}

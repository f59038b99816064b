package eventstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"roombook/domain"
)

// SetMaxCount makes the stream keep only its last n events, from 1; earlier ones can no longer be read and are removed in time. The rest
// of the stream's metadata stays as it is, and nothing is written if the maximum is already n or the stream was deleted for good. The errors are
// those of [Store.Append].
func (s *Store) SetMaxCount(ctx context.Context, stream string, n int) error {
	if err := s.setMaxCount(ctx, stream, n); err != nil && !errors.Is(err, ErrDeleted) {
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
	_, err := s.changeMetadata(ctx, stream, func(members map[string]jsontext.Value) bool {
		count := jsontext.Value(strconv.Itoa(n))
		if bytes.Equal(members["$maxCount"], count) {
			return false
		}
		members["$maxCount"] = count
		return true
	})
	return err
}

// GrantReadAll gives a user the right to read the log, which only administrators have without it. The rights of others stay as they are.
// granted is false if the user had it. The errors are those of [Store.Append]: the caller must be an administrator.
func (s *Store) GrantReadAll(ctx context.Context, user string) (granted bool, err error) {
	granted, err = s.changeMetadata(ctx, "$all", func(members map[string]jsontext.Value) bool {
		acl := map[string]jsontext.Value{}
		if json.Unmarshal(members["$acl"], &acl, storedJSON) != nil || acl == nil {
			acl = map[string]jsontext.Value{}
		}
		var readers []string
		if json.Unmarshal(acl["$r"], &readers, storedJSON) != nil { // a single one is a string
			readers = []string{""}
			_ = json.Unmarshal(acl["$r"], &readers[0], storedJSON)
		}
		readers = slices.DeleteFunc(readers, func(r string) bool { return r == "" })
		if slices.Contains(readers, user) {
			return false
		}
		if len(readers) == 0 {
			readers = []string{"$admins"}
		}
		// Strings and maps of them can always be written.
		acl["$r"], _ = json.Marshal(append(readers, user), storedJSON)
		members["$acl"], _ = json.Marshal(acl, storedJSON)
		return true
	})
	if err != nil {
		return false, fmt.Errorf("let the user %s read $all: %w", user, err)
	}
	return granted, nil
}

// changeMetadata changes members of a stream's metadata, unless change reports that there is nothing to change.
func (s *Store) changeMetadata(ctx context.Context, stream string, change func(members map[string]jsontext.Value) bool) (changed bool, err error) {
	pauses := newPauses()
	for least := NoStream; ; {
		last, err := s.lastEvent(ctx, s.connections.leader, "$$"+stream)
		if err != nil {
			return false, err
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
		if !change(members) {
			return false, nil
		}
		var lost *WrongRevision
		if revision >= least { // otherwise the event that won the race cannot be read yet
			data, err := json.Marshal(members, storedJSON)
			if err != nil {
				return false, err
			}
			_, err = s.append(ctx, "$$"+stream, revision, []proposed{newProposed("$metadata", data, nil)})
			if !errors.As(err, &lost) {
				return err == nil, err
			}
			least = lost.Actual
		}
		if !pause(ctx, pauses) {
			return false, ctx.Err()
		}
	}
}

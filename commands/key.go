package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"roombook/domain"
	"roombook/eventstore"
)

// ErrKeyReused means that the command's id was used before for something else.
var ErrKeyReused = errors.New("the key was used before for another request")

// RefusedBefore means that the command was asked and refused before, with the answer that was given to [Handler.Refused].
type RefusedBefore struct{ Answer string }

func (e *RefusedBefore) Error() string { return "the command was refused before" }

// claim records what the command's key is used for, before anything is decided; of two commands that share a key, one fails with
// [ErrKeyReused]. It reports whether the command is asked for the first time, which one without a key always is.
func (h *Handler) claim(ctx context.Context, r Request) (key domain.Key, first bool, err error) {
	if r.Digest == "" {
		return domain.Key{}, true, nil
	}
	k := unread[domain.Key]()
	err = k.append(ctx, h, r.keyStream(), r.propose([]domain.Event{domain.KeyUsed{Digest: r.Digest, At: r.At}}))
	first = err == nil
	switch {
	case !first && !lost(err):
		return domain.Key{}, false, fmt.Errorf("claim the key: %w", undecided(err))
	case k.unreadable != nil:
		return domain.Key{}, false, k.unreadable
	case k.state.Digest != r.Digest:
		return domain.Key{}, false, ErrKeyReused
	}
	return k.state, first, nil
}

// Refused records the answer with which a command that has a Digest was refused, and returns the answer that was recorded first: every
// further try of the command gets that one, whatever changes. Nothing is recorded if the command has not claimed its key, which can only be
// so in a log that has replaced the one it was refused on. Its errors are those of an append, and [ErrContended] if a concurrent try of
// the command was told that there was nothing to do.
func (h *Handler) Refused(ctx context.Context, r Request, answer string) (string, error) {
	k, err := h.answered(ctx, r, domain.KeyRefused{Answer: answer, At: r.At})
	switch {
	case err != nil:
		return "", err
	case k.Unchanged:
		return "", ErrContended
	case k.Refusal == "":
		return answer, nil
	}
	return k.Refusal, nil
}

// unchanged records that a command had nothing to do on an aggregate as it is, so that a later try gets the same answer and changes
// nothing either. It returns what was recorded first: the aggregate as another try found it, or the refusal of that try.
func unchanged[S state[S]](ctx context.Context, h *Handler, r Request, l loaded[S]) (loaded[S], error) {
	if r.Digest == "" {
		return l, nil
	}
	k, err := h.answered(ctx, r, domain.KeyUnchanged{Revision: l.revision, At: r.At})
	switch {
	case err != nil:
		return l, err
	case k.Refusal != "":
		return l, &RefusedBefore{k.Refusal}
	case k.Unchanged:
		return l.asOf(k.Revision), nil
	}
	return l, nil
}

// answered records the answer to a command that decided nothing, and returns the key with it, or with the one that was recorded first.
func (h *Handler) answered(ctx context.Context, r Request, answer domain.Event) (domain.Key, error) {
	k, err := load[domain.Key](ctx, h.store, r.keyStream())
	if err != nil {
		return domain.Key{}, err
	}
	if events := domain.DecideKeyAnswer(k.state, answer); len(events) > 0 {
		if err = k.append(ctx, h, r.keyStream(), r.propose(events)); lost(err) {
			err = k.unreadable // another answer was recorded first, and no event follows one
		}
	}
	return k.state, undecided(err)
}

func (r Request) keyStream() string { return domain.KeyStream(r.ID.String()) }

// repeated reports whether the command was asked before, and is the aggregate as the command left it then: with its own events and none
// that came later, or as it was when there was nothing to do. If the command was refused then, the error is [*RefusedBefore].
func (l loaded[S]) repeated(r Request, k domain.Key) (then loaded[S], done bool, err error) {
	if then, done, err = l.doneBy(r); done || err != nil {
		return then, done, err
	}
	switch {
	case k.Refusal != "":
		return loaded[S]{}, false, &RefusedBefore{k.Refusal}
	case k.Unchanged:
		return l.asOf(k.Revision), true, nil
	default:
		return loaded[S]{}, false, nil
	}
}

// doneBy reports whether the command wrote events when it was asked before, and is the aggregate as the last of them left it.
func (l loaded[S]) doneBy(r Request) (then loaded[S], done bool, err error) {
	if r.Digest == "" {
		return then, false, nil
	}
	reused := false
	then, done = l.resultOf(func(e eventstore.Recorded) bool {
		id, digest, _ := strings.Cut(e.Metadata.Command, "/")
		own := id == r.ID.String()
		reused = reused || own && digest != r.Digest
		return own
	})
	if reused {
		return loaded[S]{}, false, ErrKeyReused
	}
	return then, done, nil
}

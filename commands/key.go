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

// RefusedBefore means that the command was asked before and refused, with the answer that [Handler.Refused] was given.
type RefusedBefore struct{ Answer string }

func (e *RefusedBefore) Error() string { return "the command was refused before" }

// claim keeps what the command's key is used for, before anything is decided; of two commands that share a key one is
// [ErrKeyReused]. It reports whether the command is asked for the first time; one without a key, which has none to claim, always is.
func (h *Handler) claim(ctx context.Context, r Request) (key domain.Key, first bool, err error) {
	if r.Digest == "" {
		return domain.Key{}, true, nil
	}
	k := loaded[domain.Key]{revision: eventstore.NoStream}
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

// Refused keeps the answer with which a command that has a Digest was refused, and returns the one that was kept first: that is the
// answer to every try of the command from then on, whatever changes. Nothing is kept where the command has not claimed its key: in a log
// that was put in the place of the one that it was refused on. Its errors are those of an append, and [ErrContended] if another try of the
// command, at the same time, was answered that there was nothing to do.
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

// unchanged keeps that there was nothing to do for a command on an aggregate as it is, so that a later try is answered alike and changes
// nothing either. It returns what was kept first: the aggregate as another try found it, or the refusal of that.
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
		return l.at(k.Revision), nil
	}
	return l, nil
}

// answered keeps the answer to a command that decided nothing, and returns the key with it, or with the one that was kept first.
func (h *Handler) answered(ctx context.Context, r Request, answer domain.Event) (domain.Key, error) {
	k, err := load[domain.Key](ctx, h.store, r.keyStream())
	if err != nil {
		return domain.Key{}, err
	}
	if events := domain.DecideKeyAnswer(k.state, answer); len(events) > 0 {
		if err = k.append(ctx, h, r.keyStream(), r.propose(events)); lost(err) {
			err = k.unreadable // another answer was kept first, and is the last event of a key
		}
	}
	return k.state, undecided(err)
}

func (r Request) keyStream() string { return domain.KeyStream(r.ID.String()) }

// repeated is the aggregate as the command left it when it was asked before, if it was: with its own events and none that came later,
// or as it was when there was nothing to do. If it was refused then, the error is [*RefusedBefore].
func (l loaded[S]) repeated(r Request, k domain.Key) (then loaded[S], done bool, err error) {
	if then, done, err = l.doneBy(r); done || err != nil {
		return then, done, err
	}
	switch {
	case k.Refusal != "":
		return loaded[S]{}, false, &RefusedBefore{k.Refusal}
	case k.Unchanged:
		return l.at(k.Revision), true, nil
	default:
		return loaded[S]{}, false, nil
	}
}

// doneBy looks for what the command wrote when it was asked before. It is the aggregate as the command left it: with its own
// events, and none that came later.
func (l loaded[S]) doneBy(r Request) (then loaded[S], done bool, err error) {
	if r.Digest == "" {
		return then, false, nil
	}
	reused := false
	then, done = l.prefix(func(e eventstore.Recorded) bool {
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

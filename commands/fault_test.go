package commands

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"roombook/domain"
	"roombook/eventstore"
)

// faulty is a store that fails at its n-th call, counted from 1, and at all later ones or only at that: an append is not done, a read ends
// after so many events.
type faulty struct {
	Store
	how
	n     int
	calls int
}

type how struct {
	once   bool
	yields int
}

// hows are all ways to fail.
var hows = []how{{false, 0}, {false, 1}, {true, 0}, {true, 1}}

func (f *faulty) fails() bool {
	f.calls++
	return f.calls == f.n || f.calls > f.n && !f.once
}

func (f *faulty) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	if f.fails() {
		return eventstore.Appended{}, fmt.Errorf("call %d: %w", f.calls, eventstore.ErrUnavailable)
	}
	return f.Store.Append(ctx, stream, expected, events...)
}

func (f *faulty) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		fails, n := f.fails(), 0
		for r, err := range f.Store.ReadStream(ctx, stream, from) {
			if fails && n == f.yields {
				break
			}
			if !yield(r, err) {
				return
			}
			n++
		}
		if fails {
			yield(eventstore.Recorded{}, fmt.Errorf("call %d: %w", f.calls, eventstore.ErrUnavailable))
		}
	}
}

// isAway reports whether the error tells that the store could not be asked, and nothing else.
func isAway(err error) bool {
	return errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrOutcomeUnknown)
}

// eachCall lets the store fail at each call of a command in turn, in all ways, until it needs no more calls.
func eachCall(t *testing.T, store Store, command func(t *testing.T, h *Handler) error, after func(t *testing.T, err error)) {
	t.Helper()
	for _, how := range hows {
		for n := 1; ; n++ {
			f := &faulty{Store: store, how: how, n: n}
			err := command(t, newHandler(f))
			if f.calls < n {
				break
			}
			if !isAway(err) {
				t.Errorf("the store failed at call %d, %+v, and the command was told: %v", n, how, err)
			}
			if after != nil {
				after(t, err)
			}
		}
	}
}

// TestTheStoreFailsAtEachCall has every command meet a store that fails at each of its calls, reads too. The caller is told that the store is
// away and nothing else; what was decided is told as not known, and is finished, and what was not leaves nothing behind.
func TestTheStoreFailsAtEachCall(t *testing.T) {
	n := openNode(t)
	for _, c := range breakables() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			whole := c.whole(t, n)
			var w *world
			eachCall(t, n.store, func(t *testing.T, h *Handler) error {
				w = c.world(t, n)
				return c.when(t.Context(), h, w, request())
			}, func(t *testing.T, err error) {
				if err := w.settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				end := w.end(t)
				switch unknown := errors.Is(err, eventstore.ErrOutcomeUnknown); {
				case !unknown && !equalEnds(end, whole.before):
					t.Errorf("it was told that nothing was decided, %v, and came to rest at\n%+v", err, end)
				case unknown && !equalEnds(end, whole.before) && !equalEnds(end, whole.after):
					t.Errorf("it came to rest at\n%+v, want\n%+v or\n%+v", end, whole.before, whole.after)
				}
			})
		})
	}
}

// TestTheStoreFailsWhileAnotherIsSettled has a command meet what another has left half-way, with a store that fails at each call: it is not
// refused by what it could not look at.
func TestTheStoreFailsWhileAnotherIsSettled(t *testing.T) {
	n := openNode(t)
	for _, c := range breakables() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			whole := c.whole(t, n)
			for _, p := range whole.halfway() {
				t.Run(p.String(), func(t *testing.T) {
					const most = 16 // calls
					worlds := c.broken(t, n, whole, slices.Repeat([]point{p}, len(hows)*most)...)
					for i, how := range hows {
						f := &faulty{Store: n.store, how: how}
						for f.n = 1; ; f.n++ {
							if f.n > most {
								t.Fatalf("%d calls were not enough", most)
							}
							f.calls = 0
							err := c.other(t.Context(), newHandler(f), worlds[i*most+f.n-1].world)
							if f.calls < f.n {
								break
							}
							if !isAway(err) {
								t.Errorf("the store failed at call %d, %+v: %v", f.n, how, err)
							}
						}
					}
				})
			}
		})
	}
}

// Whoever reads a single resource from a store that is away is told so, and not that there is none.
func TestTheStoreFailsAtEachRead(t *testing.T) {
	n := openNode(t)
	h := newHandler(n.store)
	b := book(t, h, newRoom(), slot(0, 1))
	use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: b.ID, StartedAt: noon})
	if err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(h *Handler) error{
		"booking":  func(h *Handler) error { _, err := h.Booking(t.Context(), b.ID); return err },
		"real use": func(h *Handler) error { _, err := h.RealUse(t.Context(), use.ID); return err },
		"history":  func(h *Handler) error { _, err := h.History(t.Context(), b.ID); return err },
		"as of":    func(h *Handler) error { _, err := h.BookingAsOf(t.Context(), b.ID, AsOf{Time: noon}); return err },
		"calendar": func(h *Handler) error { _, err := h.calendars.read(t.Context(), b.Room); return err },
	} {
		t.Run(name, func(t *testing.T) {
			eachCall(t, n.store, func(_ *testing.T, h *Handler) error { return read(h) }, nil)
		})
	}
}

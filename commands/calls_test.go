package commands

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// counting is a store that notes the calls of it.
type counting struct {
	Store
	mu    sync.Mutex
	calls []string // such as "read booking"
}

func (c *counting) note(what, stream string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	category, _, _ := strings.Cut(stream, "-")
	c.calls = append(c.calls, what+" "+category)
}

func (c *counting) ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error] {
	c.note("read", stream)
	return c.Store.ReadStream(ctx, stream, from)
}

func (c *counting) Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error) {
	c.note("append", stream)
	return c.Store.Append(ctx, stream, expected, events...)
}

// A command makes exactly these calls of the event store, in this order: warm, in the process that carried out all earlier commands on the
// room and the booking, and cold, in one that knows nothing of them. With a key there is one more, which claims it.
func TestCallsOfEachCommand(t *testing.T) {
	t.Parallel()
	store := eventstoretest.Open(t)
	type command func(h *Handler, w *world, r Request) error
	create := func(h *Handler, w *world, r Request) error {
		b, err := h.CreateBooking(t.Context(), CreateBooking{Request: r, Room: w.from, User: "ann", Slot: slot(1, 2)})
		w.booking = b.ID
		return err
	}
	change := func(c ChangeBooking) command {
		return func(h *Handler, w *world, r Request) error {
			c.Request, c.Booking = r, w.booking
			_, err := h.ChangeBooking(t.Context(), c)
			return err
		}
	}
	ann, bob, three := domain.UserID("ann"), domain.UserID("bob"), noon.Add(3*time.Hour)
	move := func(h *Handler, w *world, r Request) error { return change(ChangeBooking{Room: &w.to})(h, w, r) }
	cancel := func(h *Handler, w *world, r Request) error {
		_, err := h.CancelBooking(t.Context(), CancelBooking{Request: r, Booking: w.booking})
		return err
	}
	answer := func(a domain.Answer) command {
		return func(h *Handler, w *world, r Request) error {
			_, err := h.AnswerConfirm(t.Context(), AnswerConfirm{Request: r, Booking: w.booking, Answer: a, AnsweredAt: noon})
			return err
		}
	}
	start := func(h *Handler, w *world, r Request) error {
		_, err := h.StartUse(t.Context(), StartUse{Request: r, Booking: w.booking, StartedAt: noon.Add(time.Hour)})
		return err
	}
	end := func(h *Handler, w *world, r Request) error {
		_, err := h.EndUse(t.Context(), EndUse{Request: r, RealUse: domain.RealUseOf(w.booking), EndedAt: noon.Add(2 * time.Hour)})
		return err
	}
	rules := func(upcoming int) command {
		return func(h *Handler, w *world, r Request) error {
			early := 60
			_, err := h.SetRules(t.Context(), SetRules{Request: r, Room: w.from, Rules: domain.Rules{GapMinutes: 10, EarlyUseMinutes: &early, UpcomingPerUser: upcoming}})
			return err
		}
	}
	ruled := func(h *Handler, w *world, r Request) error {
		if _, err := register(t)(h, w.from); err != nil {
			return err
		}
		return rules(1)(h, w, r)
	}
	shut := func(h *Handler, w *world, r Request) error {
		_, err := h.ClosePeriod(t.Context(), ClosePeriod{Request: r, Room: w.from, Slot: slot(0, 2), Bookings: domain.CancelBookings})
		return err
	}
	given := func(commands ...command) []command { return commands }
	atRevision := func(revision domain.Revision, of command) command {
		return func(h *Handler, w *world, r Request) error {
			r.IfRevisions = []domain.Revision{revision}
			return of(h, w, r)
		}
	}
	refused := func(of command) command {
		return func(h *Handler, w *world, r Request) error {
			if err := of(h, w, r); err == nil || isAway(err) {
				return errors.New("it is not refused")
			}
			return nil
		}
	}
	for _, c := range []struct {
		name       string
		given      []command
		when       command
		warm, cold string
	}{
		{"create", given(create, cancel), create, // so that the room is known
			"append calendar, append booking",
			"read calendar, append calendar, append booking"},
		{"create where it is taken", given(create), refused(create),
			"read calendar, read booking",
			"read calendar, read booking"},
		{"create where the use has begun", given(create, answer(domain.Confirmed), start), refused(create),
			"read calendar, read booking, read calendar, read booking, read realuse",
			"read calendar, read booking, read calendar, read booking, read realuse"},
		{"confirm", given(create), answer(domain.Confirmed),
			"append booking",
			"read booking, append booking"},
		{"deny", given(create), answer(domain.Denied),
			"append booking, append calendar",
			"read booking, append booking, read calendar, append calendar"},
		{"start", given(create, answer(domain.Confirmed)), start,
			"append booking, append realuse",
			"read booking, read calendar, append booking, append realuse"},
		{"end", given(create, answer(domain.Confirmed), start), end,
			"append realuse, append booking, append calendar",
			"read realuse, append realuse, read booking, append booking, read calendar, append calendar"},
		{"cancel", given(create), cancel,
			"append booking, append calendar",
			"read booking, append booking, read calendar, append calendar"},
		{"change of user", given(create), change(ChangeBooking{User: &bob}),
			"read calendar, append booking",
			"read booking, read calendar, append booking"},
		{"change of time", given(create), change(ChangeBooking{End: &three}),
			"append calendar, append booking, append calendar",
			"read booking, read calendar, append calendar, append booking, append calendar"},
		{"change of room", given(create), move, // which nobody knows
			"read calendar, append calendar, append booking, append calendar",
			"read booking, read calendar, append calendar, append booking, read calendar, append calendar"},
		{"change at a revision", given(create), atRevision(1, change(ChangeBooking{User: &bob})),
			"read calendar, append booking",
			"read booking, read calendar, append booking"},
		{"change at a revision that is over", given(create), refused(atRevision(7, change(ChangeBooking{User: &bob}))),
			"read calendar, read booking, read calendar, read calendar, read booking",
			"read booking, read calendar, read calendar, read booking"},
		{"no change", given(create), change(ChangeBooking{User: &ann}),
			"read booking, read calendar, read booking",
			"read booking, read calendar, read booking"},
		{"start again", given(create, start), refused(start),
			"read booking, read calendar, read booking, read realuse",
			"read booking, read calendar, read booking, read realuse"},
		{"cancel again", given(create, cancel), refused(cancel),
			"read booking, read calendar, read booking",
			"read booking, read calendar, read booking"},
		{"confirm in use", given(create, start), answer(domain.Confirmed),
			"read realuse, append booking",
			"read booking, read realuse, append booking"},
		{"create by rules", given(ruled, create, cancel), create,
			"append calendar, append booking",
			"read calendar, append calendar, append booking"},
		{"start by rules", given(ruled, create), start,
			"append booking, append realuse",
			"read booking, read calendar, append booking, append realuse"},
		{"change of user where users are counted", given(ruled, create), change(ChangeBooking{User: &bob}),
			"read calendar, append calendar, append booking, append calendar",
			"read booking, read calendar, append calendar, append booking, append calendar"},
		{"rules", given(ruled), rules(2),
			"append calendar, read calendar",
			"read calendar, append calendar, read calendar"},
		{"close over a booking", given(ruled, create), shut,
			"append calendar, read calendar, read calendar, read calendar, read booking, read calendar, append booking, append calendar",
			"read calendar, append calendar, read calendar, read calendar, read calendar, read booking, read calendar, append booking, append calendar"},
	} {
		for _, of := range []struct {
			memory, calls string
			warm          bool
		}{{"warm", c.warm, true}, {"cold", c.cold, false}} {
			for _, digest := range []string{"", "digest"} {
				name := c.name + ", " + of.memory
				if digest != "" {
					name += ", with a key"
				}
				t.Run(name, func(t *testing.T) {
					counted := &counting{Store: store}
					earlier, w := newHandler(counted), &world{store: store, handler: newHandler, from: newRoom(), to: newRoom()}
					for i, given := range c.given {
						if err := given(earlier, w, request()); err != nil {
							t.Fatalf("given %d: %v", i, err)
						}
					}
					h := newHandler(counted)
					if of.warm {
						h = earlier
					}
					counted.calls = nil
					r, want := request(), strings.Split(of.calls, ", ")
					if r.Digest = digest; digest != "" {
						if c.name == "rules" || c.name == "close over a booking" { // which read the room before that
							if of.warm {
								want = slices.Insert(want, 0, "read calendar")
							}
							want = slices.Insert(want, 1, "append key")
						} else {
							want = slices.Insert(want, 0, "append key")
						}
						if c.name == "no change" {
							want = append(want, "read key", "append key")
						}
					}
					if err := c.when(h, w, r); err != nil {
						t.Fatal(err)
					}
					if !slices.Equal(counted.calls, want) {
						t.Errorf("the calls are\n%q, want\n%q", counted.calls, want)
					}
				})
			}
		}
	}
}

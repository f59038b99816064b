package commands

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore/eventstoretest"
)

// reported reports a fault of the room of a world, whose id is faultOf.
func reported(t *testing.T, h *Handler, w *world) {
	t.Helper()
	r := Request{ID: uuid.MustParse(string(faultOf(w))), Actor: domain.Anyone("ann"), At: noon}
	if _, err := h.ReportFault(t.Context(), ReportFault{Request: r, Room: w.from, Text: "a hole"}); err != nil {
		t.Fatal(err)
	}
}

func faultOf(w *world) domain.FaultID {
	return domain.FaultID(uuid.NewSHA1(uuid.Nil, []byte("fault of "+w.from)).String())
}

// What is known is not reported again, by whichever process, and those who may settle it do so once.
func TestFaults(t *testing.T) {
	store := eventstoretest.Open(t)
	one, two := newHandler(store), newHandler(store)
	ctx, room := t.Context(), newRoom()
	details := domain.Details{Name: "Red", Equipment: []string{"beamer"}, Approvers: []domain.UserID{"named"}}
	if _, err := one.RegisterRoom(ctx, RegisterRoom{Request: request(), Room: room, Details: details}); err != nil {
		t.Fatal(err)
	}
	before, err := one.Room(ctx, room)
	if err != nil {
		t.Fatal(err)
	}
	report := func(h *Handler, r Request, equipment, text string) (Fault, error) {
		return h.ReportFault(ctx, ReportFault{Request: r, Room: room, Equipment: equipment, Text: text})
	}
	ann, door := as("ann", "", domain.RoleUser), as("door", domain.Rooms(room), domain.RoleDoor)
	ann.Client = "192.0.2.0/24"
	first, err := report(one, ann, "beamer", "no picture")
	if err != nil || string(first.ID) != ann.ID.String() || first.By != "ann" || first.Position == 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	wantActor(t, "report", store, room.FaultsStream(), 0, ann)
	for who, r := range map[string]Request{"the door": door, "the same again": ann} {
		known, err := report(two, r, "beamer", "")
		if err != nil || known.ID != first.ID || known.Revision != 0 {
			t.Errorf("%s: %+v, %v", who, known, err)
		}
	}
	forbidden := func(err error) bool { return errors.As(err, new(*domain.Forbidden)) }
	invalid := func(err error) bool { return errors.As(err, new(*domain.Invalid)) }
	for who, c := range map[string]struct {
		r    Request
		room domain.RoomID
		what string
		is   func(error) bool
	}{
		"a door of another room":        {as("door", "elsewhere", domain.RoleDoor), room, "", forbidden},
		"a machine":                     {as("m", "", domain.RoleMachine), room, "", forbidden},
		"a room that is not registered": {as("ann", "", domain.RoleUser), newRoom(), "", func(err error) bool { return errors.Is(err, domain.ErrRoomNotFound) }},
		"equipment of some other room":  {as("ann", "", domain.RoleUser), room, "piano", invalid},
		"equipment of no possible room": {as("ann", "", domain.RoleUser), room, "\x00", invalid},
	} {
		if _, err := one.ReportFault(ctx, ReportFault{Request: c.r, Room: c.room, Equipment: c.what}); !c.is(err) {
			t.Errorf("%s: %v", who, err)
		}
	}

	settle := SettleFault{Room: room, Fault: first.ID, Note: "new lamp"}
	for who, r := range map[string]Request{"a user": ann, "the door": door, "an approver of another room": as("eve", "elsewhere", domain.RoleApprover)} {
		settle.Request = r
		if _, err := one.SettleFault(ctx, settle); !forbidden(err) {
			t.Errorf("settled by %s: %v", who, err)
		}
	}
	for i, r := range []Request{as("named", "", domain.RoleUser), as("eve", domain.Rooms(room), domain.RoleApprover), as("boss", "", domain.RoleAdmin)} {
		settle.Request = r
		f, err := two.SettleFault(ctx, settle)
		if err != nil || f.Settlement == nil || f.Settlement.By != "named" || f.Settlement.Note != "new lamp" {
			t.Errorf("%d: %+v, %v", i, f, err)
		}
		settle.Note = "other words"
	}
	settle.Fault = "none"
	if _, err := two.SettleFault(ctx, settle); !errors.Is(err, domain.ErrFaultNotFound) {
		t.Errorf("settled what is not there: %v", err)
	}
	wantTypes(t, store, room.FaultsStream(), "RoomFaultReported", "RoomFaultSettled")
	if after, err := one.Room(ctx, room); err != nil || after.Revision != before.Revision {
		t.Errorf("a fault has changed the revision of the room: %d, %d, %v", before.Revision, after.Revision, err)
	}
	if f, err := two.Faults(ctx, room); err != nil || len(f.Open) != 0 || len(f.Settled) != 1 || f.Revision != 1 {
		t.Errorf("%+v, %v", f, err)
	}
}

// A door at which somebody taps again and again, or many do at once, reports a piece once, and no more than a few other things.
func TestADoorDoesNotFlood(t *testing.T) {
	store := eventstoretest.Open(t)
	handlers := []*Handler{newHandler(store), newHandler(store)}
	room := newRoom()
	if _, err := handlers[0].RegisterRoom(t.Context(), RegisterRoom{Request: request(), Room: room, Details: domain.Details{Name: "Red", Equipment: []string{"beamer"}}}); err != nil {
		t.Fatal(err)
	}
	var taps sync.WaitGroup
	for i := range 3 * domain.MaxOpenFaults {
		taps.Go(func() {
			c := ReportFault{Request: as("door", domain.Rooms(room), domain.RoleDoor), Room: room}
			if c.Equipment = "beamer"; i%2 == 0 {
				c.Equipment, c.Text = "", fmt.Sprint("fault ", i)
			}
			for {
				_, err := handlers[i%2].ReportFault(t.Context(), c)
				if errors.Is(err, ErrContended) {
					continue
				}
				if full, ok := errors.AsType[*domain.TooManyFaults](err); err != nil && (!ok || full.Room != room) {
					t.Error(err)
				}
				return
			}
		})
	}
	taps.Wait()
	f, err := handlers[0].Faults(t.Context(), room)
	if err != nil || len(f.Open) != domain.MaxOpenFaults {
		t.Errorf("%d faults, %v", len(f.Open), err)
	}
	pieces := 0
	for _, o := range f.Open {
		if o.Equipment == "beamer" {
			pieces++
		}
	}
	if pieces > 1 {
		t.Errorf("one piece is reported %d times", pieces)
	}
}

// A report of what is known is answered again as the first time, also once that is settled and something else is reported.
func TestAKnownFaultIsAnsweredAgain(t *testing.T) {
	store := eventstoretest.Open(t)
	h, w, r := newHandler(store), &world{store: store, from: newRoom()}, keyed("digest")
	if _, err := register(t)(h, w.from); err != nil {
		t.Fatal(err)
	}
	reported(t, h, w)
	ask := func() Fault {
		t.Helper()
		f, err := newHandler(store).ReportFault(t.Context(), ReportFault{Request: r(), Room: w.from, Text: "a hole"})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first := ask()
	if first.ID != faultOf(w) {
		t.Errorf("%+v", first)
	}
	if _, err := h.SettleFault(t.Context(), SettleFault{Request: request(), Room: w.from, Fault: first.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.ReportFault(t.Context(), ReportFault{Request: request(), Room: w.from, Text: "a hole"}); err != nil {
		t.Fatal(err)
	}
	if again := ask(); !sameAnswer(again, first) {
		t.Errorf("again: %+v; the first answer was %+v", again, first)
	}
	wantTypes(t, store, w.from.FaultsStream(), "RoomFaultReported", "RoomFaultSettled", "RoomFaultReported")
}

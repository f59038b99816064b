package commands

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"

	"roombook/domain"
	"roombook/eventstore/eventstoretest"
)

// as is a request of an actor with roles.
func as(user domain.UserID, rooms domain.Rooms, roles ...domain.Role) Request {
	r := request()
	r.Actor = domain.Actor{User: user, Roles: domain.NewRoles(roles...), Rooms: rooms}
	return r
}

// Who may do what with bookings: each command, by the user of the booking, by others with each role, by an approver of the room by role or
// by the room's own list, and by one of another room.
func TestWhoMayDoWhat(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	ctx := t.Context()
	room, other := newRoom(), newRoom()
	if _, err := h.RegisterRoom(ctx, RegisterRoom{Request: request(), Room: room, Details: domain.Details{Name: "Red", Approvers: []domain.UserID{"named"}}}); err != nil {
		t.Fatal(err)
	}
	actors := map[string]Request{
		"own":       as("ann", "", domain.RoleUser),
		"other":     as("bob", "", domain.RoleUser),
		"approver":  as("eve", domain.Rooms(room), domain.RoleApprover),
		"everyroom": as("eve", domain.AllRooms, domain.RoleApprover),
		"elsewhere": as("eve", domain.Rooms(other), domain.RoleApprover),
		"named":     as("named", "", domain.RoleUser),
		"ownapprov": as("ann", domain.Rooms(room), domain.RoleUser, domain.RoleApprover),
		"admin":     as("root", "", domain.RoleAdmin),
		"ownadmin":  as("ann", "", domain.RoleAdmin),
		"door":      as("door", domain.Rooms(room), domain.RoleDoor),
		"machine":   as("cron", domain.AllRooms, domain.RoleMachine),
		"nobody":    as("ann", domain.AllRooms),
	}
	bob := domain.UserID("bob")
	slots := 0
	fresh := func() Booking { slots++; return book(t, h, room, slot(2*slots, 2*slots+1)) } // ann's
	commands := map[string]struct {
		do  func(r Request) error
		who []string
	}{
		"book for ann": {func(r Request) error {
			slots++
			_, err := h.CreateBooking(ctx, CreateBooking{Request: r, Room: room, User: "ann", Slot: slot(2*slots, 2*slots+1)})
			return err
		}, []string{"admin", "approver", "everyroom", "named", "own", "ownadmin", "ownapprov"}},
		"book against the rules": {func(r Request) error {
			slots++
			_, err := h.CreateBooking(ctx, CreateBooking{Request: r, Room: room, User: "ann", Slot: slot(2*slots, 2*slots+1), Override: true})
			return err
		}, []string{"admin", "ownadmin"}},
		"change": {func(r Request) error {
			b := fresh()
			slots++
			start, end := slot(2*slots, 2*slots+1).Start, slot(2*slots, 2*slots+1).End
			_, err := h.ChangeBooking(ctx, ChangeBooking{Request: r, Booking: b.ID, Start: &start, End: &end})
			return err
		}, []string{"admin", "approver", "everyroom", "named", "own", "ownadmin", "ownapprov"}},
		"hand over": {func(r Request) error {
			_, err := h.ChangeBooking(ctx, ChangeBooking{Request: r, Booking: fresh().ID, User: &bob})
			return err
		}, []string{"admin", "approver", "everyroom", "named", "ownadmin", "ownapprov"}},
		"hand over to who confirmed it": {func(r Request) error {
			b := fresh()
			if _, err := h.AnswerConfirm(ctx, AnswerConfirm{Request: as(r.Actor.User, domain.AllRooms, domain.RoleAdmin), Booking: b.ID, Answer: domain.Confirmed, By: r.Actor.User, AnsweredAt: noon}); err != nil {
				return err
			}
			_, err := h.ChangeBooking(ctx, ChangeBooking{Request: r, Booking: b.ID, User: &r.Actor.User})
			return err
		}, []string{"admin", "own", "ownadmin", "ownapprov"}}, // those of ann's change nothing
		"move to another room": {func(r Request) error {
			_, err := h.ChangeBooking(ctx, ChangeBooking{Request: r, Booking: fresh().ID, Room: &other})
			return err
		}, []string{"admin", "everyroom", "own", "ownadmin", "ownapprov"}},
		"cancel": {func(r Request) error {
			_, err := h.CancelBooking(ctx, CancelBooking{Request: r, Booking: fresh().ID})
			return err
		}, []string{"admin", "approver", "everyroom", "named", "own", "ownadmin", "ownapprov"}},
		"confirm": {func(r Request) error {
			_, err := h.AnswerConfirm(ctx, AnswerConfirm{Request: r, Booking: fresh().ID, Answer: domain.Confirmed, AnsweredAt: noon})
			return err
		}, []string{"admin", "approver", "everyroom", "named", "ownadmin"}},
		"deny": {func(r Request) error {
			_, err := h.AnswerConfirm(ctx, AnswerConfirm{Request: r, Booking: fresh().ID, Answer: domain.Denied, AnsweredAt: noon})
			return err
		}, []string{"admin", "approver", "everyroom", "named", "ownadmin"}},
		"deny in another's name": {func(r Request) error {
			_, err := h.AnswerConfirm(ctx, AnswerConfirm{Request: r, Booking: fresh().ID, Answer: domain.Denied, By: "lee", AnsweredAt: noon})
			return err
		}, []string{"admin", "ownadmin"}},
		"start": {func(r Request) error {
			_, err := h.StartUse(ctx, StartUse{Request: r, Booking: fresh().ID, StartedAt: noon})
			return err
		}, []string{"admin", "approver", "door", "everyroom", "named", "own", "ownadmin", "ownapprov"}},
		"end": {func(r Request) error {
			use, err := h.StartUse(ctx, StartUse{Request: request(), Booking: fresh().ID, StartedAt: noon})
			if err != nil {
				t.Fatal(err)
			}
			_, err = h.EndUse(ctx, EndUse{Request: r, RealUse: use.ID, EndedAt: noon})
			return err
		}, []string{"admin", "approver", "door", "everyroom", "named", "own", "ownadmin", "ownapprov"}},
		"look after rooms": {func(r Request) error {
			_, err := h.ChangeRoom(ctx, ChangeRoom{Request: r, Room: room, Details: domain.Details{Name: "Red", Approvers: []domain.UserID{"named"}}})
			return err
		}, []string{"admin", "ownadmin"}},
	}
	for what, c := range commands {
		for name, r := range actors {
			r.ID = request().ID
			err := c.do(r)
			_, forbidden := errors.AsType[*domain.Forbidden](err)
			if want := slices.Contains(c.who, name); want && err != nil || !want && !forbidden {
				t.Errorf("%s by %s: %v, may: %t", what, name, err, want)
			}
		}
	}
}

// A refusal for want of permission comes before every other about the booking, so that nobody learns from it what is not theirs; but for
// one that does not exist there is nobody to permit it.
func TestWhatARefusalTells(t *testing.T) {
	h := newHandler(eventstoretest.Open(t))
	b := book(t, h, newRoom(), slot(0, 1))
	stranger := as("bob", "", domain.RoleUser)
	stranger.IfRevisions = []domain.Revision{99}
	if _, err := h.CancelBooking(t.Context(), CancelBooking{Request: request(), Booking: b.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.CancelBooking(t.Context(), CancelBooking{Request: stranger, Booking: b.ID}); !errors.As(err, new(*domain.Forbidden)) {
		t.Errorf("a cancelled booking of somebody else: %v", err)
	}
	if _, err := h.CancelBooking(t.Context(), CancelBooking{Request: stranger, Booking: "none"}); !errors.Is(err, domain.ErrBookingNotFound) {
		t.Errorf("no booking: %v", err)
	}
	if _, err := h.EndUse(t.Context(), EndUse{Request: stranger, RealUse: "none", EndedAt: noon}); !errors.Is(err, domain.ErrRealUseNotFound) {
		t.Errorf("no use: %v", err)
	}
}

// Every method of the handler that takes a command refuses it to an actor without any role, and writes nothing: one that forgot to ask
// would be found here, whatever it is called.
func TestEveryCommandIsDecided(t *testing.T) {
	store := eventstoretest.Open(t)
	h := newHandler(store)
	room := newRoom()
	b := book(t, h, room, slot(0, 1))
	use, err := h.StartUse(t.Context(), StartUse{Request: request(), Booking: book(t, h, room, slot(2, 3)).ID, StartedAt: noon})
	if err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		for _, stream := range []string{room.Stream(), b.ID.Stream(), use.ID.Stream(), use.Booking.Stream()} {
			n += len(eventTypes(t, store, stream))
		}
		return n
	}
	methods, commands := reflect.TypeFor[*Handler](), 0
	for i := range methods.NumMethod() {
		m := methods.Method(i)
		if m.Type.NumIn() != 3 || m.Type.In(1) != reflect.TypeFor[context.Context]() || m.Type.In(2).Kind() != reflect.Struct {
			continue
		}
		c := reflect.New(m.Type.In(2)).Elem()
		request, ok := c.FieldByName("Request"), false
		if request.IsValid() {
			_, ok = request.Interface().(Request)
		}
		if !ok {
			t.Errorf("%s takes %s, which has no request", m.Name, m.Type.In(2))
			continue
		}
		commands++
		request.Set(reflect.ValueOf(as("ann", domain.AllRooms)))
		for name, value := range map[string]any{"Booking": b.ID, "RealUse": use.ID, "Room": room, "User": domain.UserID("ann"), "Slot": slot(4, 5), "Answer": domain.Confirmed} {
			if f := c.FieldByName(name); f.IsValid() && f.Type() == reflect.TypeOf(value) {
				f.Set(reflect.ValueOf(value))
			}
		}
		before := count()
		results := m.Func.Call([]reflect.Value{reflect.ValueOf(h), reflect.ValueOf(t.Context()), c})
		err, _ := results[len(results)-1].Interface().(error)
		if _, forbidden := errors.AsType[*domain.Forbidden](err); !forbidden {
			t.Errorf("%s by an actor without roles: %v", m.Name, err)
		}
		if count() != before {
			t.Errorf("%s by an actor without roles has written something", m.Name)
		}
	}
	if commands < 14 {
		t.Errorf("only %d commands were found", commands)
	}
}

package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"roombook/commands"
	"roombook/commands/notify/notifytest"
	"roombook/domain"
)

// directoryOfPeople is a directory of users that may be away.
type directoryOfPeople struct {
	mu       sync.Mutex
	away     bool
	asked    int // while it was away
	people   map[domain.UserID]Person
	inactive map[domain.UserID]bool
	keepers  []domain.Actor
}

func (d *directoryOfPeople) answer() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		d.asked++
		return errors.New("the directory is away")
	}
	return nil
}

func (d *directoryOfPeople) Person(_ context.Context, id domain.UserID) (Person, bool, error) {
	err := d.answer()
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.people[id]
	return p, ok && !d.inactive[id], err
}

func (d *directoryOfPeople) Keepers(context.Context) ([]domain.Actor, error) {
	return d.keepers, d.answer()
}

// set changes the directory.
func (d *directoryOfPeople) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// Mail goes to the addresses of the directory, in its languages, and calls people and rooms by their names; who is disabled or erased or has
// no address, or does not want it, gets none, also if that happens while the mail waits. While the directory is away messages wait, and no attempt counts.
func TestMailToPeople(t *testing.T) {
	w, server := newWorld(t), notifytest.NewMailServer(t, true)
	kim, lee, boss, silent, named, quiet := w.user("kim"), w.user("lee"), w.user("boss"), w.user("silent"), w.user("named"), w.user("quiet")
	room := domain.RoomID(w.space + "-1")
	people := &directoryOfPeople{
		away: true,
		people: map[domain.UserID]Person{
			kim: {Name: "Kim Minsu", Address: "kim@firma.example", Language: "ko"}, lee: {Name: "Lee", Address: "lee@firma.example"},
			boss: {Name: "The Boss", Address: "boss@firma.example", Language: "en"}, silent: {Name: "Silent"},
			quiet: {Name: "Quiet", Address: "quiet@firma.example", Without: domain.NewKinds(domain.KindBooked)},
			named: {Name: "Named", Address: "named@firma.example", Language: "en"},
		},
		inactive: map[domain.UserID]bool{lee: true},
		keepers:  []domain.Actor{{User: boss, Roles: domain.NewRoles(domain.RoleApprover), Rooms: domain.NewRooms(room)}, {User: lee, Roles: domain.NewRoles(domain.RoleApprover), Rooms: "elsewhere"}},
	}
	names := func(context.Context) (func(domain.RoomID) string, error) {
		return func(id domain.RoomID) string {
			if id != room {
				return ""
			}
			return "The Blue Room"
		}, nil
	}
	mail := mailOptions(server)
	mail.Attempts = 1
	d, _ := w.start(Options{Mail: mail, People: people, Approvers: w.commands.Approvers, Rooms: names, Breaker: BreakerOptions{Failures: 1, Delay: 20 * time.Millisecond}})

	if _, err := w.commands.RegisterRoom(t.Context(), commands.RegisterRoom{
		Request: w.request(), Room: room, Details: domain.Details{Name: "The Blue Room", Approvers: []domain.UserID{kim, boss, silent, named}},
	}); err != nil {
		t.Fatal(err)
	}
	booking := w.book(kim)
	told := domain.NotificationOf(w.event(booking, "BookingCreated").ID)
	request := domain.NotificationOf(w.event(booking, "ConfirmRequested").ID)
	asked, askedByRoom := request.ForApprover(1), request.ForApprover(3)
	w.until("the directory is asked again and again", func() bool {
		people.mu.Lock()
		defer people.mu.Unlock()
		return people.asked > 3
	})
	if events := w.recorded(told); len(events) > 0 || len(server.All()) > 0 {
		t.Errorf("while the directory is away %v is recorded, and %d mails sent", events, len(server.All()))
	}
	people.set(func() { people.away = false })
	for id, to := range map[domain.NotificationID]string{told: "kim@firma.example", asked: "boss@firma.example", askedByRoom: "named@firma.example"} {
		if c := w.outcome(id, domain.ChannelMail); c.Delivery != domain.DeliveryDelivered || c.Attempts > 1 {
			t.Errorf("to %s: %+v", to, c)
		}
	}
	for _, m := range server.All() {
		_, all := parts(t, m)
		text := header(t, m, "Subject") + "\n" + all[0].text
		for _, p := range all[1:] {
			text += p.text
		}
		if strings.Contains(text, string(kim)) || strings.Contains(text, string(room)) || !strings.Contains(text, "The Blue Room") {
			t.Errorf("to %s:\n%s", m.To, text)
		}
		switch m.To {
		case "kim@firma.example":
			if !strings.Contains(text, "예약했습니다") || !strings.Contains(text, "LOCATION:The Blue Room") {
				t.Errorf("%s", text)
			}
		case "boss@firma.example", "named@firma.example":
			if !strings.Contains(text, "Kim Minsu") {
				t.Errorf("%s", text)
			}
		default:
			t.Errorf("mail to %s", m.To)
		}
	}

	if c := w.outcome(request.ForApprover(2), domain.ChannelList); c.Delivery != domain.DeliveryDelivered {
		t.Errorf("an approver without an address: %+v", c)
	}
	if of := domain.Fold(domain.Deliveries{}, w.recorded(request)...).Requested; len(of) != 3 {
		t.Errorf("asked: %+v", of) // kim, who is named too, has booked it
	}
	for _, user := range []domain.UserID{lee, silent, quiet, w.user("erased")} {
		id := domain.NotificationOf(w.event(w.book(user), "BookingCreated").ID)
		if c := w.outcome(id, domain.ChannelList); c.Delivery != domain.DeliveryDelivered {
			t.Errorf("%s: %+v", user, c)
		}
	}
	people.set(func() {
		people.people[quiet] = Person{Name: "Quiet", Address: "quiet@firma.example", Without: domain.NewKinds(domain.KindChanged)}
	})
	if c := w.outcome(domain.NotificationOf(w.event(w.book(quiet), "BookingCreated").ID), domain.ChannelMail); c.Delivery != domain.DeliveryDelivered {
		t.Errorf("who wants the mail again: %+v", c)
	}
	server.Stop() // the mail waits, and its user is erased meanwhile
	before := len(server.All())
	waiting := domain.NotificationOf(w.event(w.book(kim), "BookingCreated").ID)
	w.until("the mail is held back", func() bool { return len(w.recorded(waiting)) == 0 && d.Health() != nil })
	people.set(func() { people.away, people.asked = true, 0 })
	server.Start(t)
	w.until("the directory is asked again and again", func() bool {
		people.mu.Lock()
		defer people.mu.Unlock()
		return people.asked > 3
	})
	if events := w.recorded(waiting); len(events) > 0 {
		t.Errorf("while the directory is away %v is recorded", events)
	}
	people.set(func() { people.away = false; delete(people.people, kim) })
	if c := w.outcome(waiting, domain.ChannelList); c.Delivery != domain.DeliveryDelivered {
		t.Errorf("erased meanwhile: %+v", c)
	}
	if after := server.All(); len(after) != before {
		t.Errorf("mail to %s", fmt.Sprint(after[before:]))
	}
}

// Administrators are asked where those who answer for the room are no longer active, or have booked it for themselves.
func TestAdministratorsAreAskedInPlaceOfOthers(t *testing.T) {
	boss, root, gone := domain.UserID("boss"), domain.UserID("root"), domain.UserID("gone")
	d := &directory{
		known: &directoryOfPeople{
			people:   map[domain.UserID]Person{boss: {}, root: {}, gone: {}},
			inactive: map[domain.UserID]bool{gone: true},
			keepers:  []domain.Actor{{User: boss, Roles: domain.NewRoles(domain.RoleApprover), Rooms: domain.NewRooms("red")}, {User: root, Roles: domain.NewRoles(domain.RoleAdmin)}},
		},
		byRoom: func(_ context.Context, room domain.RoomID, _ domain.BookingID) ([]domain.UserID, error) {
			return map[domain.RoomID][]domain.UserID{"left": {gone}, "named": {boss}}[room], nil
		},
	}
	for _, c := range []struct {
		kind domain.NotificationKind
		room domain.RoomID
		user domain.UserID
		want []domain.UserID
	}{
		{domain.KindFaultReported, "left", boss, []domain.UserID{root}},
		{domain.KindFaultReported, "red", boss, []domain.UserID{boss}},
		{domain.KindConfirmRequested, "red", "kim", []domain.UserID{boss}},
		{domain.KindConfirmRequested, "red", boss, []domain.UserID{root}},
		{domain.KindConfirmRequested, "named", boss, []domain.UserID{root}},
		{domain.KindConfirmRequested, "nobody's", boss, nil},
	} {
		got, err := d.findAsked(t.Context(), domain.Notice{Kind: c.kind, Room: c.room, User: c.user})
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s of %s by %s: %v, %v; want %v", c.kind, c.room, c.user, got, err, c.want)
		}
	}
}

package notify

import (
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"roombook/commands"
	"roombook/commands/notify/notifytest"
	"roombook/domain"
	"roombook/eventstore"
)

// Those who answer for a room are mailed a fault, once, by the names of people and rooms, and administrators if nobody does. What a server has
// refused is tried again when an operator asks for it, although it is no booking's.
func TestFaultsAreTold(t *testing.T) {
	w, server := newWorld(t), notifytest.NewMailServer(t, true)
	boss, root, ann := w.user("boss"), w.user("root"), w.user("ann")
	red, blue := domain.RoomID(w.space+"-red"), domain.RoomID(w.space+"-blue")
	people := &directoryOfPeople{
		people: map[domain.UserID]Person{
			boss: {Name: "The Boss", Address: "boss@firma.example", Language: "ko"}, root: {Name: "Root", Address: "root@firma.example", Language: "en"}, ann: {Name: "Ann O'Hara"},
		},
		keepers: []domain.Actor{{User: boss, Roles: domain.NewRoles(domain.RoleApprover), Rooms: domain.NewRooms(red)}, {User: root, Roles: domain.NewRoles(domain.RoleAdmin)}},
	}
	mail := mailOptions(server)
	mail.Attempts = 1
	end, err := w.store.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.EnsureGroup(t.Context(), MainGroup.Name+w.group, eventstore.GroupSettings{ // as one that was made before there were faults
		Filter: eventstore.Filter{StreamPrefixes: []string{domain.BookingCategory + "-", domain.RealUseCategory + "-", domain.NotificationCategory + "-"}}, From: end,
		Strategy: eventstore.DispatchToSingle, MessageTimeout: time.Minute, MaxRetries: 1, CheckpointAfter: time.Second, CheckpointEvents: 1,
	}); err != nil {
		t.Fatal(err)
	}
	w.start(Options{Mail: mail, People: people, Link: "https://rooms.example"})
	report := func(room domain.RoomID, equipment, text string) domain.NotificationID {
		t.Helper()
		if _, err := w.commands.RegisterRoom(t.Context(), commands.RegisterRoom{Request: w.request(), Room: room, Details: domain.Details{Name: "Room", Equipment: []string{"beamer"}}}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // of which the second is known
			r := w.request()
			r.Actor = domain.Anyone(ann)
			if _, err := w.commands.ReportFault(t.Context(), commands.ReportFault{Request: r, Room: room, Equipment: equipment, Text: text}); err != nil {
				t.Fatal(err)
			}
		}
		var first eventstore.Recorded
		for r, err := range w.store.ReadStream(t.Context(), room.FaultsStream(), 0) {
			if err != nil || r.Revision > 0 {
				t.Fatal(r, err)
			}
			first = r
		}
		return domain.NotificationOf(first.ID).ForApprover(1)
	}

	server.Answer(func(to string) error {
		if to == "root@firma.example" {
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
		}
		return nil
	})
	told, given := report(red, "beamer", "no picture"), report(blue, "", "")
	if c := w.outcome(told, domain.ChannelMail); c.Delivery != domain.DeliveryDelivered {
		t.Errorf("to the approver: %+v", c)
	}
	if c := w.outcome(given, domain.ChannelMail); c.Delivery != domain.DeliveryFailed {
		t.Errorf("refused: %+v", c)
	}
	server.Answer(nil)
	if _, err := Retry(t.Context(), w.store, given, domain.Anyone("test"), "", "correlation"); err != nil {
		t.Fatal(err)
	}
	if c := w.outcome(given, domain.ChannelMail); c.Delivery != domain.DeliveryDelivered {
		t.Errorf("after another try: %+v", c)
	}
	mails := 0
	for _, m := range server.All() {
		_, all := parts(t, m)
		text := header(t, m, "Subject") + "\n" + all[0].text
		if !strings.Contains(text, w.space) {
			continue // of a fault that another test reports
		}
		mails++
		want := []string{"Room " + string(blue) + " has a fault\n", "Reporter: Ann O'Hara", "See https://rooms.example/rooms/" + string(blue) + "/page"}
		if m.To == "boss@firma.example" {
			want = []string{"회의실 " + string(red) + " 고장 신고: beamer: no picture\n", "회의실 " + string(red) + "에 고장이 신고되었습니다: beamer: no picture", "신고한 사람: Ann O'Hara", "https://rooms.example/rooms/" + string(red) + "/page"}
		}
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("%q is not in the mail to %s:\n%s", part, m.To, text)
			}
		}
		for _, other := range []string{"Booking", "예약", "0001-01-01", "BEGIN:VCALENDAR"} {
			if strings.Contains(text+all[len(all)-1].text, other) {
				t.Errorf("%q is in the mail to %s:\n%s", other, m.To, text)
			}
		}
	}
	if mails != 2 {
		t.Errorf("%d mails", mails)
	}
}

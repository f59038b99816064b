package notify

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roombook/domain"
	"roombook/eventstore"
)

// english are the texts without those of an operator.
var english = func() *texts {
	t, err := readTexts("", time.UTC, "")
	if err != nil {
		panic(err)
	}
	return t
}()

func TestParticle(t *testing.T) {
	for word, want := range map[string]string{
		"회의실": "회의실을 회의실이 회의실은 회의실로", "회의": "회의를 회의가 회의는 회의로", "본관": "본관을 본관이 본관은 본관으로",
		"1": "1을 1이 1은 1로", "2": "2를 2가 2는 2로", "3": "3을 3이 3은 3으로", "4": "4를 4가 4는 4로", "5": "5를 5가 5는 5로", "6": "6을 6이 6은 6으로",
		"7": "7을 7이 7은 7로", "8": "8을 8이 8은 8로", "9": "9를 9가 9는 9로", "0": "0을 0이 0은 0으로", "10": "10을 10이 10은 10으로", "300": "300을 300이 300은 300으로",
		"A": "A를 A가 A는 A로", "L": "L을 L이 L은 L로", "M": "M을 M이 M은 M으로", "r": "r을 r이 r은 r로", "HR": "HR을 HR이 HR은 HR로", "B12": "B12를 B12가 B12는 B12로",
		"kim": "kim을 kim이 kim은 kim으로", "lee": "lee를 lee가 lee는 lee로", "Carol": "Carol을 Carol이 Carol은 Carol로", "Peter": "Peter를 Peter가 Peter는 Peter로",
		"Bob": "Bob을 Bob이 Bob은 Bob으로", "desk": "desk를 desk가 desk는 desk로", "Patrick": "Patrick을 Patrick이 Patrick은 Patrick으로", "Kate": "Kate를 Kate가 Kate는 Kate로",
		"room-7": "room-7을 room-7이 room-7은 room-7로", "kim_": "kim_을 kim_이 kim_은 kim_으로", "会議室": "会議室을(를) 会議室이(가) 会議室은(는) 会議室으로(로)", "": "을(를) 이(가) 은(는) 으로(로)",
		"Jane": "Jane을 Jane이 Jane은 Jane으로", "Anne": "Anne을 Anne이 Anne은 Anne으로", "Nicole": "Nicole을 Nicole이 Nicole은 Nicole로", "Kyle": "Kyle을 Kyle이 Kyle은 Kyle로",
		"Eric": "Eric을 Eric이 Eric은 Eric으로", "Daphne": "Daphne를 Daphne가 Daphne는 Daphne로", "table": "table을 table이 table은 table로", "Le": "Le를 Le가 Le는 Le로", "One": "One을 One이 One은 One으로",
		"Meeting": "Meeting을 Meeting이 Meeting은 Meeting으로",
	} {
		var got []string
		for _, pair := range []string{"을/를", "이/가", "은/는", "으로/로"} {
			got = append(got, Particle(word, pair))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("got %s, want %s", strings.Join(got, " "), want)
		}
	}
}

// Who has lost a booking because its room is closed is told so, and why it is.
func TestTextsOfAClosure(t *testing.T) {
	texts, err := readTexts("", seoul, "")
	if err != nil {
		t.Fatal(err)
	}
	m := told(domain.KindCancelled)
	m.Cause, m.Reason = domain.CancelledByClosure, "paint"
	for language, want := range map[string]string{"en": "because the room is closed: paint", "ko": "회의실 7의 사용이 중지되어 예약이 취소되었습니다."} {
		if w, err := texts.words(language, m); err != nil || !strings.Contains(w.text, want) || !strings.Contains(w.text, "paint") || !strings.Contains(w.html, want) {
			t.Errorf("%s: %+v, %v", language, w, err)
		}
	}
}

// An operator's folder replaces what it defines and adds languages; what it lacks is as before, or in English.
func TestTextsOfAFolder(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"en.txt": `{{define "booked.subject"}}Hurra, {{.Room}}{{end}}`,
		"de.txt": `{{define "booked"}}Raum {{.Room}} ist gebucht{{end}}`,
		"README": "not a text",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	texts, err := readTexts(folder, seoul, "")
	if err != nil {
		t.Fatal(err)
	}
	en, err := texts.words("en", told(domain.KindBooked))
	if err != nil || en.subject != "Hurra, 7" || !strings.Contains(en.text, "reservation is complete") {
		t.Errorf("%+v, %v", en, err)
	}
	de, err := texts.words("de", told(domain.KindBooked))
	if err != nil || de.subject != "Hurra, 7" || !strings.HasPrefix(de.text, "Raum 7 ist gebucht") || !strings.Contains(de.html, "<p>Raum 7 ist gebucht</p>") {
		t.Errorf("%+v, %v", de, err)
	}
	for text, want := range map[string]string{`{{define "booked"}}`: "en.txt", `{{define "booked"}}{{.Nothing}}{{end}}`: "Nothing", `{{define "booked"}}{{particle .Room}}{{end}}`: "particle"} {
		if err := os.WriteFile(filepath.Join(folder, "en.txt"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readTexts(folder, seoul, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, none := range []string{folder + "x", filepath.Join(folder, "de.txt")} {
		if _, err := readTexts(none, seoul, ""); err == nil {
			t.Errorf("%s is no folder, and is read", none)
		}
	}
}

// The directory says who gets mail where, and is read again when it changes; a mistake in it keeps what was there.
func TestDirectory(t *testing.T) {
	path := write(t, "users:\n- {user: kim, mail: k@firma.example, language: ko, opt-out: [use-started]}\n- {user: ann, approves: ['*']}\n- {user: bob, approves: [7]}\n")
	d, err := openDirectory(path, "x-{user}@example.org", "en", english, quietly())
	if err != nil {
		t.Fatal(err)
	}
	address := func(user domain.UserID) string {
		a, err := d.address(d.person(user))
		if err != nil {
			return err.Error()
		}
		return a.Address
	}
	if got := address("kim"); got != "k@firma.example" {
		t.Error(got)
	}
	if got := address("lee"); got != "x-lee@example.org" {
		t.Error(got)
	}
	if p := d.person("kim"); p.Language != "ko" || len(p.OptOut) != 1 || d.person("lee").Language != "en" {
		t.Errorf("%+v", p)
	}
	if got := d.approvers("7"); len(got) != 2 || got[0] != "ann" || got[1] != "bob" {
		t.Errorf("approvers of 7: %s", got)
	}
	if got := d.approvers("8"); len(got) != 1 || got[0] != "ann" {
		t.Errorf("approvers of 8: %s", got)
	}
	change := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Duration(len(text)) * time.Second)
		if err := os.Chtimes(path, later, later); err != nil {
			t.Fatal(err)
		}
	}
	change("users:\n- {user: kim, mail: new@firma.example}\n")
	if got := address("kim"); got != "new@firma.example" {
		t.Error(got)
	}
	for _, text := range []string{"users:\n- {user: kim, mail: not an address}\n", "users: [{user: kim}, {user: kim}]\n", "users: [{mail: a@b.c}]\n", "users: [{user: kim, mial: a@b.c}]\n",
		"users: [{user: kim, opt-out: [nothing]}]\n", "users: [\n"} {
		change(text)
		if got := address("kim"); got != "new@firma.example" {
			t.Errorf("after %q: %s", text, got)
		}
		if _, err := openDirectory(path, DefaultAddress, "en", english, quietly()); err == nil {
			t.Errorf("%q is a directory", text)
		}
	}
	change("")
	if got := address("kim"); got != "x-kim@example.org" {
		t.Error(got)
	}
	for _, template := range []string{"", "rooms@example.com", "{user}", "{user}@"} {
		if _, err := openDirectory("", template, "en", english, quietly()); err == nil {
			t.Errorf("%q is a template", template)
		}
	}
}

// A language without texts is told once when the directory is read.
func TestDirectoryWithAnUnknownLanguage(t *testing.T) {
	var out syncBuffer
	path := write(t, "users: [{user: kim, language: fr}, {user: ann, language: fr}, {user: lee, language: ko}, {user: bob}]")
	d, err := openDirectory(path, DefaultAddress, "en", english, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	d.person("kim")
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "language=fr") || !strings.Contains(got, "user=kim") {
		t.Errorf("%s", got)
	}
}

// Who is told what of an event, given what happened to the booking before.
func TestCompose(t *testing.T) {
	slot := domain.Slot{Start: nine, End: ten}
	later := domain.Slot{Start: ten, End: ten.Add(time.Hour)}
	created := domain.BookingCreated{BookingID: "b", ReservationID: "r", RoomID: "1", UserID: "kim", Slot: slot, At: nine}
	changed := domain.BookingChanged{BookingID: "b", ReservationID: "r2", RoomID: "2", UserID: "lee", Slot: later, At: nine}
	handed := domain.BookingHandedOver{BookingID: "b", RoomID: "2", UserID: "lee", FormerUserID: "kim", At: nine}
	confirmed := domain.ConfirmCompleted{BookingID: "b", RoomID: "1", UserID: "kim", ConfirmUserID: "boss", At: nine}
	denied := domain.ConfirmDenied{BookingID: "b", RoomID: "1", UserID: "kim", Reason: "no", At: nine}
	cancelled := domain.BookingCancelled{BookingID: "b", RoomID: "2", UserID: "lee", Reason: domain.CancelledByUser, At: nine}
	closed := domain.BookingCancelled{BookingID: "b", RoomID: "1", UserID: "kim", Reason: domain.CancelledByClosure, Detail: "paint", At: nine}
	byRules := domain.ConfirmCompleted{BookingID: "b", RoomID: "1", UserID: "kim", ConfirmUserID: domain.ConfirmedByRules, At: nine}
	checkedIn := domain.BookingCheckedIn{BookingID: "b", StartedAt: nine}
	ended := domain.UseEnded{BookingID: "b", RoomID: "1", UserID: "kim", EndedAt: ten, At: ten}
	for name, test := range map[string]struct {
		given []domain.Event
		when  domain.Event
		then  Message
	}{
		"booked": {nil, created, Message{Notice: domain.Notice{Kind: domain.KindBooked, To: "kim", User: "kim", Room: "1"}, By: "actor", Slot: slot}},
		"changed": {[]domain.Event{created}, changed,
			Message{Notice: domain.Notice{Kind: domain.KindChanged, To: "lee", User: "lee", Room: "2"}, By: "actor", Slot: later, OldRoom: "1", OldSlot: slot, Sequence: 1}},
		"handed over": {[]domain.Event{created}, handed,
			Message{Notice: domain.Notice{Kind: domain.KindHandedOver, To: "kim", User: "lee", Room: "1"}, By: "actor", Slot: slot}},
		"confirmed": {[]domain.Event{created}, confirmed,
			Message{Notice: domain.Notice{Kind: domain.KindConfirmed, To: "kim", User: "kim", Room: "1"}, By: "boss", Slot: slot, Confirmed: true}},
		"denied": {[]domain.Event{created}, denied,
			Message{Notice: domain.Notice{Kind: domain.KindDenied, To: "kim", User: "kim", Room: "1", Reason: "no"}, By: "actor", Slot: slot, Sequence: 1}},
		"cancelled": {[]domain.Event{created, changed, handed}, cancelled,
			Message{Notice: domain.Notice{Kind: domain.KindCancelled, To: "lee", User: "lee", Room: "2", Cause: domain.CancelledByUser}, By: "actor", Slot: later, Sequence: 2}},
		"cancelled as the room is closed": {[]domain.Event{created}, closed,
			Message{Notice: domain.Notice{Kind: domain.KindCancelled, To: "kim", User: "kim", Room: "1", Reason: "paint", Cause: domain.CancelledByClosure}, By: "actor", Slot: slot, Sequence: 1}},
		"confirmed by rules": {[]domain.Event{created}, byRules,
			Message{Notice: domain.Notice{Kind: domain.KindConfirmed, To: "kim", User: "kim", Room: "1"}, Slot: slot, Confirmed: true}},
		"ended": {[]domain.Event{created, checkedIn}, ended,
			Message{Notice: domain.Notice{Kind: domain.KindUseEnded, To: "kim", User: "kim", Room: "1"}, By: "actor", Slot: slot, Started: nine, Ended: ten}},
	} {
		t.Run(name, func(t *testing.T) {
			r := eventstore.Recorded{Event: test.when, Metadata: eventstore.Metadata{Actor: "actor", OccurredAt: nine, CorrelationID: "c"}}
			notice, ok := domain.NoticeOf(test.when)
			before := domain.Fold(domain.Booking{}, test.given...)
			got := Compose(notice, r, before, before.Evolve(test.when))
			want := test.then
			want.ID, want.Booking, want.At, want.CorrelationID = domain.NotificationOf(r.ID), "b", nine, "c"
			if !ok || got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

package eventstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"roombook/domain"
)

var rewrite = flag.Bool("rewrite", false, "write the stored form of events that testdata does not have yet")

// everyEvent has one event of each type, with every member set and a value that JSON must escape.
func everyEvent() []domain.Event {
	var (
		booking     = domain.BookingID("0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c01")
		other       = domain.BookingID("0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c00")
		reservation = domain.ReservationID("3f1c2b9a-5d4e-5f60-8a7b-9c0d1e2f3a4b")
		former      = domain.ReservationID("c0ffee00-5d4e-5f60-8a7b-9c0d1e2f3a4b")
		use         = domain.RealUseOf(booking)
		room        = domain.RoomID(`Blauer "Salon" <3> & 会議室`)
		user        = domain.UserID("user-1")
		seoul       = time.FixedZone("KST", 9*60*60)
		at          = time.Date(2021, 6, 30, 9, 0, 0, 123456789, seoul)
		details     = domain.Details{Name: "Blauer Salon", Building: "<Altbau>", Floor: "3", Capacity: 8, Equipment: []string{"Beamer", "会議用 TV"}, Zone: "Asia/Seoul", Colour: "#0000ff", Note: "a\nb", Approvers: []domain.UserID{"admin"}}
		hours       = []domain.Hours{{From: "08:00", To: "12:00"}, {From: "13:00", To: "24:00"}}
		early       = 10
		rules       = domain.Rules{
			Hours:       &domain.WeekHours{Monday: hours, Tuesday: hours, Wednesday: hours, Thursday: hours, Friday: hours, Saturday: hours, Sunday: hours[:1]},
			StepMinutes: 15, ShortestMinutes: 30, LongestMinutes: 240, GapMinutes: 10, NoticeMinutes: 60, HorizonDays: 90, Approval: domain.ApprovalNone,
			EarlyUseMinutes: &early, UpcomingPerUser: 3, WeeklyMinutesPerUser: 600,
		}
		closure = domain.ClosureID("0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c09")
		slot    = domain.Slot{Start: time.Date(2021, 7, 1, 9, 0, 0, 0, seoul), End: time.Date(2021, 7, 1, 10, 30, 0, 0, time.UTC)}
	)
	return []domain.Event{
		domain.BookingCreated{BookingID: booking, ReservationID: reservation, RoomID: room, UserID: user, Slot: slot, At: at, UseFrom: at},
		domain.ConfirmRequested{BookingID: booking, RoomID: room, UserID: user, At: at},
		domain.BookingChanged{BookingID: booking, ReservationID: reservation, RoomID: room, UserID: user, Slot: slot, At: at, UseFrom: at},
		domain.BookingHandedOver{BookingID: booking, RoomID: room, UserID: user, FormerUserID: "user-0", FormerRoomID: "1", At: at},
		domain.ConfirmCompleted{BookingID: booking, RoomID: room, UserID: user, ConfirmUserID: "admin", Reason: "as ever", At: at},
		domain.ConfirmDenied{BookingID: booking, RoomID: room, UserID: user, ConfirmUserID: "admin", Reason: "being painted", At: at},
		domain.BookingCheckedIn{BookingID: booking, RealUseID: use, RoomID: room, UserID: user, StartedAt: at, RoomStillInUseBy: other},
		domain.BookingCancelled{BookingID: booking, ReservationID: reservation, RoomID: room, UserID: user, Reason: domain.CancelledByUseEnd, At: at, UsedUntil: at.Add(-time.Minute), Detail: "being <painted>"},
		domain.UseStarted{RealUseID: use, BookingID: booking, RoomID: room, UserID: user, StartedAt: at, RoomStillInUseBy: other},
		domain.UseEnded{RealUseID: use, BookingID: booking, RoomID: room, UserID: user, EndedAt: at, At: at.Add(time.Minute)},
		domain.SlotReserved{ReservationID: reservation, BookingID: booking, RoomID: room, UserID: user, Slot: slot, At: at, Actor: "user-1", Client: "192.0.2.0/24", CorrelationID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c02", TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Command: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c02/9f86d081884c7d65", Replaces: former, IfRevision: 7, HeldFor: user, Approval: domain.ApprovalNone, UseFrom: at, Override: true},
		domain.BookingUnblocked{BookingID: booking, Reason: "a disk lost an event", At: at},
		domain.UserAdded{UserID: user, Roles: "user approver", Rooms: "1 2", At: at},
		domain.RolesGiven{UserID: user, Roles: "admin", Rooms: domain.AllRooms, At: at},
		domain.PasswordChanged{UserID: user, At: at},
		domain.MailChosen{UserID: user, Without: domain.NewKinds(domain.KindBooked, domain.KindUseEnded), At: at},
		domain.SignedOutEverywhere{UserID: user, At: at},
		domain.UserDisabled{UserID: user, At: at},
		domain.UserEnabled{UserID: user, At: at},
		domain.UserErased{UserID: user, At: at},
		domain.TokenIssued{TokenID: "9f86d081884c7d659a2feaa0", Hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", UserID: user, Roles: "approver", Rooms: "1", Feeds: true, ExpiresAt: at.Add(time.Hour), At: at},
		domain.TokenRevoked{TokenID: "9f86d081884c7d659a2feaa0", At: at},
		domain.KeyUsed{Digest: "9f86d081884c7d65", At: at},
		domain.KeyRefused{Answer: `{"type":"/problems/slot-taken","status":409}`, At: at},
		domain.KeyUnchanged{Revision: 7, At: at},
		domain.NotificationRequested{NotificationID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c05.1", Kind: domain.KindConfirmRequested, BookingID: booking, RoomID: room, UserID: "admin", Reason: "beamer", Queued: true, At: at},
		domain.NotificationDelivered{NotificationID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c05.1", BookingID: booking, Channel: domain.ChannelMail, Attempt: 2, At: at},
		domain.NotificationFailed{NotificationID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c05.1", BookingID: booking, Channel: domain.ChannelMail, Attempt: 2, Reason: `550 "no" <such> user`, Parked: true, Held: true, Again: at.Add(time.Minute), At: at},
		domain.NotificationDue{NotificationID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c05.1", BookingID: booking, Channel: domain.ChannelMail, At: at},
		domain.NotificationRetried{NotificationID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c05.1", BookingID: booking, At: at},
		domain.CalendarSnapshot{Version: 1, RoomID: room, Revision: 7, EventID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c03", Since: at, Room: domain.Room{ID: room, Details: details, Rules: rules, Revision: 6}, Held: "AAAA", Hash: "9f86d081884c7d65"},
		domain.SlotReleased{ReservationID: reservation, BookingID: booking, RoomID: room},
		domain.SlotUsed{ReservationID: reservation, BookingID: booking, RoomID: room, End: at},
		domain.RoomRegistered{RoomID: room, Details: details, At: at},
		domain.RoomChanged{RoomID: room, Details: details, At: at},
		domain.RoomRetired{RoomID: room, From: at, Bookings: domain.CancelBookings, At: at},
		domain.RoomReinstated{RoomID: room, At: at},
		domain.RulesSet{RoomID: room, Rules: rules, At: at},
		domain.PeriodClosed{ClosureID: closure, RoomID: room, Slot: slot, Reason: "being <painted>", Bookings: domain.KeepBookings, At: at},
		domain.PeriodReopened{ClosureID: closure, RoomID: room, At: at},
		domain.RoomPhotoChanged{RoomID: room, Photo: domain.Photo{Hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", Alt: "a <long> table", Width: 1280, Height: 960}, At: at},
		domain.PhotoStored{JPEG: "/9j/2Q==", At: at},
		domain.RoomFaultReported{FaultID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c09", RoomID: room, Equipment: "beamer \"A\"", Text: "no <picture>", By: user, At: at},
		domain.RoomFaultSettled{FaultID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c09", RoomID: room, By: "admin", Note: "new lamp", At: at},
	}
}

// formerEvents are those that the former codec knew.
func formerEvents() []domain.Event {
	return slices.DeleteFunc(everyEvent(), func(e domain.Event) bool {
		_, _, err := formerEncode(Proposed{Event: e})
		return errors.Is(err, errUnknownType)
	})
}

func everyMetadata() Metadata {
	return Metadata{
		CorrelationID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c02",
		CausationID:   "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c03",
		Actor:         "user-1",
		Client:        "192.0.2.0/24",
		OccurredAt:    time.Date(2021, 6, 30, 9, 0, 0, 120000000, time.FixedZone("KST", 9*60*60)),
		SchemaVersion: 1,
		TraceParent:   "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		Command:       "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c02/9f86d081884c7d65",
	}
}

// utc is v as it is read back: with its times in UTC and without their monotonic readings.
func utc[T any](v T) T {
	c := reflect.New(reflect.TypeOf(v)).Elem()
	c.Set(reflect.ValueOf(v))
	var walk func(reflect.Value)
	walk = func(v reflect.Value) {
		if !v.CanSet() { // what is not stored
			return
		}
		if t, ok := v.Interface().(time.Time); ok {
			v.Set(reflect.ValueOf(t.UTC().Round(0)))
			return
		}
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				walk(v.Field(i))
			}
		}
	}
	walk(c)
	return c.Interface().(T)
}

// The stored form of a schema never changes: existing stores are full of what is in these files.
func TestStoredFormOfSchema1(t *testing.T) {
	c := newCodec()
	check := func(t *testing.T, name string, stored []byte) {
		t.Helper()
		path := filepath.Join("testdata", "schema1", name+".json")
		want, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && *rewrite {
			err, want = os.WriteFile(path, stored, 0o644), stored
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stored, want) {
			t.Errorf("stored form of %s\n got %s\nwant %s", name, stored, want)
		}
	}
	for _, event := range everyEvent() {
		t.Run(event.EventType(), func(t *testing.T) {
			data, metadata, err := c.encode(Proposed{Event: event, Metadata: everyMetadata()})
			if err != nil {
				t.Fatal(err)
			}
			check(t, event.EventType(), data)
			check(t, "metadata", metadata)

			got, m, err := c.decode(event.EventType(), data, metadata)
			if err != nil {
				t.Fatal(err)
			}
			if want := utc(event); !reflect.DeepEqual(got, want) {
				t.Errorf("decoded\n got %#v\nwant %#v", got, want)
			}
			if want := utc(everyMetadata()); m != want {
				t.Errorf("decoded metadata\n got %#v\nwant %#v", m, want)
			}
		})
	}
}

// What is read from an old store does not depend on what is written today.
func TestDecodesWhatIsStored(t *testing.T) {
	metadata, err := os.ReadFile("testdata/schema1/metadata.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range everyEvent() {
		data, err := os.ReadFile(filepath.Join("testdata", "schema1", want.EventType()+".json"))
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := newCodec().decode(want.EventType(), data, metadata)
		if err != nil || !reflect.DeepEqual(got, utc(want)) {
			t.Errorf("%s: decoded %#v, %v", want.EventType(), got, err)
		}
	}
}

// ConfirmCompleted gained its reason later: an event without one is stored and read as before, and an older program can read one that has
// it.
func TestAConfirmationWithAReason(t *testing.T) {
	event := domain.ConfirmCompleted{BookingID: "b", RoomID: "r", UserID: "u", ConfirmUserID: "admin", Reason: "as <always>", At: time.Date(2021, 6, 30, 0, 0, 0, 0, time.UTC)}
	data, metadata, err := newCodec().encode(Proposed{Event: event, Metadata: everyMetadata()})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"bookingId":"b","roomId":"r","userId":"u","confirmUserId":"admin","reason":"as \u003calways\u003e","at":"2021-06-30T00:00:00Z"}`
	if string(data) != want {
		t.Errorf("stored as %s, want %s", data, want)
	}
	if got, _, err := newCodec().decode("ConfirmCompleted", data, metadata); err != nil || got != domain.Event(event) {
		t.Errorf("decoded %#v, %v", got, err)
	}
	const old = `{"bookingId":"b","roomId":"r","userId":"u","confirmUserId":"admin","at":"2021-06-30T00:00:00Z"}`
	without := event
	without.Reason = ""
	if got, _, err := newCodec().decode("ConfirmCompleted", []byte(old), metadata); err != nil || got != domain.Event(without) {
		t.Errorf("decoded %#v, %v", got, err)
	}
	if data, _, err := newCodec().encode(Proposed{Event: without, Metadata: everyMetadata()}); err != nil || string(data) != old {
		t.Errorf("stored as %s, %v, want %s", data, err, old)
	}
	before, err := unmarshalV1[struct {
		BookingID     domain.BookingID `json:"bookingId"`
		ConfirmUserID domain.UserID    `json:"confirmUserId"`
		At            time.Time        `json:"at"`
	}](data)
	if err != nil || before.BookingID != "b" || before.ConfirmUserID != "admin" || !before.At.Equal(event.At) {
		t.Errorf("a program that knows of no reason reads %+v, %v", before, err)
	}
}

// Other members that were added later: an event without them is stored and read as before.
func TestMembersThatCameLater(t *testing.T) {
	at := time.Date(2021, 6, 30, 0, 0, 0, 0, time.UTC)
	metadata := []byte(`{"occurredAt":"2021-07-01T00:00:00Z","schemaVersion":1}`)
	for stored, event := range map[string]domain.Event{
		`{"bookingId":"b","reservationId":"r","roomId":"1","userId":"u","reason":"use-ended","at":"2021-06-30T00:00:00Z"}`: domain.BookingCancelled{
			BookingID: "b", ReservationID: "r", RoomID: "1", UserID: "u", Reason: domain.CancelledByUseEnd, At: at},
		`{"bookingId":"b","realUseId":"x","roomId":"1","userId":"u","startedAt":"2021-06-30T00:00:00Z"}`: domain.BookingCheckedIn{
			BookingID: "b", RealUseID: "x", RoomID: "1", UserID: "u", StartedAt: at},
		`{"realUseId":"x","bookingId":"b","roomId":"1","userId":"u","startedAt":"2021-06-30T00:00:00Z"}`: domain.UseStarted{
			RealUseID: "x", BookingID: "b", RoomID: "1", UserID: "u", StartedAt: at},
	} {
		if data, _, err := newCodec().encode(Proposed{Event: event, Metadata: everyMetadata()}); err != nil || string(data) != stored {
			t.Errorf("stored as %s, %v, want %s", data, err, stored)
		}
		if got, _, err := newCodec().decode(event.EventType(), []byte(stored), metadata); err != nil || got != event {
			t.Errorf("decoded %#v, %v, want %#v", got, err, event)
		}
	}
}

// An event that was stored before it gained a member is read without it.
func TestDecodesWhatHadFewerMembers(t *testing.T) {
	metadata, err := os.ReadFile("testdata/schema1/metadata.json")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/schema1/first/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no stored forms", err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		i := slices.IndexFunc(everyEvent(), func(e domain.Event) bool { return e.EventType() == name })
		want, gained := reflect.New(reflect.TypeOf(everyEvent()[i])).Elem(), 0
		want.Set(reflect.ValueOf(utc(everyEvent()[i])))
		for n := range want.NumField() {
			member, _, _ := strings.Cut(want.Type().Field(n).Tag.Get("json"), ",")
			if !bytes.Contains(data, []byte(`"`+member+`":`)) {
				want.Field(n).SetZero()
				gained++
			}
		}
		got, _, err := newCodec().decode(name, data, metadata)
		if err != nil || !reflect.DeepEqual(got, want.Interface()) || gained == 0 {
			t.Errorf("%s, without %d members: decoded %+v, %v; want %+v", name, gained, got, err, want)
		}
	}
}

// Every event of package domain is in the codec's table and in the tests above.
func TestKnowsEveryEventOfTheDomain(t *testing.T) {
	declared := map[string]bool{}
	files, err := filepath.Glob("../domain/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == "EventType" {
				declared[f.Recv.List[0].Type.(*ast.Ident).Name] = true
			}
		}
	}
	tested := map[string]bool{}
	for _, e := range everyEvent() {
		tested[reflect.TypeOf(e).Name()] = true
		for v, i := reflect.ValueOf(e), 0; i < v.NumField(); i++ {
			if v.Field(i).IsZero() {
				t.Errorf("%T is tested without %s", e, v.Type().Field(i).Name)
			}
		}
		if e.EventType() != reflect.TypeOf(e).Name() {
			t.Errorf("%T is stored under the name %s", e, e.EventType())
		}
	}
	if !maps.Equal(declared, tested) || len(declared) == 0 {
		t.Errorf("package domain declares %v, the codec is tested with %v", slices.Sorted(maps.Keys(declared)), slices.Sorted(maps.Keys(tested)))
	}
}

func TestKnown(t *testing.T) {
	for _, e := range everyEvent() {
		if !Known(e.EventType()) {
			t.Errorf("%s is not known", e.EventType())
		}
	}
	for _, name := range []string{"", "bookingCreated", "BookingCreated ", "NotificationRead", "$metadata"} {
		if Known(name) {
			t.Errorf("%q is known", name)
		}
	}
}

// texts are strings that JSON must escape or cannot represent.
var texts = []string{"", "a", "\x00\x7f", "\t\r\n\b\f", "<&>", "\"\\/", "\\ufffd", "\u2027\u2028\u2029", "\ufffd", "\xff", "é\xc3", "会議室", "😀"}

func anyText(t *rapid.T) string {
	return rapid.OneOf(rapid.StringN(0, 12, -1), rapid.SampledFrom(texts)).Draw(t, "text")
}

// anyTime draws a time in any zone, of a year that can be stored, that cannot, or that can only in some zones.
func anyTime(t *rapid.T) time.Time {
	zone := time.FixedZone("", rapid.IntRange(-24*60*60, 24*60*60).Draw(t, "zone"))
	second := rapid.OneOf(
		rapid.Int64Range(-62167219200, 253402300799), // years 0 to 9999
		rapid.Int64Range(-62167219200-24*60*60, -62167219200+24*60*60),
		rapid.Int64Range(253402300799-24*60*60, 253402300799+24*60*60),
		rapid.Int64(),
	).Draw(t, "second")
	nanosecond := rapid.OneOf(rapid.Int64Range(0, 999999999), rapid.SampledFrom([]int64{0, 1000, 120000000})).Draw(t, "nanosecond")
	return rapid.SampledFrom([]time.Time{{}, time.Unix(second, nanosecond).In(zone)}).Draw(t, "time")
}

// anyEvent draws an event of any type that the former code knows, with any values.
func anyEvent(t *rapid.T) domain.Event {
	zero := rapid.SampledFrom(formerEvents()).Draw(t, "type")
	v := reflect.New(reflect.TypeOf(zero)).Elem()
	var fill func(reflect.Value)
	fill = func(v reflect.Value) {
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(anyTime(t)))
			return
		}
		switch v.Kind() {
		case reflect.String:
			v.SetString(anyText(t))
		case reflect.Struct:
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		case reflect.Int64:
			v.SetInt(rapid.OneOf(rapid.Int64(), rapid.Just[int64](0)).Draw(t, "number"))
		case reflect.Bool:
			v.SetBool(rapid.Bool().Draw(t, "truth"))
		default:
			t.Fatalf("an event has a %s", v.Type())
		}
	}
	fill(v)
	return v.Interface().(domain.Event)
}

// sameDecoded checks that the codec decodes as the former code did. The exception is an event whose members are all empty: formerly it was
// refused only if it was not exactly as this program writes it.
func sameDecoded(t interface {
	Helper()
	Errorf(string, ...any)
}, eventType string, data, metadata []byte) {
	t.Helper()
	got, gotMetadata, err := newCodec().decode(eventType, data, metadata)
	want, wantMetadata, wantErr := formerDecode(eventType, data, metadata)
	if want != nil && reflect.ValueOf(want).IsZero() {
		want, wantErr = nil, errEmpty
	}
	if !reflect.DeepEqual(got, want) || gotMetadata != wantMetadata || (err == nil) != (wantErr == nil) {
		t.Errorf("%s %s %s\ndecoded %#v, %#v, %v\nformerly %#v, %#v, %v", eventType, data, metadata, got, gotMetadata, err, want, wantMetadata, wantErr)
	}
	for _, why := range []error{errUnknownType, errNewerSchema, errNoSchema, errEmpty} {
		if errors.Is(err, why) != errors.Is(wantErr, why) {
			t.Errorf("%s %s %s: %v, formerly %v", eventType, data, metadata, err, wantErr)
		}
	}
}

// Events are written as they were before, and the codec and the former code read what the other has written.
func TestStoredFormIsTheFormer(t *testing.T) {
	// In place of invalid UTF-8 there is U+FFFD, which was formerly escaped.
	unescaped := func(stored []byte) string { return strings.ReplaceAll(string(stored), `\ufffd`, "\ufffd") }
	rapid.Check(t, func(t *rapid.T) {
		p := Proposed{Event: anyEvent(t), Metadata: Metadata{
			CorrelationID: anyText(t), CausationID: anyText(t), Actor: anyText(t), Client: anyText(t), TraceParent: anyText(t), Command: anyText(t), OccurredAt: anyTime(t),
		}}
		data, metadata, err := newCodec().encode(p)
		formerData, formerMetadata, formerErr := formerEncode(p)
		if formerErr != nil {
			if !errors.Is(err, errYear) || !strings.HasSuffix(formerErr.Error(), errYear.Error()) {
				t.Fatalf("%#v: %v, formerly %v", p, err, formerErr)
			}
			return
		}
		if err != nil || unescaped(data) != unescaped(formerData) || unescaped(metadata) != unescaped(formerMetadata) {
			t.Fatalf("wrote\n %s %s, %v, formerly\n %s %s", data, metadata, err, formerData, formerMetadata)
		}
		sameDecoded(t, p.Event.EventType(), data, metadata)
		sameDecoded(t, p.Event.EventType(), formerData, formerMetadata)
	})
}

// Bytes that other programs may have stored are decoded, or refused, as they were before.
func FuzzDecodesAsBefore(f *testing.F) {
	metadata, err := os.ReadFile("testdata/schema1/metadata.json")
	if err != nil {
		f.Fatal(err)
	}
	foreign := func(stored []byte) [][]byte {
		all := [][]byte{stored, append(slices.Clone(stored), '}'), stored[:len(stored)/2], nil, []byte("null"), []byte("[]"), []byte(` {"at":"0000-01-01T00:00:00Z"} `)}
		for _, change := range [][2]string{
			{`,`, ", "}, {`":`, "\" :\n"}, {`bookingId`, "BOOKINGID"}, {`bookingId`, "booking_id"}, {`occurredAt`, "OccurredAt"}, {`{`, `{"unknown":[{"a":1e999,"a":2}],`},
			{`{`, `{"bookingId":"first",`}, {`{`, `{"at":null,"bookingId":null,`}, {`}`, `,"roomId":null}`}, {`"user-1"`, `"user\u002d\ud83d\ude00\ud83d"`}, {`user`, "us\xffer"},
			{`user`, "us\x01er"}, {`user`, `us\xer`}, {`2021`, "9999999"}, {`2021`, "-001"}, {`Z"`, `+09:00"`}, {`Z"`, `+25:99"`}, {`Z"`, `z"`}, {`.`, ","}, {`T0`, "T"}, {`T`, " "},
			{`:7`, ":-0"}, {`:7`, ":07"}, {`:7`, ":7.0"}, {`:7`, ":7e0"}, {`:7`, `:"7"`}, {`:7`, ":9223372036854775808"}, {`:1,`, ":1.5,"}, {`"slot":{`, `"slot":[`},
			{`"slot":{`, `"slot":null,"Slot":{`}, {`"start":`, `"START":`},
		} {
			if changed := bytes.ReplaceAll(stored, []byte(change[0]), []byte(change[1])); !bytes.Equal(changed, stored) {
				all = append(all, changed)
			}
		}
		return all
	}
	for _, event := range formerEvents() {
		data, err := os.ReadFile(filepath.Join("testdata", "schema1", event.EventType()+".json"))
		if err != nil {
			f.Fatal(err)
		}
		for _, data := range foreign(data) {
			f.Add(event.EventType(), data, metadata)
		}
	}
	for _, metadata := range foreign(metadata) {
		f.Add("SlotReleased", []byte(`{"reservationId":"r"}`), metadata)
	}
	f.Fuzz(func(t *testing.T, eventType string, data, metadata []byte) {
		newer := slices.DeleteFunc(everyEvent(), func(e domain.Event) bool { _, _, err := formerEncode(Proposed{Event: e}); return err == nil })
		if !slices.ContainsFunc(newer, func(e domain.Event) bool { return e.EventType() == eventType }) {
			sameDecoded(t, eventType, data, metadata)
		}
	})
}

func TestDecode(t *testing.T) {
	const (
		v1 = `{"occurredAt":"2021-07-01T00:00:00Z","schemaVersion":1}`
		at = "2021-07-01T09:00:00+09:00"
	)
	want := domain.SlotReleased{ReservationID: "r", BookingID: "b", RoomID: "会"}
	for name, test := range map[string]struct {
		eventType, data, metadata string
		want                      domain.Event
		err                       error // nil with want nil: any error
	}{
		"as written":                  {"SlotReleased", `{"reservationId":"r","bookingId":"b","roomId":"会"}`, v1, want, nil},
		"spaces and another order":    {"SlotReleased", ` { "roomId": "会", "bookingId":"b", "reservationId":"r" }`, v1, want, nil},
		"escapes":                     {"SlotReleased", `{"reservationId":"\u0072","bookingId":"b","roomId":"\u4f1a"}`, v1, want, nil},
		"a member more":               {"SlotReleased", `{"reservationId":"r","bookingId":"b","roomId":"会","more":[1]}`, v1, want, nil},
		"a member less":               {"SlotReleased", `{"reservationId":"r","bookingId":"b"}`, v1, domain.SlotReleased{ReservationID: "r", BookingID: "b"}, nil},
		"metadata in another form":    {"SlotReleased", `{"reservationId":"r","bookingId":"b","roomId":"会"}`, `{ "schemaVersion": 1, "x": {} }`, want, nil},
		"a type that nobody knows":    {"RoomPainted", `{}`, v1, nil, errUnknownType},
		"no type":                     {"", `{}`, v1, nil, errUnknownType},
		"a newer schema":              {"SlotReleased", `{"reservationId":"r","bookingId":"b","roomId":"会"}`, `{"schemaVersion":2}`, nil, errNewerSchema},
		"no schema":                   {"SlotReleased", `{"reservationId":"r","bookingId":"b","roomId":"会"}`, `{}`, nil, errNoSchema},
		"a negative schema":           {"SlotReleased", `{"reservationId":"r","bookingId":"b","roomId":"会"}`, `{"schemaVersion":-1}`, nil, errNoSchema},
		"no metadata":                 {"SlotReleased", `{"reservationId":"r","bookingId":"b","roomId":"会"}`, ``, nil, nil},
		"data that is not JSON":       {"SlotReleased", "\x00\x01", v1, nil, nil},
		"data that breaks off":        {"SlotReleased", `{"reservationId":"r","bookin`, v1, nil, nil},
		"no data":                     {"SlotReleased", ``, v1, nil, nil},
		"data that says nothing":      {"SlotReleased", `{}`, v1, nil, errEmpty},
		"null":                        {"SlotReleased", `null`, v1, nil, errEmpty},
		"a member of another kind":    {"SlotReleased", `{"reservationId":1,"bookingId":"b","roomId":"会"}`, v1, nil, nil},
		"a time that is none":         {"ConfirmRequested", `{"bookingId":"b","roomId":"r","userId":"u","at":"yesterday"}`, v1, nil, nil},
		"a time in another time zone": {"ConfirmRequested", `{"bookingId":"b","roomId":"r","userId":"u","at":"` + at + `"}`, v1, domain.ConfirmRequested{BookingID: "b", RoomID: "r", UserID: "u", At: time.Date(2021, 7, 1, 0, 0, 0, 0, time.UTC)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, err := newCodec().decode(test.eventType, []byte(test.data), []byte(test.metadata))
			if got != nil {
				got = utc(got)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("decoded %#v, want %#v", got, test.want)
			}
			if (err == nil) != (test.want != nil) || test.err != nil && !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
		})
	}
}

type unknownEvent struct{}

func (unknownEvent) EventType() string { return "Unknown" }

func TestEncodeRefuses(t *testing.T) {
	for name, p := range map[string]Proposed{
		"a type without a place in the codec": {Event: unknownEvent{}},
		"a year that RFC 3339 cannot say":     {Event: domain.ConfirmRequested{At: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}},
		"such a year in the metadata":         {Event: domain.SlotReleased{}, Metadata: Metadata{OccurredAt: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)}},
	} {
		if _, _, err := newCodec().encode(p); err == nil {
			t.Errorf("%s: stored", name)
		}
	}
}

// As if the schema of BookingCancelled had changed twice: the reason was once called "why", and before that it was a number.
func TestUpcast(t *testing.T) {
	renamed := func(from, to string) upcast {
		return func(data []byte) ([]byte, error) {
			var members map[string]json.RawMessage
			if err := json.Unmarshal(data, &members); err != nil {
				return nil, err
			}
			members[to] = members[from]
			delete(members, from)
			return json.Marshal(members)
		}
	}
	numbered := func(data []byte) ([]byte, error) {
		if bytes.Contains(data, []byte(`"number":13`)) {
			return nil, errors.New("no such reason")
		}
		return bytes.Replace(data, []byte(`"number":1`), []byte(`"why":"user"`), 1), nil
	}
	c := newCodec()
	c.upcasts = map[string][]upcast{"BookingCancelled": {numbered, renamed("why", "reason")}}
	want := domain.BookingCancelled{BookingID: "b", Reason: domain.CancelledByUser}

	for _, test := range []struct {
		schema, data string
		want         domain.Event
	}{
		{"1", `{"bookingId":"b","number":1}`, want},
		{"2", `{"bookingId":"b","why":"user"}`, want},
		{"3", `{"bookingId":"b","reason":"user"}`, want},
		{"4", `{"bookingId":"b","reason":"user"}`, nil},
		{"1", `{"bookingId":"b","number":13}`, nil},
		{"2", `{"bookingId":`, nil},
	} {
		got, _, err := c.decode("BookingCancelled", []byte(test.data), []byte(`{"schemaVersion":`+test.schema+`}`))
		if !reflect.DeepEqual(got, test.want) || (err == nil) != (test.want != nil) {
			t.Errorf("schema %s, %s: decoded %#v, %v", test.schema, test.data, got, err)
		}
	}

	_, metadata, err := c.encode(Proposed{Event: want})
	if err != nil || !bytes.Contains(metadata, []byte(`"schemaVersion":3`)) {
		t.Errorf("written with metadata %s, %v", metadata, err)
	}
	_, metadata, err = c.encode(Proposed{Event: domain.UseStarted{}})
	if err != nil || !bytes.Contains(metadata, []byte(`"schemaVersion":1`)) {
		t.Errorf("another type written with metadata %s, %v", metadata, err)
	}
}

// BenchmarkEncode writes an event and its metadata; "former" is how it was done by hand.
func BenchmarkEncode(b *testing.B) {
	c := newCodec()
	for _, e := range everyEvent() {
		if e.EventType() != "SlotReserved" && e.EventType() != "BookingCreated" {
			continue
		}
		p := Proposed{Event: e, Metadata: everyMetadata()}
		for name, encode := range map[string]func(Proposed) ([]byte, []byte, error){"": c.encode, "/former": formerEncode} {
			b.Run(e.EventType()+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := encode(p); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkDecode reads an event and its metadata; "former" is how it was done by hand.
func BenchmarkDecode(b *testing.B) {
	c := newCodec()
	for _, e := range []domain.Event{
		domain.SlotReserved{ReservationID: "3f1c2b9a-5d4e-5f60-8a7b-9c0d1e2f3a4b", BookingID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c01", RoomID: "room-1", UserID: "user-1", Actor: "user-1", CorrelationID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c02", At: time.Now()},
		domain.ConfirmRequested{BookingID: "0190a5c2-7e1d-7c3a-9a55-1f0e4a6b7c01", RoomID: "room-1", UserID: "user-1", At: time.Now()},
	} {
		data, metadata, err := c.encode(Proposed{Event: e, Metadata: everyMetadata()})
		if err != nil {
			b.Fatal(err)
		}
		for name, decode := range map[string]func(string, []byte, []byte) (domain.Event, Metadata, error){"": c.decode, "/former": formerDecode} {
			b.Run(e.EventType()+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := decode(e.EventType(), data, metadata); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

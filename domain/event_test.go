package domain

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// TestStoredForm holds every event to the name and the JSON it is stored under, and back. What is stored is never rewritten,
// so a row that no longer holds is a change that old events do not survive.
func TestStoredForm(t *testing.T) {
	for _, row := range []struct {
		name  string
		event Event
		json  string
	}{
		{"BookingCreated", created,
			`{"bookingId":"b","reservationId":"r1","roomId":"red","userId":"ann","slot":{"start":"2026-11-24T13:00:00Z","end":"2026-11-24T14:00:00Z"},"at":"2026-11-24T12:00:00Z"}`},
		{"ConfirmRequested", requested,
			`{"bookingId":"b","roomId":"red","userId":"ann","at":"2026-11-24T12:00:00Z"}`},
		{"BookingChanged", changed,
			`{"bookingId":"b","reservationId":"r2","roomId":"blue","userId":"ann","slot":{"start":"2026-11-24T15:00:00Z","end":"2026-11-24T16:00:00Z"},"at":"2026-11-24T12:01:00Z"}`},
		{"BookingHandedOver", BookingHandedOver{BookingID: "b", RoomID: "red", UserID: "bob", FormerUserID: "ann", At: noon},
			`{"bookingId":"b","roomId":"red","userId":"bob","formerUserId":"ann","at":"2026-11-24T12:00:00Z"}`},
		{"ConfirmCompleted", completed,
			`{"bookingId":"b","roomId":"red","userId":"ann","confirmUserId":"admin","at":"2026-11-24T12:01:00Z"}`},
		{"ConfirmCompleted", ConfirmCompleted{BookingID: "b", RoomID: "red", UserID: "ann", At: noon},
			`{"bookingId":"b","roomId":"red","userId":"ann","at":"2026-11-24T12:00:00Z"}`},
		{"ConfirmCompleted", ConfirmCompleted{BookingID: "b", RoomID: "red", UserID: "ann", Reason: "as always", At: noon},
			`{"bookingId":"b","roomId":"red","userId":"ann","reason":"as always","at":"2026-11-24T12:00:00Z"}`},
		{"ConfirmDenied", denied,
			`{"bookingId":"b","roomId":"red","userId":"ann","confirmUserId":"admin","reason":"cleaning","at":"2026-11-24T12:01:00Z"}`},
		{"ConfirmDenied", ConfirmDenied{BookingID: "b", RoomID: "red", UserID: "ann", At: noon},
			`{"bookingId":"b","roomId":"red","userId":"ann","at":"2026-11-24T12:00:00Z"}`},
		{"BookingCheckedIn", BookingCheckedIn{BookingID: "b", RealUseID: "u", RoomID: "red", UserID: "ann", StartedAt: noon},
			`{"bookingId":"b","realUseId":"u","roomId":"red","userId":"ann","startedAt":"2026-11-24T12:00:00Z"}`},
		{"BookingUnblocked", BookingUnblocked{BookingID: "b", Reason: "a bad disk", At: noon},
			`{"bookingId":"b","reason":"a bad disk","at":"2026-11-24T12:00:00Z"}`},
		{"BookingCancelled", cancelled,
			`{"bookingId":"b","reservationId":"r1","roomId":"red","userId":"ann","reason":"user","at":"2026-11-24T12:01:00Z"}`},
		{"BookingCancelled", byDenial,
			`{"bookingId":"b","reservationId":"r1","roomId":"red","userId":"ann","reason":"denied","at":"2026-11-24T12:01:00Z"}`},
		{"BookingCancelled", byUseEnd,
			`{"bookingId":"b","reservationId":"r1","roomId":"red","userId":"ann","reason":"use-ended","at":"2026-11-24T15:00:00Z","usedUntil":"2026-11-24T14:00:00Z"}`},
		{"BookingCancelled", BookingCancelled{BookingID: "b", ReservationID: "r1", RoomID: "red", UserID: "ann", Reason: CancelledByAdmin, At: noon.Add(time.Millisecond)},
			`{"bookingId":"b","reservationId":"r1","roomId":"red","userId":"ann","reason":"admin","at":"2026-11-24T12:00:00.001Z"}`},
		{"BookingCheckedIn", BookingCheckedIn{BookingID: "b", RealUseID: "u", RoomID: "red", UserID: "ann", StartedAt: noon, RoomStillInUseBy: "a"},
			`{"bookingId":"b","realUseId":"u","roomId":"red","userId":"ann","startedAt":"2026-11-24T12:00:00Z","roomStillInUseBy":"a"}`},
		{"BookingCancelled", BookingCancelled{BookingID: "b", ReservationID: "r1", RoomID: "red", UserID: "ann", Reason: CancelledByUseEnd, At: noon},
			`{"bookingId":"b","reservationId":"r1","roomId":"red","userId":"ann","reason":"use-ended","at":"2026-11-24T12:00:00Z"}`},
		{"UseStarted", UseStarted{RealUseID: "u", BookingID: "b", RoomID: "red", UserID: "ann", StartedAt: noon, RoomStillInUseBy: "a"},
			`{"realUseId":"u","bookingId":"b","roomId":"red","userId":"ann","startedAt":"2026-11-24T12:00:00Z","roomStillInUseBy":"a"}`},
		{"UseStarted", started,
			`{"realUseId":"u","bookingId":"b","roomId":"red","userId":"ann","startedAt":"2026-11-24T12:00:00Z"}`},
		{"UseEnded", ended,
			`{"realUseId":"u","bookingId":"b","roomId":"red","userId":"ann","endedAt":"2026-11-24T13:00:00Z","at":"2026-11-24T14:00:00Z"}`},
		{"SlotReserved", SlotReserved{ReservationID: "r1", BookingID: "b", RoomID: "red", UserID: "ann", Slot: hours(1, 2), At: noon, Actor: "eve", CorrelationID: "c"},
			`{"reservationId":"r1","bookingId":"b","roomId":"red","userId":"ann","slot":{"start":"2026-11-24T13:00:00Z","end":"2026-11-24T14:00:00Z"},"at":"2026-11-24T12:00:00Z","actor":"eve","correlationId":"c"}`},
		{"SlotReserved", SlotReserved{ReservationID: "r2", BookingID: "b", RoomID: "red", Slot: hours(1, 2), At: noon, TraceParent: "00-t", Command: "c/d", Replaces: "r1", IfRevision: 3},
			`{"reservationId":"r2","bookingId":"b","roomId":"red","slot":{"start":"2026-11-24T13:00:00Z","end":"2026-11-24T14:00:00Z"},"at":"2026-11-24T12:00:00Z","actor":"","correlationId":"","traceparent":"00-t","command":"c/d","replaces":"r1","ifRevision":3}`},
		{"KeyUsed", KeyUsed{Digest: "d", At: noon}, `{"digest":"d","at":"2026-11-24T12:00:00Z"}`},
		{"KeyRefused", KeyRefused{Answer: "no", At: noon}, `{"answer":"no","at":"2026-11-24T12:00:00Z"}`},
		{"KeyUnchanged", KeyUnchanged{Revision: 2, At: noon}, `{"revision":2,"at":"2026-11-24T12:00:00Z"}`},
		{"CalendarSnapshot", CalendarSnapshot{Version: 1, RoomID: "red", Revision: 2, EventID: "e", Since: noon, Held: "AAAA", Hash: "h"},
			`{"version":1,"roomId":"red","revision":2,"eventId":"e","since":"2026-11-24T12:00:00Z","held":"AAAA","hash":"h"}`},
		{"CalendarSnapshot", CalendarSnapshot{Version: 1, RoomID: "red", Revision: 2, EventID: "e"},
			`{"version":1,"roomId":"red","revision":2,"eventId":"e","held":"","hash":""}`},
		{"RoomPhotoChanged", RoomPhotoChanged{RoomID: "red", Photo: Photo{Hash: "9f86", Alt: "six chairs", Width: 1280, Height: 960}, At: noon},
			`{"roomId":"red","photo":{"hash":"9f86","alt":"six chairs","width":1280,"height":960},"at":"2026-11-24T12:00:00Z"}`},
		{"RoomPhotoChanged", RoomPhotoChanged{RoomID: "red", At: noon},
			`{"roomId":"red","at":"2026-11-24T12:00:00Z"}`},
		{"PhotoStored", PhotoStored{JPEG: "/9g=", At: noon}, `{"jpeg":"/9g=","at":"2026-11-24T12:00:00Z"}`},
		{"SlotReleased", SlotReleased{ReservationID: "r1", BookingID: "b", RoomID: "red"},
			`{"reservationId":"r1","bookingId":"b","roomId":"red"}`},
		{"SlotUsed", SlotUsed{ReservationID: "r1", BookingID: "b", RoomID: "red", End: noon},
			`{"reservationId":"r1","bookingId":"b","roomId":"red","end":"2026-11-24T12:00:00Z"}`},
	} {
		if got := row.event.EventType(); got != row.name {
			t.Errorf("%T is stored under %s, want %s", row.event, got, row.name)
		}
		wantValue(t, row.name, reflect.TypeOf(row.event))
		stored, err := json.Marshal(row.event)
		if err != nil || string(stored) != row.json {
			t.Errorf("%s is stored as\n%s, %v, want\n%s", row.name, stored, err, row.json)
		}
		back := reflect.New(reflect.TypeOf(row.event))
		if err := json.Unmarshal([]byte(row.json), back.Interface()); err != nil || !reflect.DeepEqual(back.Elem().Interface(), row.event) {
			t.Errorf("%s is read as\n%+v, %v, want\n%+v", row.name, back.Elem(), err, row.event)
		}
	}
}

// wantValue wants an event to be a value, which nobody who still holds a part of it can change.
func wantValue(t *testing.T, name string, of reflect.Type) {
	t.Helper()
	switch of.Kind() {
	case reflect.Struct:
		switch of {
		case reflect.TypeFor[time.Time](), reflect.TypeFor[Details](), reflect.TypeFor[Rules](), reflect.TypeFor[Room](): // nobody writes to what these lead to
			return
		}
		for field := range of.Fields() {
			wantValue(t, name+"."+field.Name, field.Type)
		}
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.Chan, reflect.Func:
		t.Errorf("%s is a %s, which can change after the event was made", name, of)
	}
}

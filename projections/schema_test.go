package projections_test

import (
	"strings"
	"testing"
	"time"

	"roombook/domain"
	"roombook/projections"
)

// The fields of documents have the names that replies have; only optional ones are omitted.
func TestDocumentText(t *testing.T) {
	at := time.Date(2026, 11, 24, 9, 0, 0, 5e6, time.UTC)
	for _, test := range []struct {
		document any
		want     string
	}{
		{&projections.BookingList{}, `{"bookingId":"","roomId":"","bookingUserId":"","useStartDtm":"0001-01-01T00:00:00Z","useEndDtm":"0001-01-01T00:00:00Z",` +
			`"bookingDtm":"0001-01-01T00:00:00Z","status":"","confirmStatus":"","modifiedDtm":"0001-01-01T00:00:00Z"}`},
		{&projections.BookingList{Booking: "b", Room: "r", User: "u", Start: at, End: at, BookedAt: at, Status: "CANCELLED", ConfirmStatus: "DENIED", ConfirmUser: "a",
			ConfirmReason: "\"no\"", ConfirmedAt: at, CancelReason: "denied", CancelDetail: "d", CancelledAt: at, Changes: 2, ModifiedAt: at},
			`{"bookingId":"b","roomId":"r","bookingUserId":"u","useStartDtm":"2026-11-24T09:00:00.005Z","useEndDtm":"2026-11-24T09:00:00.005Z",` +
				`"bookingDtm":"2026-11-24T09:00:00.005Z","status":"CANCELLED","confirmStatus":"DENIED","confirmUserId":"a","confirmReason":"\"no\"",` +
				`"confirmDtm":"2026-11-24T09:00:00.005Z","cancelReason":"denied","cancelDetail":"d","cancelDtm":"2026-11-24T09:00:00.005Z","changes":2,"modifiedDtm":"2026-11-24T09:00:00.005Z"}`},
		{&projections.RoomUseList{Booking: "b", Room: "r", User: "u", Start: at, End: at, Status: "ENDED", RealUse: "x", StartedAt: at, EndedAt: at, RoomStillInUseBy: "c", BookedMinutes: 1, UsedMinutes: 2},
			`{"bookingId":"b","roomId":"r","bookingUserId":"u","bookedUseStartDtm":"2026-11-24T09:00:00.005Z","bookedUseEndDtm":"2026-11-24T09:00:00.005Z",` +
				`"status":"ENDED","bookedMinutes":1,"usedMinutes":2,"realUseId":"x","realUseStartDtm":"2026-11-24T09:00:00.005Z",` +
				`"realUseEndDtm":"2026-11-24T09:00:00.005Z","roomStillInUseBy":"c"}`},
		{&projections.Notification{ID: "n", Booking: "b", Room: "r", User: "u", Kind: "booked", Contents: "c", SentAt: at, Delivery: "DELIVERED", DeliveredAt: at, Attempts: 3, Reason: "full"},
			`{"notificationId":"n","bookingId":"b","roomId":"r","userId":"u","kind":"booked","contents":"c","sendDtm":"2026-11-24T09:00:00.005Z",` +
				`"delivery":"DELIVERED","attempts":3,"deliveredDtm":"2026-11-24T09:00:00.005Z","reason":"full"}`},
		{&projections.RoomList{}, `{"roomId":"","name":"","status":"","registeredDtm":"0001-01-01T00:00:00Z"}`},
		{&projections.RoomList{Room: "r", Name: "Blue", Building: "b", Floor: "3", Capacity: 4, Equipment: []string{"e"}, Zone: "Asia/Seoul", Colour: "#000000", Note: "n",
			Approvers: []domain.UserID{"a"}, Status: "RETIRED", RegisteredAt: at, RetiredFrom: at, Rules: &domain.Rules{Hours: &domain.WeekHours{}},
			Closures: []projections.Closure{{ID: "c", Start: at, End: at, Reason: "w"}}, Faults: []projections.Fault{{ID: "f", Equipment: "e", Text: "x", At: at}}},
			`{"roomId":"r","name":"Blue","building":"b","floor":"3","capacity":4,"equipment":["e"],"zone":"Asia/Seoul","colour":"#000000","note":"n","approvers":["a"],` +
				`"status":"RETIRED","registeredDtm":"2026-11-24T09:00:00.005Z","retiredFromDtm":"2026-11-24T09:00:00.005Z","rules":{"hours":{}},` +
				`"closures":[{"closureId":"c","startDtm":"2026-11-24T09:00:00.005Z","endDtm":"2026-11-24T09:00:00.005Z","reason":"w"}],` +
				`"faults":[{"faultId":"f","equipment":"e","text":"x","reportedDtm":"2026-11-24T09:00:00.005Z"}]}`},
	} {
		if got, err := projections.DocumentText(test.document); got != test.want || err != nil {
			t.Errorf("got  %s, %v\nwant %s", got, err, test.want)
		}
	}
}

// SchemaOf rejects structs whose tags disagree or whose fields have other types.
func TestSchemaOf(t *testing.T) {
	wantPanic := func(field string, schemaOf func(...projections.Index) projections.Schema) {
		t.Helper()
		defer func() {
			if reason, _ := recover().(string); !strings.Contains(reason, field) {
				t.Errorf("of %s: %q", field, reason)
			}
		}()
		schemaOf()
	}
	wantPanic("Renamed", projections.SchemaOf[struct {
		Renamed string `json:"a" bson:"b"`
	}])
	wantPanic("Nameless", projections.SchemaOf[struct{ Nameless string }])
	wantPanic("Halved", projections.SchemaOf[struct {
		Halved string `json:"a,omitzero" bson:"a"`
	}])
	wantPanic("Otherwise", projections.SchemaOf[struct {
		Otherwise string `json:"a,omitempty" bson:"a,omitempty"`
	}])
	wantPanic("Several", projections.SchemaOf[struct {
		Several []string `json:"a" bson:"a"`
	}])
	wantPanic("Fraction", projections.SchemaOf[struct {
		Fraction float64 `json:"a" bson:"a"`
	}])
}

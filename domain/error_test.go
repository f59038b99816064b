package domain

import (
	"testing"
	"time"
)

func TestErrorTexts(t *testing.T) {
	inSeoul := noon.In(time.FixedZone("KST", 9*60*60))
	for _, row := range []struct {
		err  error
		want string
	}{
		{ErrBookingNotFound, "there is no such booking"},
		{ErrRealUseNotFound, "there is no such real use"},
		{ErrConfirmationPending, "the booking has not been confirmed yet"},
		{&SlotTaken{Room: "red", Slot: Slot{inSeoul, inSeoul.Add(time.Hour)}}, "room red is taken in [2026-11-24T12:00:00Z, 2026-11-24T13:00:00Z)"},
		{&AlreadyCancelled{Booking: "b", Reason: CancelledByDenial, At: noon}, "booking b was cancelled (denied)"},
		{&AlreadyInUse{Booking: "b", RealUse: "u"}, "booking b is in use"},
		{&AlreadyConfirmed{Booking: "b", By: "admin", At: noon}, "booking b has been confirmed"},
		{&AlreadyEnded{RealUse: "u", At: inSeoul}, "real use u ended at 2026-11-24T12:00:00Z"},
		{&Invalid{[]Fault{{FieldStart, "is late"}}}, "start: is late"},
		{&Invalid{[]Fault{{FieldStart, "is late"}, {FieldEnd, "is early"}}}, "start: is late; end: is early"},
	} {
		if got := row.err.Error(); got != row.want {
			t.Errorf("%T reads %q, want %q", row.err, got, row.want)
		}
	}
}

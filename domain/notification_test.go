package domain

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestNoticeOf(t *testing.T) {
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		event    Event
		kind     NotificationKind // empty: nobody is told
		to       UserID
		sentence string
	}{
		{BookingCreated{BookingID: "b", RoomID: "1", UserID: "kim", At: at}, KindBooked, "kim", "conference room[1] reservation is complete"},
		{BookingChanged{BookingID: "b", RoomID: "1", UserID: "kim", At: at}, KindChanged, "kim", "conference room[1] reservation has been changed"},
		{BookingHandedOver{BookingID: "b", RoomID: "1", UserID: "lee", FormerUserID: "kim", At: at}, KindHandedOver, "kim", "conference room[1] reservation has been handed over to user[lee]"},
		{BookingHandedOver{BookingID: "b", RoomID: "2", UserID: "lee", FormerUserID: "kim", FormerRoomID: "1", At: at}, KindHandedOver, "kim", "conference room[1] reservation has been handed over to user[lee]"},
		{ConfirmCompleted{BookingID: "b", RoomID: "1", UserID: "kim", Reason: "as ever", At: at}, KindConfirmed, "kim", "Booking Number[ b ] is confirmed: as ever"},
		{ConfirmDenied{BookingID: "b", RoomID: "1", UserID: "kim", At: at}, KindDenied, "kim", "Booking Number[ b ] is denied, reservation has been canceled"},
		{UseStarted{BookingID: "b", RoomID: "1", UserID: "kim"}, KindUseStarted, "kim", "Booking Number[ b ] is use started"},
		{UseEnded{BookingID: "b", RoomID: "1", UserID: "kim"}, KindUseEnded, "kim", "Booking Number[ b ] is use ended"},
		{BookingCancelled{BookingID: "b", RoomID: "1", UserID: "kim", Reason: CancelledByUser}, KindCancelled, "kim", "reservation has been canceled"},
		{BookingCancelled{BookingID: "b", RoomID: "1", UserID: "kim", Reason: CancelledByAdmin}, KindCancelled, "kim", "reservation has been canceled"},
		{BookingCancelled{BookingID: "b", RoomID: "1", UserID: "kim", Reason: CancelledByClosure}, KindCancelled, "kim", "reservation has been canceled, because the room is closed"},
		{BookingCancelled{BookingID: "b", RoomID: "1", UserID: "kim", Reason: CancelledByClosure, Detail: "paint"}, KindCancelled, "kim", "reservation has been canceled, because the room is closed: paint"},
		{BookingCancelled{BookingID: "b", RoomID: "1", UserID: "kim", Reason: CancelledByDenial}, "", "", ""},
		{BookingCancelled{BookingID: "b", RoomID: "1", UserID: "kim", Reason: CancelledByUseEnd}, "", "", ""},
		{ConfirmRequested{BookingID: "b", RoomID: "1", UserID: "kim", At: at}, "", "", ""},
		{BookingCheckedIn{BookingID: "b", RoomID: "1", UserID: "kim"}, "", "", ""},
		{NotificationRetried{NotificationID: "n"}, "", "", ""},
		{nil, "", "", ""},
	} {
		n, told := NoticeOf(test.event)
		if told != (test.kind != "") || n.Kind != test.kind || n.To != test.to || told && (n.Sentence() != test.sentence || n.Booking != "b" || n.Room != "1") {
			t.Errorf("%+v: %+v, %t, %q", test.event, n, told, n.Sentence())
		}
	}
}

func TestNotificationIDs(t *testing.T) {
	event := uuid.New()
	id := NotificationOf(event)
	if own, second := id, id.ForApprover(2); own.Event() != event.String() || second.Event() != event.String() || own == second || second == id.ForApprover(1) ||
		own.Stream() != "notification-"+event.String() || second.Stream() != own.Stream() || len(second) > 64 {
		t.Errorf("%s and %s", own, second)
	}
}

// Given these events of a notification stream, how far a channel has got, and what a retry adds.
func TestDeliveries(t *testing.T) {
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	delivered := func(on Channel, n int64) Event {
		return NotificationDelivered{NotificationID: "n", BookingID: "b", Channel: on, Attempt: n, At: at}
	}
	failed := func(on Channel, n int64, parked bool) Event {
		return NotificationFailed{NotificationID: "n", BookingID: "b", Channel: on, Attempt: n, Parked: parked, At: at}
	}
	again := func(n int64) Event {
		return NotificationFailed{NotificationID: "n", BookingID: "b", Channel: ChannelMail, Attempt: n, Again: at, At: at}
	}
	due := func(on Channel) Event {
		return NotificationDue{NotificationID: "n", BookingID: "b", Channel: on, At: at}
	}
	retried := NotificationRetried{NotificationID: "n", BookingID: "b", At: at}
	other := NotificationFailed{NotificationID: "other", BookingID: "b", Channel: ChannelMail, Attempt: 9, Parked: true, At: at}
	for name, test := range map[string]struct {
		given []Event
		then  ChannelDelivery // by mail
		retry bool
	}{
		"nothing":                {nil, ChannelDelivery{Delivery: DeliveryPending}, false},
		"another's":              {[]Event{other}, ChannelDelivery{Delivery: DeliveryPending}, false},
		"another channel":        {[]Event{delivered(ChannelWebhook, 1)}, ChannelDelivery{Delivery: DeliveryPending}, false},
		"delivered":              {[]Event{delivered(ChannelMail, 1)}, ChannelDelivery{Booking: "b", Delivery: DeliveryDelivered, Attempts: 1}, false},
		"failed":                 {[]Event{failed(ChannelMail, 1, false)}, ChannelDelivery{Booking: "b", Delivery: DeliveryPending, Attempts: 1}, false},
		"failed, then delivered": {[]Event{failed(ChannelMail, 1, false), delivered(ChannelMail, 2)}, ChannelDelivery{Booking: "b", Delivery: DeliveryDelivered, Attempts: 2}, false},
		"given up":               {[]Event{failed(ChannelMail, 1, false), failed(ChannelMail, 2, true)}, ChannelDelivery{Booking: "b", Delivery: DeliveryFailed, Attempts: 2}, true},
		"asked again":            {[]Event{failed(ChannelMail, 1, false), failed(ChannelMail, 2, true), retried}, ChannelDelivery{Booking: "b", Delivery: DeliveryPending, Attempts: 2, Allowance: 2}, false},
		"asked again in vain":    {[]Event{failed(ChannelMail, 1, true), retried, failed(ChannelMail, 2, true)}, ChannelDelivery{Booking: "b", Delivery: DeliveryFailed, Attempts: 2, Allowance: 1}, true},
		"delivered, and asked":   {[]Event{delivered(ChannelMail, 1), retried}, ChannelDelivery{Booking: "b", Delivery: DeliveryDelivered, Attempts: 1}, false},
		"to be attempted again":  {[]Event{again(2)}, ChannelDelivery{Booking: "b", Delivery: DeliveryPending, Attempts: 2, Again: at}, false},
		"held":                   {[]Event{again(2), NotificationFailed{NotificationID: "n", BookingID: "b", Channel: ChannelMail, Attempt: 2, Held: true, Again: at.Add(1)}}, ChannelDelivery{Booking: "b", Delivery: DeliveryPending, Attempts: 2, Again: at.Add(1)}, false},
		"due":                    {[]Event{again(2), due(ChannelMail)}, ChannelDelivery{Booking: "b", Delivery: DeliveryPending, Attempts: 2, Again: at, Due: true}, false},
		"due elsewhere":          {[]Event{again(2), due(ChannelWebhook)}, ChannelDelivery{Booking: "b", Delivery: DeliveryPending, Attempts: 2, Again: at}, false},
		"due, and delivered":     {[]Event{again(2), due(ChannelMail), delivered(ChannelMail, 3)}, ChannelDelivery{Booking: "b", Delivery: DeliveryDelivered, Attempts: 3}, false},
		"due, and given up":      {[]Event{again(2), due(ChannelMail), failed(ChannelMail, 3, true)}, ChannelDelivery{Booking: "b", Delivery: DeliveryFailed, Attempts: 3}, true},
		"the fallback gave up":   {[]Event{delivered(ChannelMail, 1), failed(ChannelWebhook, 1, true)}, ChannelDelivery{Booking: "b", Delivery: DeliveryDelivered, Attempts: 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := Fold(Deliveries{}, test.given...)
			test.then.Notification, test.then.Channel = "n", ChannelMail
			if got := d.On("n", ChannelMail); got != test.then {
				t.Errorf("got  %+v\nwant %+v", got, test.then)
			}
			var want []Event
			if test.retry {
				want = []Event{retried}
			}
			decided := DecideRetry(d, "n", at)
			if !reflect.DeepEqual(decided, want) {
				t.Errorf("a retry adds %+v", decided)
			}
			if again := DecideRetry(Fold(d, decided...), "n", at); len(again) != 0 {
				t.Errorf("a second retry adds %+v", again)
			}
			if got := d.On("n", ChannelMail); got != test.then {
				t.Errorf("afterwards it is %+v", got)
			}
		})
	}
}

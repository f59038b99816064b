package projections_test

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
	"roombook/projections/sqlite"
	"roombook/projections/storetest"
)

var (
	nine   = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	ten    = nine.Add(time.Hour)
	eleven = nine.Add(2 * time.Hour)
	noon   = nine.Add(3 * time.Hour)
	seoul  = time.FixedZone("KST", 9*60*60)
)

// log records the events of one booking, a minute apart, from nine o'clock on.
func log(events ...domain.Event) []eventstore.Recorded {
	recorded := make([]eventstore.Recorded, len(events))
	for i, e := range events {
		recorded[i] = eventstore.Recorded{
			ID: eventID(i), Position: eventstore.Position(i + 1), Event: e,
			Metadata: eventstore.Metadata{OccurredAt: nine.Add(time.Duration(i) * time.Minute)},
		}
		if e != nil {
			recorded[i].Type = e.EventType()
		}
	}
	return recorded
}

func eventID(i int) uuid.UUID { return uuid.NewSHA1(uuid.Nil, []byte{byte(i)}) }

const (
	b1 = domain.BookingID("b1")
	u1 = domain.RealUseID("u1")
)

func created() domain.BookingCreated {
	return domain.BookingCreated{BookingID: b1, ReservationID: "r1", RoomID: "1", UserID: "kim", Slot: domain.Slot{Start: ten.In(seoul), End: eleven.In(seoul)}, At: nine.In(seoul)}
}

func requested() domain.ConfirmRequested {
	return domain.ConfirmRequested{BookingID: b1, RoomID: "1", UserID: "kim", At: nine}
}

func moved() domain.BookingChanged {
	return domain.BookingChanged{BookingID: b1, ReservationID: "r2", RoomID: "2", UserID: "lee", Slot: domain.Slot{Start: eleven, End: noon}, At: nine}
}

func confirmed() domain.ConfirmCompleted {
	return domain.ConfirmCompleted{BookingID: b1, RoomID: "1", UserID: "kim", ConfirmUserID: "admin", At: ten}
}

func denied() domain.ConfirmDenied {
	return domain.ConfirmDenied{BookingID: b1, RoomID: "1", UserID: "kim", ConfirmUserID: "admin", Reason: "no", At: ten}
}

func checkedIn() domain.BookingCheckedIn {
	return domain.BookingCheckedIn{BookingID: b1, RealUseID: u1, RoomID: "1", UserID: "kim", StartedAt: ten}
}

func started() domain.UseStarted {
	return domain.UseStarted{RealUseID: u1, BookingID: b1, RoomID: "1", UserID: "kim", StartedAt: ten.In(seoul)}
}

// beside is started in a room that another booking is still using.
func beside(other domain.BookingID) domain.UseStarted {
	e := started()
	e.RoomStillInUseBy = other
	return e
}

func ended() domain.UseEnded {
	return domain.UseEnded{RealUseID: u1, BookingID: b1, RoomID: "1", UserID: "kim", EndedAt: ten.Add(45 * time.Minute), At: eleven}
}

func cancelled(reason domain.CancelReason) domain.BookingCancelled {
	return domain.BookingCancelled{BookingID: b1, RoomID: "1", UserID: "kim", Reason: reason, At: noon}
}

// queries returns queries of the lists that given events are folded into in one batch.
func queries(t *testing.T, given []eventstore.Recorded) *projections.Queries {
	t.Helper()
	store := openSQLite(t)
	for _, p := range projections.All() {
		g := begun(t, store, p)
		rows, longest, err := p.Fold(t.Context(), none, given)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Write(t.Context(), g, p.Schema, rows, projections.Checkpoint{Position: 1000, Longest: longest}); err != nil {
			t.Fatal(err)
		}
	}
	return projections.NewQueries(store, projections.QueryOptions{})
}

func openSQLite(t testing.TB) *sqlite.Store {
	t.Helper()
	store, err := sqlite.Open(filepath.Join(t.TempDir(), "views.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// begun begins and activates a generation.
func begun(t testing.TB, store projections.Store, p projections.Projection) projections.Ref {
	t.Helper()
	state, err := store.State(t.Context(), p.Name)
	if err != nil {
		t.Fatal(err)
	}
	g, err := store.Begin(t.Context(), p.Name, p.Version, p.Schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Activate(t.Context(), p.Name, state.Active, g.Number); err != nil {
		t.Fatal(err)
	}
	return g.Ref
}

func TestBookingList(t *testing.T) {
	booked := projections.BookingList{
		Booking: b1, Room: "1", User: "kim", Start: ten, End: eleven, BookedAt: nine,
		Status: projections.StatusBooked, ConfirmStatus: domain.AnswerPending,
	}
	with := func(change func(*projections.BookingList)) projections.BookingList {
		b := booked
		change(&b)
		return b
	}
	yes := func(b *projections.BookingList) {
		b.ConfirmStatus, b.ConfirmUser, b.ConfirmedAt = domain.Confirmed, "admin", ten
	}
	tests := []struct {
		name  string
		given []eventstore.Recorded
		then  projections.BookingList
	}{
		{"created", log(created(), requested()), booked},
		{"confirmed", log(created(), requested(), confirmed()), with(func(b *projections.BookingList) {
			b.Status = projections.StatusConfirmed
			yes(b)
		})},
		{"moved after it was confirmed: the answer is void", log(created(), requested(), confirmed(), moved(), requested()), with(func(b *projections.BookingList) {
			b.Room, b.User, b.Start, b.End, b.Changes = "2", "lee", eleven, noon, 1
		})},
		{"another user after it was confirmed: the answer stays", log(created(), requested(), confirmed(), moved()), with(func(b *projections.BookingList) {
			b.Room, b.User, b.Start, b.End, b.Changes = "2", "lee", eleven, noon, 1
			b.Status = projections.StatusConfirmed
			yes(b)
		})},
		{"in use", log(created(), requested(), checkedIn(), started()), with(func(b *projections.BookingList) {
			b.Status = projections.StatusInUse
		})},
		{"confirmed while in use", log(created(), requested(), checkedIn(), started(), confirmed()), with(func(b *projections.BookingList) {
			b.Status = projections.StatusInUse
			yes(b)
		})},
		{"ended", log(created(), requested(), checkedIn(), started(), ended(), cancelled(domain.CancelledByUseEnd)), with(func(b *projections.BookingList) {
			b.Status, b.CancelReason, b.CancelledAt = projections.StatusEnded, domain.CancelledByUseEnd, noon
			b.UseEndedAt = ten.Add(45 * time.Minute)
		})},
		{"cancelled", log(created(), requested(), cancelled(domain.CancelledByUser)), with(func(b *projections.BookingList) {
			b.Status, b.CancelReason, b.CancelledAt = projections.StatusCancelled, domain.CancelledByUser, noon
		})},
		{"cancelled by a closure", log(created(), requested(), domain.BookingCancelled{BookingID: b1, Reason: domain.CancelledByClosure, Detail: "works", At: noon}), with(func(b *projections.BookingList) {
			b.Status, b.CancelReason, b.CancelDetail, b.CancelledAt = projections.StatusCancelled, domain.CancelledByClosure, "works", noon
		})},
		{"denied", log(created(), requested(), denied(), cancelled(domain.CancelledByDenial)), with(func(b *projections.BookingList) {
			b.Status, b.CancelReason, b.CancelledAt = projections.StatusCancelled, domain.CancelledByDenial, noon
			b.ConfirmStatus, b.ConfirmUser, b.ConfirmReason, b.ConfirmedAt = domain.Denied, "admin", "no", ten
		})},
		{"an event that cannot be decoded", log(created(), nil, requested()), booked},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.then.ModifiedAt = test.given[len(test.given)-1].Metadata.OccurredAt
			got, err := queries(t, test.given).BookingList(t.Context(), b1, 0)
			if err != nil || got != test.then {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, test.then)
			}
		})
	}
	t.Run("never created", func(t *testing.T) {
		if got, err := queries(t, log(nil, requested(), confirmed())).BookingList(t.Context(), b1, 0); err == nil {
			t.Errorf("got %+v", got)
		}
	})
}

func TestRoomUseList(t *testing.T) {
	booked := projections.RoomUseList{Booking: b1, Room: "1", User: "kim", Start: ten, End: eleven, Status: projections.StatusBooked, BookedMinutes: 60}
	with := func(change func(*projections.RoomUseList)) projections.RoomUseList {
		l := booked
		change(&l)
		return l
	}
	tests := []struct {
		name  string
		given []eventstore.Recorded
		then  projections.RoomUseList
	}{
		{"booked", log(created(), requested()), booked},
		{"moved", log(created(), requested(), moved(), requested()), with(func(l *projections.RoomUseList) {
			l.Room, l.User, l.Start, l.End = "2", "lee", eleven, noon
		})},
		{"started", log(created(), requested(), checkedIn(), started()), with(func(l *projections.RoomUseList) {
			l.Status, l.RealUse, l.StartedAt = projections.StatusInUse, u1, ten
		})},
		{"started in a room that was still in use", log(created(), requested(), checkedIn(), beside("b0")), with(func(l *projections.RoomUseList) {
			l.Status, l.RealUse, l.StartedAt, l.RoomStillInUseBy = projections.StatusInUse, u1, ten, "b0"
		})},
		{"ended", log(created(), requested(), confirmed(), checkedIn(), started(), ended(), cancelled(domain.CancelledByUseEnd)), with(func(l *projections.RoomUseList) {
			l.Status, l.RealUse, l.StartedAt, l.EndedAt, l.UsedMinutes = projections.StatusEnded, u1, ten, ten.Add(45*time.Minute), 45
		})},
		{"cancelled", log(created(), requested(), cancelled(domain.CancelledByUser)), with(func(l *projections.RoomUseList) {
			l.Status = projections.StatusCancelled
		})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := queries(t, test.given).RoomUseList(t.Context(), b1, 0)
			if err != nil || got != test.then {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, test.then)
			}
		})
	}
}

func TestNotifications(t *testing.T) {
	type told struct {
		kind     domain.NotificationKind
		user     domain.UserID
		contents string
	}
	booked := told{domain.KindBooked, "kim", "conference room[1] reservation is complete"}
	tests := []struct {
		name  string
		given []eventstore.Recorded
		then  []told
	}{
		{"created", log(created(), requested()), []told{booked}},
		{"handed over", log(created(), moved(), domain.BookingHandedOver{BookingID: b1, RoomID: "2", UserID: "lee", FormerUserID: "kim", At: nine}), []told{booked,
			{domain.KindChanged, "lee", "conference room[2] reservation has been changed"},
			{domain.KindHandedOver, "kim", "conference room[2] reservation has been handed over to user[lee]"}}},
		{"changed", log(created(), moved()), []told{booked, {domain.KindChanged, "lee", "conference room[2] reservation has been changed"}}},
		{"confirmed", log(created(), confirmed()), []told{booked, {domain.KindConfirmed, "kim", "Booking Number[ b1 ] is confirmed"}}},
		{"denied, and told once", log(created(), denied(), cancelled(domain.CancelledByDenial)), []told{booked,
			{domain.KindDenied, "kim", "Booking Number[ b1 ] is denied, reservation has been canceled: no"}}},
		{"cancelled", log(created(), cancelled(domain.CancelledByUser)), []told{booked, {domain.KindCancelled, "kim", "reservation has been canceled"}}},
		{"used, and told of the end once", log(created(), checkedIn(), started(), ended(), cancelled(domain.CancelledByUseEnd)), []told{booked,
			{domain.KindUseStarted, "kim", "Booking Number[ b1 ] is use started"},
			{domain.KindUseEnded, "kim", "Booking Number[ b1 ] is use ended"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			page, err := queries(t, test.given).Notifications(t.Context(), projections.Query{Booking: b1})
			if err != nil {
				t.Fatal(err)
			}
			var got []told
			for _, n := range page.Items {
				got = append(got, told{n.Kind, n.User, n.Contents})
				if n.Booking != b1 || n.Delivery != domain.DeliveryPending || n.Attempts != 0 || n.SentAt.Before(nine) {
					t.Errorf("%+v", n)
				}
			}
			if !slices.Equal(got, test.then) {
				t.Errorf("got  %q\nwant %q", got, test.then)
			}
		})
	}
	t.Run("by id", func(t *testing.T) {
		want := projections.Notification{
			ID: domain.NotificationID(eventID(1).String()), Booking: b1, Room: "1", User: "kim", Kind: domain.KindConfirmed,
			Contents: "Booking Number[ b1 ] is confirmed", SentAt: nine.Add(time.Minute), Delivery: domain.DeliveryPending,
		}
		got, err := queries(t, log(created(), confirmed())).Notification(t.Context(), want.ID, 0)
		if err != nil || got != want {
			t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
		}
	})
}

// The list says what became of each notification: the booking's user's, and those to approvers.
func TestDeliveries(t *testing.T) {
	const approver, other = "approver's", "other's"
	id := domain.NotificationID(eventID(0).String())
	mail := func(id domain.NotificationID, attempt int64) domain.NotificationDelivered {
		return domain.NotificationDelivered{NotificationID: id, Channel: domain.ChannelMail, Attempt: attempt, At: noon.In(seoul)}
	}
	failed := func(id domain.NotificationID, attempt int64, parked bool) domain.NotificationFailed {
		return domain.NotificationFailed{NotificationID: id, Channel: domain.ChannelMail, Attempt: attempt, Reason: "450 busy", Parked: parked, At: noon}
	}
	asked := func(id domain.NotificationID, user domain.UserID) domain.NotificationRequested {
		return domain.NotificationRequested{NotificationID: id, Kind: domain.KindConfirmRequested, BookingID: b1, RoomID: "1", UserID: user, At: nine}
	}
	retried := func(id domain.NotificationID) domain.Event {
		return domain.NotificationRetried{NotificationID: id, At: noon}
	}
	type state struct {
		delivery domain.Delivery
		at       time.Time
		attempts int
		reason   string
	}
	for _, test := range []struct {
		name   string
		events []domain.Event
		id     domain.NotificationID
		then   state
	}{
		{"at once", []domain.Event{mail(id, 1)}, id, state{domain.DeliveryDelivered, noon, 1, ""}},
		{"a failure", []domain.Event{failed(id, 1, false)}, id, state{domain.DeliveryPending, time.Time{}, 1, "450 busy"}},
		{"held while the destination is down", []domain.Event{failed(id, 1, false), domain.NotificationFailed{NotificationID: id, Channel: domain.ChannelMail, Attempt: 1, Held: true, Reason: "refused", Again: noon, At: noon},
			domain.NotificationDue{NotificationID: id, Channel: domain.ChannelMail, At: noon}}, id, state{domain.DeliveryPending, time.Time{}, 1, "refused"}},
		{"at the third attempt", []domain.Event{failed(id, 1, false), failed(id, 2, false), mail(id, 3)}, id, state{domain.DeliveryDelivered, noon, 3, "450 busy"}},
		{"given up", []domain.Event{failed(id, 1, false), failed(id, 2, true)}, id, state{domain.DeliveryFailed, time.Time{}, 2, "450 busy"}},
		{"asked for again", []domain.Event{failed(id, 1, true), retried(id)}, id, state{domain.DeliveryPending, time.Time{}, 1, "450 busy"}},
		{"asked for again, and delivered", []domain.Event{failed(id, 1, true), retried(id), mail(id, 2)}, id, state{domain.DeliveryDelivered, noon, 2, "450 busy"}},
		{"by the other channel", []domain.Event{failed(id, 1, true), domain.NotificationDelivered{NotificationID: id, Channel: domain.ChannelWebhook, Attempt: 1, At: noon}}, id,
			state{domain.DeliveryFailed, noon, 2, "450 busy"}},
		{"by the other channel, asked for again, and delivered", []domain.Event{failed(id, 1, true), domain.NotificationDelivered{NotificationID: id, Channel: domain.ChannelWebhook, Attempt: 1, At: noon}, retried(id), mail(id, 2)}, id,
			state{domain.DeliveryDelivered, noon, 3, "450 busy"}},
		{"by one channel and not by the other", []domain.Event{domain.NotificationDelivered{NotificationID: id, Channel: domain.ChannelWebhook, Attempt: 1, At: noon}, failed(id, 1, true)}, id,
			state{domain.DeliveryFailed, noon, 2, "450 busy"}},
		{"in the list only", []domain.Event{domain.NotificationDelivered{NotificationID: id, Channel: domain.ChannelList, At: noon}}, id, state{domain.DeliveryDelivered, noon, 0, ""}},
		{"of an approver", []domain.Event{asked(approver, "ann"), asked(other, "bob"), failed(approver, 1, true), mail(other, 1)}, approver, state{domain.DeliveryFailed, time.Time{}, 1, "450 busy"}},
		{"of another approver", []domain.Event{asked(approver, "ann"), asked(other, "bob"), failed(approver, 1, true)}, other, state{domain.DeliveryPending, time.Time{}, 0, ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, err := queries(t, log(append([]domain.Event{created()}, test.events...)...)).Notification(t.Context(), test.id, 0)
			got := state{n.Delivery, n.DeliveredAt, n.Attempts, n.Reason}
			if err != nil || got != test.then || n.Booking != b1 {
				t.Errorf("got  %+v of %+v, %v\nwant %+v", got, n, err, test.then)
			}
			if test.id == approver && (n.User != "ann" || n.Contents != "Booking Number[ b1 ] waits for confirmation" || !n.SentAt.After(nine)) {
				t.Errorf("the approver's is %+v", n)
			}
		})
	}
}

// Events that a document contains are not folded into it again.
func TestFoldPassesOverWhatADocumentHas(t *testing.T) {
	p, _ := projections.Named(projections.BookingListName)
	events := log(created(), requested(), moved(), confirmed())
	stored, _, err := p.Fold(t.Context(), none, events)
	if err != nil {
		t.Fatal(err)
	}
	load := func(context.Context, []string) ([]projections.Row, error) { return stored, nil }
	again, longest, err := p.Fold(t.Context(), load, events[1:])
	if err != nil || len(again) != 0 || longest != time.Hour.Microseconds() {
		t.Errorf("again: %+v, longest %d, %v", again, longest, err)
	}
	later, _, err := p.Fold(t.Context(), load, append(events[1:], log(nil, nil, nil, nil, cancelled(domain.CancelledByUser))[4]))
	if err != nil || len(later) != 1 || later[0].Created != 1 || later[0].Position != 5 || !later[0].Loaded {
		t.Errorf("and then: %+v, %v", later, err)
	}
}

// However the log is split into batches, however often these are delivered, and in whatever order concurrent workers write: the documents
// equal those of a single fold.
func TestAnyDeliveryFoldsTheSame(t *testing.T) {
	store := openSQLite(t)
	rapid.Check(t, func(rt *rapid.T) {
		history := storetest.NewHistory(rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0)))
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			history.Step()
		}
		events := history.Events
		p := rapid.SampledFrom(projections.All()).Draw(rt, "projection")
		straight, _, err := p.Fold(rt.Context(), none, events)
		if err != nil {
			rt.Fatal(err)
		}

		g, err := store.Begin(rt.Context(), p.Name, p.Version, p.Schema)
		if err != nil {
			rt.Fatal(err)
		}
		ref := g.Ref
		defer store.Drop(context.Background(), ref)
		type write struct {
			rows []projections.Row
			upTo int // number of events
		}
		fold := func(from, to int) write {
			rows, _, err := p.Fold(rt.Context(), func(ctx context.Context, ids []string) ([]projections.Row, error) {
				return store.Load(ctx, ref, p.Schema, ids)
			}, events[from:to])
			if err != nil {
				rt.Fatal(err)
			}
			return write{rows, to}
		}
		done := 0 // number of events before the checkpoint
		commit := func(w write) {
			if err := store.Write(rt.Context(), ref, p.Schema, w.rows, projections.Checkpoint{Position: eventstore.Position(w.upTo)}); err != nil {
				rt.Fatal(err)
			}
			done = max(done, w.upTo)
		}
		var pending []write
		for range rapid.IntRange(0, 30).Draw(rt, "actions") {
			if len(pending) > 0 && rapid.Bool().Draw(rt, "write") {
				i := rapid.IntRange(0, len(pending)-1).Draw(rt, "which")
				commit(pending[i])
				if rapid.Bool().Draw(rt, "only once") {
					pending = slices.Delete(pending, i, i+1)
				}
			} else {
				from := rapid.IntRange(0, done).Draw(rt, "from")
				pending = append(pending, fold(from, rapid.IntRange(from, len(events)).Draw(rt, "to")))
			}
		}
		commit(fold(done, len(events)))
		for _, w := range pending {
			commit(w)
		}

		stored, err := store.Scan(rt.Context(), ref, p.Schema, 0, 10_000)
		if err != nil {
			rt.Fatal(err)
		}
		slices.SortFunc(straight, func(a, b projections.Row) int { return int(a.Created) - int(b.Created) })
		if len(stored) != len(straight) {
			rt.Fatalf("%d documents, want %d", len(stored), len(straight))
		}
		for i, want := range straight {
			if got := stored[i]; got.ID != want.ID || got.Created != want.Created || got.Position != want.Position || got.Status != want.Status || !reflect.DeepEqual(got.Document, want.Document) {
				rt.Errorf("got  %+v\nwant %+v", got, want)
			}
		}
	})
}

// The reason of an answer is in the booking list and in the notification.
func TestReasonsAreShown(t *testing.T) {
	yes := confirmed()
	yes.Reason = "as always"
	q := queries(t, log(created(), requested(), yes))
	if b, err := q.BookingList(t.Context(), b1, 0); err != nil || b.ConfirmReason != "as always" {
		t.Errorf("%+v, %v", b, err)
	}
	page, err := q.Notifications(t.Context(), projections.Query{})
	if err != nil || len(page.Items) != 2 || page.Items[1].Contents != "Booking Number[ b1 ] is confirmed: as always" {
		t.Errorf("%+v, %v", page.Items, err)
	}
}

// Minutes do not overflow as a time.Duration does, at 292 years.
func TestMinutesOfCenturies(t *testing.T) {
	long, use, end := created(), started(), ended()
	long.Slot = domain.Slot{Start: time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(9998, 1, 1, 0, 0, 29, 0, time.UTC)}
	use.StartedAt, end.EndedAt = long.Slot.Start, long.Slot.End.Add(time.Second)
	const want = 4_222_320_480
	l, err := queries(t, log(long, requested(), checkedIn(), use, end)).RoomUseList(t.Context(), b1, 0)
	if err != nil || l.BookedMinutes != want || l.UsedMinutes != want+1 {
		t.Errorf("booked for %d minutes, used for %d, want %d and one more: %v", l.BookedMinutes, l.UsedMinutes, want, err)
	}
}

package domain

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// reservation is one of a booking in the red room.
func reservation(id ReservationID, booking BookingID, slot Slot) SlotReserved {
	return SlotReserved{ReservationID: id, BookingID: booking, RoomID: "red", UserID: "ann", Slot: slot, At: noon, Actor: "ann", CorrelationID: "c"}
}

func used(id ReservationID, booking BookingID, end time.Time) SlotUsed {
	return SlotUsed{ReservationID: id, BookingID: booking, RoomID: "red", End: end}
}

func released(id ReservationID, booking BookingID) SlotReleased {
	return SlotReleased{ReservationID: id, BookingID: booking, RoomID: "red"}
}

// held lists what the calendar holds, in its order.
func held(c Calendar) []SlotReserved { return plain(slices.Collect(c.All)) }

func plain(reservations []*Reservation) []SlotReserved {
	var plain []SlotReserved
	for _, r := range reservations {
		p := reservation(r.ReservationID, r.BookingID, r.Slot)
		p.RoomID = r.RoomID
		plain = append(plain, p)
	}
	return plain
}

func TestCalendarDecisions(t *testing.T) {
	one := reservation("r1", "b", hours(1, 3))
	two := reservation("r2", "c", hours(3, 5))
	day := reservation("r3", "d", hours(0, 24))
	given := []Event{one, two}
	reserve := func(ask SlotReserved, p Policy) func(Calendar) ([]Event, error) {
		return func(c Calendar) ([]Event, error) { return DecideReserve(c, ask, p) }
	}
	ask := func(booking BookingID, slot Slot) func(Calendar) ([]Event, error) {
		return reserve(reservation("r9", booking, slot), DefaultPolicy())
	}
	leave := func(id BookingID, r ReservationID, usedUntil time.Time) func(Calendar) ([]Event, error) {
		return func(c Calendar) ([]Event, error) { return DecideRelease(c, id, r, usedUntil), nil }
	}
	release := func(id BookingID, r ReservationID) func(Calendar) ([]Event, error) { return leave(id, r, time.Time{}) }
	two30 := hours(2, 3).Start.Add(30 * time.Minute)
	part := reservation("r1", "b", Slot{hours(1, 3).Start, two30})
	does := func(booking BookingID, slot Slot) []Event { return []Event{reservation("r9", booking, slot)} }
	backwards := &Invalid{[]Fault{{FieldEnd, "must be after the start"}}}
	past := &Invalid{[]Fault{{FieldStart, "must not be in the past"}}}

	for _, row := range []struct {
		name  string
		given []Event
		when  func(Calendar) ([]Event, error)
		then  []Event
		err   error
		taken []SlotReserved // by what *SlotTaken says, for the error
		again error
	}{
		{"reserve: nobody asked before", nil, ask("x", hours(1, 2)), does("x", hours(1, 2)), nil, nil, nil},
		{"reserve: free before", given, ask("x", hours(0, 1)), does("x", hours(0, 1)), nil, nil, nil},
		{"reserve: free after", given, ask("x", hours(5, 6)), does("x", hours(5, 6)), nil, nil, nil},
		{"reserve: free between", []Event{one, reservation("r2", "c", hours(4, 5))}, ask("x", hours(3, 4)), does("x", hours(3, 4)), nil, nil, nil},
		{"reserve: taken", given, ask("x", hours(1, 3)), nil, nil, []SlotReserved{one}, nil},
		{"reserve: taken in part, at its end", given, ask("x", hours(0, 2)), nil, nil, []SlotReserved{one}, nil},
		{"reserve: taken in part, at its start", given, ask("x", hours(4, 8)), nil, nil, []SlotReserved{two}, nil},
		{"reserve: taken within", given, ask("x", hours(0, 8)), nil, nil, []SlotReserved{one, two}, nil},
		{"reserve: taken by a long one", []Event{day, released("r3", "d"), day}, ask("x", hours(23, 25)), nil, nil, []SlotReserved{day}, nil},
		{"reserve: by the same booking", given, ask("b", hours(2, 3)), does("b", hours(2, 3)), nil, nil, nil},
		{"reserve: by the same booking and another", given, ask("b", hours(2, 4)), nil, nil, []SlotReserved{two}, nil},
		{"reserve: released before", []Event{one, two, released("r1", "b")}, ask("x", hours(1, 3)), does("x", hours(1, 3)), nil, nil, nil},
		{"reserve: a repeat", given, reserve(one, DefaultPolicy()), nil, nil, nil, nil},
		{"reserve: a repeat that the policy would refuse by now", given, reserve(one, Policy{LongestBooking: time.Minute}), nil, nil, nil, nil},
		{"reserve: an invalid slot", given, ask("x", hours(3, 1)), nil, backwards, nil, backwards},
		{"reserve: an invalid slot that is taken", given, ask("x", hours(2, 2)), nil, backwards, nil, backwards},
		{"reserve: the past", nil, reserve(reservation("r9", "x", hours(-1, 1)), Policy{RefusePast: true}), nil, past, nil, past},
		{"reserve: from when it is told", nil, reserve(reservation("r9", "x", hours(0, 1)), Policy{RefusePast: true}), does("x", hours(0, 1)), nil, nil, nil},

		{"release: never held", nil, release("b", "r1"), nil, nil, nil, nil},
		{"release: held", given, release("b", "r1"), []Event{released("r1", "b")}, nil, nil, nil},
		{"release: another booking's", given, release("c", "r1"), nil, nil, nil, nil},
		{"reserve: used", []Event{one, used("r1", "b", two30)}, ask("x", hours(2, 3)), nil, nil, []SlotReserved{part}, nil},
		{"reserve: used whole", []Event{one, used("r1", "b", hours(1, 3).End)}, ask("x", hours(2, 3)), nil, nil, []SlotReserved{one}, nil},
		{"reserve: after it was used", []Event{one, used("r1", "b", two30)}, ask("x", Slot{two30, hours(3, 4).End}), does("x", Slot{two30, hours(3, 4).End}), nil, nil, nil},
		{"reserve: what an older program gave back though it was used", []Event{one, used("r1", "b", two30), released("r1", "b")}, ask("x", hours(1, 3)), does("x", hours(1, 3)), nil, nil, nil},
		{"reserve: the past, when a change leaves the start as it is", nil,
			reserve(reservation("r9", "x", hours(-1, 1)), Policy{RefusePast: true}.ForChange(Booking{Slot: hours(-1, 3)}, Change{End: ptr(hours(0, 1).End)})), does("x", hours(-1, 1)), nil, nil, nil},

		{"release: used within its slot", given, leave("b", "r1", two30), []Event{used("r1", "b", two30)}, nil, nil, nil},
		{"release: used to its end", given, leave("b", "r1", hours(1, 3).End), []Event{used("r1", "b", hours(1, 3).End)}, nil, nil, nil},
		{"release: used beyond its end", given, leave("b", "r1", hours(0, 9).End), []Event{used("r1", "b", hours(1, 3).End)}, nil, nil, nil},
		{"release: used a moment", given, leave("b", "r1", hours(1, 3).Start.Add(1)), []Event{used("r1", "b", hours(1, 3).Start.Add(1))}, nil, nil, nil},
		{"release: used before its slot", given, leave("b", "r1", hours(1, 3).Start), []Event{released("r1", "b")}, nil, nil, nil},
		{"release: used, not held any more", []Event{one, released("r1", "b")}, leave("b", "r1", two30), nil, nil, nil, nil},
		{"release: a repeat that knows of no use", []Event{one, used("r1", "b", two30)}, release("b", "r1"), nil, nil, nil, nil},
		{"release: not held any more", []Event{one, released("r1", "b")}, release("b", "r1"), nil, nil, nil, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := Fold(Calendar{}, row.given...)
			decide := func(which string, c Calendar, then []Event, wantErr error) {
				events, err := row.when(c)
				if row.taken != nil {
					taken, ok := err.(*SlotTaken)
					if !ok || taken.Room != "red" || taken.Slot == (Slot{}) || !reflect.DeepEqual(plain(taken.By), row.taken) {
						t.Errorf("%s: error %v, want that it is taken by %+v", which, err, row.taken)
					}
					err = nil
				}
				wantDecided(t, which, events, err, then, wantErr)
			}
			decide("first", c, row.then, row.err)
			decide("second", Fold(c, row.then...), nil, row.again)
		})
	}
}

func TestCalendarEvolve(t *testing.T) {
	one := reservation("r1", "b", hours(3, 4))
	two := reservation("r2", "c", hours(1, 2))
	more := reservation("r3", "b", hours(3, 5))
	for _, row := range []struct {
		name  string
		given []Event
		when  Event
		then  []SlotReserved
		of    []SlotReserved // of booking b
	}{
		{"SlotReserved", nil, one, []SlotReserved{one}, []SlotReserved{one}},
		{"SlotReserved, by start", []Event{one}, two, []SlotReserved{two, one}, []SlotReserved{one}},
		{"SlotReserved, the same start", []Event{one, two}, more, []SlotReserved{two, one, more}, []SlotReserved{one, more}},
		{"SlotReleased", []Event{one, two, more}, released("r1", "b"), []SlotReserved{two, more}, []SlotReserved{more}},
		{"SlotReleased, the last", []Event{one}, released("r1", "b"), nil, nil},
		{"SlotReleased, not held", []Event{one}, released("r2", "c"), []SlotReserved{one}, []SlotReserved{one}},
		{"SlotReleased, another booking's", []Event{one}, released("r1", "c"), []SlotReserved{one}, []SlotReserved{one}},
		{"SlotUsed", []Event{one, two, more}, used("r1", "b", hours(3, 4).Start.Add(1)), []SlotReserved{two, reservation("r1", "b", Slot{hours(3, 4).Start, hours(3, 4).Start.Add(1)}), more},
			[]SlotReserved{reservation("r1", "b", Slot{hours(3, 4).Start, hours(3, 4).Start.Add(1)}), more}},
		{"SlotUsed, all of it", []Event{one}, used("r1", "b", hours(3, 4).End), []SlotReserved{one}, []SlotReserved{one}},
		{"SlotUsed, not held", []Event{one}, used("r2", "b", hours(3, 4).End), []SlotReserved{one}, []SlotReserved{one}},
		{"SlotReleased, used", []Event{one, used("r1", "b", hours(3, 4).End)}, released("r1", "b"), nil, nil},
		{"an event of another stream", []Event{one}, created, []SlotReserved{one}, []SlotReserved{one}},
		{"an event of another stream, nobody asked before", nil, created, nil, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := Fold(Calendar{}, row.given...)
			before := held(c)
			got := c.Evolve(row.when)
			if !reflect.DeepEqual(held(got), row.then) || got.Len() != len(row.then) {
				t.Errorf("holds %d:\n%+v, want\n%+v", got.Len(), held(got), row.then)
			}
			if of := plain(got.Of("b")); !reflect.DeepEqual(of, row.of) {
				t.Errorf("of the booking it holds\n%+v, want\n%+v", of, row.of)
			}
			if !reflect.DeepEqual(held(c), before) {
				t.Errorf("what it evolved from holds\n%+v, held\n%+v", held(c), before)
			}
		})
	}
}

// TestACalendarForgetsWhatEndedLongAgo holds a calendar that forgot to a list: it lacks only what ended by Since, keeps the last bookings of
// the room, and goes on as one that forgot nothing.
func TestACalendarForgetsWhatEndedLongAgo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var whole, short Calendar
		both := func(e Event) { whole, short = whole.Evolve(e), short.Evolve(e) }
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				n++
				from := rapid.IntRange(0, 200).Draw(t, "from")
				both(reservation(ReservationID(fmt.Sprint("r", n)), uuidText(n%251), hours(from, from+rapid.IntRange(1, 30).Draw(t, "hours"))))
			},
			"release": func(t *rapid.T) {
				if whole.Len() == 0 {
					t.Skip("nothing is held")
				}
				r := slices.Collect(whole.All)[rapid.IntRange(0, whole.Len()-1).Draw(t, "which")]
				both(released(r.ReservationID, r.BookingID))
			},
			"use": func(t *rapid.T) {
				if whole.Len() == 0 {
					t.Skip("nothing is held")
				}
				r := slices.Collect(whole.All)[rapid.IntRange(0, whole.Len()-1).Draw(t, "which")]
				both(used(r.ReservationID, r.BookingID, r.Slot.Start.Add(r.Slot.Length()/2)))
			},
			"forget": func(t *rapid.T) {
				ended := hours(rapid.IntRange(-10, 240).Draw(t, "ended"), 0).Start
				before := short
				few := rapid.IntRange(0, 3).Draw(t, "few")
				short = short.Forget(ended, few)
				if short.Since().After(ended) && short.Since() != before.Since() {
					t.Fatalf("what ended until %s was forgotten, up to %s was asked for", short.Since(), ended)
				}
				over := 0
				for r := range short.All {
					if !r.Slot.End.After(ended) {
						over++
					}
				}
				if over > few {
					t.Fatalf("%d of those that ended are left", over)
				}
			},
			"": func(t *rapid.T) {
				var want []Reservation
				for r := range whole.All {
					if r.Slot.End.After(short.Since()) {
						want = append(want, *r)
					}
				}
				var got []Reservation
				for r := range short.All {
					if r.Slot.End.After(short.Since()) {
						got = append(got, *r)
					}
					if h := whole.Held(r.BookingID, r.ReservationID); h == nil || *h != *r {
						t.Fatalf("%+v is not held", r)
					}
				}
				if !reflect.DeepEqual(got, want) || short.Revision() != whole.Revision() {
					t.Fatalf("since %s it holds\n%v, want\n%v", short.Since(), got, want)
				}
				s := hours(rapid.IntRange(0, 200).Draw(t, "from"), 230)
				if short.CompleteFrom(s.Start) && !reflect.DeepEqual(plain(short.Overlapping(s, "x")), plain(whole.Overlapping(s, "x"))) {
					t.Fatalf("it is said to be complete from %s, and is not", s.Start)
				}
			},
		})
	})
}

func TestHeld(t *testing.T) {
	c := Fold(Calendar{}, reservation("r1", "b", hours(1, 2)), reservation("r2", "b", hours(1, 2)), reservation("r3", "c", hours(3, 4)), released("r1", "b"))
	for _, row := range []struct {
		booking BookingID
		id      ReservationID
		want    bool
	}{
		{"b", "r1", false}, {"b", "r2", true}, {"b", "r3", false}, {"c", "r3", true}, {"", "r3", false}, {"z", "r9", false},
	} {
		if r := c.Held(row.booking, row.id); (r != nil) != row.want || r != nil && r.ReservationID != row.id {
			t.Errorf("%s of %s: %+v, want it: %t", row.id, row.booking, r, row.want)
		}
	}
	if r := (Calendar{}).Held("b", "r1"); r != nil {
		t.Errorf("an empty calendar holds %+v", r)
	}
}

// TestVeryLongSlotsCollide books with no bound on a booking's length: slots of more years than a duration can say.
func TestVeryLongSlotsCollide(t *testing.T) {
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	long := reservation("r1", "b", Slot{year(1970), year(9000)})
	c := Fold(Calendar{}, long, reservation("r2", "c", Slot{year(1960), year(1970)}))
	for _, row := range []struct {
		slot Slot
		want []SlotReserved
	}{
		{hours(0, 1), []SlotReserved{long}},
		{Slot{year(8999), year(9001)}, []SlotReserved{long}},
		{Slot{year(1), year(9999)}, []SlotReserved{reservation("r2", "c", Slot{year(1960), year(1970)}), long}},
		{Slot{year(9000), year(9001)}, nil},
	} {
		if got := plain(c.Overlapping(row.slot, "x")); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s overlaps %+v, want %+v", row.slot, got, row.want)
		}
	}
}

// uuidText is the canonical form of a UUID; of 0, the nil UUID.
func uuidText(n int) BookingID { return BookingID(uuid.UUID{15: byte(n)}.String()) }

// TestCalendarAgainstAList folds and asks at random, and compares with a list of what is held.
func TestCalendarAgainstAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Calendar
		var list []SlotReserved // in the order of the stream
		type past struct {
			calendar Calendar
			held     []SlotReserved
		}
		var pasts []past
		byStart := func() []SlotReserved {
			sorted := slices.Clone(list)
			slices.SortStableFunc(sorted, func(a, b SlotReserved) int { return a.Slot.Start.Compare(b.Slot.Start) })
			return sorted
		}
		bookings := rapid.SampledFrom([]BookingID{"a", "", uuidText(1), uuidText(2), uuidText(0), BookingID(strings.ToUpper(string(uuidText(0xab))))})
		slot := rapid.Custom(func(t *rapid.T) Slot {
			from := rapid.IntRange(0, 30).Draw(t, "from")
			length := rapid.SampledFrom([]int{1, 1, 2, 3, 24, 400 * 365 * 24}).Draw(t, "hours") // at times centuries
			start := hours(from, from).Start
			return Slot{start, start.AddDate(0, 0, length/24).Add(time.Duration(length%24) * time.Hour)}
		})
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				n++
				id := ReservationID(fmt.Sprint("r", n))
				if n%3 > 0 {
					id = ReservationID(uuidText(n % 251))
				}
				r := reservation(id, bookings.Draw(t, "booking"), slot.Draw(t, "slot"))
				pasts = append(pasts, past{c, byStart()})
				c = c.Evolve(r)
				list = append(list, r)
			},
			"release": func(t *rapid.T) {
				if len(list) == 0 {
					t.Skip("nothing is held")
				}
				i := rapid.IntRange(0, len(list)-1).Draw(t, "which")
				pasts = append(pasts, past{c, byStart()})
				c = c.Evolve(released(list[i].ReservationID, list[i].BookingID))
				list = slices.Delete(slices.Clone(list), i, i+1)
			},
			"use": func(t *rapid.T) {
				if len(list) == 0 {
					t.Skip("nothing is held")
				}
				i := rapid.IntRange(0, len(list)-1).Draw(t, "which")
				pasts = append(pasts, past{c, byStart()})
				list = slices.Clone(list)
				list[i].Slot.End = list[i].Slot.Start.Add(list[i].Slot.Length() / 2)
				c = c.Evolve(used(list[i].ReservationID, list[i].BookingID, list[i].Slot.End))
			},
			"begun": func(t *rapid.T) {
				by := slot.Draw(t, "by").Start
				var want []SlotReserved
				for _, r := range slices.Backward(byStart()) {
					if !r.Slot.Start.After(by) {
						want = append(want, r)
					}
				}
				if got := plain(slices.Collect(c.Begun(by))); !reflect.DeepEqual(got, want) {
					t.Fatalf("begun by %s\n%v, want\n%v", by, got, want)
				}
			},
			"overlapping": func(t *rapid.T) {
				s, except := slot.Draw(t, "slot"), bookings.Draw(t, "except")
				var want []SlotReserved
				for _, r := range byStart() {
					if r.BookingID != except && r.Slot.Start.Before(s.End) && s.Start.Before(r.Slot.End) {
						want = append(want, r)
					}
				}
				if got := plain(c.Overlapping(s, except)); !reflect.DeepEqual(got, want) {
					t.Fatalf("%s overlaps\n%v, want\n%v", s, got, want)
				}
			},
			"of": func(t *rapid.T) {
				id := bookings.Draw(t, "booking")
				var want []SlotReserved
				for _, r := range list {
					if r.BookingID == id {
						want = append(want, r)
					}
				}
				if got := plain(c.Of(id)); !reflect.DeepEqual(got, want) {
					t.Fatalf("of %s\n%v, want\n%v", id, got, want)
				}
			},
			"": func(t *rapid.T) {
				if got, want := held(c), byStart(); len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
					t.Fatalf("holds\n%v, want\n%v", got, want)
				}
			},
		})
		for i, p := range pasts {
			if got := held(p.calendar); len(got) != len(p.held) || len(got) > 0 && !reflect.DeepEqual(got, p.held) {
				t.Fatalf("calendar %d holds\n%v by now, held\n%v", i, got, p.held)
			}
		}
	})
}

// TestACalendarCanBeEvolvedWhileItIsRead releases all that a calendar holds in a loop over it.
func TestACalendarCanBeEvolvedWhileItIsRead(t *testing.T) {
	c := Fold(Calendar{}, reservation("r1", "b", hours(1, 2)), reservation("r2", "c", hours(3, 4)))
	for r := range c.All {
		c = Fold(c, DecideRelease(c, r.BookingID, r.ReservationID, time.Time{})...)
	}
	if c.Len() != 0 {
		t.Errorf("still holds %v", held(c))
	}
}

// TestGoroutinesShareACalendar evolves one calendar in many ways at once and reads it meanwhile.
func TestGoroutinesShareACalendar(t *testing.T) {
	var c Calendar
	for i := range 200 {
		c = c.Evolve(reservation(ReservationID(fmt.Sprint("r", i)), BookingID(fmt.Sprint("b", i)), hours(i, i+1)))
	}
	before := held(c)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			mine := c
			for i := range 200 {
				id, booking := ReservationID(fmt.Sprint("g", g, "-", i)), BookingID(fmt.Sprint("g", g))
				mine = mine.Evolve(reservation(id, booking, hours(200+i, 201+i)))
				mine = mine.Evolve(released(ReservationID(fmt.Sprint("r", i)), BookingID(fmt.Sprint("b", i))))
				if c.Evolve(reservation(id, booking, hours(300, 301))).Len() != 201 {
					t.Errorf("goroutine %d: another's reservations got in", g)
				}
				if by := c.Overlapping(hours(i, i+1), "x"); len(by) != 1 {
					t.Errorf("goroutine %d: hour %d of the shared calendar is held by %d, want 1", g, i, len(by))
				}
			}
			if mine.Len() != 200 || len(mine.Of(BookingID(fmt.Sprint("g", g)))) != 200 {
				t.Errorf("goroutine %d holds %d, %d of its own, want 200 of its own alone", g, mine.Len(), len(mine.Of(BookingID(fmt.Sprint("g", g)))))
			}
		})
	}
	wg.Wait()
	if after := held(c); !reflect.DeepEqual(after, before) {
		t.Errorf("the shared calendar holds %d, not the %d it held, or others", len(after), len(before))
	}
}

// BenchmarkReserve takes a free slot and folds it, in calendars with more and more reservations.
func BenchmarkReserve(b *testing.B) {
	for _, n := range []int{0, 1_000, 100_000} {
		b.Run(fmt.Sprintf("%d held", n), func(b *testing.B) {
			var c Calendar
			for i := range n {
				c = c.Evolve(reservation(ReservationID(fmt.Sprint("r", i)), BookingID(fmt.Sprint("b", i)), hours(2*i, 2*i+1)))
			}
			ask := reservation("r", "x", hours(n+n%2+1, n+n%2+2)) // free, in the middle
			b.ReportAllocs()
			for b.Loop() {
				events, err := DecideReserve(c, ask, DefaultPolicy())
				if err != nil {
					b.Fatal(err)
				}
				Fold(c, events...)
			}
		})
	}
}

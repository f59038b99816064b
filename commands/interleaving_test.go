package commands

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"roombook/domain"
	"roombook/eventstore/eventstoretest"
)

var (
	interleaveFor  = flag.Duration("interleave", 2*time.Second, "how long to interleave commands at random")
	interleaveSeed = flag.Uint64("interleave.seed", 0, "the only seed to interleave commands by")
	interleaveMost = flag.Int("interleave.most", eventstoretest.Rounds(2, 0), "the number of exceptions in each of the interleavings that are taken one by one")
)

var redAndBlue = []domain.RoomID{"red", "blue"}

// oneProcessor leaves all scheduling to the scheduler: a goroutine that has woken another one goes on until it halts.
func oneProcessor(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// TestInterleavingsAtRandom lets several replicas carry out commands on few rooms and bookings. A seed decides which goroutine goes on next at
// every call of the event store, which calls fail, which appends are done late, and which processes die. The judge says what has to hold. To
// repeat a seed that failed, run with -interleave.seed.
func TestInterleavingsAtRandom(t *testing.T) {
	oneProcessor(t)
	if *interleaveSeed != 0 {
		interleave(t, *interleaveSeed)
		return
	}
	first, began := rand.Uint64(), time.Now()
	seeds, sum := 0, tally{}
	defer func() { t.Logf("%d seeds: %+v", seeds, sum) }()
	for ; seeds < 20 || time.Since(began) < *interleaveFor; seeds++ {
		sum.add(interleave(t, first+uint64(seeds))) // a failure ends the test
	}
}

// tally counts what happened, to show that the interesting things did.
type tally struct{ steps, asked, done, refused, away, contended, never int }

func (sum *tally) add(s *scheduler) {
	sum.steps += len(s.trace)
	for _, c := range s.callers {
		sum.asked++
		switch {
		case !c.heard:
			sum.never++
		case c.err == nil:
			sum.done++
		case errors.Is(c.err, ErrContended):
			sum.contended++
		case isAway(c.err):
			sum.away++
		default:
			sum.refused++
		}
	}
}

// A seed always leads to the same run.
func TestASeedIsOneInterleaving(t *testing.T) {
	oneProcessor(t)
	for seed := uint64(1); seed <= 30; seed++ {
		// Another program that takes the processor away for long in the middle of a step can disturb a run.
		for try := 0; ; try++ {
			a, b := interleave(t, seed), interleave(t, seed)
			if slices.Equal(a.trace, b.trace) {
				break
			}
			if try == 3 {
				t.Fatalf("seed %d makes different courses of things:%s\n\nand%s", seed, a, b)
			}
		}
	}
}

// interleave runs one seed.
func interleave(t *testing.T, seed uint64) (s *scheduler) {
	synctest.Test(t, func(t *testing.T) {
		r := &drawn{Rand: rand.New(rand.NewPCG(seed, 0))}
		of := func(rates ...float64) float64 { return rates[r.IntN(len(rates))] }
		r.rates = [exceptions]float64{
			switching: of(0.1, 0.3, 0.8),
			stale:     of(0, 0.3, 0.6),
			failing:   of(0, 0, 0.01, 0.05),
			crashing:  of(0, 0, 0.005, 0.02),
			landing:   of(0.05, 0.3),
		}
		s = newScheduler(r)
		if s.behind = r.IntN(4) == 0; s.behind {
			r.rates[stale] = of(0.2, 0.5)
		}
		if s.forgetful = r.IntN(2) == 0; s.forgetful {
			s.pace = time.Duration(r.IntN(60)) * time.Minute
			s.snapshots = r.IntN(4)
		}
		j := newJudge(t, s, fmt.Sprintf("seed %d", seed))
		defer j.close()
		cache := []int{1, calendarBytes, calendarBytes + 2*reservationBytes + aggregateBytes, 2*calendarBytes + 4*reservationBytes + 4*aggregateBytes, DefaultCacheBytes}[r.IntN(5)]
		replicas := 1 + r.IntN(3)
		for range replicas {
			s.start(cache)
		}
		most, beginning := 2+r.IntN(14), of(0.1, 0.3)
		for len(s.callers) < most {
			alive := s.alive()
			for len(alive) < replicas {
				alive = append(alive, s.start(cache))
			}
			replica := alive[r.IntN(len(alive))]
			// With more of them, one could wake several others.
			if len(s.halted) == 0 || r.Float64() < beginning && replica.busy() < 3 {
				a, request := j.draw(r.Rand)
				s.begin(replica, a, request)
				j.look()
			}
			j.advance(anybody)
		}
		for range r.IntN(100) {
			j.advance(anybody)
		}
		j.wantEverythingOfEachRoom()
		if r.IntN(2) == 0 {
			j.finish()
		}
		j.wantSettled()
	})
	return s
}

// draw draws a command, or another try of one.
func (j *judge) draw(r *rand.Rand) (asked, Request) {
	s := j.s
	if tries := slices.DeleteFunc(slices.Clone(s.callers), func(c *caller) bool { return c.request.Digest == "" }); len(tries) > 0 && r.IntN(4) == 0 {
		again := tries[r.IntN(len(tries))]
		request := Request{ID: again.request.ID, Digest: again.request.Digest, IfRevisions: again.request.IfRevisions}
		if r.IntN(8) > 0 {
			return again.asked, request
		}
		request.Digest = fmt.Sprint("digest ", len(s.callers))
		a := j.drawAsked(r)
		if a.kind == "look" || a.kind == "settle" {
			a = asked{kind: "create", room: redAndBlue[r.IntN(2)], slot: drawSlot(r)}
		}
		if a.kind == "create" {
			a.booking = domain.BookingID(request.ID.String())
			request.IfRevisions = nil
		}
		return a, request
	}
	request := Request{ID: commandID(len(s.callers))}
	a := j.drawAsked(r)
	if a.kind == "close" {
		j.closures = append(j.closures, domain.ClosureID(request.ID.String()))
	}
	if a.kind == "create" {
		a.booking = domain.BookingID(request.ID.String())
		j.bookings = append(j.bookings, a.booking)
	}
	if a.kind == "look" || a.kind == "settle" {
		return a, request
	}
	if r.IntN(2) == 0 {
		request.Digest = fmt.Sprint("digest ", len(s.callers))
	}
	if a.kind != "create" && r.IntN(4) == 0 {
		request.IfRevisions = []domain.Revision{domain.Revision(r.IntN(4))}
	}
	return a, request
}

func drawSlot(r *rand.Rand) domain.Slot {
	from := r.IntN(5)
	return slot(from, from+1+r.IntN(3))
}

func (j *judge) drawAsked(r *rand.Rand) asked {
	room, bookings := redAndBlue[r.IntN(2)], j.bookings
	if r.IntN(4) == 0 {
		return j.drawOfRoom(r, room)
	}
	if len(bookings) == 0 || r.IntN(4) == 0 {
		return asked{kind: "create", room: room, slot: drawSlot(r)}
	}
	a := asked{booking: bookings[max(0, len(bookings)-1-r.IntN(4))]}
	switch a.kind = []string{"change", "change", "change", "change", "change", "cancel", "confirm", "deny", "start", "start", "end", "end", "look", "settle"}[r.IntN(14)]; a.kind {
	case "change":
		if r.IntN(2) == 0 {
			a.change.Room = &room
		}
		if s := drawSlot(r); a.change.Room == nil || r.IntN(2) == 0 {
			a.change.Start, a.change.End = &s.Start, &s.End
		}
		if user := []domain.UserID{"ann", "bob"}[r.IntN(2)]; r.IntN(3) == 0 {
			if a.change.User = &user; r.IntN(2) == 0 {
				a.change.Room, a.change.Start, a.change.End = nil, nil, nil
			}
		}
	case "settle":
		a.places = everywhere(redAndBlue...)
	case "end":
		a.endedAt = noon.Add(time.Duration(1+r.IntN(2)) * time.Hour)
	}
	return a
}

// drawOfRoom draws a command on a room.
func (j *judge) drawOfRoom(r *rand.Rand, room domain.RoomID) asked {
	a := asked{room: room, bookings: []domain.AffectedBookings{domain.KeepBookings, domain.CancelBookings, domain.CancelBookings}[r.IntN(3)]}
	if !slices.ContainsFunc(j.s.callers, func(c *caller) bool { return c.kind == "register" && c.room == room }) && r.IntN(6) > 0 {
		return asked{kind: "register", room: room}
	}
	switch a.kind = []string{"register", "rules", "rules", "close", "close", "close", "reopen", "retire", "reinstate", "reinstate"}[r.IntN(10)]; a.kind {
	case "rules":
		a.rules = []domain.Rules{{}, {GapMinutes: 60}, {UpcomingPerUser: 1}, {Approval: domain.ApprovalNone, GapMinutes: 30}}[r.IntN(4)]
	case "close", "retire":
		a.slot = drawSlot(r)
	case "reopen":
		if a.closure = "none"; len(j.closures) > 0 {
			a.closure = j.closures[r.IntN(len(j.closures))]
		}
	}
	return a
}

// TestInterleavingsOneByOne takes small worlds through every interleaving with a limited number of exceptions: that another goroutine goes
// on although the last one could, that a read is stale, that a call fails, that a process dies, that a late append is done.
func TestInterleavingsOneByOne(t *testing.T) {
	oneProcessor(t)
	create := func(n int, room domain.RoomID, s domain.Slot) asked {
		return asked{kind: "create", booking: domain.BookingID(commandID(n).String()), room: room, slot: s}
	}
	first := create(0, "red", slot(0, 1))
	on := func(kind string, what func(a *asked)) asked {
		a := asked{kind: kind, booking: first.booking}
		if what != nil {
			what(&a)
		}
		return a
	}
	to := func(room domain.RoomID) asked { return on("change", func(a *asked) { a.change.Room = &room }) }
	until := func(hours int) asked {
		end := slot(0, hours).End
		return on("change", func(a *asked) { a.change.End = &end })
	}
	end := func(hours int) asked {
		return on("end", func(a *asked) { a.endedAt = slot(0, hours).End })
	}
	cancel, deny, confirm, start, look := on("cancel", nil), on("deny", nil), on("confirm", nil), on("start", nil), on("look", nil)
	settle := on("settle", func(a *asked) { a.places = everywhere(redAndBlue...) })
	known := asked{kind: "register", room: "red"}
	ruled := func(r domain.Rules) asked { return asked{kind: "rules", room: "red", rules: r} }
	shut := asked{kind: "close", room: "red", slot: slot(0, 2), bookings: domain.CancelBookings}
	reopen := asked{kind: "reopen", room: "red", closure: domain.ClosureID(commandID(102).String())}
	give := on("change", func(a *asked) { bob := domain.UserID("bob"); a.change.User = &bob })
	for name, c := range map[string]struct {
		given  []asked
		when   []asked // at once, the second by another replica, a third by the first again
		keyed  bool    // all are tries of one command
		behind bool    // reads miss what was acknowledged

		forgetful bool // calendars forget what ended 40 minutes earlier with each command
	}{
		"one slot, two replicas":                {when: []asked{create(0, "red", slot(0, 2)), create(1, "red", slot(1, 3))}},
		"one slot, two callers of a replica":    {when: []asked{create(0, "red", slot(0, 2)), create(1, "red", slot(5, 6)), create(2, "red", slot(1, 3))}},
		"a move and a booking in its way":       {[]asked{first}, []asked{to("blue"), create(1, "blue", slot(0, 1))}, false, false, false},
		"two moves":                             {[]asked{first}, []asked{to("blue"), until(2)}, false, false, false},
		"a move and its repeat":                 {[]asked{first}, []asked{to("blue"), to("blue")}, true, false, false},
		"a move and a cancellation":             {[]asked{first}, []asked{to("blue"), cancel}, false, false, false},
		"a move and a start":                    {[]asked{first}, []asked{until(2), start}, false, false, false},
		"a move and a denial":                   {[]asked{first}, []asked{to("blue"), deny}, false, false, false},
		"a cancellation and who waits":          {[]asked{first}, []asked{cancel, create(1, "red", slot(0, 1))}, false, false, false},
		"a cancellation and its repeat":         {[]asked{first}, []asked{cancel, cancel}, true, false, false},
		"a start and a cancellation":            {[]asked{first}, []asked{start, cancel}, false, false, false},
		"a start and its repeat":                {[]asked{first}, []asked{start, start}, true, false, false},
		"two ends":                              {[]asked{first, start}, []asked{end(1), end(2)}, false, false, false},
		"an end and who waits":                  {[]asked{first, start}, []asked{end(1), create(1, "red", slot(0, 1))}, false, false, false},
		"a confirmation and a denial":           {[]asked{first}, []asked{confirm, deny}, false, false, false},
		"a booking and its repeat":              {nil, []asked{first, first}, true, false, false},
		"a move and two who look after it":      {[]asked{first}, []asked{to("blue"), settle, look}, false, false, false},
		"a second move, looked after too early": {[]asked{first, to("blue")}, []asked{until(2), settle}, false, true, false},
		"a slot that is over, and who waits":    {[]asked{first, create(1, "red", slot(3, 4))}, []asked{cancel, create(2, "red", slot(0, 1))}, false, false, true},
		"a use that is over, and who waits":     {[]asked{first, start}, []asked{end(1), create(1, "red", slot(0, 1))}, false, false, true},
		"a move to a slot that is over":         {[]asked{first, create(1, "red", slot(1, 2)), create(2, "red", slot(5, 6))}, []asked{to("blue"), settle}, false, false, true},
		"a closing and a booking":               {[]asked{known}, []asked{shut, create(1, "red", slot(1, 3))}, false, false, false},
		"a closing and a move out of it":        {[]asked{known, first}, []asked{shut, to("blue")}, false, false, false},
		"a closing and a move into it":          {[]asked{known, create(0, "blue", slot(0, 1))}, []asked{shut, to("red")}, false, false, false},
		"a closing and a start":                 {[]asked{known, first}, []asked{shut, start}, false, false, false},
		"a closing and its repeat":              {[]asked{known, first}, []asked{shut, shut}, true, false, false},
		"a closing and another user":            {[]asked{known, ruled(domain.Rules{UpcomingPerUser: 1}), first}, []asked{shut, give}, false, false, false},
		"a reopening and a booking":             {[]asked{known, first, shut}, []asked{reopen, create(1, "red", slot(0, 1))}, false, false, false},
		"a gap and a booking":                   {[]asked{known, first}, []asked{ruled(domain.Rules{GapMinutes: 30}), create(1, "red", slot(1, 2))}, false, false, false},
		"two bookings and a gap":                {[]asked{known, ruled(domain.Rules{GapMinutes: 30})}, []asked{first, create(1, "red", slot(1, 2))}, false, false, false},
		"rules and their repeat":                {[]asked{known}, []asked{ruled(domain.Rules{GapMinutes: 30}), ruled(domain.Rules{GapMinutes: 30})}, true, false, false},
		"the last one that a user may have":     {[]asked{known, ruled(domain.Rules{UpcomingPerUser: 1}), first}, []asked{cancel, create(1, "red", slot(5, 6))}, false, false, false},
		"without approval, and a cancellation":  {[]asked{known, ruled(domain.Rules{Approval: domain.ApprovalNone})}, []asked{first, cancel}, false, false, false},
		"a swap":                                {[]asked{first, create(1, "blue", slot(0, 1))}, []asked{to("blue"), {kind: "change", booking: create(1, "", slot(0, 1)).booking, change: domain.Change{Room: &redAndBlue[0]}}}, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			courses := 0
			for w := (&walked{most: *interleaveMost}); w.next() && !t.Failed(); courses++ {
				synctest.Test(t, func(t *testing.T) {
					s := newScheduler(w)
					j := newJudge(t, s, fmt.Sprintf("course %v", w.path))
					defer j.close()
					s.behind, s.forgetful, s.pace = c.behind, c.forgetful, 40*time.Minute
					left := w.left
					w.left = 0 // what is given is undisturbed
					j.bookings = []domain.BookingID{commandIDs[0], commandIDs[1], commandIDs[2]}
					ask := func(a asked, n int, digest string) *caller {
						request := Request{ID: commandID(n), Digest: digest}
						if a.kind == "create" {
							request.ID = commandID(slices.Index(commandIDs[:], a.booking))
						}
						for len(s.replicas) < 2 {
							s.start(calendarBytes + 2*reservationBytes + 2*aggregateBytes)
						}
						return s.begin(s.replicas[len(s.callers)%2], a, request)
					}
					for i, a := range c.given {
						given := ask(a, 100+i, "")
						for !given.gone {
							j.advance(anybody)
						}
					}
					w.left = left
					for i, a := range c.when {
						if c.keyed {
							ask(a, 200, "digest")
						} else {
							ask(a, 300+i, "")
						}
					}
					s.last = nil
					j.finish()
					w.left = 0
					j.wantEverythingOfEachRoom()
					j.wantSettled()
				})
			}
			t.Logf("%d courses", courses)
		})
	}
}

var commandIDs = [...]domain.BookingID{domain.BookingID(commandID(0).String()), domain.BookingID(commandID(1).String()), domain.BookingID(commandID(2).String())}

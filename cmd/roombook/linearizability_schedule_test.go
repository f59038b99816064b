package main

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

// A world is two rooms that no other world uses, and a few clients.
const (
	worldRooms    = 2
	worldClients  = 5
	worldRequests = 10 // of each client
)

// plan is what the clients of a world request, and in which order. It follows from the seed alone; which bookings exist when a
// request is sent does not.
type plan [worldClients][]intent

// intent is a request to be sent.
type intent struct {
	op
	process int
	// giveUp is the time in microseconds after which the client hangs up; 0 is never.
	giveUp int
	// key is the Idempotency-Key with which the request is repeated until its outcome is known; 0 is none.
	key int
	// conditional is set if the request carries the revision that clients saw last as If-Match.
	conditional bool
}

// halfHours is how many half hours bookings are spread over. There are few, so that they collide.
const halfHours = 6

// ruled reports whether the rooms of a world are registered, have rules and are closed now and then.
func ruled(world int) bool { return world%2 == 0 }

// aged reports whether a world's slots are long over, and its rooms have a past.
func aged(world int) bool { return world%3 == 1 }

func newPlan(seed uint64, world int) plan {
	random := rand.New(rand.NewPCG(seed, uint64(world)))
	var p plan
	var closedRooms []int // by closure
	var started []int     // bookings whose use may have started
	booked, closures, number := 0, 0, 0
	for range worldRequests {
		for client := range p {
			number++
			i := intent{process: random.IntN(processes)}
			kind := random.IntN(100)
			start := 1 + random.IntN(halfHours)
			end := start + 1 + random.IntN(2)
			i.booking = max(0, booked-1-random.IntN(6))
			user := func() int { return 1000 + number }
			if ruled(world) {
				user = func() int { return 1 + random.IntN(3) } // few, because of the limits
			}
			if ruled(world) && random.IntN(6) == 0 {
				i.op = op{booking: -1, room: 1 + random.IntN(worldRooms)}
				kind = 100 + random.IntN(5) // 101 closes the room, 102 retires or reinstates it, 103 reopens it, and what is left sets rules
			}
			switch {
			case kind == 101 && closures < maxClosures:
				closures++
				i.kind, i.closure, i.start, i.end = opClose, closures, 30*start, 30*end
				closedRooms = append(closedRooms, i.room)
				i.cancels = number * random.IntN(2)
			case kind == 102 && random.IntN(2) == 0:
				i.kind, i.from = opRetire, 30*(halfHours-random.IntN(3))
				i.cancels = number * random.IntN(2)
			case kind == 102:
				i.kind = opReinstate
			case kind > 100 && kind < 104 && closures > 0:
				i.kind, i.closure = opReopen, 1+random.IntN(closures)
				i.room = closedRooms[i.closure-1]
			case kind >= 100:
				i.kind, i.gap = opRules, []int{0, 0, 20, 45}[random.IntN(4)]
				switch random.IntN(8) { // others seldom, so that bookings are made
				case 0:
					i.longest = 30
				case 1:
					i.shortest = 60
				case 2:
					i.step = 60
				case 3, 4:
					i.thisYear = true
				case 5:
					i.opens = 30 * random.IntN(4)
					i.shuts = i.opens + 90
				}
				switch random.IntN(4) {
				case 0:
					i.weekly = 60 + 60*random.IntN(2)
				case 1:
					if !aged(world) { // there everything is over
						i.upcoming = 1 + random.IntN(2)
					}
				}
				i.early = 30 * random.IntN(2)
			case booked == 0 || kind < 30 && booked < maxBookings:
				i.op = op{kind: opBook, booking: booked, room: 1 + random.IntN(worldRooms), start: 30 * start, end: 30 * end, user: user()}
				booked++
			case kind < 54:
				i.kind = opChange
				fields := 1 + random.IntN(15)
				if fields&1 != 0 {
					i.room = 1 + random.IntN(worldRooms)
				}
				if fields&2 != 0 {
					i.start = 30 * start
				}
				if fields&4 != 0 {
					i.end = 30 * end
				}
				if fields&8 != 0 {
					i.user = user()
				}
			case kind < 63:
				i.kind = opCancel
			case kind < 70:
				i.kind, i.by = opConfirm, 2000+number
			case kind < 75:
				i.kind, i.by = opDeny, 2000+number
			case kind < 81:
				i.kind, i.at = opStart, 30*start
				started = append(started, i.booking)
			case kind < 87:
				i.kind, i.at = opEnd, 30*start+10
				if len(started) > 0 {
					i.booking = started[max(0, len(started)-1-random.IntN(3))]
				}
			case kind < 93:
				i.kind = opBooking
			case kind < 96:
				i.kind = opAnswer
			default:
				i.kind = opUse
			}
			if !i.kind.reads() {
				if random.IntN(40) == 0 {
					i.giveUp = 1 + random.IntN(8000)
				}
				if random.IntN(2) == 0 {
					i.key = number
				}
				i.conditional = random.IntN(4) == 0
			}
			p[client] = append(p[client], i)
		}
	}
	return p
}

// kill names processes that are killed together once a number of requests has been sent.
type kill struct {
	requests  int
	processes []int
}

// kills lists the kills of a run, without end.
func kills(seed uint64) func(yield func(kill) bool) {
	random := rand.New(rand.NewPCG(seed, 1<<63))
	return func(yield func(kill) bool) {
		for k := (kill{}); ; {
			k.requests += 150 + random.IntN(250)
			switch n := random.IntN(6); {
			case n < 2:
				k.processes = []int{0} // and the node with it
			case n < 5:
				k.processes = []int{1 + n%2}
			default:
				k.processes = []int{0, 1}
			}
			if !yield(k) {
				return
			}
		}
	}
}

func TestScheduleFollowsFromItsSeed(t *testing.T) {
	firstKills := func(seed uint64) (first []kill) {
		for k := range kills(seed) {
			if first = append(first, k); len(first) == 20 {
				break
			}
		}
		return first
	}
	if !reflect.DeepEqual(newPlan(7, 3), newPlan(7, 3)) || !reflect.DeepEqual(firstKills(7), firstKills(7)) {
		t.Error("the same seed plans differently")
	}
	if reflect.DeepEqual(newPlan(7, 3), newPlan(8, 3)) || reflect.DeepEqual(firstKills(7), firstKills(8)) {
		t.Error("another seed plans the same")
	}
}

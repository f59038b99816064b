package eventstoretest

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// An append becomes readable only after those that may be before it in the log: one in flight, whose position is not known yet, and one
// that takes longer. Those that begin later do not matter.
func TestNothingIsReadOutOfOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		x := index{maxDelay: 8 * time.Millisecond, inFlight: map[*inFlight]bool{}}
		x.timer = time.AfterFunc(time.Hour, func() {
			mu.Lock()
			defer mu.Unlock()
			x.advanceLocked()
		})
		defer x.timer.Stop()
		later := func() {
			mu.Unlock()
			time.Sleep(time.Second)
			synctest.Wait()
			mu.Lock()
		}
		want := func(when string, visible uint64) {
			t.Helper()
			if x.visible != visible {
				t.Errorf("%s %d can be read, want %d", when, x.visible, visible)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		a, b := x.beginLocked(), x.beginLocked()
		second, _ := x.endLocked(b, 2)
		later()
		want("while one is not answered", 0)
		if decided := x.noteLocked(1); decided {
			t.Error("it is decided whether 1 can be read")
		}
		c := x.beginLocked()
		first, repeated := x.endLocked(a, 1)
		want("at once", 0)
		if decided := x.noteLocked(1); !decided || x.visible != 0 {
			t.Error("it is not decided that 1 cannot be read")
		}
		if repeated || first == second {
			t.Error("an append with a position of its own is taken for a repetition")
		}
		later()
		want("when both are due", 2)
		<-first.indexed
		<-second.indexed
		d, e := x.beginLocked(), x.beginLocked()
		third, _ := x.endLocked(c, 3)
		if again, repeated := x.endLocked(d, 3); !repeated || again != third {
			t.Error("a repetition is not recognised")
		}
		if x.dropLocked(d, third); x.dropped != 0 {
			t.Error("a repetition counts that came when the other would have been readable")
		}
		if x.dropLocked(e, &pending{inFlight: *d}); x.dropped != 1 {
			t.Error("a repetition at once does not count")
		}
		if again, repeated := x.endLocked(e, 2); repeated || again != nil {
			t.Error("a repetition of what can be read is to wait")
		}
		third.ready = third.ready.Add(time.Hour)
		fourth, _ := x.endLocked(x.beginLocked(), 4)
		later()
		want("when the second is due and the first is not", 2)
		third.ready = time.Now()
		x.advanceLocked()
		<-fourth.indexed
		want("when both are", 4)
	})
}

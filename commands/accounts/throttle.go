package accounts

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// TooManyTries means that a sign-in was refused without being checked, because too many have failed shortly before.
type TooManyTries struct{ Wait time.Duration }

func (e *TooManyTries) Error() string {
	return fmt.Sprintf("too many tries; the next one in %s", e.Wait)
}

// throttle delays repeated failures: the first tries are free, and each further one has to wait twice as long as the one before, up to a
// maximum. Failures are forgotten after forgetAfter without a try, and one every leakAfter however many tries there are: a busy address has some
// at any time. It is in memory, for at most maxThrottled keys, and safe for concurrent use.
type throttle struct {
	free int
	max  time.Duration

	mu    sync.Mutex
	tries *simplelru.LRU[string, tries]
}

type tries struct {
	n      int
	last   time.Time
	until  time.Time
	leaked time.Time // up to when failures were forgotten one by one
}

const (
	maxThrottled = 100_000
	forgetAfter  = 15 * time.Minute
	leakAfter    = 5 * time.Minute
)

func newThrottle(free int, max time.Duration) *throttle {
	known, _ := simplelru.NewLRU[string, tries](maxThrottled, nil) // fails only for a negative size
	return &throttle{free: free, max: max, tries: known}
}

// try counts a try as failed until succeed is called, so that concurrent tries count too. It returns *[TooManyTries], and counts nothing, if it
// is too early for another one.
func (t *throttle) try(key string, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, _ := t.tries.Get(key)
	if now.Before(s.until) {
		return &TooManyTries{s.until.Sub(now)}
	}
	if now.Sub(s.last) > forgetAfter {
		s = tries{leaked: now}
	}
	leaks := now.Sub(s.leaked) / leakAfter
	s.n, s.leaked = max(0, s.n-int(leaks)), s.leaked.Add(leaks*leakAfter)
	s.n++
	s.last = now
	if over := s.n - t.free; over >= 0 {
		s.until = now.Add(min(t.max, time.Second<<min(over, 20)))
	}
	t.tries.Add(key, s)
	return nil
}

// takeBack takes back a try that succeeded. It leaves those that failed: or whoever has one account would make an address forget what failed
// for others.
func (t *throttle) takeBack(key string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.tries.Get(key)
	if !ok {
		return
	}
	s.n = max(0, s.n-1)
	if s.last.Equal(at) { // the wait is because of this try
		s.until = time.Time{}
	}
	t.tries.Add(key, s)
}

// succeed forgets the tries of a key that stands for one account.
func (t *throttle) succeed(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tries.Remove(key)
}

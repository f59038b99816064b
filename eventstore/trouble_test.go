package eventstore_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"roombook/eventstore"
)

// A trouble that repeats ten times a second is logged once, then once a minute with a count, and when it is over; one that comes and goes is
// logged no more often than that.
func TestTroubleIsSaidOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		trouble := eventstore.NewTrouble(slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey || a.Key == "since" {
					return slog.Attr{}
				}
				return a
			},
		})), slog.LevelWarn, "it is away", "it is back")
		lines := func() []string {
			defer logged.Reset()
			return strings.FieldsFunc(logged.String(), func(r rune) bool { return r == '\n' })
		}
		fail := func(times int) {
			for range times {
				trouble.Failed(errors.New("refused"), "part", "x")
				time.Sleep(100 * time.Millisecond)
			}
		}
		want := func(want ...string) {
			t.Helper()
			if got := lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}

		trouble.Over()
		want()
		fail(600)
		want(`level=WARN msg="it is away" part=x error=refused`)
		fail(601)
		want(`level=WARN msg="still: it is away" part=x error=refused times=601`, `level=WARN msg="still: it is away" part=x error=refused times=1201`)
		trouble.Over("part", "x")
		trouble.Over()
		want(`level=INFO msg="it is back" part=x failures=1201 after=2m0.1s`)
		for range 500 { // it comes and goes for 50 seconds
			fail(1)
			trouble.Over()
		}
		want()
		time.Sleep(10 * time.Second)
		fail(1)
		want(`level=WARN msg="it is away" part=x error=refused`)
	})
}

package api

import (
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// limit bounds how many requests of a kind are carried out at a time. One more is refused at once: it would only wait, and
// make the others wait longer. Goroutines may share it.
type limit struct {
	most     int64
	inFlight atomic.Int64
	refused  prometheus.Counter
}

// errOverloaded means that a limit is reached.
var errOverloaded = errors.New("as many requests as this server takes are under way")

// queriesPerCommand is how many queries are let in for each command that is: they are cheaper, and many of them only wait for
// their list to have a position.
const queriesPerCommand = 4

// admit counts the request among those that are carried out, until its reply is made.
func (x *exchange) admit(l *limit) error {
	if l.inFlight.Add(1) > l.most {
		l.inFlight.Add(-1)
		l.refused.Inc()
		return errOverloaded
	}
	x.admitted = l
	return nil
}

// leave ends what admit began.
func (x *exchange) leave() {
	if x.admitted != nil {
		x.admitted.inFlight.Add(-1)
		x.admitted = nil
	}
}

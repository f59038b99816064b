package api

import (
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// limit bounds the number of concurrent requests of a kind. Requests beyond it are refused at once: they would only wait, and slow down the
// others. It is safe for concurrent use.
type limit struct {
	max      int64
	inFlight atomic.Int64
	refused  prometheus.Counter
}

// errOverloaded means that a limit has been reached.
var errOverloaded = errors.New("as many requests as this server takes are under way")

// queriesPerCommand is the ratio of the limits of queries and commands. Queries are cheaper, and many only wait for a list to reach a
// position.
const queriesPerCommand = 4

// maxUploads is the limit of uploads of pictures, each of which is kept in memory while it comes.
const maxUploads = 4

// admit counts the request towards the limit until leave is called.
func (x *exchange) admit(l *limit) error {
	if l.inFlight.Add(1) > l.max {
		l.inFlight.Add(-1)
		l.refused.Inc()
		return errOverloaded
	}
	x.admitted = append(x.admitted, l)
	return nil
}

// leave gives the request's places back, if it has any.
func (x *exchange) leave() {
	for _, l := range x.admitted {
		l.inFlight.Add(-1)
	}
	x.admitted = x.admitted[:0]
}

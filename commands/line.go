package commands

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"roombook/domain"
	"roombook/eventstore"
)

// line is where the commands of one process that want to use the same room's calendar wait for each other. Those that want to
// append while another append is under way form a group, and share the next: it costs a crowded room an append for each time the
// event store answers, not one for each command. Those that want to know what is stored share a read. Correctness does not depend
// on it: an append is done at the revision that its group decided on, or not at all.
type line struct {
	room  domain.RoomID
	users int // guarded by calendars.mu

	turn   chan struct{}   // holds a value while somebody appends, or reads on
	reads  atomic.Int64    // that were begun; only who has the turn begins one
	latest int64           // the number of the last read that ended well; belongs to who has the turn
	named  domain.Revision // that the event store named when an append lost a race; belongs to who has the turn

	mu     sync.Mutex
	stored *calendar // as far as it is known, or nil; only who has the turn changes it
	next   *calendar // the same, with all that is decided and not yet stored
	open   *group    // that can be joined, its decisions being the last in next; or nil
}

// group is a row of decisions for one append, each made on the calendar that the one before it leaves.
type group struct {
	on     *calendar
	events []eventstore.Proposed
	leaves *calendar

	begun chan struct{} // closed when nobody can join any more, since it is being appended
	done  chan struct{} // closed when err says what became of all
	err   error
}

// mostInGroup keeps an append far below the size that the event store accepts, 1 MiB: the longest event, as far as the API lets
// one be made, is some 4 KiB.
const mostInGroup = 128

// errOvertaken is the end of a group that was not appended, whose decisions are to be made anew: the append before it failed,
// something new was read, or its first had no time left.
var errOvertaken = errors.New("overtaken before the append")

func (c *calendars) enter(room domain.RoomID) *line {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lines[room]
	if l == nil {
		l = &line{room: room, turn: make(chan struct{}, 1), named: eventstore.NoStream}
		l.stored, _ = c.cache.Get(room)
		l.next = l.stored
		c.lines[room] = l
	}
	l.users++
	return l
}

func (c *calendars) leave(l *line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(c.lines, l.room)
	}
}

// take waits for the turn.
func (l *line) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *line) give() { <-l.turn }

// join decides on what is known, and adds what was decided to a group, which the first in it then appends. There is no group if
// nothing is known, or the decision is to append nothing: that is to be decided on what is stored.
func (l *line) join(ctx context.Context, decide decision) (g *group, first bool, err error) {
	for {
		g, first, closed := l.tryJoin(decide)
		if closed == nil {
			return g, first, nil
		}
		select {
		case <-closed.begun:
		case <-closed.done:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// tryJoin returns the open group as closed if it takes no more.
func (l *line) tryJoin(decide decision) (g *group, first bool, closed *group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		return nil, false, nil
	}
	events, err := decide(l.next.Calendar)
	if err != nil || len(events) == 0 {
		return nil, false, nil
	}
	if l.open != nil && len(l.open.events) >= mostInGroup {
		return nil, false, l.open
	}
	next := *l.next
	for _, e := range events {
		next.Calendar = next.Evolve(e.Event)
		next.revision++
	}
	if first = l.open == nil; first {
		l.open = &group{on: l.next, begun: make(chan struct{}), done: make(chan struct{})}
	}
	l.open.events = append(l.open.events, events...)
	l.next, l.open.leaves = &next, &next
	return l.open, first, nil
}

// begin closes the group, to be appended by who has the turn. It reports false if the group was overtaken.
func (l *line) begin(g *group) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open != g {
		return false
	}
	l.open = nil
	close(g.begun)
	return true
}

// end takes note of what became of the append of a group that was begun. What was decided since, after an append that failed, is
// overtaken.
func (l *line) end(g *group, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.stored = g.leaves
	} else {
		l.goOnFrom(l.stored)
	}
	if wrong, ok := errors.AsType[*eventstore.WrongRevision](err); ok {
		l.named = wrong.Actual
		if l.stored != nil && wrong.Actual < l.stored.revision { // the stream was deleted
			l.stored = nil
			l.goOnFrom(nil)
		}
	}
	g.end(err)
}

// giveUp takes back a group that was not begun.
func (l *line) giveUp(g *group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == g {
		l.goOnFrom(g.on)
	}
}

// goOnFrom has the next decision made on a calendar, which overtakes the open group. l.mu must be held.
func (l *line) goOnFrom(c *calendar) {
	l.next = c
	if l.open != nil {
		l.open.end(errOvertaken)
		l.open = nil
	}
}

// known is the calendar as far as it is known.
func (l *line) known() *calendar {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stored == nil {
		return &calendar{revision: eventstore.NoStream}
	}
	return l.stored
}

// learn takes note of what was read. If it is news, what was decided without it is overtaken.
func (l *line) learn(read *calendar) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if read != l.stored {
		l.stored = read
		l.goOnFrom(read)
	}
}

func (g *group) end(err error) {
	g.err = err
	close(g.done)
}

// wait waits for what the group's first does. As what was decided may be done, a caller that goes away does not end it.
func (g *group) wait(ctx context.Context) error {
	ctx, cancel := decided(ctx)
	defer cancel()
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
	}
	select {
	case <-g.done:
		return g.err
	default:
		return fmt.Errorf("%w: %w", eventstore.ErrOutcomeUnknown, ctx.Err())
	}
}

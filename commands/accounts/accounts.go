// Package accounts carries out commands on users, sessions and tokens, and authenticates sessions and tokens.
//
// Two ideas:
//
//   - What a user is to the system, and what became of them, are events of user-<id>; tokens are events of token-<id>. Who the user is, the
//     hash of their password and their sessions are in a [directory.Store], outside of the log. The id is random, so that nothing identifies
//     a user whom the directory has forgotten.
//   - Every command has an actor, whose permission is checked with the table of package domain before anything else.
package accounts

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"roombook/commands/accounts/directory"
	"roombook/domain"
	"roombook/eventstore"
)

// Streams is what this package needs of the event store. See [eventstore.Store] for the contract.
type Streams interface {
	ReadStream(ctx context.Context, stream string, from domain.Revision) iter.Seq2[eventstore.Recorded, error]
	Append(ctx context.Context, stream string, expected domain.Revision, events ...eventstore.Proposed) (eventstore.Appended, error)
}

// Defaults of [Options].
const (
	DefaultIdle = 12 * time.Hour
	DefaultLife = 7 * 24 * time.Hour
)

// Options configure [Accounts].
type Options struct {
	Idle time.Duration // for how long a session may go unused; 0 is [DefaultIdle]
	Life time.Duration // for how long a session may last; 0 is [DefaultLife]
}

// Accounts carries out commands on users, sessions and tokens. Goroutines may share it. Its methods return the errors named at them,
// [domain.Forbidden], those of package eventstore, those of the directory, and the context's.
type Accounts struct {
	streams    Streams
	directory  directory.Store
	idle, life time.Duration
	hasher     *hasher
	byName     *throttle
	byClient   *throttle
	byDisplay  *throttle // codes that a client is shown, and that a user types in
	users      *recent[domain.UserID, domain.User]
	tokens     *recent[domain.TokenID, Token]
	names      *recent[domain.UserID, string] // empty for a former user
	nameless   atomic.Int64                   // until when no name is looked up, in nanoseconds since 1970

	mu    sync.Mutex
	setUp [32]byte // hash of the one-time code with which the first user can be added; zero if there is none
}

// New returns accounts over an event store and a directory.
func New(streams Streams, directory directory.Store, o Options) *Accounts {
	if o.Idle == 0 {
		o.Idle = DefaultIdle
	}
	if o.Life == 0 {
		o.Life = DefaultLife
	}
	return &Accounts{
		streams: streams, directory: directory, idle: o.Idle, life: o.Life,
		hasher:    newHasher(),
		byName:    newThrottle(5, time.Minute),
		byClient:  newThrottle(20, 5*time.Minute),
		byDisplay: newThrottle(10, 5*time.Minute),
		users:     newRecent[domain.UserID, domain.User](fresh),
		tokens:    newRecent[domain.TokenID, Token](fresh),
		names:     newRecent[domain.UserID, string](nameFresh),
	}
}

// Request says who asks, and when.
type Request struct {
	Actor         domain.Actor
	Client        string // as in [commands.Request]
	At            time.Time
	CorrelationID string
}

func (r Request) propose(events []domain.Event) []eventstore.Proposed {
	proposed := make([]eventstore.Proposed, len(events))
	for i, e := range events {
		proposed[i] = eventstore.Proposed{Event: e, Metadata: eventstore.Metadata{CorrelationID: r.CorrelationID, Actor: string(r.Actor.User), Client: r.Client, OccurredAt: r.At}}
	}
	return proposed
}

// state is what a stream is folded into.
type state[S any] interface{ Evolve(domain.Event) S }

// errUnreadable means that an event that matters to a user or token cannot be decoded, so that nothing can be permitted by it.
var errUnreadable = errors.New("an event of the account cannot be decoded by this version of the program")

// load folds a stream.
func load[S state[S]](ctx context.Context, streams Streams, stream string) (s S, revision domain.Revision, err error) {
	revision = eventstore.NoStream
	for r, err := range streams.ReadStream(ctx, stream, 0) {
		if err != nil {
			return s, revision, err
		}
		if r.Event == nil && eventstore.Known(r.Type) {
			return s, revision, errUnreadable
		}
		if r.Event != nil {
			s = s.Evolve(r.Event)
		}
		revision = r.Revision
	}
	return s, revision, nil
}

// transact decides on a stream and appends at the revision that it decided on. If another append came first it decides again.
func transact[S state[S]](ctx context.Context, a *Accounts, r Request, stream string, decide func(S) ([]domain.Event, error)) (S, error) {
	for {
		s, revision, err := load[S](ctx, a.streams, stream)
		if err != nil {
			return s, err
		}
		events, err := decide(s)
		if err != nil || len(events) == 0 {
			return s, err
		}
		_, err = a.streams.Append(ctx, stream, revision, r.propose(events)...)
		if _, lost := errors.AsType[*eventstore.WrongRevision](err); lost {
			continue
		}
		return domain.Fold(s, events...), err
	}
}

// fresh is how long a user or token that was read is cached. A change takes effect at once in the process that makes it, and within this time
// in others.
const fresh = time.Second

// maxRecent bounds the users, the tokens and the names that are remembered.
const maxRecent = 10_000

// recent is a cache of what was read a moment ago. It is safe for concurrent use.
type recent[K comparable, V any] struct {
	fresh   time.Duration // for how long
	mu      sync.Mutex
	entries *simplelru.LRU[K, recentEntry[V]]
	changes uint64 // counts what was forgotten, so that nobody keeps what they read before
}

type recentEntry[V any] struct {
	value V
	at    time.Time
}

func newRecent[K comparable, V any](fresh time.Duration) *recent[K, V] {
	entries, _ := simplelru.NewLRU[K, recentEntry[V]](maxRecent, nil) // fails only for a negative size
	return &recent[K, V]{fresh: fresh, entries: entries}
}

// get returns the cached value or, if there is none, the result of read.
func (r *recent[K, V]) get(key K, read func() (V, error)) (V, error) {
	now := time.Now()
	r.mu.Lock()
	e, ok := r.entries.Get(key)
	changes := r.changes
	r.mu.Unlock()
	if ok && now.Sub(e.at) < r.fresh {
		return e.value, nil
	}
	value, err := read()
	if err != nil {
		return value, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if changes == r.changes {
		r.entries.Add(key, recentEntry[V]{value, now})
	}
	return value, nil
}

// forget is called after each change.
func (r *recent[K, V]) forget(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	r.entries.Remove(key)
}

package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

const (
	configurationStream = "$persistentSubscriptionConfig"
	configurationType   = "$PersistentConfig"
	// groupTick is how often time-outs and checkpoints are looked at.
	groupTick = time.Second
	// maxWrites is the number of writes of groups that wait for the disk; groups wait beyond it.
	maxWrites = 1024
)

// groups are the persistent subscriptions of a log. Their settings, checkpoints and parked events are in streams of the log, so
// that they share its group commit: what is settled on behalf of a parked event or a checkpoint comes after it in the log.
// Its methods may be called from several goroutines.
type groups struct {
	log      *eventLog
	patterns *atomic.Bool // set once a filter by regular expression is used
	report   func(operation string, err error)
	ctx      context.Context // ends with the node
	cancel   context.CancelFunc
	work     sync.WaitGroup
	writes   chan pending

	mu       sync.Mutex // also orders changes of the configuration
	entries  map[string]*group
	started  chan struct{} // closed when there is a group for the first time
	hadGroup bool
	sources  map[string]bool // those that have had a group
}

// groupConfiguration is stored as the last event of its stream.
type groupConfiguration struct {
	Version   string          `json:"version"`
	Updated   time.Time       `json:"updated"`
	UpdatedBy string          `json:"updatedBy"`
	Entries   []groupSettings `json:"entries"`
}

// openGroups starts the groups that are stored.
func openGroups(log *eventLog, patterns *atomic.Bool, report func(operation string, err error)) (*groups, error) {
	s := &groups{log: log, patterns: patterns, report: report, entries: map[string]*group{}, sources: map[string]bool{}, started: make(chan struct{}), writes: make(chan pending, maxWrites)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.load(); err != nil {
		s.cancel()
		return nil, err
	}
	s.work.Go(s.follow)
	s.work.Go(s.tick)
	s.work.Go(s.finish)
	return s, nil
}

// stop ends all groups.
func (s *groups) stop() {
	s.mu.Lock()
	for _, g := range s.entries {
		g.stop()
	}
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
}

// load starts the groups of the last configuration that is well-formed: clients may write to its stream too. s.mu must be held, or
// s be new.
func (s *groups) load() error {
	v, err := s.log.view(configurationStream, s.log.position())
	if err != nil || v.tombstoned {
		return err
	}
	v.first = 0
	for next, more := v.last, v.last >= 0; more; {
		var p page
		if next, more, err = s.log.readStream(&p, v, next, true, 1); err != nil {
			return err
		}
		var configuration groupConfiguration
		if err := json.Unmarshal(p.events[0].data(), &configuration); err == nil && configuration.Version != "" {
			return s.start(configuration)
		}
		s.report("read the configuration of persistent subscriptions", errors.New("it is malformed, the one before is taken"))
	}
	return nil
}

func (s *groups) start(configuration groupConfiguration) error {
	for _, settings := range configuration.Entries {
		g, err := newGroup(s, settings)
		if _, ok := errors.AsType[*callError](err); ok {
			s.report("start a group", fmt.Errorf("the settings of %s are invalid", settings.key()))
			continue
		}
		if err != nil {
			return err
		}
		s.put(g)
	}
	return nil
}

func (s *groups) put(g *group) {
	s.entries[g.settings.key()] = g
	s.sources[g.settings.Stream] = true
	if !s.hadGroup {
		s.hadGroup = true
		close(s.started)
	}
}

// get returns a group, nil if there is none.
func (s *groups) get(key string) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[key]
}

// known reports whether a stream, or $all, has had a group since the node was opened. No stream always has.
func (s *groups) known(stream string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return stream == "" || s.sources[stream]
}

// list returns the groups on stream, or all, in order of source and name.
func (s *groups) list(stream string) []*group {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*group
	for _, g := range s.entries {
		if stream == "" || g.settings.Stream == stream {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.settings.Stream, b.settings.Stream), a.created.Compare(b.created), cmp.Compare(a.settings.Group, b.settings.Group))
	})
	return list
}

// create starts a group and stores its settings. It reports whether there was none of its name.
func (s *groups) create(ctx context.Context, settings groupSettings) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[settings.key()] != nil {
		return false, nil
	}
	g, err := newGroup(s, settings)
	if err != nil {
		return true, err
	}
	s.put(g)
	if err := s.store(ctx); err != nil {
		delete(s.entries, settings.key())
		return true, err
	}
	g.advance()
	return true, nil
}

// update gives a group other settings: it drops its clients and starts anew from its checkpoint.
func (s *groups) update(ctx context.Context, old *group, settings groupSettings) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old.stop()
	// When this is on disk, so is what the group has written before.
	if err := s.store(ctx, settings); err != nil {
		return err
	}
	g, err := newGroup(s, settings)
	if err != nil {
		return err
	}
	g.created = old.created
	s.put(g)
	g.advance()
	return nil
}

// remove deletes a group with its streams.
func (s *groups) remove(ctx context.Context, g *group) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, g.settings.key())
	g.stop()
	if err := s.store(ctx); err != nil {
		return err
	}
	for _, suffix := range []string{checkpointSuffix, parkedSuffix} {
		if _, err := s.log.append(ctx, newDeletion(g.stream(suffix), expectAny, softDeletion)); err != nil {
			return err
		}
	}
	return nil
}

// restart drops all clients and starts the groups anew from what is stored.
func (s *groups) restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, g := range s.entries {
		g.stop()
		delete(s.entries, key)
	}
	return s.load()
}

// store writes the configuration, with these settings in place of those of the group of the same name. s.mu must be held.
func (s *groups) store(ctx context.Context, changed ...groupSettings) error {
	configuration := groupConfiguration{Version: "2", Updated: time.Now().UTC(), UpdatedBy: "system", Entries: []groupSettings{}}
	for _, g := range s.entries {
		settings := g.settings
		for _, c := range changed {
			if c.key() == settings.key() {
				settings = c
			}
		}
		configuration.Entries = append(configuration.Entries, settings)
	}
	slices.SortFunc(configuration.Entries, func(a, b groupSettings) int { return cmp.Compare(a.key(), b.key()) })
	data, err := json.Marshal(configuration)
	if err != nil {
		return err
	}
	if first, err := s.log.lastEvent(configurationStream, s.log.position()); err != nil {
		return err
	} else if first == nil {
		metastream := metastreamOf(configurationStream)
		metadata := metadataEvent(metastream, []byte(`{"$maxCount":2}`))
		if err := s.write(change{stream: metastream, expected: expectAny, events: []*event{metadata}}); err != nil {
			return err
		}
	}
	record := newRecord(configurationStream, newEventID(), []byte(configurationType), true, nil, data)
	result, err := s.log.append(ctx, change{stream: configurationStream, expected: expectAny, events: []*event{{record: record}}})
	if err == nil && result.decision == streamDeleted {
		err = streamIsDeleted(configurationStream)
	}
	return err
}

func newEventID() eventID { return eventID(uuid.New()) }

// write hands a change to the log. It is not on disk when write returns, but before whatever is written later.
func (s *groups) write(c change) error {
	p, err := s.log.begin(c)
	if err != nil {
		return err
	}
	s.writes <- p
	return nil
}

// finish waits for what the groups have written.
func (s *groups) finish() {
	for {
		select {
		case p := <-s.writes:
			if _, err := s.log.finish(context.Background(), p); err != nil {
				s.report("write for a group", err)
			}
		case <-s.ctx.Done():
			for { // what is begun is finished
				select {
				case p := <-s.writes:
					if _, err := s.log.finish(context.Background(), p); err != nil {
						s.report("write for a group", err)
					}
				default:
					return
				}
			}
		}
	}
}

// follow has the groups look at the log as it grows, those on streams that have grown.
func (s *groups) follow() {
	select {
	case <-s.started:
	case <-s.ctx.Done():
		return
	}
	seen := uint64(0)
	for {
		paced := time.After(deliveryPace) // as subscriptions to all are
		durable := s.log.position()
		grown := map[string]bool{}
		missed := false
		for ; seen < durable; seen++ {
			e := s.log.recent.get(seen + 1)
			if e == nil {
				missed, seen = true, durable
				break
			}
			grown[string(e.stream())] = true
		}
		for _, g := range s.list("") {
			if missed || g.settings.all() || grown[g.settings.Stream] {
				g.advance()
			}
		}
		if s.log.wait(s.ctx, seen+1) != nil {
			return
		}
		select {
		case <-paced:
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *groups) tick() {
	ticker := time.NewTicker(groupTick)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			for _, g := range s.list("") {
				g.tick(now)
			}
		case <-s.ctx.Done():
			return
		}
	}
}

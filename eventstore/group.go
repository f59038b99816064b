package eventstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/go-json-experiment/json"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"roombook/domain"
)

// NoGroup means that the event store has no persistent subscription to the log of that name. Who may make it is for the event store to
// say: see [Store.EnsureGroup].
type NoGroup struct{ Group string }

func (e *NoGroup) Error() string {
	return fmt.Sprintf("the event store has no persistent subscription %s to $all", e.Group)
}

// errTooManyConsumers means that a group has as many consumers as it may.
var errTooManyConsumers = errors.New("the group has as many consumers as it may have")

// Strategy is how a group chooses the consumer of an event.
type Strategy string

const (
	// RoundRobin hands events to the consumers in turn.
	RoundRobin Strategy = "RoundRobin"
	// DispatchToSingle hands events to the first consumer until that has as many in flight as it wants, then to the next.
	DispatchToSingle Strategy = "DispatchToSingle"
	// Pinned hands all events of a stream to the same consumer, until one comes or goes.
	Pinned Strategy = "Pinned"
)

// GroupSettings are those of a group.
type GroupSettings struct {
	// Filter and From are those that the group is created with. They cannot be changed later: a group that selects other events needs
	// another name.
	Filter Filter
	// From is where the group begins: at the event with this position, or the first one after it; 0 is the beginning of the log.
	From Position

	Strategy Strategy
	// MaxConsumers is how many consumers the group may have at a time; 0 is any number.
	MaxConsumers int
	// MessageTimeout is how long an event may be in a consumer's hands before the group hands it out again.
	MessageTimeout time.Duration
	// MaxRetries is how often an event is handed out again, because of [Retry] or the time-out, before it is parked.
	MaxRetries int
	// CheckpointAfter and CheckpointEvents bound how much is handed out again after a restart of the event store: it writes down what is
	// settled, in the order of the log, after so many events, or if there are any after the time.
	CheckpointAfter  time.Duration
	CheckpointEvents int
}

// Buffers of a group, as official clients have them by default.
const (
	groupBuffer = 500 // events that it keeps ready
	groupBatch  = 20  // events that it reads at a time
)

// GroupInfo says how a group is doing.
type GroupInfo struct {
	// Consumers is the number of consumers that are connected, InFlight that of the events in their hands.
	Consumers, InFlight int
	// Waiting is the number of events that are ready to be handed out. It does not exceed the group's buffers: there may be more in the
	// log.
	Waiting int
	// Parked is the number of events that are parked.
	Parked int
	// From is where the group begins, as [GroupSettings.From] says; 0 if that was the end of the log.
	From Position
	// Known is the position of the last event that the group has read, Checkpoint that up to which all is settled as far as was written
	// down; 0 if there is none.
	Known, Checkpoint Position
}

// EnsureGroup creates the group, a persistent subscription to the log, if there is none of its name, and otherwise changes its settings if
// they differ. Consumers of a group that is changed are dropped, and consume on. changed reports whether it did either. The errors are
// those of [Store.ReadStream]: a user who may consume need not be one who may create a group.
func (s *Store) EnsureGroup(ctx context.Context, group string, g GroupSettings) (changed bool, err error) {
	if changed, err = s.ensureGroup(ctx, group, g); err != nil {
		return false, fmt.Errorf("ensure group %s: %w", group, err)
	}
	return changed, nil
}

func (s *Store) ensureGroup(ctx context.Context, group string, g GroupSettings) (changed bool, err error) {
	if group == "" {
		return false, errors.New("it has no name")
	}
	if g.MaxConsumers < 0 || g.MessageTimeout < time.Millisecond || g.MessageTimeout.Milliseconds() > math.MaxInt32 || g.MaxRetries < 0 ||
		g.CheckpointAfter < time.Millisecond || g.CheckpointAfter.Milliseconds() > math.MaxInt32 || g.CheckpointEvents < 1 {
		return false, errors.New("its numbers and times are out of range")
	}
	info, err := s.groupInfo(ctx, group)
	if missing := (*NoGroup)(nil); errors.As(err, &missing) {
		if changed, err = s.createGroup(ctx, group, g); changed || err != nil {
			return changed, err
		}
		info, err = s.groupInfo(ctx, group)
	}
	if err != nil || g.same(info) {
		return false, err
	}
	return true, s.updateGroup(ctx, group, g, info.GetStartFrom())
}

func (s *Store) createGroup(ctx context.Context, group string, g GroupSettings) (created bool, err error) {
	all := &persistent.CreateReq_AllOptions{
		AllOption: &persistent.CreateReq_AllOptions_Start{Start: &shared.Empty{}},
		FilterOption: &persistent.CreateReq_AllOptions_Filter{Filter: &persistent.CreateReq_AllOptions_FilterOptions{
			Filter: &persistent.CreateReq_AllOptions_FilterOptions_StreamIdentifier{
				StreamIdentifier: &persistent.CreateReq_AllOptions_FilterOptions_Expression{Prefix: g.Filter.StreamPrefixes, Regex: g.Filter.regex()},
			},
			Window:                       &persistent.CreateReq_AllOptions_FilterOptions_Max{Max: filterWindow},
			CheckpointIntervalMultiplier: 1,
		}},
	}
	if g.From > 0 {
		all.AllOption = &persistent.CreateReq_AllOptions_Position{
			Position: &persistent.CreateReq_Position{CommitPosition: uint64(g.From), PreparePosition: uint64(g.From)},
		}
	}
	request := &persistent.CreateReq{Options: &persistent.CreateReq_Options{
		StreamOption: &persistent.CreateReq_Options_All{All: all},
		GroupName:    group,
		Settings: &persistent.CreateReq_Settings{
			MaxRetryCount: int32(g.MaxRetries), MinCheckpointCount: 1, MaxCheckpointCount: int32(g.CheckpointEvents),
			MaxSubscriberCount: int32(g.MaxConsumers), LiveBufferSize: groupBuffer, ReadBatchSize: groupBatch, HistoryBufferSize: groupBuffer,
			MessageTimeout:   &persistent.CreateReq_Settings_MessageTimeoutMs{MessageTimeoutMs: int32(g.MessageTimeout.Milliseconds())},
			CheckpointAfter:  &persistent.CreateReq_Settings_CheckpointAfterMs{CheckpointAfterMs: int32(g.CheckpointAfter.Milliseconds())},
			ConsumerStrategy: string(g.Strategy),
		},
	}}
	created = true
	err = s.askForGroup(ctx, group, func(c *call) error {
		_, err := c.groups().Create(c, request, c.trailers())
		if status.Code(err) == codes.AlreadyExists { // by an earlier try, or by another process
			created = false
			return nil
		}
		return err
	})
	return created, err
}

// updateGroup changes a group's settings. It must be told where to start once more, in the event store's form, as long as it has no checkpoint.
func (s *Store) updateGroup(ctx context.Context, group string, g GroupSettings, from string) error {
	all := &persistent.UpdateReq_AllOptions{AllOption: &persistent.UpdateReq_AllOptions_Start{Start: &shared.Empty{}}}
	if at, ok := parsePosition(from); !ok {
		all.AllOption = &persistent.UpdateReq_AllOptions_End{End: &shared.Empty{}}
	} else if at > 0 {
		all.AllOption = &persistent.UpdateReq_AllOptions_Position{
			Position: &persistent.UpdateReq_Position{CommitPosition: uint64(at), PreparePosition: uint64(at)},
		}
	}
	request := &persistent.UpdateReq{Options: &persistent.UpdateReq_Options{
		StreamOption: &persistent.UpdateReq_Options_All{All: all},
		GroupName:    group,
		Settings: &persistent.UpdateReq_Settings{
			MaxRetryCount: int32(g.MaxRetries), MinCheckpointCount: 1, MaxCheckpointCount: int32(g.CheckpointEvents),
			MaxSubscriberCount: int32(g.MaxConsumers), LiveBufferSize: groupBuffer, ReadBatchSize: groupBatch, HistoryBufferSize: groupBuffer,
			MessageTimeout:        &persistent.UpdateReq_Settings_MessageTimeoutMs{MessageTimeoutMs: int32(g.MessageTimeout.Milliseconds())},
			CheckpointAfter:       &persistent.UpdateReq_Settings_CheckpointAfterMs{CheckpointAfterMs: int32(g.CheckpointAfter.Milliseconds())},
			NamedConsumerStrategy: persistent.UpdateReq_ConsumerStrategy(persistent.UpdateReq_ConsumerStrategy_value[string(g.Strategy)]),
		},
	}}
	return s.askForGroup(ctx, group, func(c *call) error {
		_, err := c.groups().Update(c, request, c.trailers())
		return err
	})
}

// same reports whether a group has these settings, as far as they can be changed.
func (g *GroupSettings) same(info *persistent.SubscriptionInfo) bool {
	return info.GetNamedConsumerStrategy() == string(g.Strategy) &&
		info.GetMaxSubscriberCount() == int32(g.MaxConsumers) &&
		int64(info.GetMessageTimeoutMilliseconds()) == g.MessageTimeout.Milliseconds() &&
		info.GetMaxRetryCount() == int32(g.MaxRetries) &&
		int64(info.GetCheckPointAfterMilliseconds()) == g.CheckpointAfter.Milliseconds() &&
		info.GetMinCheckPointCount() == 1 && info.GetMaxCheckPointCount() == int32(g.CheckpointEvents) &&
		info.GetLiveBufferSize() == groupBuffer && info.GetBufferSize() == groupBuffer && info.GetReadBatchSize() == groupBatch &&
		!info.GetResolveLinkTos() && !info.GetExtraStatistics()
}

// Group tells how a group is doing. The errors are those of [Store.ReadStream], and [*NoGroup].
func (s *Store) Group(ctx context.Context, group string) (GroupInfo, error) {
	info, err := s.groupInfo(ctx, group)
	if err != nil {
		return GroupInfo{}, fmt.Errorf("look at group %s: %w", group, err)
	}
	from, _ := parsePosition(info.GetStartFrom())
	known, _ := parsePosition(info.GetLastKnownEventPosition())
	checkpoint, _ := parsePosition(info.GetLastCheckpointedEventPosition())
	return GroupInfo{
		Consumers:  len(info.GetConnections()),
		InFlight:   int(info.GetTotalInFlightMessages()),
		Waiting:    int(info.GetReadBufferCount()) + int(info.GetRetryBufferCount()) + int(info.GetLiveBufferCount()),
		Parked:     int(info.GetParkedMessageCount()),
		From:       from,
		Known:      known,
		Checkpoint: checkpoint,
	}, nil
}

func (s *Store) groupInfo(ctx context.Context, group string) (info *persistent.SubscriptionInfo, err error) {
	err = s.askForGroup(ctx, group, func(c *call) error {
		answer, err := c.groups().GetInfo(c, getInfo(group), c.trailers())
		info = answer.GetSubscriptionInfo()
		return err
	})
	return info, err
}

func getInfo(group string) *persistent.GetInfoReq {
	return &persistent.GetInfoReq{Options: &persistent.GetInfoReq_Options{
		StreamOption: &persistent.GetInfoReq_Options_All{All: &shared.Empty{}}, GroupName: group,
	}}
}

// ParkedEvent is an event that a group has parked.
type ParkedEvent struct {
	Stream   string
	Revision domain.Revision
	Reason   string
	At       time.Time // when it was parked
}

// Parked lists the events that a group has parked and that [Store.ReplayParked] has not handed out again, oldest first. The errors are those of
// [Store.ReplayParked].
func (s *Store) Parked(ctx context.Context, group string) (list []ParkedEvent, err error) {
	if _, err = s.groupInfo(ctx, group); err == nil {
		err = s.readStream(ctx, "$persistentsubscription-$all::"+group+"-parked", 0, func(e *recordedEvent) bool {
			var parked ParkedEvent
			var m struct {
				Reason string    `json:"reason"`
				Added  time.Time `json:"added"`
			}
			revision, stream, _ := strings.Cut(string(e.GetData()), "@")
			number, _ := strconv.ParseInt(revision, 10, 64)
			_ = json.Unmarshal(e.GetCustomMetadata(), &m, storedJSON) // only tells more
			parked.Stream, parked.Revision, parked.At = stream, domain.Revision(number), m.Added
			parked.Reason = strings.TrimPrefix(m.Reason, "Client explicitly NAK'ed message.\n")
			list = append(list, parked)
			return true
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read what group %s has parked: %w", group, err)
	}
	return list, nil
}

// ReplayParked has the events that a group has parked until now handed out again, before others. It returns before that has happened. The
// errors are those of [Store.ReadStream], and [*NoGroup]: a user who may consume need not be one who may do this.
func (s *Store) ReplayParked(ctx context.Context, group string) error {
	err := s.askForGroup(ctx, group, func(c *call) error {
		_, err := c.groups().ReplayParked(c, &persistent.ReplayParkedReq{Options: &persistent.ReplayParkedReq_Options{
			StreamOption: &persistent.ReplayParkedReq_Options_All{All: &shared.Empty{}}, GroupName: group,
			StopAtOption: &persistent.ReplayParkedReq_Options_NoLimit{NoLimit: &shared.Empty{}},
		}}, c.trailers())
		return err
	})
	if err != nil {
		return fmt.Errorf("replay what group %s has parked: %w", group, err)
	}
	return nil
}

// askForGroup asks the leader about a group, again and again until it answers or the time-out has passed.
func (s *Store) askForGroup(ctx context.Context, group string, ask func(*call) error) error {
	w, stop := s.newIdleContext(ctx)
	defer stop()
	pauses := newPauses()
	var failure error
	for {
		c, err := s.connections.leader.begin(w)
		if err == nil {
			if err = ask(c); err == nil {
				c.member.answered()
			} else {
				err = c.groupFailed(group, err)
			}
			c.done()
		}
		var refused *refusal
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused):
			return refused.err
		}
		failure = reason(w, failure, err)
		if !pause(w, pauses) {
			return w.ended(failure)
		}
	}
}

// groups is the service of persistent subscriptions.
func (c *call) groups() persistent.PersistentSubscriptionsClient {
	return persistent.NewPersistentSubscriptionsClient(c.connection)
}

// groupFailed is [call.failed] of a call about a group.
func (c *call) groupFailed(group string, err error) error {
	switch firstOf(c.trailer, "exception") {
	case "persistent-subscription-does-not-exist":
		c.member.answered()
		return &refusal{&NoGroup{group}}
	case "maximum-subscribers-reached":
		c.member.answered()
		return errTooManyConsumers
	case "persistent-subscription-failed": // over its settings
		c.member.answered()
		return &refusal{errors.New(status.Convert(err).Message())}
	}
	return c.failed(err)
}

// parsePosition reads a position as the event store writes those of groups, C:5/P:5. False is none, or the end.
func parsePosition(text string) (p Position, ok bool) {
	commit, _, _ := strings.Cut(text, "/")
	_, err := fmt.Sscanf(commit, "C:%d", &p)
	return p, err == nil
}

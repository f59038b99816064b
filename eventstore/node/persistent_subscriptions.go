package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// persistentService serves event_store.client.persistent_subscriptions.PersistentSubscriptions.
type persistentService struct {
	persistent.UnimplementedPersistentSubscriptionsServer
	groups   *groups
	streams  *streamsService
	stopping context.Context // done when clients have to go
}

// groupError is an error about a group, with EventStoreDB's trailers.
func groupError(code codes.Code, exception, stream, group, text string) error {
	trailers := metadata.Pairs("exception", exception, "stream-name", trailerText(stream))
	if group != "" {
		trailers.Set("group-name", trailerText(group))
	}
	return &callError{code: code, text: text, trailers: trailers}
}

func noGroup(stream, group string) error {
	return groupError(codes.NotFound, "persistent-subscription-does-not-exist", stream, group,
		fmt.Sprintf("Subscription group %s on stream %s does not exist.", group, stream))
}

func groupFailed(stream, group, reason string) error {
	err := groupError(codes.Internal, "persistent-subscription-failed", stream, group,
		fmt.Sprintf("Subscription group %s on stream %s failed: '%s'", group, stream, reason))
	trailersOf(err).Set("reason", trailerText(reason))
	return err
}

func groupDropped(stream, group string) error {
	return groupError(codes.Canceled, "persistent-subscription-dropped", stream, group,
		fmt.Sprintf("Subscription group %s on stream %s was dropped.", group, stream))
}

// source is the name of a group's stream, or $all. False: the request names none.
func source(identifier *shared.StreamIdentifier, all *shared.Empty) (string, bool) {
	switch {
	case all != nil:
		return allStream, true
	case identifier != nil:
		return string(identifier.StreamName), len(identifier.StreamName) > 0
	}
	return "", false
}

// existing returns the group that a request is about.
func (s *persistentService) existing(identifier *shared.StreamIdentifier, all *shared.Empty, name string) (*group, error) {
	stream, ok := source(identifier, all)
	if !ok {
		return nil, errHandler
	}
	if g := s.groups.get(stream + "::" + name); g != nil {
		return g, nil
	}
	return nil, noGroup(stream, name)
}

// settingsMessage is what the settings of CreateReq and UpdateReq have in common.
type settingsMessage interface {
	GetResolveLinks() bool
	GetExtraStatistics() bool
	GetMaxRetryCount() int32
	GetMinCheckpointCount() int32
	GetMaxCheckpointCount() int32
	GetMaxSubscriberCount() int32
	GetLiveBufferSize() int32
	GetReadBatchSize() int32
	GetHistoryBufferSize() int32
	GetMessageTimeoutTicks() int64
	GetMessageTimeoutMs() int32
	GetCheckpointAfterTicks() int64
	GetCheckpointAfterMs() int32
}

// Clients before 21.10 say the stream, where to start and the strategy in fields that others leave out.
type (
	formerOptions interface {
		GetStreamIdentifier() *shared.StreamIdentifier
	}
	formerSettings interface{ GetRevision() uint64 }
	formerCreate   interface {
		GetNamedConsumerStrategy() persistent.CreateReq_ConsumerStrategy
	}
)

const ticksPerMillisecond = ticksPerSecond / 1000

func settingsOf(m settingsMessage) groupSettings {
	return groupSettings{
		ResolveLinkTos: m.GetResolveLinks(), ExtraStatistics: m.GetExtraStatistics(),
		MaxRetryCount: m.GetMaxRetryCount(), MinCheckPointCount: m.GetMinCheckpointCount(), MaxCheckPointCount: m.GetMaxCheckpointCount(),
		MaxSubscriberCount: m.GetMaxSubscriberCount(), LiveBufferSize: m.GetLiveBufferSize(), ReadBatchSize: m.GetReadBatchSize(),
		HistoryBufferSize: m.GetHistoryBufferSize(),
		// One of each pair is set.
		MessageTimeout:  m.GetMessageTimeoutMs() + int32(m.GetMessageTimeoutTicks()/ticksPerMillisecond),
		CheckPointAfter: m.GetCheckpointAfterMs() + int32(m.GetCheckpointAfterTicks()/ticksPerMillisecond),
	}
}

// startRevision is where a group on a stream starts.
func startRevision(revision uint64) (place, error) {
	if revision == math.MaxUint64 {
		return endPlace, nil
	}
	if revision > math.MaxInt64 {
		return 0, errHandler
	}
	return place(revision), nil
}

// startPosition is where a group on $all starts.
func (s *persistentService) startPosition(group string, commit, prepare uint64) (place, error) {
	switch {
	case commit == math.MaxUint64 && prepare == math.MaxUint64:
		return endPlace, nil
	case prepare > commit || commit > math.MaxInt64:
		return 0, errHandler
	case commit > s.groups.log.position():
		return 0, groupFailed(allStream, group, "Invalid Start From position: commit position must be less than or equal to the last commit position in the transaction file.")
	}
	return place(commit), nil
}

// Create makes a group.
func (s *persistentService) Create(ctx context.Context, request *persistent.CreateReq) (*persistent.CreateResp, error) {
	settings, err := s.parseCreate(request.GetOptions())
	if err == nil {
		var created bool
		if created, err = s.groups.create(ctx, settings); err == nil && !created {
			err = groupError(codes.AlreadyExists, "persistent-subscription-exists", settings.Stream, settings.Group,
				fmt.Sprintf("Subscription group %s on stream %s exists.", settings.Group, settings.Stream))
		}
	}
	return &persistent.CreateResp{}, s.answer(ctx, "create a group", err)
}

func (s *persistentService) parseCreate(o *persistent.CreateReq_Options) (groupSettings, error) {
	if o.GetSettings() == nil {
		return groupSettings{}, errHandler
	}
	settings := settingsOf(o.Settings)
	settings.Group = o.GroupName
	settings.NamedConsumerStrategy = o.Settings.ConsumerStrategy
	if settings.NamedConsumerStrategy == "" {
		settings.NamedConsumerStrategy = formerCreate(o.Settings).GetNamedConsumerStrategy().String()
	}
	var err error
	switch from := o.StreamOption.(type) {
	case *persistent.CreateReq_Options_Stream:
		settings.Stream = string(from.Stream.GetStreamIdentifier().GetStreamName())
		switch from := from.Stream.GetRevisionOption().(type) {
		case *persistent.CreateReq_StreamOptions_Revision:
			settings.StartPosition, err = startRevision(from.Revision)
		case *persistent.CreateReq_StreamOptions_Start:
		case *persistent.CreateReq_StreamOptions_End:
			settings.StartPosition = endPlace
		default:
			err = noneIsInvalid("PersistentSubscriptions.CreateReq+Types+StreamOptions+RevisionOption")
		}
		if settings.Stream == allStream {
			err = groupSourceMixedUp("Create")
		}
	case *persistent.CreateReq_Options_All:
		settings.Stream = allStream
		switch from := from.All.GetAllOption().(type) {
		case *persistent.CreateReq_AllOptions_Position:
			settings.StartPosition, err = s.startPosition(o.GroupName, from.Position.GetCommitPosition(), from.Position.GetPreparePosition())
		case *persistent.CreateReq_AllOptions_Start:
		case *persistent.CreateReq_AllOptions_End:
			settings.StartPosition = endPlace
		default:
			err = noneIsInvalid("PersistentSubscriptions.CreateReq+Types+AllOptions+AllOption")
		}
		if err == nil {
			settings.Filter, err = parseGroupFilter(from.All)
		}
	default:
		settings.Stream = string(formerOptions(o).GetStreamIdentifier().GetStreamName())
		settings.StartPosition, err = startRevision(formerSettings(o.Settings).GetRevision())
	}
	switch {
	case err != nil:
		return settings, err
	case settings.Stream == "":
		return settings, errHandler
	}
	if reason := settings.check(); reason != "" {
		return settings, groupFailed(settings.Stream, settings.Group, reason)
	}
	return settings, nil
}

func groupSourceMixedUp(what string) error {
	return &callError{code: codes.Unknown, text: fmt.Sprintf("Envelope callback expected either %[1]sPersistentSubscriptionToAllCompleted or NotHandled, "+
		"received %[1]sPersistentSubscriptionToStreamCompleted instead", what)}
}

func parseGroupFilter(all *persistent.CreateReq_AllOptions) (*groupFilter, error) {
	options := all.GetFilter()
	if options == nil {
		return nil, nil
	}
	f := &groupFilter{Interval: defaultWindow}
	expression := options.GetStreamIdentifier()
	if _, ok := options.GetFilter().(*persistent.CreateReq_AllOptions_FilterOptions_EventType); ok {
		f.ByType = true
		expression = options.GetEventType()
	} else if expression == nil {
		return nil, errHandler
	}
	if window, ok := options.GetWindow().(*persistent.CreateReq_AllOptions_FilterOptions_Max); ok {
		f.Interval = uint64(window.Max)
	}
	f.Interval *= uint64(max(options.GetCheckpointIntervalMultiplier(), 1))
	f.Regex = expression.GetRegex()
	if f.Regex == "" {
		f.Prefixes = expression.GetPrefix()
	}
	_, err := f.compile()
	return f, err
}

// Update gives a group other settings. Its clients are dropped.
func (s *persistentService) Update(ctx context.Context, request *persistent.UpdateReq) (*persistent.UpdateResp, error) {
	g, settings, err := s.parseUpdate(request.GetOptions())
	if err == nil {
		err = s.groups.update(ctx, g, settings)
	}
	return &persistent.UpdateResp{}, s.answer(ctx, "update a group", err)
}

func (s *persistentService) parseUpdate(o *persistent.UpdateReq_Options) (*group, groupSettings, error) {
	if o.GetSettings() == nil {
		return nil, groupSettings{}, errHandler
	}
	settings := settingsOf(o.Settings)
	settings.Group = o.GroupName
	settings.NamedConsumerStrategy = o.Settings.GetNamedConsumerStrategy().String()
	var err error
	switch from := o.StreamOption.(type) {
	case *persistent.UpdateReq_Options_Stream:
		settings.Stream = string(from.Stream.GetStreamIdentifier().GetStreamName())
		switch from := from.Stream.GetRevisionOption().(type) {
		case *persistent.UpdateReq_StreamOptions_Revision:
			settings.StartPosition, err = startRevision(from.Revision)
		case *persistent.UpdateReq_StreamOptions_Start:
		case *persistent.UpdateReq_StreamOptions_End:
			settings.StartPosition = endPlace
		default:
			err = noneIsInvalid("PersistentSubscriptions.UpdateReq+Types+StreamOptions+RevisionOption")
		}
		if settings.Stream == allStream {
			err = groupSourceMixedUp("Update")
		}
	case *persistent.UpdateReq_Options_All:
		settings.Stream = allStream
		switch from := from.All.GetAllOption().(type) {
		case *persistent.UpdateReq_AllOptions_Position:
			settings.StartPosition, err = s.startPosition(o.GroupName, from.Position.GetCommitPosition(), from.Position.GetPreparePosition())
		case *persistent.UpdateReq_AllOptions_Start:
		case *persistent.UpdateReq_AllOptions_End:
			settings.StartPosition = endPlace
		default:
			err = noneIsInvalid("PersistentSubscriptions.UpdateReq+Types+AllOptions+AllOption")
		}
	default:
		settings.Stream = string(formerOptions(o).GetStreamIdentifier().GetStreamName())
		settings.StartPosition, err = startRevision(formerSettings(o.Settings).GetRevision())
	}
	if err == nil && settings.Stream == "" {
		err = errHandler
	}
	if err != nil {
		return nil, settings, err
	}
	g := s.groups.get(settings.key())
	if g == nil {
		return nil, settings, noGroup(settings.Stream, settings.Group)
	}
	settings.Filter = g.settings.Filter
	if reason := settings.check(); reason != "" {
		return nil, settings, groupFailed(settings.Stream, settings.Group, reason)
	}
	return g, settings, nil
}

// Delete removes a group with its checkpoint and its parked events. Its clients are dropped.
func (s *persistentService) Delete(ctx context.Context, request *persistent.DeleteReq) (*persistent.DeleteResp, error) {
	o := request.GetOptions()
	var err error
	if string(o.GetStreamIdentifier().GetStreamName()) == allStream {
		err = groupSourceMixedUp("Delete")
	}
	var g *group
	if err == nil {
		g, err = s.existing(o.GetStreamIdentifier(), o.GetAll(), o.GetGroupName())
	}
	if err == nil {
		err = s.groups.remove(ctx, g)
	}
	return &persistent.DeleteResp{}, s.answer(ctx, "delete a group", err)
}

// ReplayParked has parked events sent again. It answers before that is done.
func (s *persistentService) ReplayParked(ctx context.Context, request *persistent.ReplayParkedReq) (*persistent.ReplayParkedResp, error) {
	o := request.GetOptions()
	stop := int64(math.MaxInt64)
	var err error
	switch option := o.GetStopAtOption().(type) {
	case *persistent.ReplayParkedReq_Options_StopAt:
		stop = option.StopAt
	case *persistent.ReplayParkedReq_Options_NoLimit:
	default:
		err = errHandler
	}
	var g *group
	if err == nil {
		g, err = s.existing(o.GetStreamIdentifier(), o.GetAll(), o.GetGroupName())
	}
	switch {
	case err != nil:
	case stop < 0:
		err = groupFailed(g.settings.Stream, g.settings.Group, "Cannot stop replaying parked message at a negative version.")
	default:
		err = g.replay(stop)
	}
	return &persistent.ReplayParkedResp{}, s.answer(ctx, "replay parked events", err)
}

// GetInfo tells about a group.
func (s *persistentService) GetInfo(ctx context.Context, request *persistent.GetInfoReq) (*persistent.GetInfoResp, error) {
	o := request.GetOptions()
	g, err := s.existing(o.GetStreamIdentifier(), o.GetAll(), o.GetGroupName())
	if err != nil {
		return nil, s.answer(ctx, "tell about a group", err)
	}
	info, err := g.info()
	return &persistent.GetInfoResp{SubscriptionInfo: info}, s.answer(ctx, "tell about a group", err)
}

// List tells about all groups, or those on one stream.
func (s *persistentService) List(ctx context.Context, request *persistent.ListReq) (*persistent.ListResp, error) {
	stream, named := "", false
	if of := request.GetOptions().GetListForStream(); of != nil {
		var ok bool
		if stream, ok = source(of.GetStream(), of.GetAll()); !ok {
			return nil, errHandler
		}
		named = of.GetAll() == nil && stream == allStream // by its name $all is always known
	} else if request.GetOptions().GetListAllSubscriptions() == nil {
		return nil, errHandler
	}
	list := s.groups.list(stream)
	if list == nil && !named && !s.groups.known(stream) {
		return nil, s.answer(ctx, "list groups", noGroup(stream, ""))
	}
	answer := &persistent.ListResp{}
	for _, g := range list {
		info, err := g.info()
		if err != nil {
			return nil, s.answer(ctx, "list groups", err)
		}
		answer.Subscriptions = append(answer.Subscriptions, info)
	}
	return answer, nil
}

// RestartSubsystem drops all clients and starts all groups anew.
func (s *persistentService) RestartSubsystem(ctx context.Context, _ *shared.Empty) (*shared.Empty, error) {
	return &shared.Empty{}, s.answer(ctx, "restart the groups", s.groups.restart())
}

func (s *persistentService) answer(ctx context.Context, operation string, err error) error {
	if err != nil {
		s.streams.report(operation, err)
	}
	return answerUnary(ctx, err)
}

// Read connects a client to a group.
func (s *persistentService) Read(stream persistent.PersistentSubscriptions_ReadServer) error {
	err := s.read(stream)
	if err != nil {
		s.streams.report("read from a group", err)
	}
	return answer(stream, err)
}

func (s *persistentService) read(stream persistent.PersistentSubscriptions_ReadServer) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	o := first.GetOptions()
	if o == nil {
		return errHandler
	}
	g, err := s.existing(o.GetStreamIdentifier(), o.GetAll(), o.GetGroupName())
	if err != nil {
		return err
	}
	if o.BufferSize < 0 {
		return errHandler
	}
	name := "<unknown>"
	if incoming, ok := metadata.FromIncomingContext(stream.Context()); ok {
		if names := incoming.Get("connection-name"); len(names) > 0 {
			name = names[0]
		}
	}
	c, err := g.join(name, int(o.BufferSize))
	switch {
	case errors.Is(err, errTooManyClients):
		return groupError(codes.FailedPrecondition, "maximum-subscribers-reached", g.settings.Stream, g.settings.Group,
			fmt.Sprintf("Maximum subscriptions reached for subscription group %s on stream %s.", g.settings.Group, g.settings.Stream))
	case errors.Is(err, errStopped):
		return groupDropped(g.settings.Stream, g.settings.Group)
	case err != nil:
		return err
	}
	defer g.leave(c)
	err = stream.Send(&persistent.ReadResp{Content: &persistent.ReadResp_SubscriptionConfirmation_{
		SubscriptionConfirmation: &persistent.ReadResp_SubscriptionConfirmation{SubscriptionId: g.settings.key()},
	}})
	if err != nil {
		return err
	}
	form := structuredUUID
	if _, ok := o.GetUuidOption().GetContent().(*persistent.ReadReq_Options_UUIDOption_String_); ok {
		form = stringUUID
	}
	received := make(chan error, 1)
	go func() { received <- receiveAcks(stream, g) }()
	g.advance()
	return s.deliver(stream, g, c, form, received)
}

// receiveAcks deals with what a client says until it says no more.
func receiveAcks(stream persistent.PersistentSubscriptions_ReadServer, g *group) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if ack := request.GetAck(); ack != nil {
			g.ack(uuidsOf(ack.Ids))
		}
		if nack := request.GetNack(); nack != nil {
			action := nakSkip // Stop too, and what is unknown
			switch nack.Action {
			case persistent.ReadReq_Nack_Unknown, persistent.ReadReq_Nack_Retry:
				action = nakRetry
			case persistent.ReadReq_Nack_Park:
				action = nakPark
			}
			g.nack(uuidsOf(nack.Ids), action, nack.Reason)
		}
	}
}

// uuidsOf reads ids. What is none is left out.
func uuidsOf(messages []*shared.UUID) (ids []eventID) {
	for _, m := range messages {
		if id, ok := uuidOf(m); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// deliver sends a client its events until it is gone or dropped. A client that has only half-closed stays, as in EventStoreDB.
func (s *persistentService) deliver(stream persistent.PersistentSubscriptions_ReadServer, g *group, c *groupClient, form uuidForm, received <-chan error) error {
	for {
		select {
		case <-c.wake:
		case err := <-received:
			if err != nil {
				return err
			}
			received = nil
			continue
		case <-stream.Context().Done():
			return context.Cause(stream.Context())
		case <-s.stopping.Done():
			return errShutdown
		}
		queue, dropped := g.take(c)
		for _, out := range queue {
			e, err := g.log.event(out.position)
			if err != nil {
				return err
			}
			shown, err := g.shown(e, out.resolve)
			if err != nil {
				return err
			}
			if err := stream.SendMsg(encodeDelivery(shown, form, out.retries)); err != nil {
				return err
			}
		}
		if dropped {
			return groupDropped(g.settings.Stream, g.settings.Group)
		}
	}
}

// info tells about the group as EventStoreDB does.
func (g *group) info() (*persistent.SubscriptionInfo, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grown = true
	g.advanceLocked()
	parked, err := g.parked()
	if err != nil {
		return nil, err
	}
	status := "Behind"
	if g.live || len(g.buffer) == 0 {
		status = "Live"
	}
	o := &g.settings
	info := &persistent.SubscriptionInfo{
		EventSource: o.Stream, GroupName: o.Group, Status: status, TotalItems: g.delivered,
		AveragePerSecond: perSecond(g.delivered, g.created), ResolveLinkTos: o.ResolveLinkTos, StartFrom: o.placeText(int64(o.StartPosition)),
		MessageTimeoutMilliseconds: o.MessageTimeout, ExtraStatistics: o.ExtraStatistics, MaxRetryCount: o.MaxRetryCount,
		LiveBufferSize: o.LiveBufferSize, BufferSize: o.HistoryBufferSize, ReadBatchSize: o.ReadBatchSize,
		CheckPointAfterMilliseconds: o.CheckPointAfter, MinCheckPointCount: o.MinCheckPointCount, MaxCheckPointCount: o.MaxCheckPointCount,
		ReadBufferCount: int32(len(g.buffer)), RetryBufferCount: int32(len(g.retries)), TotalInFlightMessages: int32(len(g.inFlight)),
		OutstandingMessagesCount: int32(len(g.inFlight)), NamedConsumerStrategy: o.NamedConsumerStrategy, MaxSubscriberCount: o.MaxSubscriberCount,
	}
	if g.lastKnown != noPlace {
		info.LastKnownEventPosition = o.placeText(g.lastKnown)
	}
	if g.checkpointPlace != noPlace {
		info.LastCheckpointedEventPosition = o.placeText(g.checkpointPlace)
	}
	if parked.exists {
		info.ParkedMessageCount = max(0, parked.last+1-max(parked.first, g.parkedReplayed))
	}
	for _, c := range g.clients {
		info.Connections = append(info.Connections, &persistent.SubscriptionInfo_ConnectionInfo{
			Username: "system", AverageItemsPerSecond: perSecond(c.delivered, c.since), TotalItems: c.delivered,
			AvailableSlots: int32(c.slots - c.inFlight), InFlightMessages: int32(c.inFlight), ConnectionName: c.name,
		})
	}
	return info, nil
}

func perSecond(count int64, since time.Time) int32 {
	return int32(float64(count) / max(time.Since(since).Seconds(), 1))
}

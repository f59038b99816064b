package node

import (
	"math"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
)

// readRequest is a checked ReadReq.
type readRequest struct {
	all          bool
	stream       string // if not all
	from         uint64 // position or revision, see start and end
	start, end   bool   // in place of from
	backward     bool
	subscription bool
	limit        uint64 // of a read
	filter       *filter
	uuid         uuidForm
	resolve      bool // links are to be resolved, which only events that are none can be
	// positions: the client understands messages on where a stream begins and ends.
	positions bool
}

func parseReadRequest(request *streams.ReadReq) (readRequest, error) {
	var r readRequest
	o := request.GetOptions()
	if o == nil {
		return r, errHandler
	}
	if o.UuidOption == nil {
		return r, invalidArgument("`uuidOption` is a required argument")
	}
	if _, ok := o.UuidOption.Content.(*streams.ReadReq_Options_UUIDOption_String_); ok {
		r.uuid = stringUUID
	}
	r.positions = o.ControlOption.GetCompatibility() >= 1
	r.resolve = o.ResolveLinks
	r.backward = o.ReadDirection == streams.ReadReq_Options_Backwards

	switch count := o.CountOption.(type) {
	case *streams.ReadReq_Options_Count:
		r.limit = count.Count
	case *streams.ReadReq_Options_Subscription:
		r.subscription = true
	default:
		return r, invalidArgument("'None' is not a valid count option")
	}
	filtered := false
	switch o.FilterOption.(type) {
	case *streams.ReadReq_Options_Filter:
		filtered = true
	case *streams.ReadReq_Options_NoFilter:
	default:
		return r, invalidArgument("'None' is not a valid filter option")
	}
	var err error
	switch s := o.StreamOption.(type) {
	case *streams.ReadReq_Options_All:
		r.all = true
		err = r.takeAll(s.All)
	case *streams.ReadReq_Options_Stream:
		err = r.takeStream(s.Stream)
	default:
		return r, invalidArgument("'None' is not a valid stream option")
	}
	switch {
	case r.subscription && r.backward:
		return r, invalidArgument("a subscription reads forwards only")
	case filtered && !r.all:
		return r, invalidArgument("only $all can be filtered")
	case err != nil:
		return r, err
	case !r.subscription && r.limit == 0:
		return r, unexpected(r.resultType() + ": Error")
	}
	if filtered {
		if r.filter, err = parseFilter(o.GetFilter()); err != nil {
			return r, err
		}
		if r.subscription && r.filter.interval == 0 {
			return r, errHandler
		}
	}
	return r, nil
}

// resultType is EventStoreDB's name for the results of this kind of read.
func (r *readRequest) resultType() string {
	switch {
	case !r.all:
		return "ReadStreamResult"
	case r.filter != nil:
		return "FilteredReadAllResult"
	}
	return "ReadAllResult"
}

func (r *readRequest) takeAll(o *streams.ReadReq_Options_AllOptions) error {
	switch option := o.GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Start:
		r.start = true
	case *streams.ReadReq_Options_AllOptions_End:
		r.end = true
	case *streams.ReadReq_Options_AllOptions_Position:
		commit, prepare := option.Position.GetCommitPosition(), option.Position.GetPreparePosition()
		switch {
		case commit == math.MaxUint64 && prepare == math.MaxUint64:
			r.end = true
		case commit < prepare, commit > math.MaxInt64:
			return errHandler
		}
		r.from = commit
		if r.subscription && prepare < commit {
			r.from-- // the event at commit is after this position, and not seen yet
		}
	default:
		return invalidArgument("'None' is not a valid position option")
	}
	return nil
}

func (r *readRequest) takeStream(o *streams.ReadReq_Options_StreamOptions) error {
	r.stream = string(o.GetStreamIdentifier().GetStreamName())
	if r.stream == "" {
		return errHandler
	}
	switch option := o.GetRevisionOption().(type) {
	case *streams.ReadReq_Options_StreamOptions_Start:
		r.start = true
	case *streams.ReadReq_Options_StreamOptions_End:
		r.end = true
	case *streams.ReadReq_Options_StreamOptions_Revision:
		switch {
		case option.Revision == math.MaxUint64:
			r.end = true
		case option.Revision > math.MaxInt64:
			return errHandler
		}
		r.from = option.Revision
	default:
		return invalidArgument("'None' is not a valid revision option")
	}
	return nil
}

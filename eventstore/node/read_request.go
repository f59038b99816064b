package node

import (
	"fmt"
	"math"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
)

// readRequest is a checked ReadReq.
type readRequest struct {
	all          bool
	stream       string // if not all
	from         uint64 // position or revision, see start and end
	start, end   bool   // in place of from
	unseen       bool   // of a subscription: the event at from comes after this position
	backward     bool
	subscription bool
	limit        uint64 // of a read
	filter       *filter
	uuid         uuidForm
	resolve      bool // links
	// positions: the client understands messages on where a stream begins and ends.
	positions bool
}

func parseReadRequest(request *streams.ReadReq) (readRequest, error) {
	var r readRequest
	o := request.GetOptions()
	if o == nil {
		return r, errHandler
	}
	var err error
	switch o := o.StreamOption.(type) {
	case *streams.ReadReq_Options_All:
		r.all = true
		err = r.takeAll(o.All)
	case *streams.ReadReq_Options_Stream:
		err = r.takeStream(o.Stream)
	default:
		return r, noneIsInvalid("Streams.ReadReq+Types+Options+StreamOption")
	}
	if err != nil {
		return r, err
	}
	if o.UuidOption == nil { // EventStoreDB never answers this
		return r, invalidArgument("`uuidOption` is a required argument")
	}
	if _, ok := o.UuidOption.Content.(*streams.ReadReq_Options_UUIDOption_String_); ok {
		r.uuid = stringUUID
	}
	r.positions = o.ControlOption.GetCompatibility() >= 1
	r.resolve = o.ResolveLinks
	r.backward = o.ReadDirection == streams.ReadReq_Options_Backwards

	counted := "None"
	switch count := o.CountOption.(type) {
	case *streams.ReadReq_Options_Count:
		counted = "Count"
		r.limit = count.Count
	case *streams.ReadReq_Options_Subscription:
		counted = "Subscription"
		r.subscription = true
	}
	filtered := "None"
	switch o.FilterOption.(type) {
	case *streams.ReadReq_Options_Filter:
		filtered = "Filter"
	case *streams.ReadReq_Options_NoFilter:
		filtered = "NoFilter"
	}
	if counted == "None" || filtered == "None" || r.subscription && r.backward || filtered == "Filter" && !r.all {
		of := "Stream"
		if r.all {
			of = "All"
		}
		return r, invalidArgument(fmt.Sprintf("The combination of (%s, %s, %s, %s) is invalid.", of, counted, o.ReadDirection, filtered))
	}
	if filtered == "Filter" {
		if r.filter, err = parseFilter(o.GetFilter()); err != nil {
			return r, err
		}
	}
	switch {
	case !r.subscription && r.limit == 0: // of $all EventStoreDB never answers this
		return r, unexpected(r.resultType() + ": Error")
	case r.subscription && r.filter != nil && r.filter.interval == 0:
		return r, errHandler
	}
	if r.subscription && r.all && !r.start && !r.end && o.GetAll().GetPosition().GetPreparePosition() < r.from {
		r.unseen = true
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
	default:
		return errHandler
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
		return errHandler
	}
	return nil
}

package eventstoretest

import (
	"context"
	"math"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// read serves a read or a subscription.
func (m *member) read(ctx context.Context, caller grpc.ServerStream) error {
	var request frame
	if err := caller.RecvMsg(&request); err != nil {
		return err
	}
	if _, err := m.admit(caller, false); err != nil {
		return err
	}
	parsed := &streams.ReadReq{}
	if proto.Unmarshal(request, parsed) != nil {
		return errHandler
	}
	r := &reading{m, ctx, caller, request, parsed.GetOptions()}
	if r.options.GetSubscription() != nil {
		return r.subscribe()
	}
	for {
		var again bool
		var err error
		if r.options.GetReadDirection() == streams.ReadReq_Options_Backwards {
			again, err = r.backward()
		} else {
			again, err = r.forward()
		}
		if err != nil || !again {
			return err
		}
	}
}

// reading is a read or a subscription that is being served.
type reading struct {
	*member
	ctx     context.Context
	caller  grpc.ServerStream
	request frame
	options *streams.ReadReq_Options
}

// each asks the event store behind and passes its answers back as f says.
func (r *reading) each(request frame, f func(readResp) (step, error)) error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	call, err := r.servers.open(ctx, Read, request)
	if err != nil {
		return err
	}
	return passAnswers(r.caller, call, func(answer frame) (step, error) { return f(parseReadResp(answer)) })
}

// forward serves a forward read up to the first event that cannot be read yet.
func (r *reading) forward() (again bool, err error) {
	var last, hidden readResp
	err = r.each(r.request, func(a readResp) (step, error) {
		if a.kind != respEvent {
			return pass, nil
		}
		visible, err := r.isVisible(r.ctx, a.position)
		if !visible {
			hidden = a
			return stop, err
		}
		last = a
		return pass, nil
	})
	switch {
	case err != nil || hidden.kind == 0 || r.options.GetAll() != nil:
		return false, err
	case last.kind != 0:
		return false, r.sendLast(last)
	}
	last, lowest, err := r.last(hidden)
	switch {
	case err != nil:
		return false, err
	case last.position >= hidden.position: // it can be read by now
		return true, nil
	case last.kind != 0: // the stream exists, and ends before what was asked for
		return false, r.sendLast(last)
	}
	return r.nothing(hidden, lowest)
}

// backward serves a backward read from the first event that can be read.
func (r *reading) backward() (again bool, err error) {
	var hidden readResp
	first := true
	err = r.each(r.request, func(a readResp) (step, error) {
		if a.kind != respEvent || !first {
			return pass, nil
		}
		first = false
		visible, err := r.isVisible(r.ctx, a.position)
		if !visible {
			hidden = a
			return stop, err
		}
		return pass, nil
	})
	if err != nil || hidden.kind == 0 {
		return false, err
	}
	// Those that cannot be read do not count towards the limit.
	var last readResp
	lowest, left := hidden.revision, r.options.GetCount()
	err = r.each(encode(r.wide()), func(a readResp) (step, error) {
		switch {
		case a.kind != respEvent:
			return pass, nil
		case left == 0:
			return stop, nil
		case last.kind == 0:
			visible, err := r.isVisible(r.ctx, a.position)
			if !visible {
				lowest = a.revision
				return skip, err
			}
			last = a
		}
		left--
		return pass, nil
	})
	switch {
	case err != nil || r.options.GetAll() != nil:
		return false, err
	case last.kind != 0:
		return false, r.sendLast(last)
	}
	return r.nothing(hidden, lowest)
}

// last is the stream's last event that can be read, or else the lowest revision of those that cannot.
func (r *reading) last(hidden readResp) (last readResp, lowest uint64, err error) {
	back := r.wide()
	back.Options.ReadDirection = streams.ReadReq_Options_Backwards
	back.Options.GetStream().RevisionOption = &streams.ReadReq_Options_StreamOptions_End{End: &shared.Empty{}}
	lowest = hidden.revision
	err = r.each(encode(back), func(a readResp) (step, error) {
		if a.kind != respEvent {
			return skip, nil
		}
		visible, err := r.isVisible(r.ctx, a.position)
		if !visible {
			lowest = a.revision
			return skip, err
		}
		last = a
		return stop, nil
	})
	return last, lowest, err
}

// wide is the request without a limit, as of a client that understands only events.
func (r *reading) wide() *streams.ReadReq {
	options := proto.CloneOf(r.options)
	options.CountOption = &streams.ReadReq_Options_Count{Count: math.MaxUint64}
	options.ControlOption = nil
	return &streams.ReadReq{Options: options}
}

// nothing answers a read of a stream of which no event can be read. If its first event is among those, the stream does not exist yet. If
// earlier events have already been removed in favour of later ones, the read is repeated when those can be read.
func (r *reading) nothing(hidden readResp, lowest uint64) (again bool, err error) {
	if lowest > 0 {
		return true, r.awaitVisible(r.ctx, hidden.position)
	}
	return false, r.caller.SendMsg(encode(&streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{
		StreamNotFound: &streams.ReadResp_StreamNotFound{StreamIdentifier: r.options.GetStream().GetStreamIdentifier()},
	}}))
}

// sendLast ends a read with the stream's last revision, for clients that understand it.
func (r *reading) sendLast(last readResp) error {
	if r.options.GetControlOption().GetCompatibility() == 0 {
		return nil
	}
	return r.caller.SendMsg(encode(&streams.ReadResp{
		Content: &streams.ReadResp_LastStreamPosition{LastStreamPosition: last.revision},
	}))
}

// subscribe passes events on as they become readable.
func (r *reading) subscribe() error {
	request := r.request
	if from, err := r.end(); err != nil {
		return err
	} else if from != nil {
		request = encode(&streams.ReadReq{Options: from})
	}
	return r.each(request, func(a readResp) (step, error) {
		return pass, r.awaitVisible(r.ctx, a.position)
	})
}

// end replaces a subscription's start "at the end" by the last event that can be read, since those that cannot yet are still to come. It
// is nil for a subscription that starts elsewhere.
func (r *reading) end() (from *streams.ReadReq_Options, err error) {
	from = proto.CloneOf(r.options)
	all, stream := from.GetAll(), from.GetStream()
	switch {
	case all.GetEnd() != nil || all.GetPosition().GetCommitPosition() == math.MaxUint64:
		r.servers.mu.Lock()
		limit := r.limitLocked()
		r.servers.mu.Unlock()
		all.AllOption = &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}}
		if limit > 0 {
			all.AllOption = &streams.ReadReq_Options_AllOptions_Position{
				Position: &streams.ReadReq_Options_Position{CommitPosition: limit, PreparePosition: limit},
			}
		}
	case stream.GetEnd() != nil || stream.GetRevision() == math.MaxUint64:
		last, _, err := r.last(readResp{})
		if err != nil {
			return nil, err
		}
		stream.RevisionOption = &streams.ReadReq_Options_StreamOptions_Start{Start: &shared.Empty{}}
		if last.kind != 0 {
			stream.RevisionOption = &streams.ReadReq_Options_StreamOptions_Revision{Revision: last.revision}
		}
	default:
		return nil, nil
	}
	return from, nil
}

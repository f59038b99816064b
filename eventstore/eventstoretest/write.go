package eventstoretest

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// commitTimeout is how long EventStoreDB takes to answer an append that it has dropped.
const commitTimeout = 3 * time.Second

// write serves an append, a deletion or a tombstone.
func (m *member) write(ctx context.Context, caller grpc.ServerStream, method string) error {
	var requests []frame
	repeatable := false
	for {
		var request frame
		err := caller.RecvMsg(&request)
		if isEnd(err) {
			break
		}
		if err != nil {
			return err
		}
		requests = append(requests, request)
		fields(request, func(number protowire.Number, _ []byte, _ uint64) {
			repeatable = repeatable || method == Append && number == reqProposed
		})
	}
	leads, err := m.admit(caller, true)
	if err != nil {
		return err
	}
	w := &written{method: method, requests: requests, repeatable: repeatable, had: func() {}}
	err = m.carryOut(ctx, leads, w)
	if w.header != nil {
		_ = caller.SetHeader(w.header) // fails only if they have been sent
	}
	caller.SetTrailer(w.trailer)
	if err != nil {
		return err
	}
	return caller.SendMsg(w.answer)
}

// written is a call that writes, and its answer.
type written struct {
	method     string
	requests   []frame
	repeatable bool   // it has events, whose ids show a repetition
	had        func() // called when the event store behind has answered

	answer          frame
	header, trailer metadata.MD
}

// carryOut passes the call on and returns when its answer is due, with the error that the call ends with, or nil. What has been passed on
// is done even if the caller leaves.
func (m *member) carryOut(ctx context.Context, leads bool, w *written) error {
	s := m.servers
	if !leads {
		if err := sleep(ctx, s.conditions.Forwarding/2); err != nil {
			w.had()
			return err
		}
		defer func() { _ = sleep(ctx, s.conditions.Forwarding/2) }() // on the way back
	}
	s.mu.Lock()
	begun := s.index.beginLocked()
	s.mu.Unlock()

	err := s.ask(ctx, w)
	w.had()
	var position uint64
	if err == nil {
		position = w.position()
	}
	s.mu.Lock()
	t, repeated := s.index.endLocked(begun, position)
	repeated = repeated && w.repeatable
	if repeated {
		s.index.dropLocked(begun, t)
	}
	s.mu.Unlock()

	switch {
	case err != nil || t == nil:
		return err
	case repeated:
		if err := sleep(ctx, commitTimeout); err != nil {
			return err
		}
		return errCommitTimeout
	}
	select {
	case <-t.indexed:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// ask makes the call and stores its answer.
func (s *Servers) ask(ctx context.Context, w *written) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	call, err := s.open(ctx, w.method, w.requests...)
	if err != nil {
		return err
	}
	w.answer, err = receive(call)
	w.header, _ = call.Header() // there are none if it failed
	if err == nil {
		var end error
		if _, end = receive(call); !isEnd(end) {
			err = end
		}
	}
	w.trailer = call.Trailer()
	return err
}

// position is that of the last event written, or 0.
func (w *written) position() (position uint64) {
	if w.method == Append {
		_, position = within(w.answer, appendRespSuccess, successPosition, positionCommit)
	} else {
		_, position = within(w.answer, deleteRespPlace, positionCommit)
	}
	return position
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

package eventstore

import (
	"context"
	"errors"
	"testing"
)

// Without a trace, tracing costs nothing: not one allocation.
func TestNoTraceIsFree(t *testing.T) {
	ctx := context.WithValue(context.Background(), incarnationKey{}, Incarnation(1))
	events := []Recorded{{Metadata: Metadata{TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}}
	failure := errors.New("it failed")
	if n := testing.AllocsPerRun(1000, func() {
		on, span := StartSpan(ctx, "append", "booking-1")
		span.End(failure)
		on, span = StartEventSpan(on, nil, "notify", events[0])
		span.End(nil)
		_, span = StartBatchSpan(span.In(on), nil, "fold", events)
		span.End(nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNoTrace(b *testing.B) {
	ctx := context.WithValue(context.Background(), incarnationKey{}, Incarnation(1))
	for b.Loop() {
		_, span := StartSpan(ctx, "append", "booking-1")
		span.End(nil)
	}
}

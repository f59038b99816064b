package eventstore

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// tracerName is the instrumentation scope of spans.
const tracerName = "roombook"

// Span is a step of a trace. The zero value records nothing.
type Span struct{ span trace.Span }

// StartSpan starts a step on a stream within the trace that ctx carries. If there is none, or it is not recorded, it returns ctx as it is,
// and costs nothing.
func StartSpan(ctx context.Context, name, stream string) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	ctx, span := parent.TracerProvider().Tracer(tracerName).Start(ctx, name, trace.WithAttributes(attribute.String("stream", stream)))
	return ctx, Span{span}
}

// End ends the step, which failed unless err is nil.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

// In is ctx within the step.
func (s Span) In(ctx context.Context) context.Context {
	if s.span == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, s.span)
}

// StartEventSpan starts a step that follows from an event, in the trace in which the event was decided. A nil tracer records nothing.
func StartEventSpan(ctx context.Context, tracer trace.Tracer, name string, e Recorded) (context.Context, Span) {
	if tracer == nil {
		return ctx, Span{}
	}
	ctx, span := tracer.Start(decidedIn(ctx, e.Metadata.TraceParent), name, trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.String("stream", e.Stream), attribute.String("event", e.ID.String())))
	return ctx, Span{span}
}

// decidedIn is ctx within the trace that an event carries.
func decidedIn(ctx context.Context, traceParent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceParent})
}

// maxLinks is the number of links that a span keeps by default.
const maxLinks = 128

// StartBatchSpan starts a trace of work on a batch of events. It is linked to the traces in which they were decided, since it belongs to all
// of them. A nil tracer records nothing.
func StartBatchSpan(ctx context.Context, tracer trace.Tracer, name string, events []Recorded) (context.Context, Span) {
	if tracer == nil {
		return ctx, Span{}
	}
	var links []trace.Link
	last := ""
	for _, e := range events {
		if parent := e.Metadata.TraceParent; parent != "" && parent != last && len(links) < maxLinks {
			last = parent
			links = append(links, trace.LinkFromContext(decidedIn(context.Background(), parent)))
		}
	}
	ctx, span := tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithLinks(links...),
		trace.WithAttributes(attribute.Int("events", len(events))))
	return ctx, Span{span}
}

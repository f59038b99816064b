package api

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// trace starts the span of a request, within the trace that the client names. The span is nil if requests are not traced.
func (o *operation) trace(ctx context.Context, r *http.Request) (context.Context, trace.Span) {
	if o.server.tracer == nil || o.raw {
		return ctx, nil
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	return o.server.tracer.Start(ctx, o.method+" "+o.path, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", r.Method),
		attribute.String("http.route", o.path),
		attribute.String("url.path", r.URL.Path),
	))
}

func endTrace(span trace.Span, status int, requestID string) {
	span.SetAttributes(attribute.Int("http.response.status_code", status), attribute.String("request", requestID))
	if status >= 500 {
		span.SetStatus(codes.Error, http.StatusText(status))
	}
	span.End()
}

// traceParent is the trace context to store with what a command decides: that of the request's span or, if requests are not traced, the
// client's.
func (x *exchange) traceParent() string {
	if !trace.SpanContextFromContext(x.ctx).IsValid() {
		return traceParent(x.r)
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(x.ctx, carrier)
	return carrier["traceparent"]
}

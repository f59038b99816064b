package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelresource "go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"roombook/eventstore"
)

// traceFlushTimeout bounds how long a shutdown waits for the last spans to be sent.
const traceFlushTimeout = 3 * time.Second

// startTracing sends traces by OTLP if OpenTelemetry's standard environment variables ask for it; otherwise the tracer is nil. stop sends
// what is left.
func startTracing(ctx context.Context, log *slog.Logger) (tracer trace.Tracer, stop func(), err error) {
	wanted, err := wantsTraces()
	if err != nil || !wanted {
		return nil, func() {}, err
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, usagef("the environment variables OTEL_EXPORTER_OTLP_…: %w", err)
	}
	attributes, err := otelresource.New(ctx,
		otelresource.WithAttributes(attribute.String("service.name", "roombook"), attribute.String("service.version", version().Version)),
		otelresource.WithFromEnv())
	if err != nil {
		return nil, nil, usagef("the environment variables OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	unsent := eventstore.NewTrouble(log, slog.LevelWarn, "traces cannot be sent", "")
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { unsent.Failed(err) }))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(attributes))
	return provider.Tracer("roombook"), func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), traceFlushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			unsent.Failed(err)
		}
	}, nil
}

// wantsTraces reports whether the environment asks for traces: it names an exporter or where to send them.
func wantsTraces() (bool, error) {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return false, nil
	}
	switch exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter {
	case "none":
		return false, nil
	case "":
		if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
			return false, nil
		}
	case "otlp":
	default:
		return false, usagef("environment variable OTEL_TRACES_EXPORTER is %q; it must be otlp or none", exporter)
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"} {
		if protocol := os.Getenv(name); protocol != "" && protocol != "http/protobuf" {
			return false, usagef("environment variable %s is %q; traces are sent by http/protobuf, to port 4318 of most collectors", name, protocol)
		}
	}
	return true, nil
}

// traceHandler adds the ids of the trace that a line of the log belongs to.
type traceHandler struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h traceHandler) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return traceHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h traceHandler) WithGroup(name string) slog.Handler {
	return traceHandler{h.Handler.WithGroup(name)}
}

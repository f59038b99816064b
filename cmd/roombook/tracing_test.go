package main

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// receiver is a collector of traces.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*traces.Span
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		var export collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &export)
		}
		if err != nil || request.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", request.URL, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, from := range export.ResourceSpans {
			for _, scope := range from.ScopeSpans {
				r.spans = append(r.spans, scope.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(r.Close)
	return r
}

// named are the spans with a name.
func (r *receiver) named(name string) (all []*traces.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if s.Name == name {
			all = append(all, s)
		}
	}
	return all
}

// A request, its command and its appends are one trace, that of the client; the events carry it, and what the lists make of them is linked
// to it. So is the log.
func TestTraces(t *testing.T) {
	r := newReceiver(t)
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(program(t))
	cmd.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT="+r.URL, "OTEL_BSP_SCHEDULE_DELAY=50")
	p := startServeBy(t, cmd, data)
	awaitGroup(t, nodeOf(t, data))
	c := newCaller(t, p)
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	var b booked
	if _, _, err := c.call("POST", "/bookings", contested(0), http.Header{"Traceparent": {"00-" + trace + "-" + parent + "-01"}}, &b); err != nil {
		t.Fatal(err)
	}
	c.wantListed(t, []string{b.BookingID})

	store, err := eventstore.Open(eventstore.Options{ConnectionString: nodeOf(t, data)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	requests := func() []*traces.Span { return r.named("POST /bookings") }
	for len(requests()) == 0 || len(r.named("fold booking_list")) == 0 {
		if _, err := store.End(t.Context()); err != nil { // a pause
			t.Fatal(err)
		}
	}
	request := requests()[0]
	if hex.EncodeToString(request.TraceId) != trace || hex.EncodeToString(request.ParentSpanId) != parent {
		t.Errorf("the request is %v", request)
	}
	for e, err := range store.ReadStream(t.Context(), domain.BookingID(b.BookingID).Stream(), 0) {
		if want := "00-" + trace + "-" + hex.EncodeToString(request.SpanId) + "-01"; err != nil || e.Metadata.TraceParent != want {
			t.Errorf("event %s carries %q, want %q: %v", e.Type, e.Metadata.TraceParent, want, err)
		}
	}
	commands := r.named("command")
	if len(commands) != 1 || string(commands[0].ParentSpanId) != string(request.SpanId) {
		t.Fatalf("the command is %v", commands)
	}
	appends := map[string]int{} // by the step that made them, the slot's and the booking's
	for _, s := range r.named("append") {
		if string(s.TraceId) != string(request.TraceId) {
			t.Errorf("an append is %v", s)
		}
		appends[string(s.ParentSpanId)]++
	}
	if n := appends[string(commands[0].SpanId)]; n != 2 {
		t.Errorf("%d appends by the command", n)
	}
	if fold := r.named("fold booking_list")[0]; len(fold.Links) != 1 || string(fold.Links[0].TraceId) != string(request.TraceId) || len(fold.ParentSpanId) != 0 {
		t.Errorf("the list folds %v", fold)
	}
	for len(r.named("notify roombook-notifications")) == 0 {
		if _, err := store.End(t.Context()); err != nil { // a pause
			t.Fatal(err)
		}
	}
	if told := r.named("notify roombook-notifications")[0]; string(told.TraceId) != string(request.TraceId) || string(told.ParentSpanId) != string(request.SpanId) {
		t.Errorf("the dispatcher tells %v", told)
	}
	p.stop(t)
	if !strings.Contains(p.stderr.String(), "trace_id="+trace) {
		t.Errorf("the log does not name the trace: %s", p.stderr)
	}
}

// Without a collector, traces are lost and nothing else. What the environment asks for and cannot be had is refused.
func TestTracesCannotBeSent(t *testing.T) {
	cmd := exec.Command(program(t))
	cmd.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+eventstoretest.ClosedPort(t), "OTEL_BSP_SCHEDULE_DELAY=50")
	p := startServeBy(t, cmd, filepath.Join(t.TempDir(), "data"))
	newCaller(t, p).bookSome(t, "1", 2)
	p.stop(t)

	for _, wrong := range []string{"OTEL_TRACES_EXPORTER=zipkin", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"} {
		cmd := exec.CommandContext(t.Context(), program(t), "serve", "--listen", "127.0.0.1:0", "--node", "127.0.0.1:0", "--data", t.TempDir())
		cmd.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", wrong)
		out, err := cmd.CombinedOutput()
		name, _, _ := strings.Cut(wrong, "=")
		if err == nil || cmd.ProcessState.ExitCode() != exitUsage || !strings.Contains(string(out), name) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s: %v, %s", wrong, err, out)
		}
	}
}

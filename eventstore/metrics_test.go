package eventstore

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// However many event types of other programs there are, the metrics and the program's log stay bounded.
func TestUndecodableTypesAreBounded(t *testing.T) {
	var logged bytes.Buffer
	m, logger := newMetrics(), slog.New(slog.NewTextHandler(&logged, nil))
	for range 3 {
		for i := range 2 * maxUndecodableTypes {
			m.cannotDecode(logger, &Recorded{Type: fmt.Sprintf("Type%d", i)}, errUnknownType)
		}
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m.undecodable)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, metric := range families[0].GetMetric() {
		values[metric.GetLabel()[0].GetValue()] = metric.GetCounter().GetValue()
	}
	if len(values) != maxUndecodableTypes+1 || values["Type0"] != 3 || values["other"] != 3*maxUndecodableTypes {
		t.Errorf("%d labels, %v of the first type, %v of others", len(values), values["Type0"], values["other"])
	}
	if lines := strings.Count(logged.String(), "\n"); lines != maxUndecodableTypes {
		t.Errorf("%d lines in the log", lines)
	}
}

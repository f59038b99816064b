package check

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// others are metrics of Prometheus itself, of the kubelet and of kube-state-metrics.
var others = regexp.MustCompile(`^(up|kubelet_volume_stats_(available|capacity)_bytes|kube_cronjob_(created|status_last_successful_time))$`)

// checkExpression looks whether the program has every metric of a query.
func (f *faults) checkExpression(where, query string, p *program) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		f.add("%s: %v", where, err)
		return
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok && !others.MatchString(s.Name) && !p.hasMetric(s.Name) {
			f.add("%s: the program has no metric %s", where, s.Name)
		}
		return nil
	})
}

// parseRules reads the rules that the compose file makes for Prometheus of those for its operator.
func parseRules(dir string) (*rulefmt.RuleGroups, []error) {
	project, err := loadCompose(dir)
	if err != nil {
		return nil, []error{err}
	}
	rules := filepath.Join(os.TempDir(), fmt.Sprintf("rules-%d.yaml", os.Getpid()))
	defer os.Remove(rules)
	script, _, _ := strings.Cut(strings.Join(project.Services["prometheus"].Command, "\n"), "\nexec ")
	script = strings.NewReplacer("$$", "$", "/etc/prometheus/prometheus-rule.yaml", filepath.Join(dir, "kubernetes", "components", "monitoring", "prometheus-rule.yaml"),
		"/tmp/rules.yaml", rules).Replace(script)
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		return nil, []error{fmt.Errorf("%s: %w: %s", script, err, out)}
	}
	return rulefmt.ParseFile(rules, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
}

func checkRules(dir string, p *program) []string {
	var f faults
	groups, errs := parseRules(dir)
	for _, err := range errs {
		f.add("rules: %v", err)
	}
	if groups == nil || len(groups.Groups) == 0 {
		f.add("rules: there are none")
		return f
	}
	if prometheus := f.read(filepath.Join(dir, "prometheus", "prometheus.yml")); !strings.Contains(prometheus, "\nrule_files: [/tmp/rules.yaml]") {
		f.add("rules: Prometheus does not read what is made for it")
	}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			f.checkExpression("rule "+rule.Alert, rule.Expr, p)
			if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["action"] == "" {
				f.add("rule %s does not say how bad it is, what it is and what to do", rule.Alert)
			}
		}
	}
	return f
}

func checkDashboard(dir string, p *program) []string {
	var f faults
	var board struct {
		UID    string
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct {
				Expr       string
				Datasource struct{ Type, UID string }
			}
		}
	}
	if err := json.Unmarshal([]byte(f.read(filepath.Join(dir, "grafana", "roombook.json"))), &board); err != nil {
		f.add("dashboard: %v", err)
		return f
	}
	source := f.read(filepath.Join(dir, "grafana", "provisioning", "datasources", "prometheus.yaml"))
	seen := map[int]bool{}
	for _, panel := range board.Panels {
		if seen[panel.ID] || panel.GridPos.X+panel.GridPos.W > 24 {
			f.add("dashboard: panel %q: id %d, place %v", panel.Title, panel.ID, panel.GridPos)
		}
		seen[panel.ID] = true
		if panel.Type != "row" && len(panel.Targets) == 0 {
			f.add("dashboard: panel %q shows nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			query := strings.NewReplacer("$__rate_interval", "1m", "$job", ".*").Replace(target.Expr)
			f.checkExpression(fmt.Sprintf("dashboard, panel %q", panel.Title), query, p)
			if !strings.Contains(source, "uid: "+target.Datasource.UID+"\n") {
				f.add("dashboard: panel %q: there is no data source %s", panel.Title, target.Datasource.UID)
			}
		}
	}
	return f
}

// TestAlerts feeds each alert with a situation in which it must fire and one in which it must not. How long it must last is not part of the
// expression. A counter with a label appears with its first count.
func TestAlerts(t *testing.T) {
	scenarios := map[string]struct{ fires, quiet string }{
		"RoombookDown":        {`up{job="roombook",instance="a"} 0+0x90`, `up{job="roombook",instance="a"} 1+0x90`},
		"RoombookRoleMissing": {roles("api", "recovery", "dispatch"), roles("api", "projections", "recovery", "dispatch")},
		"RoombookErrors":      {requests("503", "+6") + requests("200", "+60"), requests("503", "+0.1") + requests("200", "+60")},
		"RoombookSlow":        {latency("POST", "+1", "+60"), latency("POST", "+60", "+60") + latency("GET", "+1", "+60")},
		"RoombookRefusing":    {`roombook_http_refused_total{job="roombook",kind="command"} 0+5x90`, `roombook_http_refused_total{job="roombook",kind="command"} 7+0x90`},
		"RoombookListBehind":  {lists("roombook_projection_lag_seconds", "100", "90"), lists("roombook_projection_lag_seconds", "100", "0")},
		"RoombookListNotKept": {lists("roombook_projection_following", "0", "0"), lists("roombook_projection_following", "0", "1")},
		"RoombookListFailing": {lists("roombook_projection_failures_total", "0+1x90", "0"), lists("roombook_projection_failures_total", "3", "0")},
		"RoombookEventStoreAway": {`roombook_eventstore_connections{job="roombook",instance="a"} 0+0x90` + "\n" + `roombook_eventstore_connections{job="roombook",instance="b"} 2+0x90`,
			`roombook_eventstore_connections{job="roombook",instance="a"} 1+0x90`},
		"RoombookUnknownOutcomes": {`roombook_eventstore_unknown_outcomes_total{job="roombook"} 0+3x90`, `roombook_eventstore_unknown_outcomes_total{job="roombook"} 0+0.5x90`},
		"RoombookRecoveryFails": {`roombook_recovery_failures_total{job="roombook"} 0+1x90` + "\n" + `roombook_recovery_open_bookings{job="roombook"} 2+0x90`,
			`roombook_recovery_failures_total{job="roombook"} 0+1x90` + "\n" + `roombook_recovery_open_bookings{job="roombook"} 0+0x90`},
		"RoombookUndecodable":            {`roombook_eventstore_undecodable_events_total{job="roombook",type="X"} _x40 1+0x50`, `roombook_eventstore_undecodable_events_total{job="roombook",type="X"} 4+0x90`},
		"RoombookBreakerOpen":            {breaker("0 2 1+0x90"), breaker("2 1 0+0x90")},
		"RoombookNotificationsLate":      {`roombook_notifications_queue_age_seconds{job="roombook",group="g"} 0+100x90`, `roombook_notifications_queue_age_seconds{job="roombook",group="g"} 0+10x90`},
		"RoombookNotificationsParked":    {`roombook_notifications_parked_total{job="roombook",channel="mail"} _x40 1+0x50`, `roombook_notifications_parked_total{job="roombook",channel="mail"} 3+0x90`},
		"RoombookNotificationsUnhandled": {`roombook_notifications_unhandled_events{job="roombook",group="g"} 0+0x40 1+0x50`, `roombook_notifications_unhandled_events{job="roombook",group="g"} 0+0x90`},
		"RoombookLogReplaced":            {`roombook_eventstore_log_replaced_total{job="roombook"} 0+0x40 1+0x50`, `roombook_eventstore_log_replaced_total{job="roombook"} 0+0x90`},
		"RoombookDiskFilling":            {disk("9"), disk("50")},
		// At 75 minutes, which are 4500 s: one whose last success was 28 hours before, among others; one that has just had its first.
		"RoombookNotVerified": {cronjob("created", -1000000) + cronjob("status_last_successful_time", -96300), cronjob("created", -1000000) + cronjob("status_last_successful_time", 4000)},
	}
	groups, errs := parseRules("..")
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			s, ok := scenarios[rule.Alert]
			if !ok {
				t.Errorf("%s: no scenario", rule.Alert)
				continue
			}
			t.Run(rule.Alert, func(t *testing.T) {
				query := strings.Join(strings.Fields(rule.Expr), " ")
				for want, series := range map[string]string{"1": s.fires, "0": s.quiet} {
					promqltest.RunTest(t, fmt.Sprintf("load 1m\n  %s\n\neval instant at 75m clamp_max(count(%s) or vector(0), 1)\n  {} %s\n",
						strings.ReplaceAll(strings.TrimSpace(series), "\n", "\n  "), query, want), engine)
				}
			})
		}
	}
}

func requests(status, rate string) string {
	return fmt.Sprintf("roombook_http_request_duration_seconds_count{job=\"roombook\",method=\"POST\",status=%q} 0%sx90\n", status, rate)
}

func latency(method, second, all string) string {
	line := "roombook_http_request_duration_seconds_bucket{job=\"roombook\",method=%q,le=%q} 0%sx90\n"
	return fmt.Sprintf(line+line+line, method, "1", second, method, "2.5", all, method, "+Inf", all)
}

func lists(metric, first, second string) string {
	var b strings.Builder
	for instance, value := range map[string]string{"a": first, "b": second} {
		if !strings.Contains(value, "x") {
			value += "+0x90"
		}
		fmt.Fprintf(&b, "%s{job=\"roombook\",instance=%q,projection=\"booking_list\"} %s\n", metric, instance, value)
	}
	return b.String()
}

func roles(there ...string) string {
	var b strings.Builder
	for _, role := range there {
		fmt.Fprintf(&b, "roombook_role{job=\"roombook\",instance=\"a\",name=%q} 1+0x90\n", role)
	}
	return b.String()
}

func cronjob(metric string, at int) string {
	return fmt.Sprintf("kube_cronjob_%s{namespace=\"roombook\",cronjob=\"roombook-verify\"} %d+0x90\n", metric, at)
}

func breaker(states string) string {
	return `roombook_notifications_breaker_state{job="roombook",channel="mail",destination="mail.example:587"} ` + states
}

func disk(free string) string {
	return `kubelet_volume_stats_available_bytes{persistentvolumeclaim="data-roombook-0"} ` + free + "+0x90\n" +
		`kubelet_volume_stats_capacity_bytes{persistentvolumeclaim="data-roombook-0"} 100+0x90`
}

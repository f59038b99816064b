package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDeploy(t *testing.T) {
	for name, check := range checks {
		t.Run(name, func(t *testing.T) {
			for _, fault := range check("..", running) {
				t.Error(fault)
			}
		})
	}
}

// TestChecksCanFail breaks one thing at a time in a copy of the folder. The check that is for it must say so, and name it.
func TestChecksCanFail(t *testing.T) {
	for _, broken := range []struct{ check, file, old, new, want string }{
		{"Dockerfile", "Dockerfile", "golang:1.26.8-bookworm", "golang:latest", "FROM golang:latest is not pinned"},
		{"Dockerfile", "Dockerfile", "USER 65532:65532", "USER root", `runs as "root"`},
		{"Dockerfile", "Dockerfile", "EXPOSE 8080", "EXPOSE 8081", `"8081" is exposed`},
		{"Dockerfile", "Dockerfile", `"--live"`, `"--alive"`, "has no flag --alive"},
		{"Dockerfile", "Dockerfile", "main.release", "main.version", "no variable version"},
		{"compose", "compose.yaml", "restart: unless-stopped", "restrat: unless-stopped", "restrat"},
		{"compose", "compose.yaml", `"127.0.0.1:2113:2113"`, `"2113:2113"`, "open to other machines"},
		{"compose", "compose.yaml", "ROOMBOOK_ROLES: recovery", "ROOMBOOK_ROLES: recover", "the role recover"},
		{"compose", "compose.yaml", "  build:\n    context: ..\n    dockerfile: deploy/Dockerfile\n", "", "is not built"},
		{"names", "compose.yaml", "ROOMBOOK_MONGO:", "ROOMBOOK_MONGODB:", "no flag is set by ROOMBOOK_MONGODB"},
		{"names", "prometheus/rules.yaml", "a higher --max-commands", "a higher --max-requests", "no flag --max-requests"},
		{"names", "prometheus/rules.yaml", "roombook recovery status", "roombook recovery list", `no command "recovery list"`},
		{"secrets", "compose.yaml", "mongodb://mongo:27017", "mongodb://root:changeit@mongo:27017", "looks like an account or a secret"},
		{"secrets", "github/deploy.yml", "${{ vars.AWS_ROLE }}", "arn:aws:iam::123456789012:role/deploy", "123456789012"},
		{"workflow", "github/deploy.yml", "runs-on: ubuntu-24.04", "runs_on: ubuntu-24.04", "runs_on"},
		{"workflow", "github/deploy.yml", "steps.image.outputs.digest", "steps.images.outputs.digest", `"images"`},
		{"workflow", "github/deploy.yml", "deploy/rollout.sh", "deploy/roll-out.sh", "roll-out.sh"},
		{"workflow", "github/deploy.yml", "-${{ github.run_id }}-${{ github.run_attempt }}", "", "pushes a tag that is there already"},
		{"buildspec", "buildspec.yml", "-$CODEBUILD_BUILD_NUMBER", "", "it does not :$CODEBUILD_RESOLVED_SOURCE_VERSION-$CODEBUILD_BUILD_NUMBER"},
		{"buildspec", "buildspec.yml", "post_build:", "postbuild:", "postbuild"},
		{"buildspec", "buildspec.yml", "DIGEST=$(jq", "DIGESTS=$(jq", "DIGEST is used before it is set"},
		{"pipeline", "aws/pipeline.yaml", "!Ref Deploy]", "!Ref Deployment]", "there is no Deployment"},
		{"kubernetes", "kubernetes/overlays/production/api.yaml", "periodSeconds: 5", "periodSecond: 5", "periodSecond"},
		{"kubernetes", "kubernetes/overlays/production/api.yaml", "/actuator/health/readiness", "/actuator/healthy", "/actuator/healthy, which answers 404"},
		{"kubernetes", "kubernetes/overlays/production/api.yaml", "terminationGracePeriodSeconds: 40", "terminationGracePeriodSeconds: 29", "and needs 30"},
		{"kubernetes", "kubernetes/overlays/production/api.yaml", "value: 460MiB", "value: 512MiB", `GOMEMLIMIT is "512MiB"`},
		{"kubernetes", "kubernetes/overlays/production/projections.yaml", "name: roombook_projection_lag_events", "name: roombook_projection_lag", "no metric roombook_projection_lag"},
		{"kubernetes", "kubernetes/overlays/production/recovery.yaml", "value: recovery}", "value: recoveries}", "no role recoveries"},
		{"kubernetes", "kubernetes/overlays/production/verify.yaml", "args: [verify]", "args: [verify, --fast]", "has no flag --fast"},
		{"kubernetes", "kubernetes/base/service.yaml", "type: ClusterIP", "type: LoadBalancer", "only the gateway is outside"},
		{"kubernetes", "kubernetes/components/istio/destination-rule.yaml", "consecutive5xxErrors", "consecutiveErrors5xx", "consecutiveErrors5xx"},
		{"kubernetes", "kubernetes/components/istio/kustomization.yaml", "istio.io~1inject", "istio.io~1injected", "its sidecar may keep it from ending"},
		{"kubernetes", "kubernetes/components/gateway-api/http-route.yaml", "value: /realuses}", "value: /realUses}", "it does not let /realuses through"},
		{"kubernetes", "kubernetes/components/ingress/ingress.yaml", "path: /docs,", "path: /metrics,", "/metrics is for operators"},
		{"kubernetes", "kubernetes/base/kustomization.yaml", "ROOMBOOK_TRUSTED_PROXIES", "ROOMBOOK_TRUSTED_PROXY", "links have the gateway's https"},
		{"rules", "prometheus/rules.yaml", "roombook_http_refused_total", "roombook_http_rejected_total", "no metric roombook_http_rejected_total"},
		{"rules", "prometheus/rules.yaml", "for: 2m", "during: 2m", "during"},
		{"dashboard", "grafana/roombook.json", "roombook_calendar_cache_bytes", "roombook_cache_bytes", "no metric roombook_cache_bytes"},
	} {
		dir := filepath.Join(t.TempDir(), "deploy")
		if err := os.CopyFS(dir, os.DirFS("..")); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(broken.file))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), broken.old, broken.new, 1)
		if changed == string(text) {
			t.Errorf("%s has no %q", broken.file, broken.old)
		}
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		said := strings.Join(checks[broken.check](dir, running), "\n")
		if !strings.Contains(said, broken.want) {
			t.Errorf("%s with %q says nothing of %q: %s", broken.file, broken.new, broken.want, said)
		} else {
			t.Logf("%s with %q: %.200s", broken.file, broken.new, said)
		}
	}
}

// TestRollout rolls out with a kubectl that records what it is asked.
func TestRollout(t *testing.T) {
	const image = "registry.example/roombook@sha256:0000000000000000000000000000000000000000000000000000000000000000"
	calls, err := rolledOut("..", image, "")
	if err != nil || !strings.Contains(calls, "applied image: "+image) || !strings.Contains(calls, "rollout status deployment.apps/roombook-recovery") || strings.Contains(calls, "undo") {
		t.Errorf("a roll-out that succeeds: %v\n%s", err, calls)
	}
	for _, failing := range []string{"apply", "rollout status deployment.apps/roombook-recovery"} {
		calls, err = rolledOut("..", image, failing)
		if err == nil || !strings.Contains(calls, "rollout undo deployment/roombook-api --to-revision=7\n") ||
			!strings.Contains(calls, "rollout undo deployment/roombook-recovery --to-revision=4\n") || !strings.HasSuffix(calls, "rollout status deployment/roombook-recovery --timeout=5m\n") {
			t.Errorf("a roll-out in which %s fails: %v\n%s", failing, err, calls)
		}
	}
	if !strings.Contains(calls, "apply --server-side --force-conflicts ") {
		t.Errorf("what a rollback has set stands in the way of the next roll-out:\n%s", calls)
	}
	if calls, err = rolledOut("..", "roombook:latest", ""); err == nil || calls != "" {
		t.Errorf("of an image that is not named by its digest: %v\n%s", err, calls)
	}
}

// TestImage builds the image and runs it, where there is docker.
func TestImage(t *testing.T) {
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		t.Skipf("NOT CHECKED: the image is neither built nor run, since there is no docker here: %v %.100s", err, out)
	}
	const tag = "roombook:check"
	build := exec.Command("docker", "build", "-f", "deploy/Dockerfile", "--build-arg", "VERSION=1.2.3", "-t", tag, ".")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said, err := exec.Command("docker", "run", "--rm", tag, "version").CombinedOutput()
	if err != nil || strings.TrimSpace(string(said)) != "roombook 1.2.3 unknown" {
		t.Errorf("version: %v, %s", err, said)
	}
	run := exec.Command("docker", "run", "--rm", "--detach", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", tag)
	id, err := run.Output()
	if err != nil {
		t.Fatal(err)
	}
	container := strings.TrimSpace(string(id))
	defer func() { _ = exec.Command("docker", "rm", "--force", container).Run() }()
	for range 60 {
		said, err = exec.Command("docker", "exec", container, "/roombook", "healthcheck").CombinedOutput()
		if err == nil {
			return
		}
		_ = exec.Command("docker", "exec", container, "/roombook", "healthcheck", "--timeout", "1s").Run()
	}
	t.Errorf("it does not get ready: %s", said)
}

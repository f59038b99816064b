package check

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
		{"Dockerfile", "Dockerfile", "golang:1.26.8-bookworm@sha256:9fdc884aacc3bec89b20ffc69f4bb369c78210e3e4f600387b5128b12c199f81", "golang:1.26", "FROM golang:1.26 is not pinned"},
		{"buildspec", "Dockerfile", "golang:1.26.8", "golang:1.27.0", "the tests run with go1.26.8"},
		{"compose", "compose.yaml", "axllent/mailpit:v1.33.1", "axllent/mailpit:v1.33", "the image axllent/mailpit:v1.33, which is not pinned"},
		{"kubernetes", "kubernetes/restore/job.yaml", "busybox:1.37.0@sha256:9532d8c39891ca2ecde4d30d7710e01fb739c87a8b9299685c63704296b16028", "busybox", "the image busybox, which is not pinned"},
		{"workflow", "github/deploy.yml", "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "actions/checkout@v7", "actions/checkout@v7 is not pinned"},
		{"Dockerfile", "Dockerfile", "USER 65532:65532", "USER root", `runs as "root"`},
		{"Dockerfile", "Dockerfile", "EXPOSE 8080", "EXPOSE 8081", `"8081" is exposed`},
		{"Dockerfile", "Dockerfile", `"--live"`, `"--alive"`, "has no flag --alive"},
		{"Dockerfile", "Dockerfile", "main.release", "main.version", "no variable version"},
		{"compose", "compose.yaml", "restart: unless-stopped", "restrat: unless-stopped", "restrat"},
		{"compose", "compose.yaml", `"127.0.0.1:2113:2113"`, `"2113:2113"`, "open to other machines"},
		{"compose", "compose.yaml", "ROOMBOOK_ROLES: recovery", "ROOMBOOK_ROLES: recover", "the role recover"},
		{"compose", "compose.yaml", "  build:\n    context: ..\n    dockerfile: deploy/Dockerfile\n", "", "is not built"},
		{"names", "compose.yaml", "ROOMBOOK_MONGO:", "ROOMBOOK_MONGODB:", "no flag is set by ROOMBOOK_MONGODB"},
		{"names", "kubernetes/components/monitoring/prometheus-rule.yaml", "a higher --max-commands", "a higher --max-requests", "no flag --max-requests"},
		{"names", "kubernetes/components/monitoring/prometheus-rule.yaml", "roombook recovery status", "roombook recovery list", `no command "recovery list"`},
		{"secrets", "compose.yaml", "mongodb://mongo:27017", "mongodb://root:changeit@mongo:27017", "looks like an account or a secret"},
		{"secrets", "github/deploy.yml", "${{ vars.AWS_ROLE }}", "arn:aws:iam::123456789012:role/deploy", "123456789012"},
		{"workflow", "github/deploy.yml", "runs-on: ubuntu-24.04", "runs_on: ubuntu-24.04", "runs_on"},
		{"workflow", "github/deploy.yml", "steps.image.outputs.digest", "steps.images.outputs.digest", `"images"`},
		{"workflow", "github/deploy.yml", "deploy/rollout.sh", "deploy/roll-out.sh", "roll-out.sh"},
		{"workflow", "github/deploy.yml", "-${{ github.run_id }}-${{ github.run_attempt }}", "", "pushes a tag that is there already"},
		{"workflow", "github/deploy.yml", "group: rollout-production", "group: rollout-${{ github.ref }}", "two of the job image can roll out at once"},
		{"workflow", "github/deploy.yml", "      cancel-in-progress: false\n", "      cancel-in-progress: true\n", "one is cancelled half-way"},
		{"buildspec", "buildspec.yml", "-$CODEBUILD_BUILD_NUMBER", "", "it does not :$CODEBUILD_RESOLVED_SOURCE_VERSION-$CODEBUILD_BUILD_NUMBER"},
		{"buildspec", "buildspec.yml", "post_build:", "postbuild:", "postbuild"},
		{"buildspec", "buildspec.yml", "DIGEST=$(jq", "DIGESTS=$(jq", "DIGEST is used before it is set"},
		{"pipeline", "aws/pipeline.yaml", "!Ref Deploy]", "!Ref Deployment]", "there is no Deployment"},
		{"kubernetes", "kubernetes/overlays/production/api.yaml", "periodSeconds: 5", "periodSecond: 5", "periodSecond"},
		{"kubernetes", "kubernetes/overlays/production/api.yaml", "/actuator/health/readiness", "/actuator/healthy", "/actuator/healthy, which answers 404"},
		{"kubernetes", "kubernetes/overlays/production/api.yaml", "terminationGracePeriodSeconds: 40", "terminationGracePeriodSeconds: 29", "and needs 30"},
		{"kubernetes", "kubernetes/overlays/production/api.yaml", "value: 460MiB", "value: 512MiB", `GOMEMLIMIT is "512MiB"`},
		{"kubernetes", "kubernetes/components/keda/scaled-object.yaml", "roombook_projection_lag_seconds", "roombook_projection_lag", "no metric roombook_projection_lag"},
		{"kubernetes", "kubernetes/components/keda/scaled-object.yaml", "{name: roombook-projections}", "{name: roombook-lists}", "is for roombook-lists, which is not there"},
		{"kubernetes", "kubernetes/components/keda/scaled-object.yaml", "stabilizationWindowSeconds: 300", "selectPolicy: Max", "goes down at once"},
		{"kubernetes", "kubernetes/components/istio/peer-authentication.yaml", `"6060": {mode: PERMISSIVE}`, `"8080": {mode: PERMISSIVE}`, "cannot scrape port 6060"},
		{"kubernetes", "kubernetes/components/istio/peer-authentication.yaml", `"6060": {mode: PERMISSIVE}`, `"8080": {mode: PERMISSIVE}`, "others than the mesh may call port 8080"},
		{"kubernetes", "kubernetes/components/istio/peer-authentication.yaml", "mode: STRICT", "mode: PERMISSIVE", "others than the mesh may call"},
		{"kubernetes", "kubernetes/base/network-policy.yaml", "port: admin", "port: http", "no policy lets Prometheus in to port 6060"},
		{"kubernetes", "kubernetes/base/kustomization.yaml", "ROOMBOOK_ADMIN_LISTEN=0.0.0.0:6060", "ROOMBOOK_ADMIN_LISTEN=0.0.0.0:6061", `ROOMBOOK_ADMIN_LISTEN is "0.0.0.0:6061", and the port 6060`},
		{"kubernetes", "kubernetes/overlays/local/network-policy.yaml", "port: 25,", "port: 26,", "no policy lets it out to port 25"},
		{"kubernetes", "kubernetes/overlays/production/dispatch.yaml", "port: 587,", "port: 588,", "no policy lets it out to port 587"},
		{"kubernetes", "kubernetes/restore/job.yaml", "claimName: data-roombook-0", "claimName: data-roombook", "no pod has the volume data-roombook"},
		{"kubernetes", "kubernetes/import/job.yaml", "args: [import,", "args: [load,", "the program has no command load"},
		{"kubernetes", "kubernetes/overlays/production/recovery.yaml", "value: recovery}", "value: recoveries}", "no role recoveries"},
		{"kubernetes", "kubernetes/overlays/production/verify.yaml", "args: [verify]", "args: [verify, --fast]", "has no flag --fast"},
		{"kubernetes", "kubernetes/base/service.yaml", "type: ClusterIP", "type: LoadBalancer", "only the gateway is outside"},
		{"kubernetes", "kubernetes/components/istio/destination-rule.yaml", "consecutive5xxErrors", "consecutiveErrors5xx", "consecutiveErrors5xx"},
		{"kubernetes", "kubernetes/components/istio/kustomization.yaml", "istio.io~1inject", "istio.io~1injected", "its sidecar may keep it from ending"},
		{"kubernetes", "kubernetes/components/istio/kustomization.yaml", "EXIT_ON_ZERO", "EXIT_AT_ZERO", "or stop before it"},
		{"kubernetes", "kubernetes/components/istio/kustomization.yaml", "holdApplicationUntilProxyStarts", "holdApplicationUntilProxyStart", "unknown field"},
		{"buildspec", "buildspec.yml", "- export DIGEST\n", "- export\n", "DIGEST is not exported"},
		{"kubernetes", "kubernetes/components/gateway-api/http-route.yaml", "value: /realuses}", "value: /realUses}", "it does not let /realuses through"},
		{"kubernetes", "kubernetes/components/istio/virtual-service.yaml", "exact: /me}", "prefix: /me}", "/me lets /metrics through"},
		{"kubernetes", "kubernetes/components/ingress/ingress.yaml", "path: /docs,", "path: /metrics,", "/metrics is for operators"},
		{"kubernetes", "kubernetes/base/kustomization.yaml", "ROOMBOOK_TRUSTED_PROXIES", "ROOMBOOK_TRUSTED_PROXY", "links have the gateway's https"},
		{"rules", "kubernetes/components/monitoring/prometheus-rule.yaml", "roombook_http_refused_total", "roombook_http_rejected_total", "no metric roombook_http_rejected_total"},
		{"rules", "kubernetes/components/monitoring/prometheus-rule.yaml", "for: 2m", "during: 2m", "during"},
		{"rules", "compose.yaml", "s/^  //p", "s/^    //p", "there are none"},
		{"rules", "prometheus/prometheus.yml", "/tmp/rules.yaml", "rules.yaml", "does not read what is made for it"},
		{"kubernetes", "kubernetes/components/monitoring/prometheus-rule.yaml", "for: 2m", "during: 2m", "during"},
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
	calls, err := rolledOut("..", image, "production", "")
	if err != nil || strings.Contains(calls, "undo") {
		t.Errorf("a roll-out that succeeds: %v\n%s", err, calls)
	}
	wantInOrder(t, calls, "create configmap roombook-rollout", "get deployments", "-l !app.kubernetes.io/component -f -\napplied image: "+image, "component in (projections,recovery,dispatch) -f -\napplied image: "+image,
		"rollout status deployment/roombook-projections", "rollout status deployment/roombook-recovery", "rollout status deployment/roombook-dispatch",
		"component in (api) -f -\napplied image: "+image, "rollout status deployment/roombook-api", "component=verify -f -\napplied image: "+image,
		"delete configmap roombook-rollout")
	for _, failing := range []string{"!app.kubernetes.io/component", "rollout status deployment/roombook-recovery", "in (api)", "rollout status deployment/roombook-api", "=verify"} {
		calls, err = rolledOut("..", image, "production", failing)
		if err == nil || strings.Contains(calls, "undo deployment/roombook-dispatch") {
			t.Errorf("a roll-out in which %s fails: %v\n%s", failing, err, calls)
		}
		wantInOrder(t, calls, failing, "rollout undo deployment/roombook-api --to-revision=7\n", "rollout status deployment/roombook-api",
			"rollout undo deployment/roombook-recovery --to-revision=4\n", "rollout status deployment/roombook-recovery",
			"rollout undo deployment/roombook-projections --to-revision=5\n", "rollout status deployment/roombook-projections", "delete configmap roombook-rollout")
	}
	if calls, err = rolledOut("..", image, "production", "create configmap"); err == nil || strings.Contains(calls, "apply") || strings.Contains(calls, "delete") {
		t.Errorf("of one while another is under way: %v\n%s", err, calls)
	}
	if calls, err = rolledOut("..", "roombook:latest", "production", ""); err == nil || calls != "" {
		t.Errorf("of an image that is not named by its digest: %v\n%s", err, calls)
	}
	if calls, err = rolledOut("..", image, "elsewhere", ""); err == nil || strings.Contains(calls, "apply") {
		t.Errorf("of an overlay whose image is another: %v\n%s", err, calls)
	}
}

// wantInOrder looks whether the text has all of the parts, one after the other.
func wantInOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Errorf("%q is not there, or too early:\n%s", part, text)
			return
		}
		rest = after
	}
}

// TestCI looks whether the script of all checks is for every module of the repository, and would notice a vulnerability.
func TestCI(t *testing.T) {
	top := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(top, ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	var modules []string
	err = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "go.mod" {
			module, _ := filepath.Rel(top, filepath.Dir(path))
			modules = append(modules, filepath.ToSlash(module))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`(?m)^modules=\((.*)\)$`).FindSubmatch(text)
	if named == nil {
		t.Fatal("it names no modules")
	}
	listed := strings.Fields(string(named[1]))
	slices.Sort(listed)
	if slices.Sort(modules); !slices.Equal(modules, listed) {
		t.Errorf("it checks the modules %v, and there are %v", listed, modules)
	}

	// The last step with a govulncheck that says what it is asked, and finds something in one module.
	const step = "\nfor module in \"${modules[@]}\"; do\n  step \"known vulnerabilities"
	_, last, found := strings.Cut(string(text), step)
	if !found {
		t.Fatal("it looks for no vulnerabilities")
	}
	tools := t.TempDir()
	fake := `#!/bin/bash
echo "in $PWD: $*"
[[ $PWD != */"$VULNERABLE" ]] || exit 3
`
	if err := os.WriteFile(filepath.Join(tools, "govulncheck"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	script := "set -euo pipefail; step() { :; }; " + string(named[0]) + step + last
	for _, vulnerable := range append(modules[1:], "none") {
		cmd := exec.Command("bash", "-c", script)
		cmd.Dir = top
		cmd.Env = append(os.Environ(), "tools="+tools, "VULNERABLE="+vulnerable)
		out, err := cmd.CombinedOutput()
		if failed := err != nil; failed != (vulnerable != "none") {
			t.Errorf("with a vulnerability in %s: %v\n%s", vulnerable, err, out)
		}
		if vulnerable == "none" && !strings.Contains(string(out), "k8s.io/kubernetes/cmd/kube-apiserver/app") {
			t.Errorf("what the tests of deploy use is not looked at:\n%s", out)
		}
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

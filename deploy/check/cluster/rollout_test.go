package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
)

// TestMain lets the program of the tests be kubectl, under that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "kubectl" {
		os.Exit(cli.Run(cmd.NewDefaultKubectlCommand()))
	}
	os.Exit(m.Run())
}

// environmentOf is the environment of programs that call kubectl, with what a token may do.
func environmentOf(t *testing.T, config *rest.Config, token string) []string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(program, filepath.Join(bin, "kubectl")); err != nil {
		t.Fatal(err)
	}
	access := api.Config{
		Clusters:       map[string]*api.Cluster{"test": {Server: config.Host, InsecureSkipTLSVerify: true}},
		AuthInfos:      map[string]*api.AuthInfo{"user": {Token: token}},
		Contexts:       map[string]*api.Context{"test": {Cluster: "test", AuthInfo: "user"}},
		CurrentContext: "test",
	}
	file := filepath.Join(bin, "config")
	if err := clientcmd.WriteToFile(access, file); err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "KUBECONFIG="+file, "HOME="+bin)
}

// Images of three versions. Of the last no pod of the api gets ready.
var (
	former = image("a")
	newer  = image("b")
	broken = image("c")
)

func image(digit string) string {
	return "registry.example/roombook@sha256:" + strings.Repeat(digit, 64)
}

// followers are the Deployments that are rolled out before the api.
var followers = []string{"roombook-projections", "roombook-recovery", "roombook-dispatch"}

// rollout rolls out images with deploy/rollout.sh, as the pipeline, with the rights of the pipeline only: what works stays, and of what does
// not everything goes back, the roles that were rolled out already among it. Another one meanwhile is refused.
func rollout(t *testing.T, config *rest.Config, client kubernetes.Interface) {
	environment := environmentOf(t, config, pipelineToken)
	roll := func(image string) (said *bytes.Buffer, ended <-chan error) {
		said = new(bytes.Buffer)
		script := exec.CommandContext(t.Context(), "bash", filepath.Join("..", "..", "rollout.sh"), image, "production-istio")
		script.Env = append(environment, "ROLLOUT_TIMEOUT=1h")
		script.Stdout, script.Stderr = said, said
		end := make(chan error, 1)
		go func() { end <- script.Run() }()
		return said, end
	}
	deployment := func(name string) (*apps.Deployment, error) {
		return client.AppsV1().Deployments(namespace).Get(t.Context(), name, meta.GetOptions{})
	}
	runs := func(image string, names ...string) error {
		for _, name := range names {
			d, err := deployment(name)
			if err != nil {
				return err
			}
			if s := d.Status; d.Spec.Template.Spec.Containers[0].Image != image || s.ObservedGeneration != d.Generation ||
				s.UpdatedReplicas != s.Replicas || s.ReadyReplicas != s.Replicas || s.Replicas == 0 {
				return fmt.Errorf("%s has %s and %+v", name, d.Spec.Template.Spec.Containers[0].Image, s)
			}
		}
		return nil
	}
	all := append([]string{"roombook-api"}, followers...)

	succeeds := func(image string) {
		t.Helper()
		said, ended := roll(image)
		if err := errors.Join(<-ended, runs(image, all...)); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
	}
	succeeds(former)

	said, ended := roll(broken)
	await(t, "the api with the broken image", func() error {
		d, err := deployment("roombook-api")
		if err == nil && (d.Spec.Template.Spec.Containers[0].Image != broken || d.Status.UpdatedReplicas == 0) {
			err = fmt.Errorf("it has %+v", d.Status)
		}
		return err
	})
	if err := runs(broken, followers...); err != nil {
		t.Errorf("before the api: %v", err)
	}
	verify, err := client.BatchV1().CronJobs(namespace).Get(t.Context(), "roombook-verify", meta.GetOptions{})
	if err != nil || verify.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Image != former {
		t.Errorf("before the api the nightly check has changed: %v, %v", verify.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Image, err)
	}
	other, refused := roll(newer)
	if err := <-refused; err == nil || !strings.Contains(other.String(), "a roll-out of "+broken+" by ") {
		t.Errorf("another while one is under way: %v\n%s", err, other)
	}
	if err := runs(broken, followers...); err != nil {
		t.Errorf("after another was refused: %v", err)
	}
	progress := func(seconds int) {
		t.Helper()
		patch := fmt.Appendf(nil, `{"spec":{"progressDeadlineSeconds":%d}}`, seconds)
		if _, err := client.AppsV1().Deployments(namespace).Patch(t.Context(), "roombook-api", types.StrategicMergePatchType, patch, meta.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	progress(1) // how long Kubernetes waits for it; the script waits longer
	err = <-ended
	if err == nil || !strings.Contains(said.String(), "roombook-api did not come up with "+broken+"; going back") {
		t.Errorf("%v\n%s", err, said)
	}
	await(t, "all with the former image", func() error { return runs(former, all...) })
	progress(600)

	// What going back has set does not stand in the way.
	succeeds(newer)
}

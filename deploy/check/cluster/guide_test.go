package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// guide does what the text at the top of a folder says, command by command, but for what only a node can answer: what is sent to a container,
// after which the pod is done, and what a container has said.
func guide(t *testing.T, config *rest.Config, client kubernetes.Interface, folder string) {
	text, err := os.ReadFile(filepath.Join("..", "..", "kubernetes", folder, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	environment, sent := environmentOf(t, config, token), false
	for _, m := range regexp.MustCompile(`(?m)^#   (kubectl .*)$`).FindAllStringSubmatch(string(text), -1) {
		command := m[1]
		switch {
		case strings.Contains(command, " attach "):
			sent = true
			take(t, client, folder, command)
		case strings.Contains(command, " logs "):
		default:
			shell := exec.CommandContext(t.Context(), "bash", "-c", command)
			shell.Dir, shell.Env = filepath.Join("..", "..", ".."), environment
			out, err := shell.CombinedOutput()
			if t.Logf("%s\n%s", command, out); err != nil {
				t.Fatalf("%s: %v\n%s", command, err, out)
			}
		}
	}
	if !sent {
		t.Error("nothing is sent")
	}
}

// take lets the pod of a folder's Job be done with what the command sends to a container that runs and waits for it.
func take(t *testing.T, client kubernetes.Interface, folder, command string) {
	t.Helper()
	pods, err := client.CoreV1().Pods(namespace).List(t.Context(), meta.ListOptions{LabelSelector: "batch.kubernetes.io/job-name=roombook-" + folder})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	p := pods.Items[0]
	before := len(p.Status.InitContainerStatuses) - 1
	c, running := p.Spec.InitContainers[before], p.Status.InitContainerStatuses[before]
	if !strings.HasPrefix(command, "kubectl -n roombook attach -i job/roombook-"+folder+" -c "+c.Name+" < ") || !c.Stdin || running.Name != c.Name || running.State.Running == nil {
		t.Fatalf("%s: %s runs as %+v", command, c.Name, running)
	}
	p.Status.Phase = core.PodSucceeded
	if _, err := client.CoreV1().Pods(namespace).UpdateStatus(t.Context(), &p, meta.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

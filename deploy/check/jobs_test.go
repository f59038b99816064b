package check

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
)

// runJob does what a node does: it runs the containers of a Job one after the other, until one fails, as processes of this machine. The folder
// is in place of the volume that has the path; input is what is sent to the container that reads.
func runJob(t *testing.T, folder, path, volume string, input io.Reader, environment ...string) error {
	t.Helper()
	pod := build("..", folder).pods["Job roombook-"+folder]
	here := strings.NewReplacer(path, volume)
	var read bool
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		words := c.Command
		if strings.HasPrefix(c.Image, "roombook:") {
			words = append([]string{running.path}, c.Args...)
		}
		for i := range words {
			words[i] = here.Replace(words[i])
		}
		cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
		cmd.Env = append(os.Environ(), environment...)
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				cmd.Env = append(cmd.Env, e.Name+"="+here.Replace(e.Value))
			}
		}
		if c.Stdin && c.StdinOnce { // without the latter it would wait for more
			cmd.Stdin, read = input, true
		}
		out, err := cmd.CombinedOutput()
		t.Logf("%s: %v\n%s", c.Name, err, out)
		if err != nil {
			return err
		}
	}
	if !read {
		t.Errorf("no container of %s reads what is sent", folder)
	}
	return nil
}

// exported is an export of a data folder: its last line has the number of all events and their hash.
func exported(t *testing.T, data string) (file, sum string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "rooms.jsonl")
	if out, err := exec.CommandContext(t.Context(), running.path, "export", file, "--data", data).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return file, string(lines[len(lines)-1])
}

// A backup is restored to the volume, whatever another try has left there; a damaged one leaves it as it is.
func TestRestoreJob(t *testing.T) {
	backup, err := exec.CommandContext(t.Context(), running.path, "backup", "-", "--data", running.data).Output()
	if err != nil {
		t.Fatal(err)
	}
	volume := t.TempDir()
	if err := os.MkdirAll(filepath.Join(volume, "events", "of before"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := runJob(t, "restore", "/volume", volume, bytes.NewReader(backup[:len(backup)/2])); err == nil {
		t.Error("half of a backup was restored")
	}
	if _, err := os.Stat(filepath.Join(volume, "events", "of before")); err != nil {
		t.Errorf("half of a backup: %v", err)
	}
	// Another try was ended after its backup had been restored, and before the exchange.
	if err := os.MkdirAll(filepath.Join(volume, "restored", "events", "of another try"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := runJob(t, "restore", "/volume", volume, bytes.NewReader(backup)); err != nil {
		t.Fatal(err)
	}
	kept, err := filepath.Glob(filepath.Join(volume, "events-before-*", "of before"))
	if err != nil || len(kept) != 1 {
		t.Errorf("what was there before is at %v, %v", kept, err)
	}
	_, want := exported(t, running.data)
	if _, got := exported(t, volume); got != want {
		t.Errorf("restored were %s of %s", got, want)
	}
}

// An export that is sent to the Job is imported whole.
func TestImportJob(t *testing.T) {
	file, want := exported(t, running.data)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir() // in place of the event store of the secret
	if err := runJob(t, "import", "/work", t.TempDir(), bytes.NewReader(text[:len(text)/2]), "ROOMBOOK_DATA="+data); err == nil {
		t.Error("half of an export was imported")
	}
	if err := runJob(t, "import", "/work", t.TempDir(), bytes.NewReader(text), "ROOMBOOK_DATA="+data); err != nil {
		t.Fatal(err)
	}
	if _, got := exported(t, data); got != want {
		t.Errorf("imported were %s of %s", got, want)
	}
	if policy := build("..", "import").pods["Job roombook-import"].Spec.RestartPolicy; policy != core.RestartPolicyOnFailure {
		t.Errorf("an import that is interrupted begins without its file: %s", policy)
	}
}

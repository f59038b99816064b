package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// program builds the program once for all tests that run it as a process.
func program(t testing.TB) string {
	t.Helper()
	if built.path == "" {
		t.Fatal("TestMain has not built the program")
	}
	return built.path
}

var built struct{ path string }

// process is a running roombook.
type process struct {
	cmd     *exec.Cmd
	address string        // of its HTTP server
	lines   *bufio.Reader // what it prints after the line with the address
	stderr  *bytes.Buffer
}

// startServe runs "roombook serve" on free ports with its data in dir, and waits until it listens.
func startServe(t testing.TB, dir string, args ...string) *process {
	t.Helper()
	return startServeBy(t, exec.Command(program(t)), dir, args...)
}

// startServeBy is startServe with a command that runs the program. Its standard error is kept unless it goes elsewhere already.
func startServeBy(t testing.TB, cmd *exec.Cmd, dir string, args ...string) *process {
	t.Helper()
	cmd.Args = append(cmd.Args, "serve", "--listen", "127.0.0.1:0", "--data", dir)
	if !slices.Contains(args, "--eventstore") {
		cmd.Args = append(cmd.Args, "--node", "127.0.0.1:0")
	}
	cmd.Args = append(cmd.Args, args...)
	return startCommand(t, cmd)
}

// startCommand starts a command that serves, and waits until it listens.
func startCommand(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, stderr: &bytes.Buffer{}}
	if cmd.Stderr == nil {
		cmd.Stderr = p.stderr
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	if err != nil {
		_ = p.cmd.Wait()
		t.Fatalf("roombook serve ended before it listened: %s", p.stderr)
	}
	_, url, _ := strings.Cut(strings.TrimSpace(line), "http://")
	p.address = url
	p.lines = lines
	return p
}

// stop shuts the process down and returns the rest of what it prints.
func (p *process) stop(t testing.TB) string {
	t.Helper()
	return p.stopBy(t, syscall.SIGTERM)
}

func (p *process) stopBy(t testing.TB, signal os.Signal) string {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	return p.wait(t)
}

// wait waits until the process has shut down, and returns the rest of what it prints.
func (p *process) wait(t testing.TB) string {
	t.Helper()
	rest, err := io.ReadAll(p.lines)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("roombook serve ended with %v: %s", err, p.stderr)
	}
	return string(rest)
}

// kill ends the process as a crash does.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// TestREADMETour runs the commands of the README's tour.
func TestREADMETour(t *testing.T) {
	if n := runReadme(t, "A tour in five minutes", t.TempDir()); n < 10 {
		t.Errorf("the README's tour has %d commands", n)
	}
}

// TestREADMERooms runs the commands of the README's section about rooms, with the file that it shows.
func TestREADMERooms(t *testing.T) {
	dir := t.TempDir()
	_, sample, found := strings.Cut(readmeSection(t, "Rooms"), "\n    roomId,")
	sample, _, _ = strings.Cut("roomId,"+sample, "\n\n")
	if err := os.WriteFile(filepath.Join(dir, "rooms.csv"), []byte(strings.ReplaceAll(sample, "\n    ", "\n")+"\n"), 0o600); err != nil || !found {
		t.Fatalf("the README has a file of rooms: %t; %v", found, err)
	}
	if n := runReadme(t, "Rooms", dir); n < 5 {
		t.Errorf("the README's section has %d commands", n)
	}
}

// readmeSection is the text of a section.
func readmeSection(t *testing.T, title string) string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(readme), "\n## "+title+"\n")
	if !found {
		t.Fatalf("the README has no section %q", title)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// runReadme runs the commands of a section of the README in one shell, in a folder, against the program, and compares their output with the
// README's, except for ids and times of the clock. It returns the number of commands.
func runReadme(t *testing.T, title, dir string) int {
	t.Helper()
	steps := parseTour(readmeSection(t, title))
	p := startServe(t, filepath.Join(dir, "data"))
	const separator = "\x1e"
	var script strings.Builder
	here := strings.NewReplacer("127.0.0.1:8080", p.address, "go run ./cmd/roombook", program(t))
	for _, s := range steps {
		script.WriteString(here.Replace(s.command) + "\nprintf '" + separator + "'\n")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-c", script.String())
	shell.Env = append(os.Environ(), variable("data")+"="+filepath.Join(dir, "data"))
	shell.Dir = dir
	output, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	outputs := strings.Split(string(output), separator)
	for i, s := range steps {
		if got, want := masked(outputs[i], p.address), masked(s.output, p.address); got != want {
			t.Errorf("$ %s\nprinted\n%s\nwhere the README says\n%s", s.command, outputs[i], s.output)
		}
	}
	p.stop(t)
	return len(steps)
}

// step is a command of the tour and what it prints.
type step struct{ command, output string }

// parseTour reads indented lines: a command after "$ ", continued while lines end in a backslash, and then what it prints.
func parseTour(text string) []step {
	var steps []step
	continued := false
	for line := range strings.Lines(text) {
		line, code := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		if !code {
			continue
		}
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case isCommand:
			steps = append(steps, step{command: command})
			continued = strings.HasSuffix(command, "\\")
		case continued:
			steps[len(steps)-1].command += "\n" + line
			continued = strings.HasSuffix(line, "\\")
		case len(steps) > 0:
			steps[len(steps)-1].output += line + "\n"
		}
	}
	return steps
}

// varying are the parts of the output that differ from run to run, and what replaces them.
var varying = []struct {
	pattern *regexp.Regexp
	mask    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "<id>"},
	{regexp.MustCompile(`"requestId":"[0-9a-f]{32}"`), `"requestId":"<id>"`},
	{regexp.MustCompile(`20(2[1-9]|[3-9]\d)-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`), "<now>"}, // the tour's own times are in 2020
	{regexp.MustCompile(`\d+ events in [0-9.]+m?s \(\d+/s\)`), "<all> events in <time>"},    // those of notifications may still come
	{regexp.MustCompile(`(?m)[ \t\r]+$`), ""},
}

func masked(s, address string) string {
	s = strings.ReplaceAll(s, address, "127.0.0.1:8080")
	for _, v := range varying {
		s = v.pattern.ReplaceAllString(s, v.mask)
	}
	return strings.TrimSpace(s)
}

// TestREADMESecondProcess runs the README's command for a second process, beside the event store of a first one.
func TestREADMESecondProcess(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin = "go run ./cmd/roombook serve --eventstore "
	_, command, found := strings.Cut(string(readme), "\n    "+begin)
	command, _, _ = strings.Cut(command, "\n")
	if !found {
		t.Fatalf("the README has no command %q…", begin)
	}
	data := filepath.Join(t.TempDir(), "data")
	first := startServe(t, data)
	here := strings.NewReplacer("go run ./cmd/roombook", "exec "+program(t), "esdb://127.0.0.1:2113?tls=false", nodeOf(t, data), "./data", data)
	// What startServeBy adds takes the place of the command's own address.
	second := startServeBy(t, exec.Command("bash", "-c", here.Replace(begin+command)+` "${@:2}"`, "bash"), data, "--eventstore", nodeOf(t, data))
	second.awaitReady(t)
	second.stop(t)
	first.stop(t)
}

// TestREADMEListsEveryFlag compares the README's configuration table with the flags of serve.
func TestREADMEListsEveryFlag(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\| (?:`([^`]*)`)? ?\\|").FindAllStringSubmatch(string(readme), -1) {
		documented[row[1]] = row[2]
	}
	newServeCommand().Flags().VisitAll(func(f *pflag.Flag) {
		standard, ok := documented[f.Name]
		if !ok {
			t.Errorf("the README does not have --%s", f.Name)
		}
		if got := strings.Trim(strings.ToLower(f.DefValue), "[]"); got != strings.ToLower(standard) && got != standard+"0m0s" {
			t.Errorf("--%s is %q by default, and %q in the README", f.Name, got, standard)
		}
		delete(documented, f.Name)
	})
	for name := range documented {
		t.Errorf("the README has --%s, which is no flag of serve", name)
	}
}

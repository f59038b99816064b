package check

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// program is a running Roombook, and what it says of itself.
type program struct {
	path  string // of the executable
	data  string // its folder
	url   string
	flags map[string]map[string]bool // of each command
	// variables are the environment variables that set a flag, with the flag's default.
	variables map[string]bool
	metrics   map[string]bool
	routes    []string // the paths of its API
	paths     []string // their first segments
	screens   []string // the first parts of the page's paths
	source    string   // of the program, without its tests: for metrics that appear only when something fails
}

var running *program

func TestMain(m *testing.M) {
	os.Exit(withProgram(m.Run))
}

// withProgram builds the program, runs it, and asks it what it has.
func withProgram(tests func() int) int {
	dir, err := os.MkdirTemp("", "deploy-check")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	p := &program{path: filepath.Join(dir, "roombook"), data: filepath.Join(dir, "data"), flags: map[string]map[string]bool{}, variables: map[string]bool{}, metrics: map[string]bool{}}
	build := exec.Command("go", "build", "-o", p.path, "./cmd/roombook")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		return 1
	}
	stop, err := p.start()
	if err == nil {
		err = p.ask()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ask the program:", err)
		return 1
	}
	defer stop()
	running = p
	return tests()
}

func (p *program) start() (stop func(), err error) {
	cmd := exec.Command(p.path, "serve", "--listen", "127.0.0.1:0", "--node", "127.0.0.1:0", "--data", p.data, "--log-level", "error")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("it ended before it listened: %w", cmd.Wait())
	}
	_, address, _ := strings.Cut(strings.TrimSpace(line), "http://")
	p.url = "http://" + address
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}, nil
}

// ask fills in what the program has.
func (p *program) ask() error {
	for _, command := range append([]string{"recovery status", "booking release", "notifications parked", "notifications retry", "notifications test", "notifications unhandled", "notifications replay"}, p.commands()...) {
		help, err := exec.Command(p.path, append(strings.Fields(command), "--help")...).Output()
		if err != nil {
			return fmt.Errorf("roombook %s --help: %w", command, err)
		}
		p.flags[command] = map[string]bool{}
		for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`).FindAllStringSubmatch(string(help), -1) {
			p.flags[command][m[1]] = true
		}
		for _, m := range regexp.MustCompile(`\[(ROOMBOOK_[A-Z_]+)\]`).FindAllStringSubmatch(string(help), -1) {
			p.variables[m[1]] = true
		}
	}
	if err := p.use(); err != nil {
		return err
	}
	var metrics string
	for !strings.Contains(metrics, "\nroombook_notifications_delivery_seconds_count{") { // which the event that is told of may linger before
		var err error
		if metrics, err = p.body("/metrics"); err != nil {
			return err
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-zA-Z_:][a-zA-Z0-9_:]*)[{ ]`).FindAllStringSubmatch(metrics, -1) {
		p.metrics[m[1]] = true
	}
	api, err := p.body("/openapi.json")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\s*"((/[A-Za-z.]*)[^"]*)": \{`).FindAllStringSubmatch(api, -1) {
		p.routes = append(p.routes, m[1])
		if !seen[m[2]] {
			seen[m[2]] = true
			p.paths = append(p.paths, m[2])
		}
	}
	err = filepath.WalkDir(filepath.Join("..", ".."), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "deploy" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".git")) {
			if err == nil {
				err = filepath.SkipDir
			}
			return err
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			text, err := os.ReadFile(path)
			p.source += string(text)
			return err
		}
		return nil
	})
	for _, m := range regexp.MustCompile(`(?:\{"(?:GET|POST)", |Path = )"(/[a-z.]+)`).FindAllStringSubmatch(p.source, -1) {
		if !slices.Contains(p.screens, m[1]) {
			p.screens = append(p.screens, m[1])
		}
	}
	return err
}

// use makes a booking and waits until it is listed, so that what is counted by route or by list is there.
func (p *program) use() error {
	body := `{"roomId":"1","useStartDtm":"203001011000","useEndDtm":"203001011100","bookingUserId":7}`
	response, err := http.Post(p.url+"/bookings", "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	response.Body.Close()
	for _, list := range []string{"/bookingLists", "/roomUseLists", "/notifications"} {
		request, err := http.NewRequest("GET", p.url+list, nil)
		if err != nil {
			return err
		}
		for status := 0; status != http.StatusOK; {
			request.Header.Set("Roombook-Position", response.Header.Get("Roombook-Position"))
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			answer.Body.Close()
			if status = answer.StatusCode; status != http.StatusOK && status != http.StatusServiceUnavailable {
				return fmt.Errorf("GET %s: %s", list, answer.Status)
			}
		}
	}
	return nil
}

// commands are those of the program's help.
func (p *program) commands() (names []string) {
	help, _ := exec.Command(p.path, "help").Output()
	_, list, _ := strings.Cut(string(help), "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) > 0 && f[0] != "completion" {
			names = append(names, f[0])
		}
	}
	return names
}

func (p *program) call(method, path, body string) (status int, err error) {
	request, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

func (p *program) body(path string) (string, error) {
	response, err := http.Get(p.url + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return string(text), err
}

// hasMetric reports whether the program exports a metric: now, or once something happens that it counts by a label.
func (p *program) hasMetric(name string) bool {
	if p.metrics[name] {
		return true
	}
	if !strings.HasPrefix(name, "roombook_") {
		return false
	}
	for _, prefix := range []string{"roombook_", "roombook_eventstore_", "roombook_projection_", "roombook_notifications_"} {
		if short, ok := strings.CutPrefix(name, prefix); ok && (strings.Contains(p.source, `"`+short+`"`) || strings.Contains(p.source, `"`+name+`"`)) {
			return true
		}
	}
	return false
}

package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/rhysd/actionlint"
	"sigs.k8s.io/yaml"
)

// A check looks at a folder like deploy and returns what is wrong with it.
type check func(dir string, p *program) []string

var checks = map[string]check{
	"Dockerfile": checkDockerfile,
	"compose":    checkCompose,
	"names":      checkNames,
	"secrets":    checkSecrets,
	"workflow":   checkWorkflow,
	"buildspec":  checkBuildspec,
	"pipeline":   checkPipeline,
	"kubernetes": checkKubernetes,
	"rules":      checkRules,
	"dashboard":  checkDashboard,
}

// faults collects what is wrong.
type faults []string

func (f *faults) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

func (f *faults) read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		f.add("%v", err)
	}
	return string(text)
}

// textFiles are the files of the folder, but for this module.
func textFiles(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "check" {
			return filepath.SkipDir
		}
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

var pinned = regexp.MustCompile(`@sha256:[0-9a-f]{64}$|:v?\d+\.\d+\.\d+(-[a-z0-9.]+)?$`)

func checkDockerfile(dir string, p *program) []string {
	var f faults
	text := f.read(filepath.Join(dir, "Dockerfile"))
	text = regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, "\\\n", " ")
	var user, listen, exposed, health string
	stages := map[string]bool{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		rest := fields[1:]
		switch fields[0] {
		case "FROM":
			rest = slices.DeleteFunc(rest, func(s string) bool { return strings.HasPrefix(s, "--") })
			if image := rest[0]; image != "scratch" && !stages[image] && !pinned.MatchString(image) {
				f.add("Dockerfile: FROM %s is not pinned to a version", image)
			}
			if len(rest) == 3 {
				stages[rest[2]] = true
			}
			user, listen, exposed, health = "", "", "", ""
		case "ADD":
			f.add("Dockerfile: ADD where COPY would do: %s", strings.Join(rest, " "))
		case "USER":
			user = rest[0]
		case "EXPOSE":
			exposed = rest[0]
		case "HEALTHCHECK":
			health = line
		case "ENV":
			for _, pair := range rest {
				if value, ok := strings.CutPrefix(pair, "ROOMBOOK_LISTEN=:"); ok {
					listen = value
				}
			}
		case "RUN", "COPY", "ARG", "LABEL", "WORKDIR", "VOLUME", "STOPSIGNAL", "ENTRYPOINT", "CMD":
		default:
			f.add("Dockerfile: what is %s?", fields[0])
		}
		for _, m := range regexp.MustCompile(`-X main\.(\w+)=`).FindAllStringSubmatch(line, -1) {
			if !regexp.MustCompile(`(?m)^var [^=\n]*\b` + m[1] + `\b[^=\n]* string`).MatchString(p.source) {
				f.add("Dockerfile: the program has no variable %s to set", m[1])
			}
		}
	}
	if uid, _, _ := strings.Cut(user, ":"); !regexp.MustCompile(`^[1-9]\d*$`).MatchString(uid) {
		f.add("Dockerfile: the image runs as %q, not as a number other than 0", user)
	}
	if listen == "" || listen != exposed {
		f.add("Dockerfile: the program listens on %q, and %q is exposed", listen, exposed)
	}
	f.checkCommand("Dockerfile", p, commandIn(health))
	return f
}

// commandIn are the words of a command in the form of JSON.
func commandIn(line string) (words []string) {
	_, list, _ := strings.Cut(line, "[")
	for _, m := range regexp.MustCompile(`"([^"]*)"`).FindAllStringSubmatch(list, -1) {
		words = append(words, m[1])
	}
	return words
}

// checkCommand looks whether the program has a command and its flags. The first word may be the program.
func (f *faults) checkCommand(where string, p *program, words []string) {
	if len(words) > 0 && strings.HasSuffix(words[0], "roombook") {
		words = words[1:]
	}
	if len(words) == 0 {
		f.add("%s: no command", where)
		return
	}
	flags, ok := p.flags[words[0]]
	if !ok {
		f.add("%s: the program has no command %s", where, words[0])
		return
	}
	for _, word := range words[1:] {
		name, isFlag := strings.CutPrefix(word, "--")
		name, _, _ = strings.Cut(name, "=")
		if isFlag && !flags[name] {
			f.add("%s: roombook %s has no flag --%s", where, words[0], name)
		}
	}
}

func loadCompose(dir string) (*types.Project, error) {
	file := filepath.Join(dir, "compose.yaml")
	details := types.ConfigDetails{WorkingDir: dir, ConfigFiles: []types.ConfigFile{{Filename: file}}, Environment: types.Mapping{}}
	return loader.LoadWithContext(context.Background(), details, func(o *loader.Options) { o.SetProjectName("roombook", false) })
}

func checkCompose(dir string, p *program) []string {
	var f faults
	project, err := loadCompose(dir)
	if err != nil {
		f.add("compose: %v", err)
		return f
	}
	for name, s := range project.Services {
		ours := strings.HasPrefix(s.Image, "roombook:")
		if !ours && !pinned.MatchString(s.Image) {
			f.add("compose: %s has the image %s, which is not pinned to a version", name, s.Image)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				f.add("compose: %s is open to other machines on port %s", name, port.Published)
			}
		}
		for _, v := range s.Volumes {
			if _, err := os.Stat(v.Source); v.Type == types.VolumeTypeBind && err != nil {
				f.add("compose: %s: %v", name, err)
			}
		}
		for other, d := range s.DependsOn {
			if d.Condition == types.ServiceConditionHealthy && project.Services[other].HealthCheck == nil && !strings.HasPrefix(project.Services[other].Image, "roombook:") {
				f.add("compose: %s waits until %s is healthy, which nothing checks", name, other)
			}
		}
		if ours {
			if s.Build == nil {
				f.add("compose: %s has an image that is nowhere to be pulled from, and is not built", name)
			}
			if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") {
				f.add("compose: %s may write to its image or has capabilities", name)
			}
			if roles := s.Environment["ROOMBOOK_ROLES"]; roles != nil && !strings.Contains(p.source, `= "`+*roles+`"`) {
				f.add("compose: %s has the role %s, which the program has not", name, *roles)
			}
		}
	}
	if api := project.Services["api"]; api.Deploy == nil || api.Deploy.Replicas == nil || *api.Deploy.Replicas != 2 {
		f.add("compose: there are not two replicas of api")
	}
	return f
}

var (
	variableName = regexp.MustCompile(`\bROOMBOOK_[A-Z_]+\b`)
	flagName     = regexp.MustCompile(`(?:^|[\s(])--([a-z][a-z-]+)`)
	verbName     = regexp.MustCompile("(?:^|[\\s`/\"])roombook ((?:recovery|booking|notifications) )?([a-z]+)( --[a-z-]+)*[;,.`)]? ")
	otherProgram = regexp.MustCompile(`\b(kubectl|docker|aws|curl|git|buildx|kustomize|cloudformation|sha256sum|mongod|wget|jq)\b|rollout\.sh|exec prometheus|--(platform|build-arg|tag|mount|from|chown|interval|timeout|start|retries|quiet|eval|replSet|bind_ip_all|parameter-overrides|capabilities)`)
)

// checkNames looks for environment variables, flags and commands of the program in all files, comments included.
func checkNames(dir string, p *program) []string {
	var f faults
	files, err := textFiles(dir)
	if err != nil {
		f.add("%v", err)
	}
	all := map[string]bool{}
	for _, flags := range p.flags {
		for name := range flags {
			all[name] = true
		}
	}
	for _, path := range files {
		for line := range strings.Lines(f.read(path)) {
			for _, name := range variableName.FindAllString(line, -1) {
				if !p.variables[name] && !strings.HasPrefix(name, "ROOMBOOK_TEST_") {
					f.add("%s: no flag is set by %s", path, name)
				}
			}
			if otherProgram.MatchString(line) || strings.HasSuffix(path, ".sh") {
				continue
			}
			for _, m := range flagName.FindAllStringSubmatch(line, -1) {
				if !all[m[1]] {
					f.add("%s: the program has no flag --%s", path, m[1])
				}
			}
			if strings.HasSuffix(path, "prometheus-rule.yaml") {
				for _, m := range verbName.FindAllStringSubmatch(line, -1) {
					if _, ok := p.flags[m[1]+m[2]]; !ok {
						f.add("%s: the program has no command %q", path, m[1]+m[2])
					}
				}
			}
		}
	}
	return f
}

// checkSecrets looks for account numbers, keys and passwords.
func checkSecrets(dir string, _ *program) []string {
	var f faults
	files, err := textFiles(dir)
	if err != nil {
		f.add("%v", err)
	}
	secret := regexp.MustCompile(`\b\d{12}\b|\bA(KI|SI)A[A-Z0-9]{16}\b|(?i:password|secret|token)["']?\s*[:=]\s*["']?[A-Za-z0-9+/]{12,}|-----BEGIN|://[^/\s:@]+:[^/\s@$…]+@`)
	for _, path := range files {
		for i, line := range strings.Split(f.read(path), "\n") {
			if found := secret.FindString(line); found != "" {
				f.add("%s, line %d: this looks like an account or a secret: %s", path, i+1, found)
			}
		}
	}
	return f
}

func checkWorkflow(dir string, _ *program) []string {
	var f faults
	path := filepath.Join(dir, "github", "deploy.yml")
	linter, err := actionlint.NewLinter(&strings.Builder{}, &actionlint.LinterOptions{})
	if err != nil {
		f.add("%v", err)
		return f
	}
	text := f.read(path)
	found, err := linter.Lint(path, []byte(text), nil)
	if err != nil {
		f.add("%v", err)
	}
	for _, e := range found {
		f.add("workflow: %v", e)
	}
	f.checkScripts(dir, path, text)
	if !regexp.MustCompile(`(?m)^ *tags: .*github\.run_id.*github\.run_attempt`).MatchString(text) {
		f.add("workflow: a job that is repeated pushes a tag that is there already, and the repository's tags are immutable")
	}
	for _, m := range regexp.MustCompile(`(?m)uses: *(.*)$`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`^[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`).MatchString(m[1]) {
			f.add("workflow: %s is not pinned to a commit, with its version beside it", m[1])
		}
	}
	var workflow struct {
		Jobs map[string]struct {
			Concurrency struct {
				Group  string
				Cancel any `json:"cancel-in-progress"`
			}
			Steps []struct{ Run string }
		}
	}
	if err := yaml.Unmarshal([]byte(text), &workflow); err != nil {
		f.add("workflow: %v", err)
	}
	for name, job := range workflow.Jobs {
		for _, step := range job.Steps {
			if group := job.Concurrency.Group; strings.Contains(step.Run, "rollout.sh") && (group == "" || strings.Contains(group, "$") || job.Concurrency.Cancel != false) {
				f.add("workflow: two of the job %s can roll out at once, or one is cancelled half-way", name)
			}
		}
	}
	if regexp.MustCompile(`secrets\.`).MatchString(text) {
		f.add("workflow: it has secrets, where it should sign in by OIDC")
	}
	return f
}

// checkScripts looks whether the scripts and files of this repository that a pipeline names are there.
func (f *faults) checkScripts(dir, path, text string) {
	for _, m := range regexp.MustCompile(`(?:^|[\s(])((?:deploy|\.ci)/[A-Za-z/._-]*[A-Za-z])`).FindAllStringSubmatch(text, -1) {
		file := filepath.Join("..", "..", m[1])
		if rest, ok := strings.CutPrefix(m[1], "deploy/"); ok && rest != "check" {
			file = filepath.Join(dir, rest)
		}
		if _, err := os.Stat(file); err != nil {
			f.add("%s: %v", path, err)
		}
	}
}

// buildspec is what CodeBuild knows of a build specification, as far as it is used.
type buildspec struct {
	Version string `json:"version"`
	Env     struct {
		Shell     string            `json:"shell"`
		Variables map[string]string `json:"variables"`
		Exported  []string          `json:"exported-variables"`
	} `json:"env"`
	Phases struct {
		Install   phase `json:"install"`
		PreBuild  phase `json:"pre_build"`
		Build     phase `json:"build"`
		PostBuild phase `json:"post_build"`
	} `json:"phases"`
	Cache struct {
		Paths []string `json:"paths"`
	} `json:"cache"`
}

type phase struct {
	OnFailure string            `json:"on-failure"`
	Runtimes  map[string]string `json:"runtime-versions"`
	Commands  []string          `json:"commands"`
}

func checkBuildspec(dir string, _ *program) []string {
	var f faults
	path := filepath.Join(dir, "buildspec.yml")
	text := f.read(path)
	var spec buildspec
	if err := yaml.UnmarshalStrict([]byte(strings.Replace(text, "version: 0.2", `version: "0.2"`, 1)), &spec); err != nil {
		f.add("buildspec: %v", err)
		return f
	}
	if spec.Version != "0.2" || spec.Env.Shell != "bash" {
		f.add("buildspec: version %s for shell %s", spec.Version, spec.Env.Shell)
	}
	if of := regexp.MustCompile(`FROM .*golang:([\d.]+)`).FindStringSubmatch(f.read(filepath.Join(dir, "Dockerfile"))); of == nil || spec.Env.Variables["GOTOOLCHAIN"] != "go"+of[1] {
		f.add("buildspec: the tests run with %s, and the image is built with %v", spec.Env.Variables["GOTOOLCHAIN"], of)
	}
	phases := []phase{spec.Phases.Install, spec.Phases.PreBuild, spec.Phases.Build, spec.Phases.PostBuild}
	var all []string
	for _, ph := range phases {
		all = append(all, ph.Commands...)
	}
	for _, command := range all {
		if out, err := exec.Command("bash", "-n", "-c", command).CombinedOutput(); err != nil {
			f.add("buildspec: %s: %s", command, out)
		}
	}
	script := strings.Join(all, "\n")
	for _, needed := range []string{"go test ./...", "docker buildx build", "--push", ":$CODEBUILD_RESOLVED_SOURCE_VERSION-$CODEBUILD_BUILD_NUMBER\"", "deploy/rollout.sh \"$REGISTRY@$DIGEST\""} {
		if !strings.Contains(script, needed) {
			f.add("buildspec: it does not %s", needed)
		}
	}
	// What a command uses must have been set before, by the environment or by a command.
	set := map[string]bool{}
	for name := range spec.Env.Variables {
		set[name] = true
	}
	for _, command := range all {
		for _, m := range regexp.MustCompile(`\$\{?([A-Z_]+)`).FindAllStringSubmatch(command, -1) {
			if !set[m[1]] && !strings.HasPrefix(m[1], "CODEBUILD_") {
				f.add("buildspec: %s is used before it is set: %s", m[1], command)
			}
		}
		if name, _, ok := strings.Cut(command, "="); ok && regexp.MustCompile(`^[A-Z_]+$`).MatchString(name) {
			set[name] = true
		}
	}
	for _, name := range spec.Env.Exported {
		if !slices.Contains(all, "export "+name) {
			f.add("buildspec: %s is not exported by any command", name)
		}
	}
	f.checkScripts(dir, path, script)
	return f
}

// checkPipeline looks at the template of the pipelines' rights: what it refers to is in it, and no right is for everything.
func checkPipeline(dir string, _ *program) []string {
	var f faults
	path := filepath.Join(dir, "aws", "pipeline.yaml")
	text := f.read(path)
	// The short forms of CloudFormation's functions are tags, which the decoder drops.
	var template struct {
		AWSTemplateFormatVersion, Description      string
		Parameters, Conditions, Resources, Outputs map[string]map[string]any
	}
	plain := regexp.MustCompile(`!(Not|Equals|And|If|Ref|GetAtt|Sub|Condition) `).ReplaceAllString(text, "")
	plain = regexp.MustCompile(`(?s)\nConditions:\n.*?\n\n`).ReplaceAllString(plain, "\n")
	plain = regexp.MustCompile(`arn:\S+`).ReplaceAllString(plain, "arn")
	plain = regexp.MustCompile(`repo:\S+`).ReplaceAllString(plain, "repo")
	if err := yaml.UnmarshalStrict([]byte(plain), &template); err != nil {
		f.add("pipeline: %v", err)
		return f
	}
	names := func(m map[string]map[string]any) (all []string) {
		for name := range m {
			all = append(all, name)
		}
		return all
	}
	known := append(names(template.Parameters), names(template.Resources)...)
	for _, m := range regexp.MustCompile(`!(?:Ref|GetAtt) ([A-Za-z:]+)|\$\{([A-Za-z:]+)\}`).FindAllStringSubmatch(text, -1) {
		if name := m[1] + m[2]; !strings.HasPrefix(name, "AWS::") && !slices.Contains(known, name) {
			f.add("pipeline: there is no %s", name)
		}
	}
	if regexp.MustCompile(`(?m)Action: ["']?\*|AdministratorAccess|AmazonEKSClusterAdminPolicy|system:masters$`).MatchString(text) {
		f.add("pipeline: it gives every right")
	}
	return f
}

// rolledOut runs rollout.sh with a kubectl that records what it is asked, and fails where told.
func rolledOut(dir, image, overlay, failing string) (calls string, err error) {
	bin, err := os.MkdirTemp("", "kubectl")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(bin)
	record := filepath.Join(bin, "calls")
	script := fmt.Sprintf(`#!/bin/bash
echo "$*" >> %q
case "$*" in
  *elsewhere) echo 'image: registry.example/roombook:1.2.3' ;;
  kustomize*) echo 'image: roombook:local' ;;
  *"get deployments"*) echo roombook-api 7; echo roombook-projections 5; echo roombook-recovery 4 ;;
  apply*) sed 's/^/applied /' >> %[1]q ;;
esac
if [ -n %[2]q ] && [[ "$*" == *%[2]q* ]] && [ ! -e %[1]q.failed ]; then touch %[1]q.failed; exit 1; fi
`, record, failing)
	if err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte(script), 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("bash", filepath.Join(dir, "rollout.sh"), image, overlay)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	err = cmd.Run()
	text, reading := os.ReadFile(record)
	if errors.Is(reading, fs.ErrNotExist) {
		reading = nil
	}
	return string(text), errors.Join(err, reading)
}

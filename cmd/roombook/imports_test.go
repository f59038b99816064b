package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// allowed says which packages of the program a package may import. Imports go downward: cmd, api, api/web, {commands, projections}, eventstore,
// domain.
var allowed = map[string][]string{
	"domain":                             {},
	"commands/accounts/directory":        {"domain"},
	"commands/accounts/directory/mongo":  {"domain", "commands/accounts/directory"},
	"commands/accounts/directory/sqlite": {"domain", "commands/accounts/directory"},
	"eventstore":                         {"domain"},
	"eventstore/node":                    {},
	"commands":                           {"domain", "eventstore", "commands/picture"},
	"commands/picture":                   {},
	"commands/accounts":                  {"domain", "commands/accounts/directory", "eventstore"},
	"commands/accounts/oidc":             {"domain", "commands/accounts", "commands/accounts/directory"},
	"commands/notify":                    {"domain", "eventstore", "commands"},
	"projections":                        {"domain", "eventstore"},
	"projections/mongo":                  {"domain", "eventstore", "projections"},
	"projections/sqlite":                 {"domain", "eventstore", "projections"},
	"api/web":                            {"domain", "eventstore", "commands", "commands/accounts", "commands/accounts/directory", "commands/accounts/oidc", "commands/notify", "commands/picture", "projections"},
	"api":                                {"domain", "commands/accounts/directory", "eventstore", "commands", "commands/accounts", "commands/accounts/oidc", "commands/notify", "commands/picture", "projections", "api/web"},
	"cmd/roombook":                       {"domain", "commands/accounts/directory", "commands/accounts/directory/mongo", "commands/accounts/directory/sqlite", "eventstore", "eventstore/node", "commands", "commands/accounts", "commands/accounts/oidc", "commands/notify", "projections", "projections/mongo", "projections/sqlite", "api", "api/web"},
}

// only says which packages may import a module or package that belongs in one place.
var only = map[string][]string{
	"github.com/EventStore/EventStore-Client-Go/v4/esdb":   {"eventstore"},
	"github.com/EventStore/EventStore-Client-Go/v4/protos": {"eventstore", "eventstore/node"},
	"github.com/cockroachdb/pebble/v2":                     {"eventstore/node"},
	"google.golang.org/grpc":                               {"eventstore", "eventstore/node"},
	"go.mongodb.org/mongo-driver/v2":                       {"projections/mongo", "commands/accounts/directory/mongo"},
	"modernc.org/sqlite":                                   {"projections/sqlite", "commands/accounts/directory/sqlite"},
	"github.com/gorilla/mux":                               {"api"},
	"go.opentelemetry.io/otel/sdk":                         {"cmd/roombook"},
	"go.opentelemetry.io/otel/exporters":                   {"cmd/roombook"},
	"golang.org/x/image":                                   {"commands/picture"},
	"net/http":                                             {"api", "api/web", "cmd/roombook", "commands/accounts/oidc", "commands/notify"},
	"github.com/coreos/go-oidc":                            {"commands/accounts/oidc"},
	"golang.org/x/oauth2":                                  {"commands/accounts/oidc"},
	"github.com/go-jose/go-jose":                           {"commands/accounts/oidc"},
	"github.com/wneessen/go-mail":                          {"commands/notify"},
	"github.com/emersion/go-ical":                          {"commands/notify"},
	"github.com/spf13/cobra":                               {"cmd/roombook"},
}

// impure lists what the domain must not import: what does I/O, synchronises, or makes random numbers.
var impure = []string{"context", "crypto/rand", "io", "log", "log/slog", "math/rand", "math/rand/v2", "net", "os", "sync", "encoding/json", "github.com/go-json-experiment/json"}

func TestImportsGoDownward(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == "testdata" || name == "ferretdb" || name == "deploy" || strings.HasPrefix(name, ".") && name != ".." {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel("../..", filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(rel)
		if isTestSupport(pkg) {
			return nil
		}
		seen[pkg] = true
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if ours, ok := strings.CutPrefix(imported, "roombook/"); ok && !slices.Contains(allowed[pkg], ours) {
				t.Errorf("%s: package %s must not import %s", path, pkg, ours)
			}
			for module, users := range only {
				if (imported == module || strings.HasPrefix(imported, module+"/")) && !slices.Contains(users, pkg) {
					t.Errorf("%s: %s is for %v, not for %s", path, imported, users, pkg)
				}
			}
			if pkg == "domain" && slices.Contains(impure, imported) {
				t.Errorf("%s: the domain is pure and must not import %s", path, imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range allowed {
		if !seen[pkg] {
			t.Errorf("the policy names package %s, which is not there", pkg)
		}
	}
	for pkg := range seen {
		if _, ok := allowed[pkg]; !ok {
			t.Errorf("package %s is not in the policy", pkg)
		}
	}
}

// isTestSupport reports whether only tests import the package.
func isTestSupport(pkg string) bool { return strings.HasSuffix(pkg, "test") }

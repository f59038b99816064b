package web

import (
	"embed"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
	"golang.org/x/text/language"

	"roombook/commands/notify"
	"roombook/domain"
)

// Language is a language of the page, as in <html lang>.
type Language string

const (
	English Language = "en"
	Korean  Language = "ko"
)

//go:embed text
var textFiles embed.FS

// catalogues are the texts by language and key. A text has placeholders, {name}; in Korean a placeholder with a pair of particles,
// {name|을/를}, takes the one that follows its value. Texts for scripts have files of their own.
var catalogues = map[Language]map[string]string{
	English: readCatalogue("en.json", "board.en.json"),
	Korean:  readCatalogue("ko.json", "board.ko.json"),
}

func readCatalogue(names ...string) map[string]string {
	all := make(map[string]string)
	for _, name := range names {
		text, err := textFiles.ReadFile("text/" + name)
		if err == nil {
			texts := make(map[string]string)
			err = json.Unmarshal(text, &texts)
			maps.Copy(all, texts)
		}
		if err != nil {
			panic(fmt.Sprintf("the embedded texts %s: %v", name, err))
		}
	}
	return all
}

var matcher = language.NewMatcher([]language.Tag{language.English, language.Korean})

// languageOf is the language that the reader chose or, failing that, that the browser prefers.
func languageOf(chosen *http.Cookie, accept []string) Language {
	if chosen != nil && catalogues[Language(chosen.Value)] != nil {
		return Language(chosen.Value)
	}
	preferred, _, _ := language.ParseAcceptLanguage(strings.Join(accept, ",")) // none, if it cannot be read
	if _, index, _ := matcher.Match(preferred...); index == 1 {
		return Korean
	}
	return English
}

func known(key string) bool {
	_, ok := catalogues[English][key]
	return ok
}

// T is a text of the catalogue in the reader's language, with values of its placeholders: name, value, name, value …
func (v *view) T(key string, values ...any) string { return v.Language.text(key, values...) }

func (l Language) text(key string, values ...any) string {
	text, ok := catalogues[l][key]
	if !ok {
		return key
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		placeholder, after, _ := strings.Cut(rest, "}")
		name, particles, _ := strings.Cut(placeholder, "|")
		value := ""
		for i := 0; i+1 < len(values); i += 2 {
			if values[i] == name {
				value = fmt.Sprint(values[i+1])
			}
		}
		if particles != "" {
			value = notify.Particle(value, particles)
		}
		b.WriteString(value)
		text = after
	}
}

// N is a text with a number: the one with ".one" added to its key if the number is one and the language has such a form.
func (v *view) N(key string, n int, values ...any) string {
	if n == 1 && catalogues[v.Language][key+".one"] != "" {
		key += ".one"
	}
	return v.T(key, append([]any{"n", n}, values...)...)
}

// boardProblems are the texts for the types of problems that a board may meet, where those of screens will do.
var boardProblems = map[string]string{
	"accounts-unavailable": "unavailable", "already-confirmed": "changed-meanwhile", "booking-not-found": "no-booking", "cross-origin": "cross-origin",
	"event-store-replaced": "unavailable", "event-store-unavailable": "unavailable", "forbidden": "forbidden", "given-up": "unknown-outcome", "history-busy": "busy",
	"internal-error": "internal-error", "invalid-body": "invalid-body", "list-behind": "behind", "lists-unavailable": "unavailable", "outcome-unknown": "unknown-outcome",
	"overloaded": "overloaded", "query-too-wide": "too-wide", "room-not-found": "no-room", "shutting-down": "shutting-down", "timeout": "timeout",
	"too-many-changes": "too-many-changes", "too-much-contention": "contended", "unreadable-event": "unavailable",
}

// BoardText are the texts for scripts, as a JSON object.
func (v *view) BoardText() template.JS {
	texts := make(map[string]string)
	for key, text := range catalogues[v.Language] {
		if strings.HasPrefix(key, "board.") {
			texts[key] = text
		}
	}
	for kind, key := range boardProblems {
		texts["board.problem-"+kind] = v.T("problem."+key, "n", domain.MaxChanges)
	}
	object, _ := json.Marshal(texts, json.Deterministic(true)) // a map of texts can always be marshalled
	// The block ends where it says "</script", wherever that is.
	return template.JS(strings.ReplaceAll(string(object), "<", `\u003c`))
}

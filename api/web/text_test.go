package web

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"roombook/domain"
	"roombook/projections"
)

var placeholder = regexp.MustCompile(`\{(\w+)(\|[^}]*)?\}`)

func placeholders(text string) []string {
	var names []string
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Both languages have the same texts, with the same placeholders. Only English tells one thing from several.
func TestCataloguesAgree(t *testing.T) {
	for key, text := range catalogues[English] {
		korean, ok := catalogues[Korean][key]
		if strings.HasSuffix(key, ".one") {
			continue
		}
		if !ok {
			t.Errorf("%s is not there in Korean", key)
		} else if !slices.Equal(placeholders(text), placeholders(korean)) {
			t.Errorf("%s has the placeholders %v and, in Korean, %v", key, placeholders(text), placeholders(korean))
		}
	}
	for key := range catalogues[Korean] {
		if catalogues[English][key] == "" {
			t.Errorf("%s is not there in English", key)
		}
	}
}

// A particle depends on the word before it, so none is written right after a placeholder.
func TestParticlesFollowWords(t *testing.T) {
	wrong := regexp.MustCompile(`\}(은|는|이|가|을|를|과|와|으로|로)([^\p{Hangul}]|$)|을\(를\)|이\(가\)|은\(는\)`)
	for key, text := range catalogues[Korean] {
		if wrong.MatchString(text) {
			t.Errorf("%s: %s", key, text)
		}
	}
	for room, want := range map[string]string{"한옥": "한옥은 월요일에 이미 예약되어 있습니다.", "회의": "회의는 월요일에 이미 예약되어 있습니다.", "7": "7은 월요일에 이미 예약되어 있습니다."} {
		if got := Korean.text("problem.taken", "room", room, "when", "월요일"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// Every text that a template or the program names is in the catalogue, and every one that is put together from a value of the program too.
func TestTextsExist(t *testing.T) {
	used := make(map[string]bool)
	for _, pattern := range []string{"*.go", "templates/*.html"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		named := regexp.MustCompile(`\.[TN][ (]"([^"]*[^".])"`)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range named.FindAllStringSubmatch(string(text), -1) {
				used[m[1]] = true
			}
		}
	}
	for _, s := range sentinels {
		used["problem."+s.key] = true
	}
	for _, key := range boardProblems {
		used["problem."+key] = true
	}
	for _, kind := range domain.NotificationKinds {
		used["told."+string(kind)] = true
	}
	for _, s := range []projections.Status{projections.StatusBooked, projections.StatusConfirmed, projections.StatusInUse, projections.StatusEnded, projections.StatusCancelled} {
		used["state."+string(s)] = true
		used["door."+StateClass(s)] = s != projections.StatusEnded && s != projections.StatusCancelled
	}
	for _, d := range []domain.Delivery{domain.DeliveryPending, domain.DeliveryDelivered, domain.DeliveryFailed} {
		used["delivery."+string(d)] = true
	}
	for _, r := range []domain.CancelReason{domain.CancelledByUser, domain.CancelledByDenial, domain.CancelledByUseEnd, domain.CancelledByAdmin, domain.CancelledByClosure} {
		used["reason."+string(r)] = true
	}
	for _, k := range []projections.SpanKind{projections.SpanGap, projections.SpanHours, projections.SpanClosed, projections.SpanRetired} {
		used["cell."+string(k)] = true
	}
	for _, k := range []projections.SuggestionKind{projections.SuggestElsewhere, projections.SuggestOtherTime, projections.SuggestShorter, "later"} {
		used["choice."+string(k)] = true
	}
	for _, rule := range numbers(new(domain.Rules)) {
		used["rule."+string(rule.name)], used["broken."+string(rule.name)], used["field."+string(rule.name)] = true, true, true
	}
	for key, is := range used {
		if is && !known(key) {
			t.Errorf("%s is not in the catalogue", key)
		}
	}
}

// Templates have no words of their own but names.
func TestTemplatesHaveNoWords(t *testing.T) {
	names := []string{"Roombook", "CSV", "English", "한국어"}
	action := regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	tag := regexp.MustCompile(`(?s)<[^>]*>`)
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := templateFiles.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range strings.Fields(tag.ReplaceAllString(action.ReplaceAllString(string(text), " "), " ")) {
			if strings.ContainsFunc(word, unicode.IsLetter) && !slices.Contains(names, word) {
				t.Errorf("%s has the word %q", file, word)
			}
		}
	}
}

package notify

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"

	"roombook/domain"
)

// DefaultLanguage is the default language, whose templates also replace those that another language lacks.
const DefaultLanguage = "en"

//go:embed texts
var embedded embed.FS

// texts are the templates of messages, by language. They are immutable, and safe for concurrent use.
//
// A language has two files: xx.txt for text/template and xx.html for html/template. For each kind of notification the former defines
// "<kind>.subject" and "<kind>", the first sentence of the message. "layout" in either file is the whole message. Files in an operator's folder
// override the templates that they define.
type texts struct {
	languages map[string]language
	zone      *time.Location
	link      string // base URL without a trailing slash; may be empty
}

type language struct {
	text *texttemplate.Template
	html *htmltemplate.Template
}

// words is a rendered message.
type words struct {
	subject, text, html string
}

// view is the data of a template.
type view struct {
	Kind, Sentence, Booking, Room, OldRoom, To, User, By, Reason, Cause string
	Start, End, OldStart, OldEnd, Started, Ended                        time.Time
	Confirmed                                                           bool
	Link                                                                string // to the page of the booking or, of a fault, of the room, where it can be answered too
	Subject, Lead                                                       string // for the layout only
}

// readTexts parses the embedded templates and those in a folder, if it is not empty. It renders each kind once to find errors.
func readTexts(folder string, zone *time.Location, link string) (*texts, error) {
	t := &texts{languages: map[string]language{}, zone: zone, link: strings.TrimSuffix(link, "/")}
	own, err := fs.Sub(embedded, "texts")
	if err != nil {
		return nil, err
	}
	if err := t.add(own); err != nil {
		return nil, err
	}
	if folder != "" {
		if _, err := os.Stat(folder); err != nil {
			return nil, fmt.Errorf("the folder of texts: %w", err)
		}
		if err := t.add(os.DirFS(folder)); err != nil {
			return nil, fmt.Errorf("texts in %s: %w", folder, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.languages)) {
		for _, kind := range domain.NotificationKinds {
			if _, err := t.words(name, Message{Notice: domain.Notice{Kind: kind, To: "1", User: "1", Room: "1"}}); err != nil {
				return nil, fmt.Errorf("texts of the language %s: %w", name, err)
			}
		}
	}
	return t, nil
}

// add parses the files in a folder.
func (t *texts) add(folder fs.FS) error {
	files, err := fs.ReadDir(folder, ".")
	if err != nil {
		return err
	}
	functions := map[string]any{"when": t.when, "at": t.at, "particle": Particle}
	for _, file := range files {
		path := file.Name()
		extension := filepath.Ext(path)
		if extension != ".txt" && extension != ".html" {
			continue
		}
		content, err := fs.ReadFile(folder, path)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(path, extension)
		l, ok := t.languages[name]
		if !ok {
			l.text = texttemplate.New("").Funcs(functions).Option("missingkey=error")
			l.html = htmltemplate.New("").Funcs(functions)
		}
		if extension == ".txt" {
			_, err = l.text.Parse(string(content))
		} else {
			_, err = l.html.Parse(string(content))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		t.languages[name] = l
	}
	return nil
}

// view is what the templates show of a message.
func (t *texts) view(m Message) *view {
	v := &view{
		Kind: string(m.Kind), Sentence: m.Sentence(), Booking: string(m.Booking), Room: string(m.Room), OldRoom: string(m.OldRoom),
		To: string(m.To), User: string(m.User), By: m.By, Reason: m.Reason, Cause: string(m.Cause),
		Start: m.Slot.Start, End: m.Slot.End, OldStart: m.OldSlot.Start, OldEnd: m.OldSlot.End, Started: m.Started, Ended: m.Ended,
		Confirmed: m.Confirmed,
	}
	if t.link != "" {
		v.Link = t.link + "/bookings/" + v.Booking + "/page"
		if m.Kind == domain.KindFaultReported {
			v.Link = t.link + "/rooms/" + string(cmp.Or(m.place, m.Room)) + "/page"
		}
	}
	return v
}

// subject renders the subject of a message in a language.
func (t *texts) subject(name string, v *view) (string, error) {
	subject, err := t.execute(name, v.Kind+".subject", v, false)
	return clean(strings.TrimSpace(subject)), err
}

// words renders a message in a language.
func (t *texts) words(name string, m Message) (w words, err error) {
	v := t.view(m)
	v.Subject, err = t.subject(name, v)
	lead, err2 := t.execute(name, v.Kind, v, false)
	v.Lead = strings.TrimSpace(lead)
	text, err3 := t.execute(name, "layout", v, false)
	html, err4 := t.execute(name, "layout", v, true)
	return words{v.Subject, strings.TrimSpace(text) + "\n", strings.TrimSpace(html) + "\n"}, errors.Join(err, err2, err3, err4)
}

func (t *texts) execute(name, template string, v *view, html bool) (string, error) {
	var out strings.Builder
	for _, name := range []string{name, DefaultLanguage} {
		l, ok := t.languages[name]
		switch {
		case !ok:
		case html && l.html.Lookup(template) != nil:
			err := l.html.ExecuteTemplate(&out, template, v)
			return out.String(), err
		case !html && l.text.Lookup(template) != nil:
			err := l.text.ExecuteTemplate(&out, template, v)
			return out.String(), err
		}
	}
	return "", fmt.Errorf("there is no template %q", template)
}

// at formats a time.
func (t *texts) at(at time.Time) string { return at.In(t.zone).Format("2006-01-02 15:04") }

// when formats a slot. It repeats the date only if the slot ends on another day.
func (t *texts) when(start, end time.Time) string {
	start, end = start.In(t.zone), end.In(t.zone)
	layout := "2006-01-02 15:04"
	if start.Format(time.DateOnly) == end.Format(time.DateOnly) {
		layout = "15:04"
	}
	return fmt.Sprintf("%s–%s (%s)", t.at(start), end.Format(layout), t.zone)
}

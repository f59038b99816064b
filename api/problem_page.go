package api

import (
	"html/template"
	"net/http"
	"slices"
)

// problemPage is what a browser shows of types of problems. It has no links of its own but relative ones, so that it needs not
// know where it is.
var problemPage = template.Must(template.New("problems").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Problems</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42em;margin:2em auto;padding:0 1em} code{background:#eee;padding:0 .3em}</style>
{{range .}}
<h2 id="{{.Name}}">{{.Title}}</h2>
<p><code>/problems/{{.Name}}</code>, status {{.Status}} {{.Reason}}</p>
<p>{{.About}}</p>
{{if .Retry}}<p>The same request may succeed a little later; the header Retry-After says when to try.</p>{{end}}
{{end}}
`))

// described is a type of problem as its page shows it.
type described struct {
	Name, Title, Reason, About string
	Status                     int
	Retry                      bool
}

func (s *Server) problems(x *exchange) error { return x.describe(problemTypes) }

func (s *Server) problem(x *exchange) error {
	i := slices.IndexFunc(problemTypes, func(t problemType) bool { return t.name == x.vars["type"] })
	if i < 0 {
		return errNoSuchPath
	}
	return x.describe(problemTypes[i : i+1])
}

// describe answers with types of problems: HTML for whoever likes it best, else HAL.
func (x *exchange) describe(types []problemType) error {
	if prefersHTML(x.r.Header["Accept"]) {
		all := make([]described, len(types))
		for i, t := range types {
			all[i] = described{t.name, t.title, http.StatusText(t.status), t.about, t.status, t.retry}
		}
		x.mediaType = "text/html; charset=utf-8"
		return problemPage.Execute(x, all)
	}
	var err error
	if x.mediaType, err = acceptable(x.r.Header["Accept"]); err != nil {
		return err
	}
	if len(types) == 1 {
		x.problemType(types[0])
		return nil
	}
	x.beginObject()
	x.name("_embedded")
	x.beginObject()
	x.name("problems")
	x.beginArray()
	for _, t := range types {
		x.problemType(t)
	}
	x.endArray()
	x.endObject()
	x.beginLinks()
	x.link("self", "/problems")
	x.link("problems", "/problems")
	x.endObject()
	x.endObject()
	return nil
}

func (d *document) problemType(t problemType) {
	d.beginObject()
	d.text("type", "/problems/"+t.name)
	d.text("title", t.title)
	d.number("status", int64(t.status))
	d.text("about", t.about)
	d.name("retry")
	if t.retry {
		d.out = append(d.out, "true"...)
	} else {
		d.out = append(d.out, "false"...)
	}
	d.beginLinks()
	d.link("self", "/problems/", t.name)
	d.link("problem", "/problems/", t.name)
	d.endObject()
	d.endObject()
}

package api

import (
	"net/http"
	"slices"
)

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
	x.header("Vary", "Accept")
	if prefersHTML(x.r.Header["Accept"]) {
		all := make([]described, len(types))
		for i, t := range types {
			all[i] = described{t.name, t.title, http.StatusText(t.status), t.about, t.status, t.retry}
		}
		return x.page("problems", pagePolicy, pageAbout{Problems: all})
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

package web

import "net/http"

// ProblemType is a type of problem as the API describes it, in English.
type ProblemType struct {
	Name   string // the last segment of its URI
	Title  string
	About  string // when it occurs, and how to fix the request
	Status int
	Retry  bool // whether the same request may succeed later
}

// Reason is the status in the words of HTTP.
func (t ProblemType) Reason() string { return http.StatusText(t.Status) }

// problemTexts are the titles and descriptions of problem types in languages other than English, by name, as name and name.about.
var problemTexts = map[Language]map[string]string{Korean: readCatalogue("problems.ko.json")}

// describe is a problem type in the reader's language.
func (v *view) describe(t ProblemType) ProblemType {
	if texts := problemTexts[v.Language]; texts[t.Name] != "" {
		t.Title, t.About = texts[t.Name], texts[t.Name+".about"]
	}
	return t
}

// Problems shows problem types: all of them, or the one that is given.
func (p *Pages) Problems(types []ProblemType) Route {
	return Route{"GET", "/problems", true, func(v *view) error {
		described := make([]ProblemType, len(types))
		for i, t := range types {
			described[i] = v.describe(t)
		}
		if len(types) == 1 {
			return v.show("problem-type", described[0].Title, described[0])
		}
		return v.show("problem-types", v.T("title.problem-types"), described)
	}}
}

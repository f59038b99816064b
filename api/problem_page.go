package api

import (
	"slices"

	"roombook/api/web"
)

func (s *Server) problems(x *exchange) error { return x.describe(problemTypes) }

func (s *Server) problem(x *exchange) error {
	i := slices.IndexFunc(problemTypes, func(t problemType) bool { return t.name == x.vars["type"] })
	if i < 0 {
		return errNoSuchPath
	}
	return x.describe(problemTypes[i : i+1])
}

// describe replies with a description of problem types: as an HTML page for clients that prefer it, else in HAL.
func (x *exchange) describe(types []problemType) error {
	x.header("Vary", "Accept")
	if prefersHTML(x.r.Header["Accept"]) {
		all := make([]web.ProblemType, len(types))
		for i := range types {
			all[i] = types[i].page()
		}
		return x.server.screen(x.server.pages.Problems(all))(x)
	}
	var err error
	if x.mediaType, err = acceptable(x.r.Header["Accept"]); err != nil {
		return err
	}
	if len(types) == 1 {
		return x.reply(new(x.problemTypeReply(&types[0])))
	}
	var r problemTypesReply
	for i := range types {
		r.Embedded.Problems = append(r.Embedded.Problems, x.problemTypeReply(&types[i]))
	}
	r.Links.Self = x.link("/problems", "")
	r.Links.Problems = r.Links.Self
	return x.reply(&r)
}

// page is the type as pages show it.
func (t *problemType) page() web.ProblemType {
	return web.ProblemType{Name: t.name, Title: t.title, About: t.about, Status: t.status, Retry: t.retry}
}

// problemTypesReply is the collection of all problem types.
type problemTypesReply struct {
	Embedded struct {
		Problems []problemTypeReply `json:"problems"`
	} `json:"_embedded"`
	Links struct {
		Self     link `json:"self"`
		Problems link `json:"problems"`
	} `json:"_links"`
}

// problemTypeReply describes a problem type.
type problemTypeReply struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	About  string `json:"about"`
	Retry  bool   `json:"retry"`
	Links  struct {
		Self    link `json:"self"`
		Problem link `json:"problem"`
	} `json:"_links"`
}

func (x *exchange) problemTypeReply(t *problemType) problemTypeReply {
	r := problemTypeReply{Type: "/problems/" + t.name, Title: t.title, Status: t.status, About: t.about, Retry: t.retry}
	r.Links.Self = x.link(r.Type, "")
	r.Links.Problem = r.Links.Self
	return r
}

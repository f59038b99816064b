package api

import (
	_ "embed"
	"io/fs"

	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5/static"
	"github.com/swaggest/swgui/v5emb"
)

// openAPI describes the API to its callers.
//
//go:embed openapi.json
var openAPI []byte

// documentRoutes are what explains the API.
func (s *Server) documentRoutes() []route {
	return []route{
		// Where to begin: links to everything.
		{method: "GET", path: "/", handle: s.root},
		// The API's description.
		{method: "GET", path: "/openapi.json", handle: s.openAPI, raw: true},
		// The same to browse.
		{method: "GET", path: "/docs", handle: s.docs, raw: true},
		// The files of that page.
		{method: "GET", path: "/docs/{file}", handle: s.docs, raw: true},
		// The types of problems.
		{method: "GET", path: "/problems", handle: s.problems, raw: true},
		// One of them.
		{method: "GET", path: "/problems/{type}", handle: s.problem, raw: true},
	}
}

func (s *Server) root(x *exchange) error {
	const page = "{?roomId,userId,bookingId,status,from,to,sort,size,cursor,total}"
	x.beginObject()
	x.beginLinks()
	x.link("self", "/")
	x.template("bookings", "/bookings"+page)
	x.template("booking", "/bookings/{id}{?asOf}")
	x.template("history", "/bookings/{id}/history")
	x.template("confirms", "/confirms"+page)
	x.template("confirm", "/confirms/{bookingId}")
	x.template("realuses", "/realuses"+page)
	x.template("realUse", "/realuses/{id}")
	x.template("bookingLists", "/bookingLists"+page)
	x.template("bookingList", "/bookingLists/{id}")
	x.template("findBookingListByBookingId", "/bookingLists/search/findByBookingId{?bookingId}")
	x.template("roomUseLists", "/roomUseLists"+page)
	x.template("roomUseList", "/roomUseLists/{id}")
	x.template("findRoomUseListByBookingId", "/roomUseLists/search/findByBookingId{?bookingId}")
	x.template("notifications", "/notifications"+page)
	x.template("notification", "/notifications/{id}")
	x.link("problems", "/problems")
	x.template("problem", "/problems/{type}")
	x.link("service-desc", "/openapi.json")
	x.link("service-doc", "/docs")
	x.link("liveness", "/healthz")
	x.link("readiness", "/readyz")
	x.link("health", "/actuator/health")
	x.link("metrics", "/metrics")
	x.link("version", "/version")
	x.endObject()
	x.endObject()
	return nil
}

func (s *Server) openAPI(x *exchange) error {
	x.mediaType = mediaJSON
	x.out = append(x.out, openAPI...)
	return nil
}

// docs shows the API's description with the files of Swagger UI that are in the binary.
func (s *Server) docs(x *exchange) error {
	if file, ok := x.vars["file"]; ok && !isDocsFile(file) {
		return errNoSuchPath
	}
	prefix := prefixOf(x.base)
	return x.pass(v5emb.NewHandlerWithConfig(swgui.Config{
		Title:            "Roombook",
		SwaggerJSON:      prefix + "/openapi.json",
		BasePath:         prefix + "/docs/",
		InternalBasePath: "/docs/",
	}))
}

// isDocsFile reports whether Swagger UI has the file; it has most of them compressed.
func isDocsFile(name string) bool {
	for _, n := range []string{name, name + ".gz"} {
		if info, err := fs.Stat(static.FS, n); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

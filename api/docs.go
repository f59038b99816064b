package api

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"net/http"
	"slices"

	"github.com/swaggest/swgui/v5emb"
)

// openAPI describes the API to its callers.
//
//go:embed openapi.json
var openAPI []byte

// docsScript starts Swagger UI.
//
//go:embed docs.js
var docsScript []byte

var docsScriptTag = fmt.Sprintf("\"%x\"", sha256.Sum256(docsScript))

// documentRoutes are what explains the API.
func (s *Server) documentRoutes() []route {
	swagger := v5emb.New("", "", "/docs/")
	return []route{
		// Where to begin: links to everything.
		{method: "GET", path: "/", handle: s.root, raw: true},
		// The API's description.
		{method: "GET", path: "/openapi.json", handle: s.openAPI, raw: true},
		// The same to browse.
		{method: "GET", path: "/docs", handle: s.docs, raw: true},
		// The files of that page.
		{method: "GET", path: "/docs/{file}", handle: docsFile(swagger), raw: true},
		// The types of problems.
		{method: "GET", path: "/problems", handle: s.problems, raw: true},
		// One of them.
		{method: "GET", path: "/problems/{type}", handle: s.problem, raw: true},
	}
}

// root answers with links to everything: a page for whoever likes that best, else HAL.
func (s *Server) root(x *exchange) error {
	x.header("Vary", "Accept")
	if prefersHTML(x.r.Header["Accept"]) {
		return x.page("root", pagePolicy, pageAbout{})
	}
	var err error
	if x.mediaType, err = acceptable(x.r.Header["Accept"]); err != nil {
		return err
	}
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
func (s *Server) docs(x *exchange) error { return x.page("docs", docsPolicy, pageAbout{}) }

// swaggerFiles are those of Swagger UI that the page needs.
var swaggerFiles = []string{"swagger-ui.css", "swagger-ui-bundle.js", "favicon-16x16.png", "favicon-32x32.png"}

func docsFile(swagger http.Handler) handler {
	return func(x *exchange) error {
		switch file := x.vars["file"]; {
		case file == "start.js":
			x.mediaType = "text/javascript; charset=utf-8"
			x.header("Etag", docsScriptTag)
			x.out = append(x.out, docsScript...)
			return x.unlessKnown()
		case slices.Contains(swaggerFiles, file):
			return x.pass(swagger)
		default:
			return errNoSuchPath
		}
	}
}

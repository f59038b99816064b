package api

import (
	_ "embed"
	"net/http"
	"slices"
	"strings"

	"github.com/swaggest/swgui/v5emb"
)

// openAPI is the description of the API.
//
//go:embed openapi.json
var openAPI []byte

// documentRoutes are those of the API's documentation.
func (s *Server) documentRoutes() []route {
	swagger := v5emb.New("", "", "/docs/")
	return []route{
		// The entry point: links to everything.
		{method: "GET", path: "/", handle: s.root, raw: true, public: true},
		// The API's description, in OpenAPI.
		{method: "GET", path: "/openapi.json", handle: s.openAPI, raw: true, public: true},
		// The same, as a page to browse.
		{method: "GET", path: "/docs", handle: s.docs, raw: true, public: true},
		// The files of that page.
		{method: "GET", path: "/docs/{file}", handle: docsFile(swagger), raw: true, public: true},
		// The types of problems.
		{method: "GET", path: "/problems", handle: s.problems, raw: true, public: true},
		// One of them.
		{method: "GET", path: "/problems/{type}", handle: s.problem, raw: true, public: true},
	}
}

// root replies with the board for clients that prefer a page, else with links to everything.
func (s *Server) root(x *exchange) error {
	x.header("Vary", "Accept")
	if prefersHTML(x.r.Header["Accept"]) {
		return s.screen(s.pages.Board())(x)
	}
	var err error
	if x.mediaType, err = acceptable(x.r.Header["Accept"]); err != nil {
		return err
	}
	const page = "{?roomId,userId,bookingId,status,from,to,sort,size,cursor,total}"
	var r rootReply
	add := func(relation, path string) {
		r.Links = append(r.Links, member[link]{relation, link{Href: href{x.base, path, ""}, Templated: strings.Contains(path, "{")}})
	}
	add("self", "/")
	add("bookings", "/bookings"+page)
	add("booking", "/bookings/{id}{?asOf}")
	add("history", "/bookings/{id}/history")
	add("confirms", "/confirms"+page)
	add("confirm", "/confirms/{bookingId}")
	add("realuses", "/realuses"+page)
	add("realUse", "/realuses/{id}")
	add("bookingLists", "/bookingLists"+page)
	add("bookingList", "/bookingLists/{id}")
	add("findBookingListByBookingId", "/bookingLists/search/findByBookingId{?bookingId}")
	add("roomUseLists", "/roomUseLists"+page)
	add("roomUseList", "/roomUseLists/{id}")
	add("findRoomUseListByBookingId", "/roomUseLists/search/findByBookingId{?bookingId}")
	add("notifications", "/notifications"+page)
	add("notification", "/notifications/{id}")
	add("retryNotification", "/notifications/{id}/retry")
	add("rooms", "/rooms{?capacity,equipment,building,floor,text,retired,sort,size,cursor,total}")
	add("room", "/rooms/{id}")
	add("rules", "/rooms/{id}/rules")
	add("closures", "/rooms/{id}/closures")
	add("closure", "/rooms/{id}/closures/{closureId}")
	add("reinstateRoom", "/rooms/{id}/reinstate")
	add("roomPhoto", "/rooms/{id}/photo{?hash}")
	add("faults", "/rooms/{id}/faults")
	add("fault", "/rooms/{id}/faults/{faultId}")
	add("roomHistory", "/rooms/{id}/history")
	add("roomConflicts", "/rooms/{id}/conflicts")
	add("occupancy", "/occupancy{?from,to,roomId*,building}")
	add("availability", "/availability{?from,to,minutes,within,capacity,equipment,building,floor,size}")
	add("events", "/events{?after}")
	add("audit", "/audit{?userId,kind,from,to,size,cursor}")
	add("roomCalendar", "/rooms/{id}/calendar.ics")
	add("userCalendar", "/users/{id}/calendar.ics")
	add("bookingCalendar", "/bookings/{id}/calendar.ics")
	if s.accounts != nil {
		add("session", "/session")
		add("me", "/me")
		add("password", "/me/password")
		add("sessions", "/me/sessions")
		add("tokens", "/tokens")
		add("token", "/tokens/{id}")
		add("user", "/users/{id}")
	}
	add("problems", "/problems")
	add("problem", "/problems/{type}")
	add("service-desc", "/openapi.json")
	add("service-doc", "/docs")
	add("liveness", "/healthz")
	add("readiness", "/readyz")
	add("health", "/actuator/health")
	if !s.withoutMetrics {
		add("metrics", "/metrics")
	}
	add("version", "/version")
	return x.reply(&r)
}

// rootReply links to everything.
type rootReply struct {
	Links object[link] `json:"_links"`
}

func (s *Server) openAPI(x *exchange) error {
	x.mediaType = mediaJSON
	x.out.Write(openAPI)
	return nil
}

// docs replies with a page that shows the API's description in Swagger UI, whose files are embedded in the binary.
func (s *Server) docs(x *exchange) error { return s.screen(s.pages.Docs())(x) }

// swaggerFiles are the files of Swagger UI that the page needs.
var swaggerFiles = []string{"swagger-ui.css", "swagger-ui-bundle.js"}

func docsFile(swagger http.Handler) handler {
	return func(x *exchange) error {
		if !slices.Contains(swaggerFiles, x.vars["file"]) {
			return errNoSuchPath
		}
		return x.delegate(swagger)
	}
}

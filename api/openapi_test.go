package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"roombook/domain"
)

// contract is openapi.json, loaded once for all tests. Its objects are closed, so that a reply with an undocumented member violates it. The
// published document leaves them open, since members may be added.
var contract = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		return nil, err
	}
	for _, s := range doc.Components.Schemas {
		closeObjects(s.Value)
	}
	return doc, nil
})

func closeObjects(s *openapi3.Schema) {
	if len(s.Properties) > 0 {
		s.AdditionalProperties = openapi3.AdditionalProperties{Has: openapi3.Ptr(false)}
	}
	for _, p := range s.Properties {
		if p.Ref == "" {
			closeObjects(p.Value)
		}
	}
	if s.Items != nil && s.Items.Ref == "" {
		closeObjects(s.Items.Value)
	}
}

func loadContract(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// checkContract fails the test unless the document describes this reply to this request.
func (s *service) checkContract(t testing.TB, r *http.Request, got reply) {
	t.Helper()
	doc := loadContract(t)
	var match mux.RouteMatch
	if !s.router.Match(r, &match) {
		return
	}
	template := match.Handler.(*endpoint).template
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	operation := doc.Paths.Value(template).GetOperation(method)
	if operation == nil {
		return // OPTIONS, or a method that is refused
	}
	response := operation.Responses.Value(strconv.Itoa(got.status))
	if response == nil { // what is told in general
		response = map[int]*openapi3.ResponseRef{401: doc.Components.Responses["Unauthenticated"], 403: doc.Components.Responses["Forbidden"]}[got.status]
	}
	if response == nil && (strings.Contains(got.body, "/problems/accounts-unavailable") || strings.Contains(got.body, "/problems/provider-unavailable")) {
		response = doc.Components.Responses["AccountsUnavailable"]
	}
	if response == nil {
		t.Errorf("%s %s: status %d is not documented", method, template, got.status)
		return
	}
	for name := range response.Value.Headers {
		if got.header.Get(name) == "" {
			t.Errorf("%s %s: answer %d has no header %s", method, template, got.status, name)
		}
	}
	for _, name := range []string{"Etag", "Location", "Roombook-Position", "Retry-After"} {
		_, documented := response.Value.Headers[strings.Replace(name, "Etag", "ETag", 1)]
		if got.header.Get(name) != "" && !documented {
			t.Errorf("%s %s: answer %d has header %s, which is not documented", method, template, got.status, name)
		}
	}
	if got.body == "" {
		return
	}
	media, _, err := mime.ParseMediaType(got.header.Get("Content-Type"))
	if err != nil {
		t.Errorf("%s %s: %v", method, template, err)
	}
	content := response.Value.Content.Get(media)
	if content == nil {
		t.Errorf("%s %s: answer %d as %s is not documented", method, template, got.status, media)
		return
	}
	if !strings.HasSuffix(media, "json") {
		return
	}
	var value any
	if err := json.Unmarshal([]byte(got.body), &value); err != nil {
		t.Errorf("%s %s: answer %d is not JSON: %v: %s", method, template, got.status, err, got.body)
		return
	}
	if err := content.Schema.Value.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors()); err != nil {
		t.Errorf("%s %s: answer %d breaks its schema: %v\n%s", method, template, got.status, err, got.body)
	}
}

func TestDocumentIsValid(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.AllowExtensionsWithRef()); err != nil {
		t.Error(err)
	}
}

// operations returns all operations, under keys like "GET /bookings", except the implied HEAD and OPTIONS.
func (s *service) operations(t *testing.T) map[string]*operation {
	t.Helper()
	operations := make(map[string]*operation)
	err := s.router.Walk(func(r *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		for method, o := range r.GetHandler().(*endpoint).byMethod {
			if method != http.MethodHead && method != http.MethodOptions {
				operations[method+" "+o.path] = o
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return operations
}

func TestEveryRouteIsDocumentedAndViceVersa(t *testing.T) {
	var documented []string
	for path, item := range loadContract(t).Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	routed := slices.Sorted(maps.Keys(newService(t).operations(t)))
	slices.Sort(documented)
	if !slices.Equal(routed, documented) {
		t.Errorf("routed:\n%s\ndocumented:\n%s", strings.Join(routed, "\n"), strings.Join(documented, "\n"))
	}
}

// The query parameters of a route are a struct: its tags are their names, and its comments their descriptions in the document.
func TestQueryParametersAreDocumentedAsTheyAre(t *testing.T) {
	comments := fieldComments(t)
	for name, o := range newService(t).operations(t) {
		want := make(map[string]string)
		if o.params != nil {
			params := reflect.TypeOf(o.params)
			for _, f := range reflect.VisibleFields(params) {
				if f.Anonymous {
					continue
				}
				of := params
				for _, i := range f.Index[:len(f.Index)-1] {
					of = of.Field(i).Type
				}
				want[f.Tag.Get("param")] = comments[of.Name()+"."+f.Name]
			}
		}
		method, path, _ := strings.Cut(name, " ")
		got := make(map[string]string)
		inPath := make(map[string]bool)
		for _, p := range loadContract(t).Paths.Value(path).GetOperation(method).Parameters {
			switch p.Value.In {
			case "query":
				got[p.Value.Name] = p.Value.Description
			case "path":
				inPath[p.Value.Name] = true
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: documented parameters\n%v\nof the struct\n%v", name, got, want)
		}
		for _, v := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
			if !inPath[v[1]] {
				t.Errorf("%s: %s in the path is not documented", name, v[1])
			}
		}
	}
}

// fieldComments returns the comments of struct fields of this package, by type and field.
func fieldComments(t *testing.T) map[string]string {
	t.Helper()
	comments := make(map[string]string)
	for _, name := range []string{"list.go", "booking.go", "history.go", "room.go", "photo.go", "occupancy.go", "availability.go", "events.go", "user.go", "token.go", "audit.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for n := range ast.Preorder(file) {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				continue
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					for _, id := range f.Names {
						comments[spec.Name.Name+"."+id.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
					}
				}
			}
		}
	}
	return comments
}

// Lists accept the values of sort and status that the document describes, and no others.
func TestDocumentedValuesOfListsAreTaken(t *testing.T) {
	s := newService(t)
	patterns := func(path, name string) (*regexp.Regexp, string) {
		for _, p := range loadContract(t).Paths.Value(path).Get.Parameters {
			if p.Value.Name == name {
				return regexp.MustCompile(p.Value.Schema.Value.Pattern), p.Value.Schema.Value.Default.(string)
			}
		}
		t.Fatalf("%s has no parameter %s", path, name)
		return nil, ""
	}
	candidates := append(bookingStatuses(), "PENDING", "DELIVERED", "FAILED", "all", "BOOKED,ENDED", "IN_USE,ENDED", "PENDING,FAILED", "booked", "", "BOOKED,", "BOOKED,x")
	orders := []string{"useStartDtm", "bookedUseStartDtm", "bookingDtm", "roomId", "bookingUserId", "status", "sendDtm", "userId", "x", "",
		"roomId,desc", "sendDtm,asc", "sendDtm,up", "sendDtm,", "useStartDtm,desc,asc"}
	for _, path := range []string{"/bookings", "/confirms", "/realuses", "/bookingLists", "/roomUseLists", "/notifications"} {
		for name, values := range map[string][]string{"status": candidates, "sort": orders} {
			pattern, usual := patterns(path, name)
			for _, v := range append(values, usual) {
				r := s.serve(httptest.NewRequest("GET", path+"?"+name+"="+v, nil))
				if taken := r.status == 200; taken != pattern.MatchString(v) {
					t.Errorf("%s?%s=%s is taken: %t, documented: %t", path, name, v, taken, pattern.MatchString(v))
				}
			}
			s.do(t, "GET", path, "").want(t, 200)
			plain := s.lists.asked
			s.do(t, "GET", path+"?"+name+"="+usual, "").want(t, 200)
			if name == "sort" && plain.Sort == "" {
				plain.Sort = usual // the read model's own default
			}
			if path == "/bookingLists" || path == "/roomUseLists" || path == "/notifications" {
				plain.Statuses = s.lists.asked.Statuses // likewise
			}
			if !reflect.DeepEqual(plain, s.lists.asked) {
				t.Errorf("%s without %s asks for %+v, with %s, documented as its default, for %+v", path, name, plain, usual, s.lists.asked)
			}
		}
	}
}

// resources are the structs that the document's schemas describe: replies, and bodies of commands.
var resources = map[string]any{
	"User": userReply{}, "UsersPage": pageReply[userReply]{}, "Session": sessionReply{}, "Sessions": sessionsReply{}, "Token": tokenReply{}, "Tokens": tokensReply{},
	"SignIn": signInRequest{}, "NewPassword": passwordRequest{}, "SetUp": setUpRequest{}, "NewToken": newTokenRequest{},
	"NewUser": newUserRequest{}, "UserChange": userChangeRequest{}, "UsersPassword": usersPasswordRequest{}, "NewDisplay": displayRequest{},
	"Link": link{}, "Page": pageSize{}, "PageLinks": pageLinks{}, "Root": rootReply{}, "Health": healthReply{}, "Version": versionReply{},
	"Booking": bookingReply{}, "BookingItem": bookingItem{}, "BookingsPage": pageReply[bookingItem]{}, "History": historyReply{}, "Event": eventReply{}, "Audit": auditReply{}, "AuditEntry": auditEntry{},
	"Confirm": confirmReply{}, "ConfirmsPage": pageReply[confirmReply]{}, "RealUse": realUseReply{}, "RealusesPage": pageReply[realUseReply]{},
	"BookingList": bookingListReply{}, "BookingListsPage": pageReply[bookingListReply]{},
	"RoomUseList": roomUseListReply{}, "RoomUseListsPage": pageReply[roomUseListReply]{},
	"Notification": notificationReply{}, "NotificationsPage": pageReply[notificationReply]{},
	"Room": roomReply{}, "RoomsPage": pageReply[roomReply]{}, "Photo": domain.Photo{}, "Rules": rulesReply{}, "Closure": closureReply{}, "Closures": closuresReply{},
	"RoomFault": faultReply{}, "RoomFaults": faultsReply{},
	"BrokenRule": brokenRule{}, "Conflicts": conflictsReply{}, "Occupancy": occupancyReply{}, "AvailableRoom": availableRoom{}, "Availability": availabilityReply{},
	"Problem": problem{}, "ProblemType": problemTypeReply{}, "ProblemTypes": problemTypesReply{},

	"NewBooking": newBookingRequest{}, "WholeBooking": bookingChangeRequest{}, "BookingChange": bookingChangeRequest{},
	"ConfirmAnswer": confirmAnswerRequest{}, "NewRealUse": newRealUseRequest{}, "RealUseEnd": realUseEndRequest{},
	"NewRoom": detailsRequest{}, "RoomDetails": detailsRequest{}, "NewRules": rulesRequest{}, "NewClosure": closureRequest{}, "NewFault": faultRequest{}, "FaultSettlement": faultSettlementRequest{},
}

// A schema and its struct agree about names, types, formats, what may be null and what is required.
func TestSchemasAreTheStructs(t *testing.T) {
	doc := loadContract(t)
	for name, schema := range doc.Components.Schemas {
		if resources[name] == nil && schema.Value.Type.Is("object") {
			t.Errorf("%s is in no struct", name)
		}
	}
	for name, resource := range resources {
		t.Run(name, func(t *testing.T) {
			compareSchema(t, "", doc.Components.Schemas[name].Value, reflect.TypeOf(resource), false)
		})
	}
}

func compareSchema(t *testing.T, at string, schema *openapi3.Schema, typ reflect.Type, null bool) {
	jsonType, format := "", ""
	switch {
	case typ == reflect.TypeFor[field]():
		return // what a body may have there is told by TestDocumentedBodiesAreTaken
	case typ == reflect.TypeFor[timestamp]():
		jsonType, format = "string", "date-time"
	case typ == reflect.TypeFor[uuid.UUID]():
		jsonType, format = "string", "uuid"
	case typ == reflect.TypeFor[href]():
		jsonType = "string"
	case typ == reflect.TypeFor[any](): // an event
		jsonType, null = "object", true
	case typ.Kind() == reflect.Slice && typ.Implements(reflect.TypeFor[json.MarshalerTo]()): // an object of names that are not known beforehand
		jsonType = "object"
		value, _ := typ.Elem().FieldByName("value")
		for name, p := range schema.Properties {
			compareSchema(t, at+"/"+name, p.Value, value.Type, false)
		}
		if of := schema.AdditionalProperties.Schema; of != nil {
			compareSchema(t, at+"/*", of.Value, value.Type, false)
		} else if len(schema.Properties) == 0 {
			t.Errorf("%s: not documented what it has", at)
		}
	case typ.Kind() == reflect.Slice:
		jsonType = "array"
		compareSchema(t, at+"/*", schema.Items.Value, typ.Elem(), false)
	case typ.Kind() == reflect.Struct:
		jsonType = "object"
		compareProperties(t, at, schema, typ)
	case typ.Kind() == reflect.String:
		jsonType = "string"
	case typ.Kind() == reflect.Bool:
		jsonType = "boolean"
	case reflect.Zero(typ).CanInt() || reflect.Zero(typ).CanUint():
		jsonType = "integer"
	default:
		t.Errorf("%s: %s is no type of a resource", at, typ)
	}
	want := openapi3.Types{jsonType}
	if null {
		want = append(want, "null")
	}
	if !slices.Equal(schema.Type.Slice(), want) || schema.Format != format {
		t.Errorf("%s: documented as %v %q, is %v %q", at, schema.Type.Slice(), schema.Format, want, format)
	}
}

func compareProperties(t *testing.T, at string, schema *openapi3.Schema, typ reflect.Type) {
	undocumented := make(map[string]bool)
	for name := range schema.Properties {
		undocumented[name] = true
	}
	var required []string
	for _, f := range reflect.VisibleFields(typ) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if options == "embed" || f.Anonymous || !f.IsExported() {
			continue
		}
		p := schema.Properties[name]
		if p == nil {
			t.Errorf("%s: %q, field %s, is not documented", at, name, f.Name)
			continue
		}
		delete(undocumented, name)
		optional, ft := options == "omitzero" || options == "omitempty", f.Type
		if !optional && ft != reflect.TypeFor[field]() {
			required = append(required, name)
		}
		// A nil pointer is null, unless it is left out; then a pointer to a nil pointer is null.
		if ft.Kind() == reflect.Pointer && optional {
			ft = ft.Elem()
		}
		null := ft.Kind() == reflect.Pointer
		if null {
			ft = ft.Elem()
		}
		compareSchema(t, at+"/"+name, p.Value, ft, null)
	}
	for name := range undocumented {
		t.Errorf("%s: %q is documented, and no field", at, name)
	}
	if _, body := typ.FieldByName("Others"); body {
		return
	}
	if want := slices.Sorted(slices.Values(schema.Required)); !slices.Equal(slices.Sorted(slices.Values(required)), want) {
		t.Errorf("%s: documented as required %v, are %v", at, want, required)
	}
}

// The members of a body that the document requires are required, and a member accepts null and the JSON types that its schema allows.
func TestDocumentedBodiesAreTaken(t *testing.T) {
	for name, c := range map[string]call{
		"NewBooking": {method: "POST", path: "/bookings"}, "WholeBooking": {method: "PUT", path: "/bookings/1"}, "BookingChange": {method: "PATCH", path: "/bookings/1"},
		"ConfirmAnswer": {method: "PATCH", path: "/confirms/1"}, "NewRealUse": {method: "POST", path: "/realuses"}, "RealUseEnd": {method: "PATCH", path: "/realuses/1"},
		"NewRoom": {method: "POST", path: "/rooms"}, "RoomDetails": {method: "PUT", path: "/rooms/1"}, "NewRules": {method: "PUT", path: "/rooms/1/rules"},
		"NewClosure": {method: "POST", path: "/rooms/1/closures"}, "NewFault": {method: "POST", path: "/rooms/1/faults"},
		"FaultSettlement": {method: "PATCH", path: "/rooms/1/faults/1"},
		"NewUser":         {method: "POST", path: "/users"}, "UserChange": {method: "PATCH", path: "/users/1"}, "UsersPassword": {method: "PUT", path: "/users/1/password"},
		"NewDisplay": {method: "POST", path: "/displays"},
	} {
		faults := func(body string) map[string]string {
			found := make(map[string]string)
			r := newService(t).do(t, c.method, c.path, body)
			if r.status == 422 {
				for _, e := range r.at(t, "errors").([]any) {
					e := e.(map[string]any)
					found[strings.TrimPrefix(e["pointer"].(string), "/")] = e["detail"].(string)
				}
			}
			return found
		}
		schema := loadContract(t).Components.Schemas[name].Value
		missing := slices.Sorted(maps.Keys(faults("{}")))
		if required := slices.Sorted(slices.Values(schema.Required)); !slices.Equal(missing, required) {
			t.Errorf("%s: %v must be given, documented as required are %v", name, missing, required)
		}
		for property, of := range schema.Properties {
			for _, value := range []string{"null", "true", "1", "1.5", "{}", "[]"} {
				var v any
				if err := json.Unmarshal([]byte(value), &v); err != nil {
					t.Fatal(err)
				}
				documented := of.Value.VisitJSON(v, openapi3.EnableJSONSchema2020()) == nil
				if fault, refused := faults(`{"` + property + `":` + value + `}`)[property]; refused == documented {
					t.Errorf("%s: %s as %s: %s, documented as good: %t", name, property, value, fault, documented)
				}
			}
		}
	}
}

// Problems are documented with their status.
func TestEveryProblemIsDocumented(t *testing.T) {
	mentioned := make(map[string]map[int]bool)
	for _, item := range loadContract(t).Paths.Map() {
		for _, o := range item.Operations() {
			for status, r := range o.Responses.Map() {
				names, ok := strings.CutPrefix(*r.Value.Description, "Problems: ")
				if !ok {
					continue
				}
				for name := range strings.SplitSeq(strings.TrimSuffix(names, "."), ", ") {
					if mentioned[name] == nil {
						mentioned[name] = make(map[int]bool)
					}
					n, _ := strconv.Atoi(status)
					mentioned[name][n] = true
				}
			}
		}
	}
	for _, p := range problemTypes {
		statuses := mentioned[p.name]
		delete(mentioned, p.name)
		switch p.name {
		case "method-not-allowed", "misdirected-request", "given-up": // of no operation, and heard by nobody
			continue
		}
		if len(statuses) != 1 || !statuses[p.status] {
			t.Errorf("%s, status %d, is documented under %v", p.name, p.status, statuses)
		}
	}
	for name := range mentioned {
		t.Errorf("%s is documented and is no problem", name)
	}
}

func TestDocsPageIsInTheBinary(t *testing.T) {
	s := newService(t)
	index := s.do(t, "GET", "/docs", "").want(t, 200)
	for _, m := range regexp.MustCompile(`<(?:script|link)[^>]* (?:src|href)="([^"]+)"`).FindAllStringSubmatch(index.body, -1) {
		if !strings.HasPrefix(m[1], "/") {
			t.Errorf("the page needs %s from elsewhere", m[1])
		}
		s.do(t, "GET", m[1], "").want(t, 200)
	}
	s.do(t, "GET", "/docs/nothing.js", "").want(t, 404)
	if got := s.serve(httptest.NewRequest("GET", "/openapi.json", nil)); got.body != string(openAPI) {
		t.Error("/openapi.json is not the document")
	}
}

// The page at /docs fills its forms with the document's examples, so each of them must be accepted as it is. An example of a key would make
// everybody's commands the same one.
func TestExamplesWorkAsTheyStand(t *testing.T) {
	s := newService(t)
	doc := loadContract(t)
	example := func(method, path string) string {
		t.Helper()
		o := doc.Paths.Value(path).GetOperation(method)
		for _, p := range o.Parameters {
			if p.Value.Required && p.Value.In != "path" && p.Value.In != "query" || p.Value.In == "header" && (p.Value.Example != nil || len(p.Value.Examples) > 0) {
				t.Errorf("%s %s: the header %s is filled in", method, path, p.Value.Name)
			}
		}
		for media, content := range o.RequestBody.Value.Content {
			if content.Examples["usual"] == nil {
				t.Fatalf("%s %s has no example of %s", method, path, media)
			}
		}
		b, err := json.Marshal(o.RequestBody.Value.Content[mediaJSON].Examples["usual"].Value.Value)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	id := s.do(t, "POST", "/bookings", example("POST", "/bookings")).want(t, 201).at(t, "bookingId").(string)
	s.do(t, "PATCH", "/bookings/"+id, example("PATCH", "/bookings/{id}")).want(t, 200)
	s.do(t, "PUT", "/bookings/"+id, example("PUT", "/bookings/{id}")).want(t, 200)
	s.do(t, "PATCH", "/confirms/"+id, example("PATCH", "/confirms/{bookingId}")).want(t, 200)
	start := example("POST", "/realuses")
	s.do(t, "POST", "/realuses", start).want(t, 404) // a booking of the reader's own is filled in
	use := s.do(t, "POST", "/realuses", regexp.MustCompile(`"bookingId":"[^"]*"`).ReplaceAllString(start, `"bookingId":"`+id+`"`)).want(t, 201).at(t, "realUseId").(string)
	s.do(t, "PATCH", "/realuses/"+use, example("PATCH", "/realuses/{id}")).want(t, 200)
	room := s.do(t, "POST", "/rooms", example("POST", "/rooms")).want(t, 201).header.Get("Location")
	s.do(t, "PUT", room, example("PUT", "/rooms/{id}")).want(t, 200)
	s.do(t, "PUT", room+"/rules", example("PUT", "/rooms/{id}/rules")).want(t, 200)
	s.do(t, "POST", room+"/closures", example("POST", "/rooms/{id}/closures")).want(t, 201)
	fault := s.do(t, "POST", room+"/faults", example("POST", "/rooms/{id}/faults")).want(t, 201).header.Get("Location")
	s.do(t, "PATCH", fault, example("PATCH", "/rooms/{id}/faults/{faultId}")).want(t, 200)
}

// What the documentation fills in works when it is executed as it is: nothing that is optional is filled in, unless the default is, and queries
// that have an example are answered, as are the bodies that make something.
func TestExamplesWork(t *testing.T) {
	s := newService(t)
	doc := loadContract(t)
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			query := url.Values{}
			for _, p := range o.Parameters {
				schema := p.Value.Schema.Value
				example := p.Value.Example
				if several, ok := example.([]any); ok && len(several) == 1 {
					example = several[0]
				}
				if text, ok := example.(string); ok && p.Value.In == "query" {
					query.Set(p.Value.Name, text)
				} else if schema.Example != nil || len(schema.Examples) > 0 || len(p.Value.Examples) > 0 || example != nil {
					t.Errorf("%s %s: %s is filled in", method, path, p.Value.Name)
				}
			}
			if len(query) > 0 {
				s.do(t, method, path+"?"+query.Encode(), "").want(t, 200)
			}
			if method != http.MethodPost || o.RequestBody == nil || strings.Contains(path, "{") ||
				slices.Contains([]string{"/realuses", "/session", "/setup", "/tokens", "/users", "/displays"}, path) { // which are about a booking, or about accounts, of those who try
				continue
			}
			for name, example := range o.RequestBody.Value.Content.Get("application/json").Examples {
				body, err := json.Marshal(example.Value.Value)
				if err != nil {
					t.Fatal(err)
				}
				if r := s.do(t, method, path, string(body)); r.status != 201 {
					t.Errorf("%s %s, example %s: %d %s", method, path, name, r.status, r.body)
				}
			}
		}
	}
}

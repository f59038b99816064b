package api

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"roombook/commands/accounts"
	"roombook/domain"
	"roombook/eventstore"
)

// audited are the entries of a page of the audit, and the address of the next one.
func (s *accountService) audited(t *testing.T, target, token string) (entries []map[string]any, next string) {
	t.Helper()
	r := s.do(t, "GET", target, "", token).want(t, 200)
	for _, e := range r.at(t, "_embedded.audit").([]any) {
		entries = append(entries, e.(map[string]any))
	}
	if link, ok := r.at(t, "_links").(map[string]any)["next"].(map[string]any); ok {
		next = strings.TrimPrefix(link["href"].(string), "http://example.com")
	}
	return entries, next
}

func kindsOf(entries []map[string]any) (all []string) {
	for _, e := range entries {
		all = append(all, e["type"].(string))
	}
	return all
}

// The audit has what people did, the latest first, with who they were, for whom, and from where; and nothing that only followed from it.
func TestAudit(t *testing.T) {
	s := newAccountService(t)
	ann := s.userOf(t, accounts.NewUser{Name: "ann", FullName: annsFullName, Password: good, Roles: domain.NewRoles(domain.RoleUser)})
	root := s.user(t, "root", domain.RoleAdmin)
	admin, session := s.token(t, root), s.signIn(t, "ann", good)
	id := s.do(t, "POST", "/bookings", strings.Replace(morning, `"ann"`, fmt.Sprintf("%q", ann), 1), admin).want(t, 201).at(t, "bookingId").(string)
	s.do(t, "PATCH", "/bookings/"+id, `{"useEndDtm":"202611241100"}`, session).want(t, 200)
	s.do(t, "PATCH", "/confirms/"+id, `{"status":"CONFIRMED"}`, admin).want(t, 200)
	s.do(t, "POST", "/realuses", `{"bookingId":"`+id+`"}`, session).want(t, 201)
	s.do(t, "POST", "/tokens", fmt.Sprintf(`{"expiresAt":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339)), session).want(t, 201)
	s.do(t, "PUT", "/me/password", `{"password":"`+good+`","newPassword":"`+other+`"}`, session).want(t, 204)

	all, next := s.audited(t, "/audit", admin)
	want := []string{"PasswordChanged", "TokenIssued", "UseStarted", "ConfirmCompleted", "BookingChanged", "BookingCreated", "TokenIssued", "UserAdded", "UserAdded"}
	if got := kindsOf(all); !slices.Equal(got, want) || next != "" {
		t.Errorf("%v, next %q", got, next)
	}
	has := func(i int, want map[string]any) {
		t.Helper()
		for name, value := range want {
			if all[i][name] != value {
				t.Errorf("%s: %s is %v, want %v", all[i]["type"], name, all[i][name], value)
			}
		}
	}
	has(0, map[string]any{"actor": string(ann), "actorName": annsFullName, "client": "192.0.2.0/24", "onBehalfOf": nil})
	has(3, map[string]any{"actor": string(root), "actorName": "root", "client": "192.0.2.0/24", "onBehalfOf": nil})
	has(4, map[string]any{"actor": string(ann), "onBehalfOf": nil})
	has(5, map[string]any{"actor": string(root), "onBehalfOf": string(ann), "onBehalfOfName": annsFullName, "stream": "booking-" + id})
	has(7, map[string]any{"actor": "boss", "actorName": nil, "client": nil})
	if issued := all[1]["data"].(map[string]any); issued["hash"] != "" {
		t.Errorf("the hash of a token: %v", issued)
	}
	history := s.do(t, "GET", "/bookings/"+id+"/history", "", admin).want(t, 200)
	if strings.Contains(history.body, "192.0.2.") || !strings.Contains(history.body, `"actorName":"root","onBehalfOf":"`+string(ann)+`"`) {
		t.Errorf("a history: %s", history.body)
	}

	// The filters, and pages that are as long as they are asked to be.
	day := time.Now().In(zone(t, "Asia/Seoul"))
	for query, want := range map[string][]string{
		"?userId=" + string(ann):                             {"PasswordChanged", "TokenIssued", "UseStarted", "BookingChanged"},
		"?kind=BookingCreated,UserAdded":                     {"BookingCreated", "UserAdded", "UserAdded"},
		"?kind=UserAdded&userId=" + string(ann):              nil,
		"?from=" + day.AddDate(0, 0, 1).Format("2006-01-02"): nil,
		"?to=" + day.AddDate(0, 0, -1).Format("2006-01-02"):  nil,
		"?from=" + day.AddDate(0, 0, -1).Format("2006-01-02") + "&to=" + day.AddDate(0, 0, 1).Format("2006-01-02") + "&kind=UseStarted": {"UseStarted"},
	} {
		if entries, _ := s.audited(t, "/audit"+query, admin); !slices.Equal(kindsOf(entries), want) {
			t.Errorf("%s: %v, want %v", query, kindsOf(entries), want)
		}
	}
	var paged []string
	for target := "/audit?size=2"; target != ""; {
		var entries []map[string]any
		entries, target = s.audited(t, target, admin)
		if paged = append(paged, kindsOf(entries)...); len(entries) > 2 {
			t.Fatal(entries)
		}
	}
	if !slices.Equal(paged, want) {
		t.Errorf("in pages: %v", paged)
	}
	for _, query := range []string{"?kind=Flew", "?kind=SlotReserved", "?size=0", "?cursor=x", "?from=x", "?to=x", "?from=2030-01-02&to=2030-01-01", "?x=1"} {
		wantProblem(t, query, s.do(t, "GET", "/audit"+query, "", admin), 400, "invalid-parameters")
	}

	// What was erased stays without a name.
	s.do(t, "DELETE", "/users/"+string(ann), "", admin).want(t, 204)
	all, _ = s.audited(t, "/audit?userId="+string(ann), admin)
	if name, has := all[0]["actorName"]; name != nil || !has {
		t.Errorf("an erased user is called %v", name)
	}
}

// A page costs no more than a look at so many events of the log, however few of them are asked for, and goes on from there.
func TestAuditIsBounded(t *testing.T) {
	looked := 0
	s := newService(t, func(o *Options) {
		read := o.ReadBack
		o.ReadBack = func(ctx context.Context, before eventstore.Position, count uint64) iter.Seq2[eventstore.Recorded, error] {
			return func(yield func(eventstore.Recorded, error) bool) {
				for e, err := range read(ctx, before, count) {
					if looked++; !yield(e, err) {
						return
					}
				}
			}
		}
	})
	s.book(t, morning)
	released := make([]eventstore.Proposed, 2*maxAudited)
	for i := range released {
		released[i] = eventstore.Proposed{Event: domain.SlotReleased{RoomID: "2"}, Metadata: eventstore.Metadata{Actor: "ann", OccurredAt: time.Now()}}
	}
	if _, err := s.log.Append(t.Context(), "calendar-2", eventstore.Any, released...); err != nil {
		t.Fatal(err)
	}
	a := &accountService{service: s}
	for page, target := 1, "/audit?kind=BookingCreated"; ; page++ {
		looked = 0
		entries, next := a.audited(t, target, "Accept: */*")
		if looked > maxAudited {
			t.Errorf("page %d looks at %d events", page, looked)
		}
		if target = next; len(entries) > 0 || next == "" {
			if page != 3 || len(entries) != 1 {
				t.Errorf("%d entries on page %d", len(entries), page)
			}
			break
		}
	}
	looked = 0
	if entries, next := a.audited(t, "/audit?from="+time.Now().Add(2*time.Hour).UTC().Format(time.RFC3339), "Accept: */*"); looked > 1 || len(entries) > 0 || next != "" {
		t.Errorf("a time without any event: %d events, next %q", looked, next)
	}
}

// Where nobody is authenticated everybody may read it, and no network is kept.
func TestAuditWithoutAccounts(t *testing.T) {
	s := newService(t)
	s.book(t, morning)
	r := s.do(t, "GET", "/audit", "").want(t, 200)
	if !strings.Contains(r.body, `"actor":"ann"`) || strings.Contains(r.body, "client") {
		t.Error(r.body)
	}
}

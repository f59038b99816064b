package api

import (
	"net/http/httptest"
	"testing"
)

func TestTraceParent(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, tt := range []struct {
		given string
		valid bool
	}{
		{"00-" + trace + "-" + parent + "-01", true},
		{"00-" + trace + "-" + parent + "-00", true},
		{"cc-" + trace + "-" + parent + "-01-what-will-be", true}, // of a version to come
		{"", false},
		{"00-" + trace + "-" + parent, false},
		{"00-" + trace + "-" + parent + "-01-more", false},
		{"cc-" + trace + "-" + parent + "-01x", false},
		{"ff-" + trace + "-" + parent + "-01", false},
		{"00-" + "0AF7651916CD43DD8448EB211C80319C" + "-" + parent + "-01", false},
		{"00-00000000000000000000000000000000-" + parent + "-01", false},
		{"00-" + trace + "-0000000000000000-01", false},
		{"00_" + trace + "-" + parent + "-01", false},
		{"0x-" + trace + "-" + parent + "-01", false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Traceparent", tt.given)
		if got := traceParent(r); (got == tt.given && got != "") != tt.valid {
			t.Errorf("%q: %q", tt.given, got)
		}
	}
}

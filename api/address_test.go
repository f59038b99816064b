package api

import (
	"crypto/tls"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestAddress(t *testing.T) {
	s := newService(t, func(o *Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	})
	for _, tt := range []struct {
		name, peer, host string
		tls              bool
		header           map[string]string
		want             string
	}{
		{"plain", "192.0.2.1:99", "rooms.example:8080", false, nil, "http://rooms.example:8080"},
		{"TLS", "192.0.2.1:99", "rooms.example", true, nil, "https://rooms.example"},
		{"IPv6", "[::1]:99", "[::1]:8080", false, nil, "http://[::1]:8080"},
		{"no host", "192.0.2.1:99", "", false, nil, ""},
		{"odd host", "192.0.2.1:99", "a'b", false, nil, ""},
		{"a stranger's word", "192.0.2.1:99", "rooms.example", false, map[string]string{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil"}, "http://rooms.example"},
		{"a proxy", "10.1.2.3:99", "inside:8080", false, map[string]string{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "rooms.example"}, "https://rooms.example"},
		{"a proxy over IPv6", "[fd00::1]:99", "inside:8080", false, map[string]string{"X-Forwarded-Host": "rooms.example"}, "http://rooms.example"},
		{"a proxy in IPv6 form", "[::ffff:10.1.2.3]:99", "inside:8080", false, map[string]string{"X-Forwarded-Host": "rooms.example"}, "http://rooms.example"},
		{"several proxies", "10.1.2.3:99", "inside", false, map[string]string{"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "rooms.example, middle"}, "https://rooms.example"},
		{"prefix", "10.1.2.3:99", "rooms.example", false, map[string]string{"X-Forwarded-Prefix": "/api/rooms/"}, "http://rooms.example/api/rooms"},
		{"odd prefix", "10.1.2.3:99", "rooms.example", false, map[string]string{"X-Forwarded-Prefix": `/"`}, "http://rooms.example"},
		{"prefix that is a host", "10.1.2.3:99", "", false, map[string]string{"X-Forwarded-Prefix": "//evil.example"}, ""},
		{"port", "10.1.2.3:99", "inside:8080", false, map[string]string{"X-Forwarded-Host": "rooms.example", "X-Forwarded-Port": "8443", "X-Forwarded-Proto": "https"}, "https://rooms.example:8443"},
		{"the scheme's own port", "10.1.2.3:99", "inside:8080", false, map[string]string{"X-Forwarded-Host": "rooms.example:80", "X-Forwarded-Port": "443", "X-Forwarded-Proto": "https"}, "https://rooms.example"},
		{"port and IPv6", "10.1.2.3:99", "[::1]", false, map[string]string{"X-Forwarded-Port": "81"}, "http://[::1]:81"},
		{"odd scheme", "10.1.2.3:99", "rooms.example", false, map[string]string{"X-Forwarded-Proto": "javascript"}, "http://rooms.example"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr, r.Host, r.TLS = tt.peer, tt.host, nil
		if tt.tls {
			r.TLS = new(tls.ConnectionState)
		}
		for name, value := range tt.header {
			r.Header.Set(name, value)
		}
		if got := s.address(r); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestClient(t *testing.T) {
	s := newService(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	for _, tt := range []struct{ peer, forwarded, want string }{
		{"192.0.2.1:99", "198.51.100.7", "192.0.2.1:99"},
		{"10.0.0.1:99", "", "10.0.0.1:99"},
		{"10.0.0.1:99", "198.51.100.7", "198.51.100.7"},
		{"10.0.0.1:99", "203.0.113.9, 198.51.100.7, 10.0.0.2", "198.51.100.7"},
		{"10.0.0.1:99", "nonsense, 10.0.0.2", "10.0.0.2"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tt.peer
		r.Header.Set("X-Forwarded-For", tt.forwarded)
		if got := s.client(r); got != tt.want {
			t.Errorf("%s for %s: %s, want %s", tt.peer, tt.forwarded, got, tt.want)
		}
	}
}

// Links, and the files of the documentation page, have the address at which the client reached the server.
func TestLinksThroughAProxy(t *testing.T) {
	s := newService(t, func(o *Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	headers := []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: rooms.example", "X-Forwarded-Prefix: /v1"}
	r := s.do(t, "POST", "/bookings", morning, headers...).want(t, 201)
	want := "https://rooms.example/v1/bookings/" + r.at(t, "bookingId").(string)
	if r.header.Get("Location") != want || r.at(t, "_links.self.href") != want {
		t.Errorf("%v %s", r.header, r.body)
	}
	if r := s.do(t, "GET", "/bookingLists?size=1", "", headers...); r.at(t, "_links.self.href") != "https://rooms.example/v1/bookingLists?size=1" {
		t.Error(r.body)
	}
	for address, prefix := range map[string]string{"https://a/v1": "/v1", "https://a": "", "/v1": "/v1", "": ""} {
		if got := prefixOf(address); got != prefix {
			t.Errorf("prefix of %s: %s", address, got)
		}
	}
}

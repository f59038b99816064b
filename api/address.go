package api

import (
	"net/http"
	"net/netip"
	"strings"
)

// address is where the client found the server: scheme, host and the path before the API's own, without a slash at the end.
// Links begin with it. It is empty if the request does not say, and links are then relative to the host.
//
// X-Forwarded-Proto, -Host, -Port and -Prefix are believed if they come from a trusted proxy, which must set them or strip
// what its clients send. Where several proxies have added a value, the first one is that of the client.
func (s *Server) address(r *http.Request) string {
	scheme, host, prefix := "http", r.Host, ""
	if r.TLS != nil {
		scheme = "https"
	}
	if s.trusted(r) {
		switch first(r.Header.Get("X-Forwarded-Proto")) {
		case "https":
			scheme = "https"
		case "http":
			scheme = "http"
		}
		if h := first(r.Header.Get("X-Forwarded-Host")); h != "" {
			host = h
		}
		if port := first(r.Header.Get("X-Forwarded-Port")); port != "" {
			host = withPort(host, port, scheme)
		}
		prefix = strings.TrimRight(first(r.Header.Get("X-Forwarded-Prefix")), "/")
	}
	if prefix != "" && (len(prefix) > longestPrefix || prefix[0] != '/' || strings.HasPrefix(prefix, "//") || !addressable(prefix)) {
		prefix = ""
	}
	if host == "" || len(host) > longestHost || strings.Contains(host, "/") || !addressable(host) {
		return prefix
	}
	return scheme + "://" + host + prefix
}

// The bounds of what links begin with, in bytes: a name of the DNS and a port, and a path that a proxy has. An answer has dozens of links.
const (
	longestHost   = 253 + len(":65535")
	longestPrefix = 256
)

// prefixOf is the path of an address.
func prefixOf(address string) string {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			return rest[i:]
		}
		return ""
	}
	return address
}

// addressable reports whether s has only characters that are harmless in a host or path.
func addressable(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~:/[]%", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// withPort is the host with another port, which is left out if it is the scheme's own.
func withPort(host, port, scheme string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return host
	}
	return host + ":" + port
}

// first is the first value of a list.
func first(list string) string {
	value, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(value)
}

// trusted reports whether the request comes from a trusted proxy.
func (s *Server) trusted(r *http.Request) bool {
	if len(s.proxies) == 0 {
		return false
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && s.trusts(peer.Addr())
}

func (s *Server) trusts(a netip.Addr) bool {
	for _, p := range s.proxies {
		if p.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

// client is the address of the client for the log: the last one of X-Forwarded-For that is not a trusted proxy's, if the
// request comes from one.
func (s *Server) client(r *http.Request) string {
	client := r.RemoteAddr
	if !s.trusted(r) {
		return client
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		client = hop.String()
		if !s.trusts(hop) {
			break
		}
	}
	return client
}

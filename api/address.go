package api

import (
	"net/http"
	"net/netip"
	"strings"
)

// address returns the base URL at which the client reached the server: scheme, host and the path prefix in front of the API's own paths,
// without a trailing slash. Links start with it. It is empty if the request does not tell; links are then relative to the host.
//
// X-Forwarded-Proto, -Host, -Port and -Prefix are only honoured from a trusted proxy, which must either set them or strip those of its
// clients. If several proxies have appended values, the first one describes the client's request.
func (s *Server) address(r *http.Request) string {
	scheme, host, prefix := "http", r.Host, ""
	if r.TLS != nil {
		scheme = "https"
	}
	if s.trusted(r) {
		switch firstValue(r.Header.Get("X-Forwarded-Proto")) {
		case "https":
			scheme = "https"
		case "http":
			scheme = "http"
		}
		if h := firstValue(r.Header.Get("X-Forwarded-Host")); h != "" {
			host = h
		}
		if port := firstValue(r.Header.Get("X-Forwarded-Port")); port != "" {
			host = withPort(host, port, scheme)
		}
		prefix = strings.TrimRight(firstValue(r.Header.Get("X-Forwarded-Prefix")), "/")
	}
	if prefix != "" && (len(prefix) > maxPrefixLength || prefix[0] != '/' || strings.HasPrefix(prefix, "//") || !addressable(prefix)) {
		prefix = ""
	}
	if host == "" || len(host) > maxHostLength || strings.Contains(host, "/") || !addressable(host) {
		return prefix
	}
	return scheme + "://" + host + prefix
}

// Upper bounds of the parts of an address, in bytes: a DNS name with a port, and a proxy's path prefix. Both appear in every link, and a
// reply has dozens of links.
const (
	maxHostLength   = 253 + len(":65535")
	maxPrefixLength = 256
)

// prefixOf returns the path of an address.
func prefixOf(address string) string {
	if _, rest, ok := strings.Cut(address, "://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			return rest[i:]
		}
		return ""
	}
	return address
}

// addressable reports whether s consists only of characters that are harmless in a host or path.
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

// withPort replaces the port of a host. The default port of the scheme is left out.
func withPort(host, port, scheme string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return host
	}
	return host + ":" + port
}

// firstValue returns the first value of a comma-separated list.
func firstValue(list string) string {
	value, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(value)
}

// trusted reports whether the request was sent by a trusted proxy.
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

// client returns the client's address for the log. For a request of a trusted proxy that is the last address in X-Forwarded-For that is
// not a trusted proxy's itself.
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

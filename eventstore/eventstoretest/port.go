package eventstoretest

import (
	"net"
	"strconv"
	"syscall"
	"testing"
)

// ClosedPort is an address on loopback that refuses connections until the end of the test, unless the test listens there: it is held by a
// socket that is bound and does not listen, so that nobody else gets it.
func ClosedPort(t testing.TB) (address string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatalf("hold a port: %v", err)
	}
	syscall.CloseOnExec(fd)
	t.Cleanup(func() {
		if err := syscall.Close(fd); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	// This lets a listener of package net, which sets it too, share the address.
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatalf("hold a port: %v", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("hold a port: %v", err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatalf("hold a port: %v", err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.(*syscall.SockaddrInet4).Port))
}

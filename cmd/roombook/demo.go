package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"time"

	"roombook/api/web"
	"roombook/commands"
)

// useTemporaryFolder lets a demonstration use a folder of its own, which remove removes, and any free address for the embedded event store.
func (c *serveConfig) useTemporaryFolder() (remove func(), err error) {
	if c.data, err = os.MkdirTemp("", "roombook-demo-"); err != nil {
		return nil, fmt.Errorf("the demonstration needs a temporary folder: %w; set TMPDIR to a folder that can be written", err)
	}
	if !c.nodeGiven {
		c.node = "127.0.0.1:0"
	}
	return func() { os.RemoveAll(c.data) }, nil
}

// demonstrate loads a house and a week of bookings, and ends with ctx.
func demonstrate(ctx context.Context, h *commands.Handler, zone *time.Location, stdout io.Writer) error {
	now := time.Now().UTC().Truncate(time.Millisecond)
	_, err := web.LoadSampleHouse(ctx, h, web.SampleActor, now)
	if err == nil {
		err = web.BookSampleHouse(ctx, h, now, zone)
	}
	if err != nil {
		return fmt.Errorf("load the demonstration: %w", err)
	}
	fmt.Fprintln(stdout, "the demonstration is there: a house of 12 rooms and a week of bookings, which are gone when the program ends")
	<-ctx.Done()
	return nil
}

// pageAddress is the address of the page for a browser on this machine.
func pageAddress(at net.Addr) string {
	address, err := netip.ParseAddrPort(at.String())
	if err == nil && address.Addr().IsUnspecified() {
		return fmt.Sprintf("http://localhost:%d/", address.Port())
	}
	return "http://" + at.String() + "/"
}

// openBrowser opens an address in the user's browser.
func openBrowser(address string) error {
	program, args := "xdg-open", []string{address}
	switch runtime.GOOS {
	case "darwin":
		program = "open"
	case "windows":
		program, args = "rundll32", []string{"url.dll,FileProtocolHandler", address}
	}
	cmd := exec.Command(program, args...)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // only to forget it: how a browser ends is no matter
	return nil
}

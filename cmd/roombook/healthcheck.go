package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newHealthcheckCommand() *cobra.Command {
	var address string
	var live bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the server on this machine whether it is ready",
		Long: `Ask the server that listens on this machine whether it is ready (GET /readyz) or, with --live, whether it answers at all (GET /healthz).
The exit code is 0 if it is, and 1 if it is not or does not answer in time: what HEALTHCHECK in a Dockerfile expects.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := hostOf("--listen", address); err != nil {
				return err
			}
			if timeout <= 0 {
				return usagef("--timeout must be longer than 0")
			}
			path := "/readyz"
			if live {
				path = "/healthz"
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			reply, err := askHealth(ctx, "http://"+localAddress(address)+path)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), reply)
			return nil
		},
	}
	cmd.Flags().StringVar(&address, "listen", "127.0.0.1:8080", "address that the server was given")
	fromEnvironment(cmd)
	cmd.Flags().BoolVar(&live, "live", false, "ask only whether the server answers")
	cmd.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for the answer")
	return cmd
}

// localAddress is where this machine reaches a server that listens at the address, which may be all addresses of the machine.
func localAddress(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// askHealth returns the reply of a server that says that it is well.
func askHealth(ctx context.Context, url string) (reply string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	// The environment's proxy is for other machines.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("the server does not answer: %w: start it, or name its address with --listen", err)
	}
	defer response.Body.Close()
	const longest = 64 << 10
	body, err := io.ReadAll(io.LimitReader(response.Body, longest))
	if err != nil {
		return "", fmt.Errorf("the server does not answer: %w", err)
	}
	reply = strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the server is not ready (%s): %s", response.Status, reply)
	}
	return reply, nil
}

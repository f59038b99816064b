package main

import (
	"bytes"
	"net/netip"
	"net/url"
	"os"

	"github.com/spf13/pflag"

	"roombook/commands/accounts/oidc"
)

// oidcConfig says which identity provider authenticates users.
type oidcConfig struct {
	issuer     string
	clientID   string
	secretFile string
	scopes     []string
	rolesClaim string
	audience   string
}

func (c *oidcConfig) register(f *pflag.FlagSet) {
	f.StringVar(&c.issuer, "oidc-issuer", "", "address of the identity provider, exactly as it calls itself (issuer)")
	f.StringVar(&c.clientID, "oidc-client-id", "", "what this program is to the identity provider")
	f.StringVar(&c.secretFile, "oidc-client-secret-file", "", "file with the client's secret, which "+secretVariable+" may have instead; without either the client is a public one")
	f.StringSliceVar(&c.scopes, "oidc-scopes", []string{"profile", "email"}, "what to ask for besides openid")
	f.StringVar(&c.rolesClaim, "oidc-roles-claim", "", "claim with the roles (user, approver, approver:ROOM, admin, …); dots lead into objects; without one, roles are given by roombook user roles")
	f.StringVar(&c.audience, "oidc-audience", "", "audience of access tokens of the identity provider that the API takes; without one it takes none")
}

// secretVariable is the environment variable with the client's secret. There is no flag for it, because command lines are there for all to see.
const secretVariable = "ROOMBOOK_OIDC_CLIENT_SECRET"

// check finds mistakes in the flags. They are for one kind of authentication only.
func (c *oidcConfig) check(used bool) error {
	if !used {
		for flag, value := range map[string]string{"--oidc-issuer": c.issuer, "--oidc-client-id": c.clientID, "--oidc-client-secret-file": c.secretFile, "--oidc-roles-claim": c.rolesClaim, "--oidc-audience": c.audience} {
			if value != "" {
				return usagef("%s is for --auth oidc", flag)
			}
		}
		return nil
	}
	if c.issuer == "" || c.clientID == "" {
		return usagef("--auth oidc needs --oidc-issuer, the address of the identity provider, and --oidc-client-id, what this program is to it")
	}
	if u, err := url.Parse(c.issuer); err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && !(u.Scheme == "http" && isLoopbackName(u.Hostname())) {
		return usagef("--oidc-issuer is %q; it must be an address like https://id.example", c.issuer)
	}
	_, err := c.secret()
	return err
}

func isLoopbackName(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// secret reads the client's secret; empty for a public client.
func (c *oidcConfig) secret() (string, error) {
	if c.secretFile == "" {
		return os.Getenv(secretVariable), nil
	}
	content, err := os.ReadFile(c.secretFile)
	if err != nil {
		return "", usagef("--oidc-client-secret-file: %w", badFile(err))
	}
	if content = bytes.TrimSpace(content); len(content) == 0 {
		return "", usagef("--oidc-client-secret-file: %s is empty; it must have the client's secret", c.secretFile)
	}
	return string(content), nil
}

// provider returns the identity provider.
func (c *oidcConfig) provider() (*oidc.Provider, error) {
	secret, err := c.secret()
	if err != nil {
		return nil, err
	}
	return oidc.New(oidc.Options{Issuer: c.issuer, ClientID: c.clientID, ClientSecret: secret, Scopes: c.scopes, RolesClaim: c.rolesClaim, Audience: c.audience}), nil
}

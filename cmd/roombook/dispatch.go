package main

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/spf13/pflag"

	"roombook/commands/accounts"
	"roombook/commands/notify"
	"roombook/domain"
)

// dispatchConfig configures notifications.
type dispatchConfig struct {
	timezone      string
	smtp          string
	smtpPassword  string // a file
	mailFrom      string
	mailAddress   string
	directory     string
	language      string
	texts         string
	webhook       string
	webhookSecret string // a file
	webhookAllow  []string
	fallback      string
}

func (c *dispatchConfig) register(f *pflag.FlagSet) {
	f.StringVar(&c.timezone, "timezone", "Asia/Seoul", "time zone of local times in requests and of all times in replies and notifications")
	f.StringVar(&c.smtp, "smtp", "", "mail server for notifications (smtp://user@host:port with STARTTLS, or smtps://… with TLS); without one they are logged")
	f.StringVar(&c.smtpPassword, "smtp-password-file", "", "file with the password of the user at the mail server")
	f.StringVar(&c.mailFrom, "mail-from", "", "sender of notifications: rooms@example.com, or Rooms <rooms@example.com>")
	f.StringVar(&c.mailAddress, "mail-address", notify.DefaultAddress, "mail address of users whom the directory does not name")
	f.StringVar(&c.directory, "directory", "", "file (YAML) with the mail address, the language and the wishes of users where --auth is none, read again when it changes")
	f.StringVar(&c.language, "language", notify.DefaultLanguage, "language of notifications to users whom the directory gives none: en or ko, or one of --texts")
	f.StringVar(&c.texts, "texts", "", "folder with texts of notifications in place of the program's own")
	f.StringVar(&c.webhook, "webhook", "", "address (https://…) to which notifications are posted, as Standard Webhooks")
	f.StringVar(&c.webhookSecret, "webhook-secret-file", "", "file with the secrets (whsec_…) that sign what is posted, one a line")
	f.StringSliceVar(&c.webhookAllow, "webhook-allow", nil, "networks (CIDR) that are not public in which the webhook's receiver may be")
	f.StringVar(&c.fallback, "fallback", "", "where notifications go that the mail server refuses for good: log or webhook")
}

// zone returns the time zone.
func (c *dispatchConfig) zone() (*time.Location, error) {
	if c.timezone == "" {
		return nil, usagef("--timezone is empty; it must be a time zone like Asia/Seoul, or UTC")
	}
	zone, err := time.LoadLocation(c.timezone)
	if err != nil {
		return nil, usagef("--timezone: %w", err)
	}
	return zone, nil
}

// check reports mistakes in the flags.
func (c *dispatchConfig) check() error {
	_, err := c.dispatcher(nil, notify.Options{})
	return err
}

// dispatcher returns a dispatcher. The options are those that are no flags.
func (c *dispatchConfig) dispatcher(store notify.Store, o notify.Options) (*notify.Dispatcher, error) {
	zone, err := c.zone()
	if err != nil {
		return nil, err
	}
	o.Fallback, o.Directory, o.Address, o.Texts, o.Language, o.Zone = domain.Channel(c.fallback), c.directory, c.mailAddress, c.texts, c.language, zone
	switch {
	case c.smtp != "" && c.mailFrom == "":
		return nil, usagef("--smtp needs --mail-from, the address that notifications come from")
	case c.smtp == "" && (c.mailFrom != "" || c.smtpPassword != ""):
		return nil, usagef("--mail-from and --smtp-password-file are for a mail server, which --smtp names")
	case c.smtp != "":
		o.Mail = &notify.MailOptions{Server: c.smtp, PasswordFile: c.smtpPassword, From: c.mailFrom}
	}
	switch {
	case (c.webhook == "") != (c.webhookSecret == ""):
		return nil, usagef("--webhook and --webhook-secret-file go together")
	case c.webhook == "" && len(c.webhookAllow) > 0:
		return nil, usagef("--webhook-allow is for a webhook, which --webhook names")
	case c.webhook != "":
		o.Webhook = &notify.WebhookOptions{URL: c.webhook, SecretFile: c.webhookSecret}
		for _, text := range c.webhookAllow {
			network, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, usagef("--webhook-allow has %q; it must be a network like 10.1.0.0/16", text)
			}
			o.Webhook.Allow = append(o.Webhook.Allow, network)
		}
	}
	d, err := notify.New(store, o)
	if err != nil {
		return nil, usagef("notifications: %w", err)
	}
	return d, nil
}

// mailPeople tells notifications who users are.
type mailPeople struct{ accounts *accounts.Accounts }

// request is one of the program itself.
func (mailPeople) request() accounts.Request {
	return accounts.Request{Actor: domain.Actor{User: "roombook", Roles: domain.NewRoles(domain.RoleAdmin)}, At: time.Now()}
}

// Person implements [notify.People].
func (p mailPeople) Person(ctx context.Context, id domain.UserID) (notify.Person, bool, error) {
	u, err := p.accounts.User(ctx, p.request(), id)
	if errors.Is(err, domain.ErrUserNotFound) {
		return notify.Person{}, false, nil
	}
	_, active := u.Actor()
	return notify.Person{Name: cmp.Or(u.FullName, u.Name), Address: u.Address, Language: u.Language, Without: u.WithoutMail}, active, err
}

// Keepers implements [notify.People].
func (p mailPeople) Keepers(ctx context.Context) (keepers []domain.Actor, err error) {
	users, _, err := p.accounts.Users(ctx, p.request(), "", 0)
	for _, u := range users {
		if actor, active := u.Actor(); active && (u.Roles.Has(domain.RoleApprover) || u.Roles.Has(domain.RoleAdmin)) {
			keepers = append(keepers, actor)
		}
	}
	return keepers, err
}

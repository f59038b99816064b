package notify

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"roombook/domain"
)

// WebhookOptions configure a webhook, which follows the Standard Webhooks specification.
type WebhookOptions struct {
	URL string
	// SecretFile contains one secret per line: whsec_ followed by 24 bytes or more in base64. Every message is signed with each of them, so that secrets can be
	// rotated. The file is read for each attempt.
	SecretFile string
	// Allow lists networks in which the receiver may be although they are not public.
	Allow []netip.Prefix
	// Timeout limits one attempt; 0 is 20 s.
	Timeout time.Duration
	// Schedule lists the pauses between attempts; nil is the schedule of the specification.
	Schedule []time.Duration
}

// webhookSchedule is the schedule of the specification: ten attempts in about three days.
var webhookSchedule = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// unavailable are the answers that say nothing of the message: any other would be answered in the same way.
var unavailable = []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}

const (
	minSecret        = 24             // bytes of a secret, by the specification
	maxWebhookAnswer = 64 << 10       // bytes read of a response
	maxRetryAfter    = 24 * time.Hour // longest Retry-After that is honoured
)

// webhookChannel posts messages to a webhook.
type webhookChannel struct {
	options WebhookOptions
	url     *url.URL
	client  *http.Client
	texts   *texts
	gone    atomic.Bool // the receiver has answered 410
}

// newWebhookChannel returns a channel, or an error that describes what is wrong with the options.
func newWebhookChannel(o WebhookOptions, t *texts) (*webhookChannel, error) {
	to, err := url.Parse(o.URL)
	if err != nil || to.Scheme != "https" && to.Scheme != "http" || to.Hostname() == "" {
		return nil, fmt.Errorf("the webhook %q must be an address like https://example.com/hook", redacted(o.URL))
	}
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	if o.Schedule == nil {
		o.Schedule = webhookSchedule
	}
	c := &webhookChannel{options: o, url: to, texts: t}
	dialer := &net.Dialer{Control: c.permit}
	c.client = &http.Client{
		Transport: &http.Transport{
			Proxy:       nil, // a proxy would resolve the name, and permit would not see the address
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: o.Timeout, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: maxWebhookAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	_, err = c.secrets()
	return c, err
}

func (c *webhookChannel) secrets() (signers []*standardwebhooks.Webhook, err error) {
	text, err := os.ReadFile(c.options.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("the webhook's secrets: %w", err)
	}
	for i, line := range slices.Collect(strings.Lines(string(text))) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "whsec_"))
		if err != nil || len(key) < minSecret {
			return nil, fmt.Errorf("the webhook's secrets: line %d of %s is not whsec_ and at least %d bytes in base64", i+1, c.options.SecretFile, minSecret)
		}
		signer, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return nil, err
		}
		signers = append(signers, signer)
	}
	if len(signers) == 0 {
		return nil, fmt.Errorf("the webhook's secrets: there is none in %s", c.options.SecretFile)
	}
	return signers, nil
}

func (c *webhookChannel) name() domain.Channel { return domain.ChannelWebhook }
func (c *webhookChannel) destination() string  { return c.url.Host }

func (c *webhookChannel) pause(n int64) (time.Duration, bool) {
	if n > int64(len(c.options.Schedule)) {
		return 0, false
	}
	return c.options.Schedule[n-1], true
}

// permit refuses connections to addresses that are not public. It is called after name resolution, so that a name cannot resolve to an
// internal service (SSRF).
func (c *webhookChannel) permit(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := to.Addr().Unmap()
	for _, allowed := range c.options.Allow {
		if allowed.Contains(ip) {
			return nil
		}
	}
	if !public(ip) {
		return &failure{err: fmt.Errorf("%s is not a public address: allow its network with --webhook-allow if it is the receiver's", ip), permanent: true}
	}
	return nil
}

// special lists networks that are not public besides those that [netip.Addr] recognizes: shared address space, protocol assignments,
// documentation, benchmarking, reserved, and IPv6 networks that embed IPv4 addresses (NAT64, 6to4, Teredo).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("fec0::/10"),
}

func public(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.Zone() != "" {
		return false
	}
	for _, network := range special {
		if network.Contains(ip) {
			return false
		}
	}
	return true
}

// payload is the body of a request.
type payload struct {
	Type      string       `json:"type"` // "notification." and the kind
	Timestamp time.Time    `json:"timestamp"`
	Data      notification `json:"data"`
}

type notification struct {
	NotificationID domain.NotificationID   `json:"notificationId"`
	Kind           domain.NotificationKind `json:"kind"`
	BookingID      domain.BookingID        `json:"bookingId,omitzero"` // left out, as its user and times are, if it is about a fault of the room
	RoomID         domain.RoomID           `json:"roomId"`
	UserID         domain.UserID           `json:"userId"` // the recipient
	BookingUserID  domain.UserID           `json:"bookingUserId,omitzero"`
	By             string                  `json:"by,omitzero"`
	Reason         string                  `json:"reason,omitzero"`
	Contents       string                  `json:"contents"`
	UseStartDtm    time.Time               `json:"useStartDtm,omitzero"`
	UseEndDtm      time.Time               `json:"useEndDtm,omitzero"`
	OldRoomID      domain.RoomID           `json:"oldRoomId,omitzero"`
	OldUseStartDtm time.Time               `json:"oldUseStartDtm,omitzero"`
	OldUseEndDtm   time.Time               `json:"oldUseEndDtm,omitzero"`
}

func (c *webhookChannel) send(ctx context.Context, m Message) error {
	if c.gone.Load() {
		return unsendable(errors.New("the webhook's receiver has answered 410 Gone: it wants nothing more"))
	}
	bookedFor := m.User
	if m.Booking == "" { // they have reported a fault, and are in by
		bookedFor = ""
	}
	body, err := json.Marshal(payload{"notification." + string(m.Kind), m.At.UTC(), notification{
		NotificationID: m.ID, Kind: m.Kind, BookingID: m.Booking, RoomID: m.Room, UserID: m.To, BookingUserID: bookedFor, By: m.By, Reason: m.Reason, Contents: m.Sentence(),
		UseStartDtm: m.Slot.Start.In(c.texts.zone), UseEndDtm: m.Slot.End.In(c.texts.zone),
		OldRoomID: m.OldRoom, OldUseStartDtm: m.OldSlot.Start.In(c.texts.zone), OldUseEndDtm: m.OldSlot.End.In(c.texts.zone),
	}})
	if err != nil {
		return unsendable(err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), bytes.NewReader(body))
	if err != nil {
		return unsendable(err)
	}
	now := time.Now()
	signers, err := c.secrets()
	if err != nil {
		return &failure{err: err, down: true}
	}
	var signatures []string
	for _, signer := range signers {
		signature, err := signer.Sign(string(m.ID), now, body)
		if err != nil {
			return unsendable(err)
		}
		signatures = append(signatures, signature)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Roombook")
	request.Header.Set(standardwebhooks.HeaderWebhookID, string(m.ID))
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	answer, err := c.client.Do(request)
	if f, ok := errors.AsType[*failure](err); ok {
		return unsendable(f.err)
	}
	if err != nil {
		return &failure{err: withoutURL(err), down: true}
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, maxWebhookAnswer) // so that the connection can be reused
	switch status := answer.StatusCode; {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusGone:
		c.gone.Store(true)
		return &failure{err: errors.New(answer.Status), permanent: true}
	default:
		return &failure{
			err:   fmt.Errorf("the webhook's receiver answered %s", answer.Status),
			down:  slices.Contains(unavailable, status),
			after: retryAfter(answer.Header.Get("Retry-After"), now),
		}
	}
}

// withoutURL removes the URL from an error: it may contain a secret, and the error is recorded forever.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// retryAfter parses a Retry-After header.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	var after time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		after = at.Sub(now)
	}
	return min(max(after, 0), maxRetryAfter)
}

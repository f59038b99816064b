package optest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const clientID, secret = "rooms", "a secret of forty characters, more or less"

// provider is what the identity provider keeps: the library's example, and what it does not say of the client.
type provider struct {
	*storage.Storage
	rooms atomic.Pointer[string] // the address of the program, which is known once that has started
	ended atomic.Int32           // how often somebody has signed out, and said by an ID token who
	token atomic.Pointer[string] // the last access token
}

func (p *provider) GetClientByClientID(context.Context, string) (op.Client, error) {
	return client{storage.WebClient(clientID, secret, *p.rooms.Load()+"/signin/oidc/callback"), p}, nil
}

func (p *provider) AuthorizeClientIDSecret(_ context.Context, id, given string) error {
	if id != clientID || given != secret {
		return fmt.Errorf("client %s has another secret", id)
	}
	return nil
}

func (p *provider) TerminateSessionFromRequest(ctx context.Context, r *op.EndSessionRequest) (string, error) {
	if r.IDTokenHintClaims == nil || r.UserID == "" {
		return "", errors.New("nobody says who signs out")
	}
	p.ended.Add(1)
	return r.RedirectURI, p.Storage.TerminateSession(ctx, r.UserID, r.ClientID)
}

type client struct {
	*storage.Client
	provider *provider
}

func (c client) PostLogoutRedirectURIs() []string {
	return []string{*c.provider.rooms.Load() + "/signin"}
}

// AccessTokenType makes access tokens JWTs, which this library gives the type of ID tokens.
func (c client) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

// keepToken keeps the access tokens that the provider is shown.
func (p *provider) keepToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			p.token.Store(&token)
		}
		next.ServeHTTP(w, r)
	})
}

// startProvider returns a provider and its address, whose site is another than the program's.
func startProvider(t *testing.T) (*provider, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer := fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
	p := &provider{Storage: storage.NewStorage(storage.NewUserStore(issuer))}
	server := &http.Server{Handler: p.keepToken(exampleop.SetupServer(issuer, p, slog.New(slog.DiscardHandler), false))}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return p, issuer
}

// startProgram builds and starts the program, and returns its address and its log.
func startProgram(t *testing.T, args ...string) (address, log string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "roombook")
	build := exec.Command("go", "build", "-o", path, "./cmd/roombook")
	build.Dir = filepath.Join("..", "..", "..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	log = filepath.Join(dir, "log")
	stderr, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"serve", "--listen", "127.0.0.1:0", "--node", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--log-level", "debug"}, args...)...)
	cmd.Env = append(os.Environ(), "ROOMBOOK_OIDC_CLIENT_SECRET="+secret)
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		stderr.Close()
	})
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("it ended before it listened: %v", err)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	_, at, _ := strings.Cut(strings.TrimSpace(line), "http://")
	return "http://" + at, log
}

// startBrowser starts the Chromium that ROOMBOOK_TEST_CHROMIUM names, or else the one that is installed.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	binary := os.Getenv("ROOMBOOK_TEST_CHROMIUM")
	if binary == "" {
		binary = "chromium"
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(binary), chromedp.NoSandbox, chromedp.Flag("headless", "new"), chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(2*time.Minute), chromedp.UserDataDir(t.TempDir()))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeBrowser := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		closeBrowser()
		stop()
	})
	return ctx
}

// tab is a page of the browser.
type tab struct {
	t   *testing.T
	ctx context.Context
	log string // of the program
}

func (b *tab) open(address string) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, chromedp.Navigate(address)); err != nil {
		b.t.Fatal(err)
	}
}

// until waits until a script, which a navigation may interrupt, returns what is wanted.
func (b *tab) until(script, want string) {
	b.t.Helper()
	for {
		got, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
		if err == nil && got == want {
			return
		}
		if b.ctx.Err() != nil {
			log, _ := os.ReadFile(b.log)
			b.t.Fatalf("%s: %q, %v, want %q\n%s", script, got, err, want, log)
		}
	}
}

// Somebody signs in at a provider, is who the provider says, and signs out of both.
func TestSignIn(t *testing.T) {
	p, issuer := startProvider(t)
	rooms, log := startProgram(t, "--auth", "oidc", "--oidc-issuer", issuer, "--oidc-client-id", clientID, "--oidc-audience", clientID)
	p.rooms.Store(&rooms)
	ctx, cancel := context.WithTimeout(startBrowser(t), 2*time.Minute)
	defer cancel()
	b := &tab{t, ctx, log}
	const here = `location.origin + location.pathname`

	b.open(rooms + "/my?x=1")
	b.until(here, rooms+"/signin")
	b.until(`document.querySelector("main a.button").click(), ""`, "")
	b.until(here, issuer+"/login/username")
	b.until(`document.querySelector("[name=username]").value = "test-user@localhost", document.querySelector("[name=password]").value = "verysecure", document.querySelector("form").submit(), ""`, "")
	b.until(`location.href`, rooms+"/my?x=1")
	const me = `fetch("/me").then(r => r.json()).then(me => [me.name, me.fullName, me.address, ...me.roles].join(" | "))`
	b.until(me, "test-user@localhost | Test User | test-user@zitadel.ch | user")

	// The provider's access token is a JWT for this audience, and has the type of an ID token: so it is none for the API.
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, rooms+"/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+*p.token.Load())
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("an access token of the type of an ID token: %s", answer.Status)
	}

	b.until(`document.querySelector("form[action='/signout'] button").click(), ""`, "")
	b.until(here, rooms+"/signin")
	for p.ended.Load() == 0 && ctx.Err() == nil {
		b.until(here, rooms+"/signin") // the page leads to the provider, which leads back
	}
	b.until(`location.href`, rooms+"/signin")
	b.until(`fetch("/me").then(r => String(r.status))`, "401")

	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{secret, *p.token.Load(), "code=", "test-user"} {
		if strings.Contains(string(content), text) {
			t.Errorf("%s is in the log:\n%s", text, content)
		}
	}
}

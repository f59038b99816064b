package main

import (
	"context"
	"errors"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roombook/commands"
	"roombook/commands/notify"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// An event store where the program's user has no rights but to read and write streams of users: a start says which command an administrator
// has to run, and after that the program runs, and could consume.
func TestSetup(t *testing.T) {
	node := eventstoretest.Serve(t, "")
	var mayReadAll atomic.Bool
	store := securedBy(t, node, func(r *http.Request) int {
		user, _, _ := r.BasicAuth()
		switch {
		case user == "admin":
			return 0
		case user != "roombook":
			return unauthenticated
		case strings.HasSuffix(r.URL.Path, "PersistentSubscriptions/Create"), strings.HasSuffix(r.URL.Path, "Streams/Read") && !mayReadAll.Load():
			return permissionDenied
		}
		return 0
	})
	asUser, asAdmin := "esdb://roombook:secret@"+store, "esdb://admin:secret@"+store
	fails := func(want string, args ...string) {
		t.Helper()
		cmd := exec.Command(program(t), append(args, "--eventstore", asUser, "--data", t.TempDir())...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		_ = cmd.Run() // the exit code is looked at
		if code := cmd.ProcessState.ExitCode(); code != exitFailed || stderr.String() != want {
			t.Errorf("%v: exit code %d, %s", args, code, &stderr)
		}
	}
	const noRight = "roombook: the event store refuses the user roombook: PermissionDenied: give the user the right to read $all, as an administrator of the event store, with: roombook setup --eventstore esdb://admin… --user roombook\n"
	fails(noRight, "serve", "--listen", "127.0.0.1:0")
	fails(noRight, "setup")
	mayReadAll.Store(true)
	fails("roombook: ensure group roombook-notifications: the event store refuses the user roombook: PermissionDenied: an administrator of the event store has to run: roombook setup --eventstore esdb://admin…\n", "setup")

	setUp := func(want string) {
		t.Helper()
		out, err := exec.Command(program(t), "setup", "--eventstore", asAdmin, "--user", "roombook").CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("%v, %s", err, out)
		}
	}
	setUp("right of roombook to read the log: has been set up\npersistent subscription roombook-notifications: has been set up\npersistent subscription roombook-notifications-webhook: has been set up\npersistent subscription roombook-notifications-faults: has been set up\n")
	setUp("right of roombook to read the log: was there already\npersistent subscription roombook-notifications: was there already\npersistent subscription roombook-notifications-webhook: was there already\npersistent subscription roombook-notifications-faults: was there already\n")

	user, err := eventstore.Open(eventstore.Options{ConnectionString: asUser})
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	for stream, want := range map[string]string{"$$$all": `{"$acl":{"$r":["$admins","roombook"]}}`, "$$recovery-checkpoint": `{"$maxCount":1}`, "$$dispatch-checkpoint": `{"$maxCount":1}`,
		"$$dispatch-settled-roombook-notifications": `{"$maxCount":1}`, "$$dispatch-settled-roombook-notifications-webhook": `{"$maxCount":1}`,
		"$$dispatch-settled-roombook-notifications-faults": `{"$maxCount":1}`} {
		last := ""
		for r, err := range user.ReadStream(t.Context(), stream, 0) {
			if err != nil {
				t.Fatal(err)
			}
			last = string(r.Data)
		}
		if last != want {
			t.Errorf("the metadata in %s is %s, want %s", stream, last, want)
		}
	}
	// The user now needs none of the rights that it lacks.
	if err := errors.Join(commands.Setup(t.Context(), user), notify.Setup(t.Context(), user)); err != nil {
		t.Errorf("set up by the user: %v", err)
	}
	for _, group := range notify.AllGroups {
		if changed, err := notify.EnsureGroup(t.Context(), user, group); err != nil || changed {
			t.Errorf("%s made by the user: %t, %v", group.Name, changed, err)
		}
	}
	p := startServe(t, t.TempDir(), "--eventstore", asUser, "--log-level", "error")
	p.stop(t)
	if p.stderr.Len() > 0 {
		t.Errorf("logged %s", p.stderr)
	}
}

// To have events handed out again takes an operator of the event store, which is told in one line.
func TestReplayNeedsAnOperator(t *testing.T) {
	node := eventstoretest.Serve(t, "")
	store := securedBy(t, node, func(r *http.Request) int {
		if user, _, _ := r.BasicAuth(); user != "ops" && strings.HasSuffix(r.URL.Path, "PersistentSubscriptions/ReplayParked") {
			return permissionDenied
		}
		return 0
	})
	ops, err := eventstore.Open(eventstore.Options{ConnectionString: "esdb://ops:secret@" + store})
	if err != nil {
		t.Fatal(err)
	}
	defer ops.Close()
	if _, err := notify.EnsureGroup(t.Context(), ops, notify.MainGroup); err != nil {
		t.Fatal(err)
	}
	if _, err := ops.Append(t.Context(), "notification-1", eventstore.NoStream, eventstore.Proposed{Event: domain.NotificationRetried{NotificationID: "1"}, Metadata: eventstore.Metadata{OccurredAt: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	if err := ops.Consume(ctx, notify.MainGroup.Name, eventstore.ConsumeOptions{}, func(context.Context, eventstore.Delivery) eventstore.Settlement {
		stop()
		return eventstore.Park("as the test says")
	}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	roombook := func(user, verb string) (int, string) {
		cmd := exec.Command(program(t), "notifications", verb, "--eventstore", "esdb://"+user+":secret@"+store)
		out, _ := cmd.CombinedOutput() // the exit code is looked at
		return cmd.ProcessState.ExitCode(), string(out)
	}
	if code, out := roombook("roombook", "replay"); code != exitFailed || strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, "PermissionDenied: name an operator of the event store: --eventstore esdb://ops…\n") {
		t.Errorf("%d, %s", code, out)
	}
	if code, out := roombook("ops", "unhandled"); code != exitOK || !strings.HasSuffix(out, ": as the test says\nroombook-notifications: 1 event\n") {
		t.Errorf("%d, %s", code, out)
	}
	if code, out := roombook("ops", "replay"); code != exitOK || out != "roombook-notifications: 1 event handed out again\n" {
		t.Errorf("%d, %s", code, out)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"

	"roombook/commands"
	"roombook/eventstore"
	"roombook/projections"
)

func newVerifyCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the log against the rules and the lists against the log",
		Long: `Walk the log of all events and check every rule: live bookings of a room never overlap, at any position; calendars hold the slots of
live bookings, the time that was used, and nothing else; every real use belongs to its booking; every event can be read; every list
says what the events say, and shows it. It changes nothing.

Every fault is printed with its position and ids, and the exit code is 1. Commands under way, commands that recovery will finish, and
events that a list has yet to fold are no faults and are counted separately.

` + attachHelp,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return verify(cmd.Context(), c, cmd.OutOrStdout())
		},
	}
	c.register(cmd.Flags())
	return fromEnvironment(cmd)
}

func verify(ctx context.Context, c storeConfig, stdout io.Writer) (err error) {
	store, err := attachEvents(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	views, err := readViews(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, views.Close()) }()

	log := &auditedLog{events: store, audit: commands.NewAudit()}
	verdicts, errs := projections.VerifyAll(ctx, views, log, projections.All())
	wrong, err := log.verify(ctx, stdout)
	if err != nil {
		return err
	}
	for i, p := range projections.All() {
		n, err := printVerdict(stdout, p.Name, verdicts[i], errs[i])
		if err != nil {
			return err
		}
		wrong += n
	}
	if wrong > 0 {
		return fmt.Errorf("%s found; roombook replay repairs a list, but nothing repairs a log: keep a copy of it as it is, and report what was printed", faults(wrong))
	}
	return nil
}

// verify audits what is left of the log, prints its faults and returns their number.
func (l *auditedLog) verify(ctx context.Context, stdout io.Writer) (wrong int, err error) {
	// Commands keep running meanwhile, and what they have not finished yet looks like a fault at the end of the log. A real one is still
	// there in every round.
	const rounds = 3
	var findings []commands.Finding
	var open []commands.OpenBooking
	for round := range rounds {
		if err := l.audit.AddLog(ctx, l.events, l.audit.Last()); err != nil {
			return 0, err
		}
		if open, err = commands.OpenBookings(ctx, l.events); err != nil {
			return 0, err
		}
		now := slices.DeleteFunc(l.audit.Findings(), func(f commands.Finding) bool {
			return f.AtEnd && slices.ContainsFunc(open, func(b commands.OpenBooking) bool {
				return b.Booking == f.Booking || b.Room != "" && b.Room == f.Room
			})
		})
		if round > 0 {
			now = slices.DeleteFunc(now, func(f commands.Finding) bool {
				return f.AtEnd && !slices.ContainsFunc(findings, func(before commands.Finding) bool {
					return before.Booking == f.Booking && before.Room == f.Room && before.Detail == f.Detail
				})
			})
		}
		findings = now
		if !slices.ContainsFunc(findings, func(f commands.Finding) bool { return f.AtEnd }) {
			break
		}
	}
	snapshots, err := l.audit.Snapshots(ctx, l.events)
	if err != nil {
		return 0, err
	}
	findings = append(findings, snapshots...)
	for _, f := range findings {
		fmt.Fprintln(stdout, f)
	}
	unreadable := l.audit.Unreadable()
	for _, r := range unreadable {
		fmt.Fprintf(stdout, "position %d, stream %s: event %d, %s, cannot be decoded by this version of the program; what the stream belongs to can be neither read nor changed\n",
			r.Position, r.Stream, r.Revision, r.Type)
	}
	wrong = len(findings) + len(unreadable)
	fmt.Fprintf(stdout, "log: %d events of %d bookings up to position %d, %s", l.audit.Events(), l.audit.Bookings(), l.audit.Last(), faults(wrong))
	if n := len(open); n > 0 {
		fmt.Fprintf(stdout, "; %d under way or half-finished, see roombook recovery status", n)
	}
	fmt.Fprintln(stdout)
	return wrong, nil
}

// auditedLog is the log as the lists are verified by it. What they read from its beginning is audited on the way, so that it is read and
// decoded once for both.
type auditedLog struct {
	*events
	audit *commands.Audit
	begun atomic.Bool
}

// Subscribe implements [projections.Log].
func (l *auditedLog) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Batch, error] {
	if after > 0 || l.begun.Swap(true) {
		return l.events.Subscribe(ctx, after, f)
	}
	audited := commands.Audited()
	both := eventstore.Filter{StreamPrefixes: slices.Concat(audited.StreamPrefixes, f.StreamPrefixes)}
	return func(yield func(eventstore.Batch, error) bool) {
		for batch, err := range l.events.Subscribe(ctx, 0, both) {
			var auditing sync.WaitGroup
			auditing.Go(func() { l.audit.AddAll(audited.Select(batch.Events)) })
			listed := batch
			listed.Events = f.Select(batch.Events)
			more := yield(listed, err)
			auditing.Wait()
			if !more {
				return
			}
		}
	}
}

// printVerdict prints the faults of a list and returns their number. It returns the error if the list could not be judged.
func printVerdict(stdout io.Writer, name string, verdict projections.Verdict, err error) (wrong int, _ error) {
	var other *projections.OtherLog
	switch {
	case errors.Is(err, projections.ErrNotBuilt):
		fmt.Fprintf(stdout, "%s: not built yet; roombook serve or roombook replay %[1]s builds it\n", name)
		return 1, nil
	case errors.As(err, &other):
		fmt.Fprintf(stdout, "%s: %v\n", name, other)
		return 1, nil
	case err != nil:
		return 0, err
	}
	for _, d := range verdict.Differences {
		fmt.Fprintln(stdout, d)
	}
	for _, unseen := range verdict.Unseen {
		fmt.Fprintln(stdout, unseen)
	}
	fmt.Fprintf(stdout, "%s: up to position %d, %s", name, verdict.Position, faults(verdict.Faults()))
	if verdict.Behind > 0 {
		fmt.Fprintf(stdout, "; %s behind the log", counted(verdict.Behind, "event"))
	}
	fmt.Fprintln(stdout)
	return verdict.Faults(), nil
}

func faults(n int) string {
	if n == 0 {
		return "no faults"
	}
	return counted(n, "fault")
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Roombook is a meeting-room system: rooms that cannot be double-booked, a full history of every booking, and lists that can
// be rebuilt from events at any time.
//
//	roombook serve               the whole system
//	roombook replay PROJECTION   build a list anew from events
//	roombook verify              prove that the log keeps the rules and the lists equal the log
//	roombook recovery status     list commands that are not finished
//	roombook booking release ID  end a booking that cannot be read
//	roombook version
//
// Exit codes: 0 done; 1 it failed, and standard error says in one line why and what to do; 2 the command line or the
// environment is wrong; 130 it was interrupted before it was done.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	_ "time/tzdata" // local times are read in a zone that must be known wherever the program runs

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, stdout, stderr := untilToldToEnd(os.Stdout, os.Stderr)
	os.Exit(run(ctx, os.Args[1:], stdout, stderr))
}

// run carries out a command line until it is done or ctx ends, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "roombook",
		Short:         "Meeting rooms that cannot be double-booked",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
				return usagef("there is no command %q; did you mean %s?", args[0], strings.Join(similar, " or "))
			}
			return usagef("there is no command %q", args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.Version = versionText()
	root.SetVersionTemplate("{{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(newServeCommand(), newReplayCommand(), newVerifyCommand(), newRecoveryCommand(), newBookingCommand(), newVersionCommand())

	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(stderr, "roombook: interrupted")
		return exitInterrupted
	default:
		fmt.Fprintln(stderr, "roombook:", err)
		if _, ok := errors.AsType[*usageError](err); ok {
			return exitUsage
		}
		return exitFailed
	}
}

// usageError is a fault of the command line or of the environment.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() + " (see roombook help)" }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// arguments is a check of positional arguments whose complaint is a usage error.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &usageError{err}
		}
		return nil
	}
}

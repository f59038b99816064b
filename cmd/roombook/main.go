// Roombook is a meeting-room system: rooms that cannot be double-booked, a full history of every booking, and lists that can
// be rebuilt from events at any time.
//
//	roombook serve               run the whole system
//	roombook replay PROJECTION   rebuild a list from events
//	roombook verify              check the log against the rules and the lists against the log
//	roombook setup               prepare an event store for a user with few rights
//	roombook recovery status     list half-finished commands
//	roombook notifications parked|retry|test|unhandled|replay
//	                             look after notifications that could not be sent
//	roombook rooms import|export FILE
//	                             register the rooms of a house, or export those registered
//	roombook booking release ID  end a booking that cannot be read
//	roombook user add|passwd|roles|disable|erase|list
//	                             look after those who sign in
//	roombook token create|list|revoke
//	                             look after tokens for the API
//	roombook version
//
// Exit codes: 0 done; 1 failed, and standard error says in one line why and what to do; 2 the command line or the
// environment is wrong; 130 interrupted before it was done.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	_ "time/tzdata" // --timezone works on machines that have no time zone database

	"github.com/spf13/cobra"

	"roombook/eventstore"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, stdout, stderr := shutdownContext(os.Stdout, os.Stderr)
	os.Exit(run(ctx, os.Args[1:], stdout, stderr))
}

// run carries out a command line until it is done or ctx ends, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newGroup("roombook", "Meeting rooms that cannot be double-booked",
		newServeCommand(), newReplayCommand(), newVerifyCommand(), newSetupCommand(),
		newGroup("recovery", "Look after half-finished commands", newRecoveryStatusCommand()),
		newGroup("rooms", "Set up rooms", newRoomsImportCommand(), newRoomsExportCommand()),
		newGroup("booking", "Look after a single booking", newBookingReleaseCommand()),
		newHealthcheckCommand(), newBackupCommand(), newRestoreCommand(), newExportCommand(), newImportCommand(),
		newGroup("notifications", "Look after notifications", newNotificationsParkedCommand(), newNotificationsRetryCommand(), newNotificationsTestCommand(),
			newNotificationsUnhandledCommand(), newNotificationsReplayCommand()),
		newGroup("user", "Look after users, where --auth is accounts or oidc",
			newUserAddCommand(), newUserPasswdCommand(), newUserChangeCommand(), newUserRolesCommand(), newUserDisableCommand(), newUserEraseCommand(), newUserListCommand()),
		newGroup("token", "Look after tokens for the API, where --auth is accounts or oidc", newTokenCreateCommand(), newTokenListCommand(), newTokenRevokeCommand(), newTokenPairCommand()),
		newVersionCommand())
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Version = versionText()
	root.SetVersionTemplate("{{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	refuseUnknown(root)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{flagError(err)} })

	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		fmt.Fprintln(stderr, "roombook: interrupted")
		return exitInterrupted
	}
	why := strings.ReplaceAll(err.Error(), "\n", "; ") // errors that were joined
	if _, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(stderr, "roombook: %s (see roombook help%s)\n", why, strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "roombook"), " help"))
		return exitUsage
	}
	if _, refused := errors.AsType[*eventstore.Refused](err); !refused && errors.Is(err, eventstore.ErrUnavailable) && !errors.Is(err, eventstore.ErrReplaced) {
		why += "; " + awayAdvice(cmd)
	}
	fmt.Fprintln(stderr, "roombook:", why)
	return exitFailed
}

// refuseUnknown makes the library's own commands refuse the names of commands that are unknown.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.Args, cmd.RunE = noArgs, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				of, unknown, err := root.Find(args)
				if err != nil {
					return err
				}
				return noArgs(of, unknown)
			}
		}
	}
}

// awayAdvice is what to do about an event store that does not answer the command.
func awayAdvice(cmd *cobra.Command) string {
	if f := cmd.Flags().Lookup("eventstore"); f != nil && f.Value.String() != "" {
		return "start the event store, or check its address in --eventstore"
	}
	return fmt.Sprintf("the program that has the data folder %s does not answer or has ended: restart it if it still runs, and repeat the command", cmd.Flags().Lookup("data").Value)
}

// newGroup returns a command that does nothing but hold subcommands.
func newGroup(name, short string, commands ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{
		Use:   name,
		Short: short,
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	group.AddCommand(commands...)
	return group
}

// usageError is a mistake in the command line or in the environment.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// noArgs refuses positional arguments, which are misspelt commands more often than not.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	name := strings.TrimPrefix(cmd.CommandPath()+" "+args[0], "roombook ")
	cmd.SuggestionsMinimumDistance = 2 // edits between what was typed and what may have been meant
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		return usagef("there is no command %q; did you mean %s?", name, strings.Join(similar, " or "))
	}
	return usagef("there is no command %q", name)
}

// oneFile refuses anything but the name of a file, with what to do instead.
func oneFile(advice string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usagef("%s", advice)
		}
		return nil
	}
}

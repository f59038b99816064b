package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"roombook/commands"
	"roombook/commands/notify"
)

func newSetupCommand() *cobra.Command {
	var c storeConfig
	var user string
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Prepare an event store for a user with few rights",
		Long: `Make in an event store what the program needs there besides events, and what its own user may have no right to make: the persistent
subscriptions that hand out events of which somebody is notified, which begin at the present end of the log or, if somebody has deleted them,
where everything had been settled, and the metadata of the streams that keep their last event only. With --user that user gets the right
to read the log, too. What is there already is left as it is.

For this, --eventstore must name an administrator of the event store. The program itself needs no administrator.

` + attachHelp,
		Example: "  ROOMBOOK_EVENTSTORE='esdb://admin:secret@node1:2113' roombook setup --user roombook",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			store, err := attachEvents(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			if user != "" {
				granted, err := store.GrantReadAll(cmd.Context(), user)
				if err != nil {
					return err
				}
				report(cmd, granted, "right of "+user+" to read the log")
			}
			for _, prepare := range []func() error{
				func() error { return commands.Setup(cmd.Context(), store) },
				func() error { return notify.Setup(cmd.Context(), store) },
			} {
				if err := prepare(); err != nil {
					return commands.NeedsSetup(err)
				}
			}
			for _, group := range notify.AllGroups {
				changed, err := notify.EnsureGroup(cmd.Context(), store, group)
				if err != nil {
					return commands.NeedsSetup(err)
				}
				report(cmd, changed, "persistent subscription "+group.Name)
			}
			return nil
		},
	}
	c.register(cmd.Flags())
	fromEnvironment(cmd)
	cmd.Flags().StringVar(&user, "user", "", "user of the event store, as which the program runs, who gets the right to read the log")
	return cmd
}

// report prints what became of a thing.
func report(cmd *cobra.Command, changed bool, thing string) {
	state := "was there already"
	if changed {
		state = "has been set up"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", thing, state)
}

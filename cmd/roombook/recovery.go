package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"roombook/commands"
)

func newRecoveryStatusCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "status",
		Short: "List half-finished commands",
		Long: `List the bookings and rooms that have a step which is decided but not done, oldest first, and the steps each is waiting for.
Commands under way are among them; the recovery role of serve settles those that stay half-finished for longer than --grace.

` + attachHelp,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			store, err := attachEvents(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			open, err := commands.OpenBookings(cmd.Context(), store)
			if err != nil {
				return err
			}
			for _, b := range open {
				fmt.Fprintf(cmd.OutOrStdout(), "%s, since %s: %s\n", b.Of(), b.Since.Format(time.RFC3339), strings.Join(b.Steps, ", "))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d open\n", len(open))
			return nil
		},
	}
	c.register(cmd.Flags())
	return fromEnvironment(cmd)
}

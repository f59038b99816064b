package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"roombook/commands"
)

func newRecoveryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recovery",
		Short: "Look after commands that were left half-way",
		Args:  arguments(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRecoveryStatusCommand())
	return cmd
}

func newRecoveryStatusCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "status",
		Short: "List commands that are not finished",
		Long: `List the bookings that have a step which is decided and not done, the oldest first, and what each waits for. Commands that are
under way are among them; the recovery role of serve settles what stays open for longer than --grace.

It works on the program that runs on the data folder, or opens the folder itself if none does.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			store, err := attachEvents(c, newLogger(serveConfig{logLevel: slog.LevelWarn}, cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			open, err := commands.OpenBookings(cmd.Context(), store)
			if err != nil {
				return err
			}
			for _, b := range open {
				fmt.Fprintf(cmd.OutOrStdout(), "booking %s, since %s: %s\n", b.Booking, b.Since.Format(time.RFC3339), strings.Join(b.Steps, ", "))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d open\n", len(open))
			return nil
		},
	}
	c.register(cmd.Flags())
	return fromEnvironment(cmd)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"roombook/commands"
	"roombook/projections"
)

func newVerifyCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Prove that the log keeps the rules and the lists equal the log",
		Long: `Walk the log of all events and check every rule: at no position do two live bookings of a room overlap, calendars hold what live
bookings stand on and nothing else, every real use belongs to its booking, and every list is what the events say. It changes
nothing.

What is wrong is printed with its position and ids, and the exit code is 1. A command that is under way at the end of the log shows
as wrong, so ask again, or when nobody works.

It works on the program that runs on the data folder, or opens the folder itself if none does.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return verify(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.register(cmd.Flags())
	return fromEnvironment(cmd)
}

func verify(ctx context.Context, c storeConfig, stdout, stderr io.Writer) (err error) {
	log := newLogger(serveConfig{logLevel: slog.LevelWarn}, stderr)
	store, err := attachEvents(c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	views, err := openViews(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, views.Close()) }()

	audit := commands.NewAudit()
	if err := audit.AddLog(ctx, store, 0); err != nil {
		return err
	}
	findings := audit.Findings()
	for _, f := range findings {
		fmt.Fprintln(stdout, f)
	}
	fmt.Fprintf(stdout, "log: %d events of %d bookings, %s\n", audit.Events(), audit.Bookings(), faults(len(findings)))
	wrong := len(findings)
	for _, p := range projections.All() {
		differences, err := projections.Verify(ctx, views, store, p)
		if err != nil {
			return err
		}
		for _, d := range differences {
			fmt.Fprintln(stdout, d)
		}
		fmt.Fprintf(stdout, "%s: %s\n", p.Name, faults(len(differences)))
		wrong += len(differences)
	}
	if wrong > 0 {
		return fmt.Errorf("%s found; a list is mended by roombook replay, a log is not: keep it and ask who knows", faults(wrong))
	}
	return nil
}

func faults(n int) string {
	switch n {
	case 0:
		return "no faults"
	case 1:
		return "1 fault"
	}
	return fmt.Sprintf("%d faults", n)
}

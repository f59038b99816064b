package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os/user"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"roombook/commands"
	"roombook/domain"
)

func newBookingCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "booking",
		Short: "Look after a single booking",
		Args:  arguments(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBookingReleaseCommand())
	return cmd
}

func newBookingReleaseCommand() *cobra.Command {
	var c storeConfig
	var reason string
	cmd := &cobra.Command{
		Use:   "release BOOKING --reason TEXT",
		Short: "End a booking that cannot be read",
		Long: `End a booking that nobody can cancel since an event of it, or of its use, cannot be decoded by any version of the program, and give its
slot back. The events stay as they are; that the booking was released, by whom and why is in its history.

A booking that can be read is left alone: cancel it with DELETE /bookings/{id}, or end its use.

It works on the program that runs on the data folder, or opens the folder itself if none does. It reads the whole log.`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if reason == "" {
				return usagef("--reason must say why, for whoever reads the booking's history")
			}
			store, err := attachEvents(c, newLogger(serveConfig{logLevel: slog.LevelError}, cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			id := domain.BookingID(args[0])
			rooms, err := commands.ReservedRooms(cmd.Context(), store, id)
			if err != nil {
				return err
			}
			request, err := operatorRequest()
			if err != nil {
				return err
			}
			handler := commands.New(store, commands.Options{Policy: domain.DefaultPolicy()})
			if _, err = handler.ReleaseBooking(cmd.Context(), commands.ReleaseBooking{Request: request, Booking: id, Reason: reason, Rooms: rooms}); err != nil {
				return fmt.Errorf("booking %s: %w", id, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "booking %s is released\n", id)
			return nil
		},
	}
	c.register(cmd.Flags())
	cmd.Flags().StringVar(&reason, "reason", "", "why the booking is ended, for its history")
	return fromEnvironment(cmd)
}

// operatorRequest is a request of whoever is at the command line.
func operatorRequest() (commands.Request, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return commands.Request{}, fmt.Errorf("make a command id: %w", err)
	}
	name := "operator"
	if u, err := user.Current(); err == nil {
		name += " " + u.Username
	}
	return commands.Request{ID: id, Actor: name, At: time.Now().UTC()}, nil
}

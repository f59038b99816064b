package main

import (
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"roombook/commands"
	"roombook/domain"
)

func newBookingReleaseCommand() *cobra.Command {
	var c storeConfig
	var reason string
	cmd := &cobra.Command{
		Use:   "release BOOKING --reason TEXT",
		Short: "End a booking that cannot be read",
		Long: `End a booking that nobody can cancel because no version of the program can decode one of its events, or of its use's, and free its
slot. The events stay as they are; the booking's history says who released it and why.

A booking that can be read is left alone: cancel it with DELETE /bookings/{id}, or end its use. The command reads the whole log.

` + attachHelp,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if len(args) != 1 {
				return usagef("name one booking to release, by its id")
			}
			if reason == "" {
				return usagef("--reason must say why, for those who read the booking's history")
			}
			store, err := attachEvents(cmd.Context(), c)
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
	fromEnvironment(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why the booking is ended, for its history")
	return cmd
}

// operatorRequest is a request by the user of the command line.
func operatorRequest() (commands.Request, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return commands.Request{}, fmt.Errorf("make a command id: %w", err)
	}
	name := "operator"
	if u, err := user.Current(); err == nil {
		name += " " + u.Username
	}
	return commands.Request{ID: id, Actor: domain.Anyone(domain.UserID(name)), At: time.Now().UTC()}, nil
}

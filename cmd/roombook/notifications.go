package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"roombook/commands/notify"
	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

func newNotificationsParkedCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "parked",
		Short: "List the notifications that were given up",
		Long: `List the notifications that could not be delivered and are not tried any more, oldest first, and why. They are the FAILED ones of the
list of notifications; roombook notifications retry has them tried again.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			views, err := readViews(cmd.Context(), c)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, views.Close()) }()
			n := 0
			for failed, err := range parked(cmd.Context(), views) {
				if err != nil {
					return err
				}
				n++
				fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  booking %s, to %s, after %s: %s\n", failed.ID, failed.Kind, failed.Booking, failed.User, counted(failed.Attempts, "attempt"), failed.Reason)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d parked\n", n)
			return nil
		},
	}
	c.register(cmd.Flags())
	return fromEnvironment(cmd)
}

// parked yields the parked notifications.
func parked(ctx context.Context, views projections.Store) iter.Seq2[projections.Notification, error] {
	return func(yield func(projections.Notification, error) bool) {
		queries := projections.NewQueries(views, projections.QueryOptions{})
		q := projections.Query{Statuses: []string{string(domain.DeliveryFailed)}, Size: projections.MaxSize}
		for {
			page, err := queries.Notifications(ctx, q)
			if err != nil {
				yield(projections.Notification{}, fmt.Errorf("read the list of notifications: %w", err))
				return
			}
			for _, n := range page.Items {
				if !yield(n, nil) {
					return
				}
			}
			if q.Cursor = page.Next; q.Cursor == "" {
				return
			}
		}
	}
}

func newNotificationsRetryCommand() *cobra.Command {
	var c storeConfig
	var all bool
	cmd := &cobra.Command{
		Use:   "retry NOTIFICATION…|--all",
		Short: "Have notifications tried again that were given up",
		Long: `Have notifications tried again that were given up, those with the ids or all of them. Each gets as many attempts as a new one, from the
program that has the role dispatch, as soon as that runs.

` + attachHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usagef("name the notifications to try again, by their ids, or all of them with --all")
			}
			return retry(cmd.Context(), c, args, all, cmd.OutOrStdout())
		},
	}
	c.register(cmd.Flags())
	fromEnvironment(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all that were given up")
	return cmd
}

func retry(ctx context.Context, c storeConfig, ids []string, all bool, stdout io.Writer) (err error) {
	store, err := attachEvents(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if all {
		views, err := readViews(ctx, c)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, views.Close()) }()
		for failed, err := range parked(ctx, views) {
			if err != nil {
				return err
			}
			ids = append(ids, string(failed.ID))
		}
	}
	request, err := operatorRequest()
	if err != nil {
		return err
	}
	asked := 0
	for _, id := range ids {
		switch _, err := notify.Retry(ctx, store, domain.NotificationID(id), request.Actor, "", request.ID.String()); {
		case errors.Is(err, notify.ErrNotFailed) && all: // retried by somebody else meanwhile
		case errors.Is(err, notify.ErrNotFailed):
			return fmt.Errorf("notification %s: %w; roombook notifications parked lists those that have", id, err)
		case err != nil:
			return fmt.Errorf("notification %s: %w", id, err)
		default:
			asked++
		}
	}
	fmt.Fprintf(stdout, "%s will be tried again\n", counted(asked, "notification"))
	return nil
}

func newNotificationsTestCommand() *cobra.Command {
	var c dispatchConfig
	cmd := &cobra.Command{
		Use:   "test ADDRESS",
		Short: "Send a mail to an address, to see whether the mail server takes it",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one mail address to send to")
			}
			if c.smtp == "" {
				return usagef("--smtp must name the mail server")
			}
			d, err := c.dispatcher(nil, notify.Options{Logger: newLogger(cmd.ErrOrStderr(), slog.LevelError, "text")})
			if err != nil {
				return err
			}
			if err := d.Test(cmd.Context(), args[0]); err != nil {
				return fmt.Errorf("the mail was not sent: %w; check the address, --smtp and the mail server", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the mail server has accepted a mail to %s\n", args[0])
			return nil
		},
	}
	c.register(cmd.Flags())
	return fromEnvironment(cmd)
}

func newNotificationsUnhandledCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "unhandled",
		Short: "List the events whose notifications could not be made",
		Long: `List the events whose notifications could not be made, oldest first, and why: the persistent subscription has parked them. roombook
notifications replay has them handed out again.

` + operatorHelp,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return eachGroup(cmd, c, func(store *events, group string) error {
				parked, err := store.Parked(cmd.Context(), group)
				for _, e := range parked {
					fmt.Fprintf(cmd.OutOrStdout(), "event %d of %s, parked by %s on %s: %s\n", e.Revision, e.Stream, group, e.At.Format(time.RFC3339), e.Reason)
				}
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", group, counted(len(parked), "event"))
				}
				return err
			})
		},
	}
	c.register(cmd.Flags())
	return fromEnvironment(cmd)
}

func newNotificationsReplayCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Have the events handed out again whose notifications could not be made",
		Long: `Have the events handed out again that roombook notifications unhandled lists, to the program that has the role dispatch. What was sent
because of them is not sent again.

` + operatorHelp,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return eachGroup(cmd, c, func(store *events, group string) error {
				info, err := store.Group(cmd.Context(), group)
				if err == nil && info.Parked > 0 {
					err = store.ReplayParked(cmd.Context(), group)
				}
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s handed out again\n", group, counted(info.Parked, "event"))
				}
				return err
			})
		},
	}
	c.register(cmd.Flags())
	return fromEnvironment(cmd)
}

const operatorHelp = `Where the event store has users, --eventstore must name an operator or an administrator.

` + attachHelp

// eachGroup calls do for each persistent subscription that there is.
func eachGroup(cmd *cobra.Command, c storeConfig, do func(store *events, group string) error) (err error) {
	store, err := attachEvents(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for _, group := range notify.AllGroups {
		err := do(store, group.Name)
		if refused, ok := errors.AsType[*eventstore.Refused](err); ok && refused.Denied {
			return fmt.Errorf("%w: name an operator of the event store: --eventstore esdb://ops…", err)
		}
		if _, missing := errors.AsType[*eventstore.NoGroup](err); err != nil && !missing {
			return err
		}
	}
	return nil
}

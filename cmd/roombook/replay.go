package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"roombook/projections"
)

func newReplayCommand() *cobra.Command {
	var c storeConfig
	var all bool
	cmd := &cobra.Command{
		Use:   "replay PROJECTION…|--all",
		Short: "Rebuild lists from events",
		Long: `Rebuild lists from events. The log is read once for all of them. A list is built beside the one that readers see and replaces it once it
is complete, so nobody sees a half-built list. The command ends at the first list that cannot be completed: that one, and all that are not
complete yet, stay as they were. A list that was built from another log, because a backup has been restored since, is removed first.
Replaying sends nothing to anybody.

The projections are ` + strings.Join(projectionNames(), ", ") + `.

` + attachHelp,
		Example: "  roombook replay booking_list\n  roombook replay --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := chooseProjections(args, all)
			if err != nil {
				return err
			}
			return replay(cmd.Context(), c, chosen, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.register(cmd.Flags())
	fromEnvironment(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all projections")
	return cmd
}

func projectionNames() []string {
	var names []string
	for _, p := range projections.All() {
		names = append(names, p.Name)
	}
	return names
}

func chooseProjections(names []string, all bool) ([]projections.Projection, error) {
	if all == (len(names) > 0) {
		return nil, usagef("name the projections to replay (%s), or all of them with --all", strings.Join(projectionNames(), ", "))
	}
	if all {
		return projections.All(), nil
	}
	var chosen []projections.Projection
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		p, ok := projections.Named(name)
		if !ok {
			return nil, usagef("there is no projection %q; the projections are %s", name, strings.Join(projectionNames(), ", "))
		}
		chosen = append(chosen, p)
	}
	return chosen, nil
}

func replay(ctx context.Context, c storeConfig, chosen []projections.Projection, stdout, stderr io.Writer) (err error) {
	// A replay keeps little of the much that it allocates.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	log := newLogger(stderr, slog.LevelWarn, "text")
	store, err := attachEvents(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	views, err := attachViews(ctx, c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, views.Close()) }()

	var mu sync.Mutex
	last := map[string]projections.Progress{}
	show, done := progressOf("lists", stdout)
	rebuilder := projections.NewRebuilder(views, store, projections.RebuilderOptions{Logger: log})
	err = rebuilder.RebuildAll(ctx, chosen, func(now projections.Progress) {
		mu.Lock()
		defer mu.Unlock()
		last[now.Projection] = now
		show(now)
	})
	done()
	for _, p := range chosen {
		switch of := last[p.Name]; {
		case of.ByOther:
			fmt.Fprintf(stdout, "%s: another replay finished first, generation %d is live\n", p.Name, of.Generation)
		case of.Active:
			fmt.Fprintf(stdout, "%s: %d events in %s (%.0f/s), generation %d is live\n",
				p.Name, of.Events, of.Elapsed.Round(time.Millisecond), of.Rate(), of.Generation)
		}
	}
	if err != nil {
		return fmt.Errorf("%w; lists that were not replaced are as they were: run the command again once that is put right", err)
	}
	return nil
}

// progressOf shows the progress of a replay: a bar on a terminal, elsewhere a line every few seconds.
func progressOf(name string, w io.Writer) (show func(projections.Progress), done func()) {
	if f, ok := w.(interface{ Fd() uintptr }); ok && term.IsTerminal(int(f.Fd())) {
		bar := progressbar.NewOptions64(1,
			progressbar.OptionSetDescription(name),
			progressbar.OptionSetWriter(w),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionShowElapsedTimeOnFinish(),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionThrottle(100*time.Millisecond),
		)
		return func(p projections.Progress) {
			bar.Describe(fmt.Sprintf("%s %.0f events/s", name, p.Rate()))
			if bar.GetMax64() != int64(p.Total) {
				bar.ChangeMax64(int64(p.Total))
			}
			_ = bar.Set64(int64(min(p.Done, p.Total)))
		}, func() { _ = bar.Clear() }
	}
	const every = 2 * time.Second
	shown := time.Now()
	return func(p projections.Progress) {
		if time.Since(shown) < every {
			return
		}
		shown = time.Now()
		fmt.Fprintf(w, "%s: %d events, %.0f/s, %s left\n", name, p.Events, p.Rate(), p.Left().Round(time.Second))
	}, func() {}
}

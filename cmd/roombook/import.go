package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"roombook/eventstore"
	"roombook/projections"
)

func newImportCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Fill an event store from an export",
		Long: `Append the events of a file that roombook export wrote to an event store that has none: in their order, with their ids, revisions, data
and metadata. Then read them back and compare number and hash. Nothing is written if the file is damaged or incomplete, or lacks events of
a stream of this program. A stream of others that lacks events is named, and left out.

No roombook may run on that event store before the command is done, and roombook setup comes after it; so, where the event store has users,
--eventstore names an administrator, who may read the log without it. A command that was interrupted goes on where it stopped when it is
run again. Positions and the times of writing are the new event store's own; when a thing happened is in the events' metadata.`,
		Example: "  roombook import rooms.jsonl --eventstore esdb://…",
		Args:    oneFile("name the file to read"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return importLog(cmd.Context(), c, args[0], cmd.OutOrStdout())
		},
	}
	c.registerEvents(cmd.Flags())
	return fromEnvironment(cmd)
}

func importLog(ctx context.Context, c storeConfig, file string, stdout io.Writer) (err error) {
	f, err := openLogFile(file, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	whole, missing := newLogSum(), newGaps()
	for e, err := range readLogFile(f, whole) {
		if _, ok := errors.AsType[*unfinished](err); err != nil && !ok {
			err = fmt.Errorf("%w; name a whole file that roombook export wrote, or export again", err)
		}
		if err != nil {
			return err
		}
		missing.add(e)
	}
	if missing.program != nil {
		return fmt.Errorf("%s: %w", file, missing.program)
	}
	if len(missing.others) > 0 {
		fmt.Fprintf(stdout, "left out, since events are missing: %s\n", strings.Join(slices.Sorted(maps.Keys(missing.others)), ", "))
		whole = newLogSum()
		for e, err := range without(missing.others, f) {
			if err != nil {
				return err
			}
			whole.add(e)
		}
	}
	store, err := openOrAttach(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	skip, err := imported(ctx, store, without(missing.others, f))
	if err != nil {
		return err
	}
	if skip > 0 {
		fmt.Fprintf(stdout, "continues after %s\n", counted(int(skip), "event"))
	}
	if err := appendAll(ctx, store, without(missing.others, f), skip, whole.events, stdout); err != nil {
		return err
	}
	there := newLogSum()
	for e, err := range store.StoredAfter(ctx, 0) {
		if err != nil {
			return err
		}
		there.add(e)
	}
	if there.end() != whole.end() {
		return fmt.Errorf("the event store has %d events with the hash %s, and the file has %d with %s: somebody else has written to it; empty it, and import again",
			there.events, there.end().SHA256, whole.events, whole.end().SHA256)
	}
	fmt.Fprintf(stdout, "import %s: %s, sha256 %s, as the event store has them now\n", file, counted(int(whole.events), "event"), whole.end().SHA256)
	return nil
}

// without yields the events of a log file, but for those of some streams.
func without(streams map[string]bool, f *os.File) iter.Seq2[eventstore.Stored, error] {
	return func(yield func(eventstore.Stored, error) bool) {
		for e, err := range readLogFile(f, newLogSum()) {
			if (err != nil || !streams[e.Stream]) && !yield(e, err) {
				return
			}
		}
	}
}

// imported is the number of the events that the event store has already. It is an error if it has others.
func imported(ctx context.Context, store *events, all iter.Seq2[eventstore.Stored, error]) (n int64, err error) {
	last, err := store.LastStored(ctx)
	if err != nil || last == nil {
		return 0, err
	}
	for e, err := range all {
		if err != nil {
			return 0, err
		}
		n++
		if e.ID == last.ID {
			return n, nil
		}
	}
	return 0, fmt.Errorf("the event store has an event that is not in the file, of stream %s: import into one that is empty, before roombook setup", last.Stream)
}

// appendAll appends the events, but for the first that are to be skipped: one after the other, so that their order is the same.
func appendAll(ctx context.Context, store *events, all iter.Seq2[eventstore.Stored, error], skip, total int64, stdout io.Writer) error {
	show, done := progressOf("import", stdout)
	defer done()
	begun, read := time.Now(), int64(0)
	for e, err := range all {
		if err != nil {
			return err
		}
		if read++; read <= skip {
			continue
		}
		if err := store.AppendStored(ctx, e); err != nil {
			return fmt.Errorf("%w: run the command again, it goes on where it stopped", err)
		}
		show(projections.Progress{
			Projection: "import", Done: eventstore.Position(read), Total: eventstore.Position(total), Events: read - skip, Elapsed: time.Since(begun),
		})
	}
	return nil
}

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
)

func newExportCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Copy all events to a file that another event store can import",
		Long: `Write all events, in their order, to a file of JSON lines: with their ids, streams, revisions, types, data, metadata and times. The last
line has their number and hash. What is the event store's own is left out, and so are the metadata of streams, checkpoints, snapshots, and
photos whose streams were deleted. Any other stream of this program that lacks events ends the command, since no event store could be
filled with it.

Bookings may go on meanwhile; the file has what was there when the command began. To move to another event store, stop the program
first. A command that was interrupted continues the file when it is run again.

` + attachHelp,
		Example: "  roombook export rooms.jsonl\n  roombook import rooms.jsonl --eventstore esdb://…",
		Args:    oneFile("name the file to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return exportLog(cmd.Context(), c, args[0], cmd.OutOrStdout())
		},
	}
	c.registerEvents(cmd.Flags())
	return fromEnvironment(cmd)
}

func exportLog(ctx context.Context, c storeConfig, file string, stdout io.Writer) (err error) {
	store, err := attachEvents(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	f, err := openLogFile(file, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	missing := newGaps()
	last, sum, err := resumeExport(ctx, store, f, missing)
	if err != nil {
		return err
	}
	if sum.events > 0 {
		fmt.Fprintf(stdout, "continues after %s\n", counted(int(sum.events), "event"))
	}
	if err := appendLog(ctx, store, f, last, sum, missing, stdout); err != nil {
		return notWritten(err)
	}
	end := sum.end()
	fmt.Fprintf(stdout, "export %s: %s, sha256 %s\n", file, counted(int(end.Events), "event"), end.SHA256)
	return nil
}

// resumeExport returns the position of the last event that the file has, and the sum of them all. It cuts off an incomplete line.
func resumeExport(ctx context.Context, store *events, f *os.File, missing *gaps) (last eventstore.Position, sum *logSum, err error) {
	sum = newLogSum()
	var newest eventstore.Stored
	for e, reading := range readLogFile(f, sum) {
		if err = reading; err == nil {
			newest = e
			missing.add(e)
		}
	}
	var incomplete *unfinished
	switch {
	case err == nil:
		return 0, nil, fmt.Errorf("%s is a complete export already: name another file, or remove it", f.Name())
	case !errors.As(err, &incomplete):
		return 0, nil, fmt.Errorf("%w; it is no export, or is damaged: name another file, or remove it", err)
	case sum.events == 0 && incomplete.size == 0:
		info, err := f.Stat()
		if err != nil {
			return 0, nil, err
		}
		if info.Size() > 0 {
			return 0, nil, fmt.Errorf("%s is no export: name another file", f.Name())
		}
		return 0, sum, nil
	}
	id, found, err := store.EventAt(ctx, newest.Position)
	if err != nil {
		return 0, nil, err
	}
	if !found || id != newest.ID {
		return 0, nil, fmt.Errorf("%s was begun from another log: name another file, or remove it", f.Name())
	}
	if err := f.Truncate(incomplete.size); err != nil {
		return 0, nil, err
	}
	_, err = f.Seek(incomplete.size, io.SeekStart)
	return newest.Position, sum, err
}

// appendLog adds the rest of the log to the file, and its end.
func appendLog(ctx context.Context, store *events, f *os.File, last eventstore.Position, sum *logSum, missing *gaps, stdout io.Writer) error {
	total, err := store.End(ctx)
	if err != nil {
		return err
	}
	show, done := progressOf("export", stdout)
	defer done()
	begun, before := time.Now(), sum.events
	out := bufio.NewWriterSize(f, 1<<20)
	for e, err := range store.StoredAfter(ctx, last) {
		if err != nil {
			return errors.Join(err, out.Flush()) // so that the next run has less to do
		}
		if e.Position > total {
			break
		}
		if isPhoto(e.Stream) {
			kept, err := isKept(ctx, store, e)
			if err != nil {
				return errors.Join(err, out.Flush())
			}
			if !kept {
				continue
			}
			e.Revision = missing.revision(e.Stream) // the stream may have been deleted, and the photo uploaded again
		}
		if missing.add(e); missing.program != nil {
			return errors.Join(missing.program, out.Flush())
		}
		line, err := formatEvent(e)
		if err != nil {
			return fmt.Errorf("event at position %d: %w", e.Position, err)
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
		sum.add(e)
		show(projections.Progress{Projection: "export", Done: e.Position, Total: total, Events: sum.events - before, Elapsed: time.Since(begun)})
	}
	end, err := json.Marshal(sum.end())
	if err != nil {
		return err
	}
	if _, err := out.Write(append(end, '\n')); err != nil {
		return err
	}
	return errors.Join(out.Flush(), f.Sync())
}

// isPhoto reports whether a stream has the name of a photo's. Other programs may have streams whose names only begin like it.
func isPhoto(stream string) bool {
	hash, is := strings.CutPrefix(stream, domain.PhotoCategory+"-")
	sum, err := hex.DecodeString(hash)
	return is && err == nil && len(sum) == sha256.Size
}

// isKept reports whether an event of the log can still be read from its stream, which may have been deleted since.
func isKept(ctx context.Context, store *events, e eventstore.Stored) (bool, error) {
	for r, err := range store.ReadStream(ctx, e.Stream, e.Revision) {
		if errors.Is(err, eventstore.ErrDeleted) {
			return false, nil
		}
		return err == nil && r.ID == e.ID, err
	}
	return false, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"roombook/eventstore/node"
)

// standardStream is the name of standard output or standard input in place of a file.
const standardStream = "-"

func newBackupCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the embedded event store, while it is in use",
		Long: `Write all events of the embedded event store to a file, as they are at one moment; - is standard output. Bookings go on meanwhile. The
file appears once it is complete, and replaces another of that name; roombook restore makes a data folder from it. A command that is
killed leaves the part it has written, as .FILE.<number>, which can be removed. Lists are not in the backup, they are rebuilt from the events.

An EventStoreDB of your own is backed up as its manual says; roombook export copies its events to a file that any event store can import.

If a program is running on the data folder the command asks that program for the copy, otherwise it opens the folder itself.`,
		Example: "  roombook backup rooms.tar.gz\n  roombook backup - | ssh elsewhere 'cat > rooms.tar.gz'",
		Args:    oneFile("name the file to write, or - for standard output"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return backup(cmd.Context(), c, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.registerData(cmd.Flags())
	return fromEnvironment(cmd)
}

func backup(ctx context.Context, c storeConfig, file string, stdout, stderr io.Writer) (err error) {
	store, err := attachEvents(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var position uint64
	copyTo := func(w io.Writer) (err error) {
		position, err = node.Backup(ctx, store.address, w)
		return err
	}
	if file == standardStream {
		if err := copyTo(stdout); err != nil {
			return fmt.Errorf("the backup is incomplete: %w", err)
		}
		fmt.Fprintf(stderr, "backup: events up to position %d\n", position)
		return nil
	}
	if err := writeWhole(file, copyTo); err != nil {
		return fmt.Errorf("no backup was made: %w", err)
	}
	fmt.Fprintf(stdout, "backup %s: events up to position %d\n", file, position)
	return nil
}

// writeWhole makes a file of what write writes, durably. The file appears once it is complete, in place of another of its name.
func writeWhole(file string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return badFile(err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return notWritten(err)
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return badFile(err)
	}
	folder, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func newRestoreCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a data folder from a backup",
		Long: `Make the event store of a data folder from a file that roombook backup wrote; - is standard input. The folder must have no events: stop
the program and move them away first. They appear once the whole file has been read and checked, and nothing changes if it is damaged.
Lists that say something else are rebuilt when the program starts.`,
		Example: "  roombook restore rooms.tar.gz --data ./data",
		Args:    oneFile("name the file to read, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return restore(c, args[0], cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	c.registerData(cmd.Flags())
	return fromEnvironment(cmd)
}

func restore(c storeConfig, file string, stdin io.Reader, stdout io.Writer) error {
	from := stdin
	if file != standardStream {
		f, err := os.Open(file)
		if err != nil {
			return badFile(err)
		}
		defer f.Close()
		from = f
	}
	_, missing := os.Stat(c.data)
	if err := c.makeDataFolder(); err != nil {
		return err
	}
	position, err := node.Restore(c.eventsDir(), from)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("there are events in %s: stop the program and move that folder away, or name another data folder with --data", c.eventsDir())
	}
	if err != nil {
		if missing != nil {
			_ = os.Remove(c.data)
		}
		return fmt.Errorf("nothing was restored: %w; name a whole file that roombook backup wrote, and a data folder that can be written to", err)
	}
	fmt.Fprintf(stdout, "restored %s: events up to position %d\n", c.eventsDir(), position)
	return nil
}

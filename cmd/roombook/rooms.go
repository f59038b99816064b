package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"roombook/commands"
	"roombook/domain"
	"roombook/eventstore"
)

const roomFileHelp = `The file is a table, FILE.csv, whose first line names the columns, or a list, FILE.yaml: of rooms with roomId, name, building, floor,
capacity, equipment, zone, colour, note and approvers, and their rules, as GET /rooms/{id} and GET /rooms/{id}/rules have them. In a table
the rules are columns, equipment and approvers have semicolons between, and hours are like monday-friday 08:00-12:00 13:00-18:00; saturday
09:00-12:00.
`

func newRoomsImportCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Register the rooms of a file, or change them to what it says",
		Long: `Register the rooms of a file, or change them to what it says. Rooms that are not in the file stay as they are, and so do the rules of rooms
for which the file has none. If anything is wrong with the file, every fault is printed with its line, and nothing is written. Importing the
same file again changes nothing.

` + roomFileHelp + "\n" + attachHelp,
		Example: "  roombook rooms import rooms.csv",
		Args:    oneFile("name the file to read, .csv or .yaml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return importRooms(cmd.Context(), c, args[0], cmd.OutOrStdout())
		},
	}
	c.registerEvents(cmd.Flags())
	return fromEnvironment(cmd)
}

func importRooms(ctx context.Context, c storeConfig, file string, stdout io.Writer) (err error) {
	rooms, faults, err := readRooms(file)
	if err != nil {
		return err
	}
	for _, f := range faults {
		fmt.Fprintf(stdout, "%s:%d: %s\n", file, f.line, f.detail)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%s in %s: nothing was imported", counted(len(faults), "fault"), file)
	}
	store, err := openOrAttach(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	handler := commands.New(store, commands.Options{Policy: domain.DefaultPolicy()})
	counts := map[string]int{}
	for i := range rooms {
		done, err := importRoom(ctx, handler, &rooms[i])
		if err != nil {
			return fmt.Errorf("room %s, line %d: %w: import the file again once that is put right", rooms[i].Room, rooms[i].line, err)
		}
		counts[done]++
		if done != roomUnchanged {
			fmt.Fprintf(stdout, "%s: %s\n", rooms[i].Room, done)
		}
	}
	fmt.Fprintf(stdout, "%s: %d %s, %d %s, %d %s\n", counted(len(rooms), "room"),
		counts[roomRegistered], roomRegistered, counts[roomChanged], roomChanged, counts[roomUnchanged], roomUnchanged)
	return nil
}

// What an import does with a room.
const (
	roomRegistered = "registered"
	roomChanged    = "changed"
	roomUnchanged  = "unchanged"
)

func importRoom(ctx context.Context, h *commands.Handler, r *roomRow) (done string, err error) {
	before, err := h.Room(ctx, r.Room)
	request, requestErr := operatorRequest()
	if requestErr != nil {
		return "", requestErr
	}
	after := before
	switch {
	case errors.Is(err, domain.ErrRoomNotFound):
		done = roomRegistered
		after, err = h.RegisterRoom(ctx, commands.RegisterRoom{Request: request, Room: r.Room, Details: r.Details})
	case err == nil:
		after, err = h.ChangeRoom(ctx, commands.ChangeRoom{Request: request, Room: r.Room, Details: r.Details})
	}
	if err == nil && r.Rules != nil {
		if request, err = operatorRequest(); err == nil {
			after, err = h.SetRules(ctx, commands.SetRules{Request: request, Room: r.Room, Rules: *r.Rules})
		}
	}
	switch {
	case done == roomRegistered:
	case after.Revision == before.Revision:
		done = roomUnchanged
	default:
		done = roomChanged
	}
	return done, err
}

func newRoomsExportCommand() *cobra.Command {
	var c storeConfig
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write the registered rooms to a file",
		Long: `Write the registered rooms to a new file, but for those that are retired by now. To import it changes nothing.

` + roomFileHelp + "\n" + attachHelp,
		Example: "  roombook rooms export rooms.yaml",
		Args:    oneFile("name the file to write, .csv or .yaml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return exportRooms(cmd.Context(), c, args[0], cmd.OutOrStdout())
		},
	}
	c.registerEvents(cmd.Flags())
	return fromEnvironment(cmd)
}

func exportRooms(ctx context.Context, c storeConfig, file string, stdout io.Writer) (err error) {
	form, err := roomFormOf(file)
	if err != nil {
		return err
	}
	store, err := attachEvents(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	rooms, err := registeredRooms(ctx, store)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists: name another file, or remove it", file)
	}
	if err != nil {
		return badFile(err)
	}
	if err := errors.Join(form.write(f, rooms), f.Sync(), f.Close()); err != nil {
		return errors.Join(notWritten(err), os.Remove(file))
	}
	fmt.Fprintf(stdout, "%s: %s\n", file, counted(len(rooms), "room"))
	return nil
}

// registeredRooms reads the rooms that are not retired, in the order in which they were registered.
func registeredRooms(ctx context.Context, store *events) ([]roomRow, error) {
	handler := commands.New(store, commands.Options{})
	now := time.Now()
	var rooms []roomRow
	filter := eventstore.Filter{StreamPrefixes: []string{domain.CalendarCategory + "-"}, TypePrefixes: []string{domain.RoomRegistered{}.EventType()}}
	for batch, err := range store.Subscribe(ctx, 0, filter) {
		if err != nil {
			return nil, err
		}
		for _, r := range batch.Events {
			registered, ok := r.Event.(domain.RoomRegistered)
			if !ok {
				return nil, fmt.Errorf("%w: export the rooms with the version that wrote it", &commands.Unreadable{Stream: r.Stream, Revision: r.Revision, Type: r.Type})
			}
			room, err := handler.Room(ctx, registered.RoomID)
			if err != nil {
				return nil, fmt.Errorf("room %s: %w", registered.RoomID, err)
			}
			if room.Retirement == nil || room.Retirement.From.After(now) {
				rooms = append(rooms, roomRow{Room: room.ID, Details: room.Details, Rules: &room.Rules})
			}
		}
		if batch.CaughtUp {
			break
		}
	}
	return rooms, ctx.Err()
}

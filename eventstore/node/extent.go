package node

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// extentName is the file of an [extent], beside the database's own.
const extentName = "extent"

// extent is what the log is known to hold at least. Pebble takes a folder for what its MANIFEST says, or for a new one where no
// marker names a MANIFEST, and deletes what is not in there; so a copy that has left a file out would open as a shorter log, and
// the rest would be gone. The extent is written whenever the database begins a log of its own, some 16 MB of events apart, and
// when it is closed: never for the sake of one append.
type extent struct {
	position uint64 // durable
	wal      uint64 // number of the newest of the database's own logs, 0 if there may be none
}

// readExtent reads the extent of the log in dir. A log that was written by a version that had no extents has none.
func readExtent(fs vfs.FS, dir string) (e extent, found bool, err error) {
	f, err := fs.Open(fs.PathJoin(dir, extentName))
	if errors.Is(err, os.ErrNotExist) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	text, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return e, false, err
	}
	// Anything but exactly what was written is malformed.
	_, err = fmt.Sscanf(string(text), extentFormat, &e.position, &e.wal)
	if err != nil || e.text() != string(text) {
		return e, true, fmt.Errorf("file %s is malformed", extentName)
	}
	return e, true, nil
}

const extentFormat = "position %d\nlog %d\n"

func (e extent) text() string {
	text := fmt.Sprintf(extentFormat, e.position, e.wal)
	return text + fmt.Sprintf("checksum %08x\n", crc32.ChecksumIEEE([]byte(text)))
}

// write makes e the extent of the log in dir, durably, or leaves the former one.
func (e extent) write(fs vfs.FS, dir string) error {
	path := fs.PathJoin(dir, extentName)
	f, err := fs.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(e.text()))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+".new", path); err != nil {
		return err
	}
	folder, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// inspect looks whether the log in the folder is whole, and returns the position of its last event. Where it is not, nothing is
// changed, so that a file that is missing can be put back. What it finds wrong is a *DamagedError.
//
// Positions are dense, and an event is two entries of the database that are never changed: itself and its place in its stream.
// So it is enough to count. The tables know how many entries they have; what is in the database's logs only is in memory.
func (l *eventLog) inspect() (last uint64, err error) {
	files, err := l.fs.List(l.dir)
	if err != nil {
		return 0, err
	}
	known, found, err := readExtent(l.fs, l.dir)
	if err != nil {
		return 0, l.damage(err)
	}
	store, err := pebble.Peek(l.dir, l.fs)
	if err != nil && strings.Contains(err.Error(), "unknown format major version") { // for which Pebble has no error of its own
		err = fmt.Errorf("%w: start the version of the program that wrote it, or a newer one", err)
	}
	if err != nil {
		return 0, fmt.Errorf("node: open event log in %s: %w", l.dir, err)
	}
	if !store.Exists {
		for _, name := range files {
			if name == extentName || strings.HasSuffix(name, ".log") || strings.HasSuffix(name, ".sst") {
				return 0, l.damage(fmt.Errorf("it has %s but no file marker.manifest.…, which is empty and easily left out of a copy", name))
			}
		}
		return 0, nil
	}
	if newest := newestWAL(files); newest < known.wal {
		return 0, l.damage(fmt.Errorf("its file %06d.log is missing", known.wal))
	}
	last, err = l.count()
	damaged, isDamaged := errors.AsType[*DamagedError](err)
	switch {
	case isDamaged:
		return 0, l.damage(located(damaged.err, store, files))
	case err != nil:
		return 0, err
	case found && last < known.position:
		return 0, l.damage(fmt.Errorf("it ends at position %d and had come to %d: the end of its log is missing, in %s", last, known.position, walNames(files)))
	case known.wal == 0:
		return last, nil
	}
	// The database drops its logs while it opens, before it begins the next one.
	if err := (extent{position: last}).write(l.fs, l.dir); err != nil {
		return 0, l.unusable(err)
	}
	return last, nil
}

// located adds to what the database says of damage in which file it is, where the database does not say so itself.
func located(err error, store *pebble.DBDesc, files []string) error {
	switch text := err.Error(); {
	case strings.Contains(text, "replaying WAL"):
		return fmt.Errorf("its log cannot be read, in %s: %w", walNames(files), err)
	case strings.Contains(text, "key=value"), strings.Contains(text, "name from file"), strings.Contains(text, "WALRecoveryDirs"):
		return fmt.Errorf("its file %s is malformed: %w", filepath.Base(store.OptionsFilename), err)
	case strings.Contains(text, "unknown to the objstorage provider"):
		return fmt.Errorf("its files are not those that %s lists: %w", filepath.Base(store.ManifestFilename), err)
	}
	return err
}

// walNames are the names of the database's own logs.
func walNames(files []string) string {
	logs := slices.DeleteFunc(slices.Clone(files), func(name string) bool {
		_, _, ok := wal.ParseLogFilename(name)
		return !ok
	})
	return strings.Join(logs, " or ")
}

// newestWAL is the number of the newest of the database's own logs.
func newestWAL(files []string) (newest uint64) {
	for _, name := range files {
		if number, _, ok := wal.ParseLogFilename(name); ok {
			newest = max(newest, uint64(number))
		}
	}
	return newest
}

// count opens the database without changing it and returns the last position, if no event before it is missing.
func (l *eventLog) count() (last uint64, err error) {
	options := l.databaseOptions()
	options.ReadOnly = true
	options.Lock = l.lock
	db, err := l.openDatabase(options)
	if err != nil {
		return 0, err
	}
	last, err = l.countIn(db)
	if closing := db.Close(); err == nil {
		err = closing
	}
	return last, err
}

func (l *eventLog) countIn(db *pebble.DB) (last uint64, err error) {
	levels, err := db.SSTables(pebble.WithProperties())
	if err != nil {
		return 0, l.unreadable(err)
	}
	entries := uint64(0)
	for _, tables := range levels {
		for _, t := range tables {
			entries += t.Properties.NumEntries
		}
	}
	inTables, err := lastPosition(db, true)
	if err != nil {
		return 0, l.unreadable(err)
	}
	// The layout's version is an entry as well.
	if want := 2*inTables + 1; inTables > 0 && entries < want {
		return 0, l.damage(fmt.Errorf("its tables have %d entries of %d", entries, want))
	}
	last, err = lastPosition(db, false)
	if err != nil {
		return 0, l.unreadable(err)
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: appendEventKey(nil, inTables+1), UpperBound: []byte{eventPrefix + 1}})
	if err != nil {
		return 0, l.unreadable(err)
	}
	next := inTables + 1
	for ok := it.First(); ok && bytes.Equal(it.Key(), appendEventKey(nil, next)); ok = it.Next() {
		next++
	}
	if err := it.Close(); err != nil {
		return 0, l.unreadable(err)
	}
	if next <= last {
		return 0, l.damage(missingEvent(next))
	}
	return last, l.checkLayout(db, last)
}

// checkLayout refuses a log that a later version of this package has written.
func (l *eventLog) checkLayout(db *pebble.DB, last uint64) error {
	version, closer, err := db.Get([]byte(versionKey))
	if errors.Is(err, pebble.ErrNotFound) {
		if last > 0 {
			return l.damage(errors.New("its version is missing"))
		}
		return nil
	}
	if err != nil {
		return l.unreadable(err)
	}
	defer closer.Close()
	if len(version) != 1 || version[0] != layoutVersion {
		return fmt.Errorf("node: event log in %s has layout version %d, this program knows %d", l.dir, version, layoutVersion)
	}
	return nil
}

// lastPosition is that of the last event in db, or in its tables only, and 0 if there is none.
func lastPosition(db *pebble.DB, inTables bool) (position uint64, err error) {
	it, err := db.NewIter(&pebble.IterOptions{
		LowerBound:                []byte{eventPrefix},
		UpperBound:                []byte{eventPrefix + 1},
		OnlyReadGuaranteedDurable: inTables,
	})
	if err != nil {
		return 0, err
	}
	if it.Last() {
		position, err = parseEventKey(it.Key())
	}
	return position, errors.Join(err, it.Close())
}

package node

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// storedEvents is the number of events in a stored log.
const storedEvents = 4000

// storeLog makes a log of storedEvents events in a folder of its own: in several tables, and with events that are only in the
// database's own log.
func storeLog(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "events")
	const rounds, perAppend = 4, 10
	for round := range rounds {
		n, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		for i := range storedEvents / rounds / perAppend {
			stream := fmt.Sprint("s-", round, "-", i%70)
			events := make([]*event, perAppend)
			for j := range events {
				events[j] = newEvent(stream)
			}
			if _, err := n.log.append(t.Context(), change{stream: stream, expected: expectAny, events: events}); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// wholeLog reports why the log in dir does not open, or why not all of its events are there.
func wholeLog(dir string, events uint64) error {
	n, err := Open(Options{Dir: dir})
	if err != nil {
		return err
	}
	return errors.Join(allEvents(n, events), n.Close())
}

func allEvents(n *Node, events uint64) error {
	if n.Position() != events {
		return fmt.Errorf("the log ends at %d", n.Position())
	}
	var p page
	for at := uint64(1); at <= events; {
		if _, err := n.log.read(&p, at, events, pageEvents); err != nil {
			return err
		}
		for _, e := range p.events {
			if e.position != at {
				return fmt.Errorf("event %d is missing", at)
			}
			at++
		}
	}
	return nil
}

// contents are the files of a folder, but for the lock.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[name.Name()] = string(content)
	}
	delete(files, "LOCK")
	return files
}

// spoil puts files into a new folder.
func spoil(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "events")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// refused checks that dir, which has these files, is refused in a line that says what to do, and left as it is.
func refused(t *testing.T, dir string, files map[string]string, err error) {
	t.Helper()
	if e, ok := errors.AsType[*DamagedError](err); !ok || e.Dir != dir || !strings.Contains(err.Error(), dir) ||
		!strings.HasSuffix(err.Error(), ": restore the folder from a backup") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	if after := contents(t, dir); !maps.Equal(files, after) {
		t.Errorf("files were changed: %q became %q", slices.Sorted(maps.Keys(files)), slices.Sorted(maps.Keys(after)))
	}
}

// A log that a newer version of the database wrote is refused, with what to do, and left as it is.
func TestLogOfANewerVersion(t *testing.T) {
	files := contents(t, storeLog(t))
	for name, content := range files {
		if strings.HasPrefix(name, "marker.format-version.") {
			delete(files, name)
			files["marker.format-version.999999.999"] = content
		}
	}
	dir := spoil(t, files)
	if n, err := Open(Options{Dir: dir}); err == nil {
		n.Close()
		t.Error("it was opened")
	} else if text := err.Error(); !strings.Contains(text, dir) || !strings.HasSuffix(text, ": start the version of the program that wrote it, or a newer one") {
		t.Errorf("got %v", err)
	}
	if after := contents(t, dir); !maps.Equal(files, after) {
		t.Errorf("files were changed: %q", slices.Sorted(maps.Keys(after)))
	}
}

// TestLogIsNotWhole opens copies of a log that lack a file or a part of one: each is refused and left as it is, and once the file
// is put back all events are there.
func TestLogIsNotWhole(t *testing.T) {
	whole := contents(t, storeLog(t))
	half := func(content string) string { return content[:len(content)/2] }
	type change func(name, content string) (changed string, kept bool)
	lost := func(name, content string) (string, bool) { return "", false }
	for name, test := range map[string]struct {
		of     func(name, content string) bool
		change change
	}{
		"the marker of the MANIFEST": {
			of:     func(name, _ string) bool { return strings.HasPrefix(name, "marker.manifest") },
			change: lost,
		},
		"the marker of the format": {
			of:     func(name, _ string) bool { return strings.HasPrefix(name, "marker.format") },
			change: lost,
		},
		"all empty files": {
			of:     func(_, content string) bool { return content == "" },
			change: lost,
		},
		"the MANIFEST": {
			of:     func(name, _ string) bool { return strings.HasPrefix(name, "MANIFEST") },
			change: lost,
		},
		"the MANIFEST and its marker": {
			of:     func(name, _ string) bool { return strings.Contains(name, "MANIFEST") },
			change: lost,
		},
		"half of the MANIFEST": {
			of:     func(name, _ string) bool { return strings.HasPrefix(name, "MANIFEST") },
			change: func(_, content string) (string, bool) { return half(content), true },
		},
		"the MANIFEST's content": {
			of:     func(name, _ string) bool { return strings.HasPrefix(name, "MANIFEST") },
			change: func(string, string) (string, bool) { return "", true },
		},
		"the tables": {
			of:     func(name, _ string) bool { return strings.HasSuffix(name, ".sst") },
			change: lost,
		},
		"the halves of the tables": {
			of:     func(name, _ string) bool { return strings.HasSuffix(name, ".sst") },
			change: func(_, content string) (string, bool) { return half(content), true },
		},
		"the database's log": {
			of:     func(name, _ string) bool { return strings.HasSuffix(name, ".log") },
			change: lost,
		},
		"the end of the database's log": {
			of: func(name, _ string) bool { return strings.HasSuffix(name, ".log") },
			change: func(_, content string) (string, bool) {
				return half(strings.TrimRight(content, "\x00")), true
			},
		},
		"all but the extent": {
			of:     func(name, _ string) bool { return name != extentName },
			change: lost,
		},
		"half of the extent": {
			of:     func(name, _ string) bool { return name == extentName },
			change: func(_, content string) (string, bool) { return half(content), true },
		},
	} {
		t.Run(name, func(t *testing.T) {
			files, changed := maps.Clone(whole), 0
			for name, content := range whole {
				if test.of(name, content) {
					changed++
					delete(files, name)
					if content, kept := test.change(name, content); kept {
						files[name] = content
					}
				}
			}
			if changed == 0 {
				t.Fatal("there is no such file")
			}
			dir := spoil(t, files)
			refused(t, dir, files, wholeLog(dir, storedEvents))
			for name, content := range whole {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := wholeLog(dir, storedEvents); err != nil {
				t.Errorf("with the files back: %v", err)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		if err := wholeLog(spoil(t, whole), storedEvents); err != nil {
			t.Error(err)
		}
	})
}

// TestEventIsMissing: a table lacks an event before the last, as does a log whose MANIFEST has forgotten a table of several.
func TestEventIsMissing(t *testing.T) {
	dir := storeLog(t)
	n, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.log.db.Delete(appendEventKey(nil, storedEvents/2), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.log.db.Flush(), n.log.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false), n.Close()); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, contents(t, dir), wholeLog(dir, storedEvents))
}

// TestCutManifest cuts the MANIFEST at many places, as a copy that was interrupted does: the log is there as a whole, or refused.
func TestCutManifest(t *testing.T) {
	whole := contents(t, storeLog(t))
	var manifest string
	for name := range whole {
		if strings.HasPrefix(name, "MANIFEST") {
			manifest = name
		}
	}
	const cuts = 12
	for i := range cuts {
		files := maps.Clone(whole)
		files[manifest] = files[manifest][:len(files[manifest])*i/cuts]
		dir := spoil(t, files)
		if err := wholeLog(dir, storedEvents); err != nil {
			refused(t, dir, files, err)
		}
		if t.Failed() {
			t.Fatalf("cut to %d of %d bytes", len(files[manifest]), len(whole[manifest]))
		}
	}
}

// TestFlippedByte changes one byte at a time: the log is there as a whole, or refused and left as it is, or it fails when the byte
// is read.
func TestFlippedByte(t *testing.T) {
	whole := contents(t, storeLog(t))
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for _, name := range slices.Sorted(maps.Keys(whole)) {
		content := strings.TrimRight(whole[name], "\x00") // beyond is the room that the database's log has reserved
		if content == "" {
			continue
		}
		for range 4 {
			files := maps.Clone(whole)
			at := random.IntN(len(content))
			spoilt := []byte(whole[name])
			spoilt[at] ^= 1 << random.IntN(8)
			files[name] = string(spoilt)
			dir := spoil(t, files)
			err := wholeLog(dir, storedEvents)
			if _, damaged := errors.AsType[*DamagedError](err); err != nil && !damaged {
				t.Errorf("byte %d of %s: %v (seed %d)", at, name, err, seed)
			}
		}
	}
}

// TestLogWithoutExtent: a log of the version that had no extents opens, and has one from then on.
func TestLogWithoutExtent(t *testing.T) {
	dir := storeLog(t)
	path := filepath.Join(dir, extentName)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	n, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := allEvents(n, storedEvents); err != nil {
		t.Error(err)
	}
	e, found, err := readExtent(vfs.Default, dir)
	if err != nil || !found || e.position != storedEvents {
		t.Errorf("got %+v, %t, %v", e, found, err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}

	for _, name := range []string{extentName, "marker.manifest*"} {
		matches, err := filepath.Glob(filepath.Join(dir, name))
		if err != nil || len(matches) != 1 {
			t.Fatal(matches, err)
		}
		if err := os.Remove(matches[0]); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, dir, contents(t, dir), wholeLog(dir, storedEvents))
}

// TestLostAfterCrash: the database's log is missing after a process that could not write down where its log ended.
func TestLostAfterCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n, err := open(Options{}, "events", fs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.log.append(t.Context(), change{stream: "s", expected: expectNoStream, events: []*event{newEvent("s")}}); err != nil {
		t.Fatal(err)
	}
	fs = fs.CrashClone(vfs.CrashCloneCfg{})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := fs.List("events")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, ".log") {
			if err := fs.Rename("events/"+name, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	n, err = open(Options{}, "events", fs)
	if _, ok := errors.AsType[*DamagedError](err); !ok {
		t.Fatalf("got %v, %v", n, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, ".log") {
			if err := fs.Rename(name, "events/"+name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, err = open(Options{}, "events", fs); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(allEvents(n, 1), n.Close()); err != nil {
		t.Error(err)
	}
}

func TestExtent(t *testing.T) {
	fs := vfs.NewMem()
	if _, found, err := readExtent(fs, ""); found || err != nil {
		t.Errorf("got %t, %v", found, err)
	}
	want := extent{position: 12345, wal: 678}
	if err := want.write(fs, ""); err != nil {
		t.Fatal(err)
	}
	if got, found, err := readExtent(fs, ""); got != want || !found || err != nil {
		t.Errorf("got %+v, %t, %v", got, found, err)
	}
	text := want.text()
	for at := range text {
		spoilt := []byte(text)
		spoilt[at] ^= 1
		f, err := fs.Create(extentName, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(spoilt); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got, _, err := readExtent(fs, ""); err == nil {
			t.Errorf("%q was read as %+v", bytes.TrimSpace(spoilt), got)
		}
	}
}

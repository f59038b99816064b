package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// storeEveryKind makes a log that has every kind of record: events, links, metadata, soft deletes, tombstones, and the configuration,
// checkpoints and parked events of groups.
func storeEveryKind(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "events")
	for round := range 3 {
		n, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		write := func(c change) {
			if _, err := n.log.append(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 60 {
			stream := fmt.Sprintf("s-%d-%d", round, i)
			write(change{stream: stream, expected: expectAny, events: []*event{newEvent(stream), newEvent(stream)}})
			switch link := fmt.Appendf(nil, "1@%s", stream); i % 4 {
			case 0:
				write(change{stream: "links", expected: expectAny, events: []*event{{record: newRecord("links", newEventID(), []byte(linkType), false, nil, link)}}})
			case 1:
				write(newDeletion(stream, expectAny, softDeletion))
			case 2:
				write(newDeletion(stream, expectAny, hardDeletion))
			case 3:
				write(change{stream: metastreamOf(stream), expected: expectAny, events: []*event{metadataEvent(metastreamOf(stream), []byte(`{"$maxCount":1}`))}})
			}
		}
		for _, stream := range []string{allStream, "links"} {
			settings := groupSettings{Stream: stream, Group: fmt.Sprint("g-", round), MessageTimeout: 1e6, HistoryBufferSize: 500, ReadBatchSize: 20, MaxCheckPointCount: 10, NamedConsumerStrategy: roundRobin}
			if stream == allStream {
				settings.Filter = &groupFilter{Prefixes: []string{"s-"}, Interval: 32}
			}
			if created, err := n.groups.create(t.Context(), settings); err != nil || !created {
				t.Fatal(created, err)
			}
			g := n.groups.get(settings.key())
			c, err := g.join("consumer", 10)
			if err != nil {
				t.Fatal(err)
			}
			g.advance()
			for delivered := 0; delivered < 15*(round+1); {
				queue, _ := g.take(c)
				for _, out := range queue {
					e, err := n.log.event(out.position)
					if err != nil {
						t.Fatal(err)
					}
					if delivered++; delivered%3 == 0 {
						g.nack([]eventID{e.id()}, nakPark, "for now")
					} else {
						g.ack([]eventID{e.id()})
					}
				}
			}
			g.leave(c)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// everything is all that can be read in a log: of each event its bytes, of each stream what is to be seen of it, and where each group is.
func everything(dir string) (text string, err error) {
	n, err := Open(Options{Dir: dir})
	if err != nil {
		return "", err
	}
	text, err = n.everything()
	if closing := n.Close(); closing != nil { // what a reader finds fails the node
		err = closing
	}
	return text, err
}

func (n *Node) everything() (string, error) {
	var b strings.Builder
	streams := map[string]bool{}
	var p page
	for at, end := uint64(1), n.Position(); at <= end; {
		if _, err := n.log.read(&p, at, end, pageEvents); err != nil {
			return "", err
		}
		if len(p.events) == 0 {
			return "", errors.New("the read ended early")
		}
		for _, e := range p.events {
			fmt.Fprintf(&b, "%d %q\n", e.position, e.record)
			streams[string(e.stream())] = true
			at = e.position + 1
		}
	}
	for _, stream := range slices.Sorted(maps.Keys(streams)) {
		v, err := n.log.view(stream, n.Position())
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s %d %d %t %t\n", stream, v.first, v.last, v.exists, v.tombstoned)
		if !v.exists || v.tombstoned {
			continue
		}
		for next, more, err := v.first, true, error(nil); more; {
			if next, more, err = n.log.readStream(&p, v, next, false, pageEvents); err != nil {
				return "", err
			}
			for _, e := range p.events {
				fmt.Fprintf(&b, "%d at %d\n", e.revision(), e.position)
			}
		}
	}
	for _, g := range n.groups.list("") {
		parked, err := g.parked()
		if err != nil {
			return "", err
		}
		settings, err := json.Marshal(g.settings)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s %d %d %d\n", settings, g.checkpointPlace, parked.first, parked.last)
	}
	return b.String(), nil
}

// TestSpoiltFiles flips a byte, or cuts off the end, of one file at a time: what is read then is what was written, or there is one line that
// names the folder and the file and says what to do.
func TestSpoiltFiles(t *testing.T) {
	stored := storeEveryKind(t)
	whole := contents(t, stored)
	want, err := everything(spoil(t, whole))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{linkType, `$maxCount`, `$tb`, tombstoneType, configurationType, checkpointType, "for now"} {
		if !strings.Contains(want, kind) {
			t.Errorf("there is no record with %s", kind)
		}
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	found, spoils := 0, 0
	for _, name := range slices.Sorted(maps.Keys(whole)) {
		content := strings.TrimRight(whole[name], "\x00") // beyond is the room that the database's log has reserved
		if content == "" {
			continue
		}
		for i := range 12 {
			at := random.IntN(len(content))
			spoilt := []byte(whole[name])
			if i%3 == 0 {
				spoilt = spoilt[:at]
			} else {
				spoilt[at] ^= 1 << random.IntN(8)
			}
			files := maps.Clone(whole)
			files[name] = string(spoilt)
			dir := spoil(t, files)
			got, err := everything(dir)
			spoils++
			if err == nil {
				if got != want {
					t.Errorf("byte %d of %s, spoilt in way %d: something else was read (seed %d)", at, name, i%3, seed)
				}
				continue
			}
			found++
			_, ok := errors.AsType[*DamagedError](err)
			number := strings.TrimSuffix(strings.TrimSuffix(name, ".sst"), ".log")
			if text := err.Error(); !ok || strings.Contains(text, "\n") || !strings.Contains(text, dir) || !strings.Contains(text, number) || !strings.HasSuffix(text, ": restore the folder from a backup") {
				t.Errorf("byte %d of %s, spoilt in way %d: %v (seed %d)", at, name, i%3, err, seed)
			}
		}
	}
	t.Logf("%d of %d were found", found, spoils)
}

package node

import "testing"

// TestDeletesAfterRestart: deletes hold in a log that is opened again, those of streams that have no other event included.
func TestDeletesAfterRestart(t *testing.T) {
	dir := t.TempDir()
	n, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []change{
		{stream: "soft", expected: expectNoStream, events: []*event{newEvent("soft"), newEvent("soft")}},
		newDeletion("soft", 1, softDeletion),
		{stream: "hard", expected: expectNoStream, events: []*event{newEvent("hard")}},
		newDeletion("hard", 0, hardDeletion),
		newDeletion("never", expectAny, hardDeletion),
		newDeletion("$$described", expectAny, hardDeletion),
	} {
		if r, err := n.log.append(t.Context(), c); err != nil || r.decision != appended {
			t.Fatalf("%s: %+v, %v", c.stream, r, err)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}

	if n, err = Open(Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	<-n.log.scanning.done
	for stream, want := range map[string]streamView{
		"soft": {exists: false, tombstoned: false}, "hard": {tombstoned: true}, "$$hard": {tombstoned: true},
		"never": {tombstoned: true}, "$$never": {tombstoned: true}, "$$described": {tombstoned: true}, "described": {},
	} {
		v, err := n.log.view(stream, n.Position())
		if err != nil || v.exists != want.exists || v.tombstoned != want.tombstoned {
			t.Errorf("%s: %+v, %v", stream, v, err)
		}
	}
	// The stream with the deleted metadata has a metadata stream all the same.
	for stream, want := range map[string]decision{"soft": streamDeleted, "hard": streamDeleted, "never": streamDeleted, "described": appended} {
		r, err := n.log.append(t.Context(), change{stream: stream, expected: expectStreamExists, events: []*event{newEvent(stream)}})
		if err != nil || r.decision != want {
			t.Errorf("%s: %+v, %v", stream, r, err)
		}
	}
	r, err := n.log.append(t.Context(), change{stream: "soft", expected: expectNoStream, events: []*event{newEvent("soft")}})
	if err != nil || r.revision != 2 {
		t.Errorf("written anew: %+v, %v", r, err)
	}
}

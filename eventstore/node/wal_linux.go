package node

import (
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// walFS creates the database's own logs at the size that they will have. Pebble reserves the space but lets the file grow with
// each write, so that each sync has to record the new size as well; that costs a quarter of its time.
type walFS struct{ vfs.FS }

func (fs walFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	if err == nil && filepath.Ext(name) == ".log" {
		f = walFile{f}
	}
	return f, err
}

// Unwrap returns the file system below.
func (fs walFS) Unwrap() vfs.FS { return fs.FS }

type walFile struct{ vfs.File }

// Preallocate makes the file longer by zeros, which Pebble reads as the end of a log.
func (f walFile) Preallocate(offset, length int64) error {
	return unix.Fallocate(int(f.Fd()), 0, offset, length)
}

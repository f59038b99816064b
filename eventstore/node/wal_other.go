//go:build !linux

package node

import "github.com/cockroachdb/pebble/v2/vfs"

// walFS is the file system as it is, see wal_linux.go.
type walFS struct{ vfs.FS }

// Unwrap returns the file system below.
func (fs walFS) Unwrap() vfs.FS { return fs.FS }

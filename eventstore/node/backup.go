package node

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A backup is the tar archive of a checkpoint of the database, compressed: its tables, of which the checkpoint has hard links, and a copy of
// its own logs. EventStoreDB has no such call, so it is a service of its own.
const (
	backupName   = "roombook.node.Backup"
	backupMethod = "/" + backupName + "/Read"
	// backupPosition is the header with the position up to which a backup has everything.
	backupPosition = "position"
	// backupChunk is the size of the pieces in which a backup is sent.
	backupChunk = 256 << 10
)

var backupStream = grpc.StreamDesc{StreamName: "Read", ServerStreams: true}

// backupService serves backups, one at a time.
type backupService struct {
	log *eventLog
	mu  sync.Mutex
}

func registerBackup(server *grpc.Server, service *backupService) {
	stream := backupStream
	stream.Handler = func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
			return err
		}
		return service.read(stream)
	}
	server.RegisterService(&grpc.ServiceDesc{ServiceName: backupName, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{stream}}, service)
}

func (s *backupService) read(stream grpc.ServerStream) error {
	if !s.mu.TryLock() {
		return status.Error(codes.ResourceExhausted, "another backup is being made")
	}
	defer s.mu.Unlock()
	position, err := s.log.checkpoint()
	if err == nil {
		err = s.send(stream, position)
	}
	err = errors.Join(err, s.log.fs.RemoveAll(s.log.checkpointDir()))
	if err != nil {
		return status.Error(codes.Aborted, oneLine(err))
	}
	return nil
}

func (s *backupService) send(stream grpc.ServerStream, position uint64) error {
	if err := stream.SendHeader(metadata.Pairs(backupPosition, strconv.FormatUint(position, 10))); err != nil {
		return err
	}
	chunks := bufio.NewWriterSize(chunkWriter{stream}, backupChunk)
	archive := tar.NewWriter(chunks)
	names, err := s.log.fs.List(s.log.checkpointDir())
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.add(archive, name); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), chunks.Flush())
}

// add adds a file of the checkpoint to the archive.
func (s *backupService) add(archive *tar.Writer, name string) (err error) {
	f, err := s.log.fs.Open(s.log.fs.PathJoin(s.log.checkpointDir(), name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o640, Size: info.Size(), ModTime: info.ModTime()}); err != nil {
		return err
	}
	_, err = io.Copy(archive, f)
	return err
}

// chunkWriter sends what is written to it.
type chunkWriter struct{ stream grpc.ServerStream }

func (w chunkWriter) Write(b []byte) (int, error) {
	if err := w.stream.SendMsg(wrapperspb.Bytes(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// checkpointDir is where a checkpoint is while it is being read: beside the log, for the sake of hard links.
func (l *eventLog) checkpointDir() string { return l.dir + ".checkpoint" }

// checkpoint makes a checkpoint of the database, with everything up to the position. Appends go on meanwhile.
func (l *eventLog) checkpoint() (position uint64, err error) {
	dir := l.checkpointDir()
	if err := l.fs.RemoveAll(dir); err != nil {
		return 0, err
	}
	position = l.position()
	if err := recovered(func() error { return l.db.Checkpoint(dir, pebble.WithFlushedWAL()) }); err != nil {
		return 0, err
	}
	files, err := l.fs.List(dir)
	if err != nil {
		return 0, err
	}
	return position, extent{position: position, wal: newestWAL(files)}.write(l.fs, dir)
}

// Backup writes to w a backup of the log of the node that serves at the address, as it was at some moment of the call, with everything that
// was acknowledged before. The node goes on meanwhile. The backup has everything up to the position, and maybe more. With an error what
// was written is of no use.
func Backup(ctx context.Context, address string, w io.Writer) (position uint64, err error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &backupStream, backupMethod)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(stream.SendMsg(&emptypb.Empty{}), stream.CloseSend()); err != nil {
		return 0, err
	}
	header, err := stream.Header()
	if err != nil {
		return 0, backupError(err)
	}
	if values := header.Get(backupPosition); len(values) == 1 {
		if position, err = strconv.ParseUint(values[0], 10, 64); err != nil {
			return 0, err
		}
	}
	compressed, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return 0, err
	}
	for {
		var chunk wrapperspb.BytesValue
		err := stream.RecvMsg(&chunk)
		if errors.Is(err, io.EOF) {
			return position, compressed.Close()
		}
		if err != nil {
			return 0, backupError(err)
		}
		if _, err := compressed.Write(chunk.GetValue()); err != nil {
			return 0, err
		}
	}
}

// backupError is the error of a call for a backup, without what gRPC puts around it.
func backupError(err error) error {
	s := status.Convert(err)
	if s.Code() == codes.Unimplemented {
		return errors.New("the program that runs there is of a version that makes no backups")
	}
	return errors.New(s.Message())
}

// restoring is the suffix of the folder that a backup is unpacked to.
const restoring = ".restoring"

// Restore makes dir the folder of a log from a backup, and returns the position of its last event. The folder must not exist, or be empty.
// It appears only once the log in it is whole; with an error nothing has changed.
func Restore(dir string, backup io.Reader) (position uint64, err error) {
	switch entries, err := os.ReadDir(dir); {
	case err == nil && len(entries) > 0:
		return 0, fmt.Errorf("node: there is a log in %s: %w", dir, fs.ErrExist)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	unpacked := dir + restoring
	if err := os.RemoveAll(unpacked); err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(unpacked))
		}
	}()
	if err := unpack(unpacked, backup); err != nil {
		return 0, fmt.Errorf("node: unpack the backup: %w", err)
	}
	n, err := Open(Options{Dir: unpacked})
	if err != nil {
		return 0, err
	}
	position = n.log.position()
	if err := n.Close(); err != nil {
		return 0, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if err := os.Rename(unpacked, dir); err != nil {
		return 0, err
	}
	return position, syncFolder(filepath.Dir(dir))
}

// unpack writes the files of a backup to dir, durably.
func unpack(dir string, backup io.Reader) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	compressed, err := gzip.NewReader(backup)
	if err != nil {
		return err
	}
	archive := tar.NewReader(compressed)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg || header.Name != filepath.Base(header.Name) || !filepath.IsLocal(header.Name) {
			return fmt.Errorf("it has %q, which is no file of a log", header.Name)
		}
		if err := unpackFile(filepath.Join(dir, header.Name), archive); err != nil {
			return err
		}
	}
	// The checksum is at the end of all, which the archive does not read.
	if _, err := io.Copy(io.Discard, compressed); err != nil {
		return err
	}
	// Without one, whatever else was in the archive would do for an empty log.
	if _, found, err := readExtent(vfs.Default, dir); err == nil && !found {
		return fmt.Errorf("it has no file %s: it is an archive of something else", extentName)
	}
	return syncFolder(dir)
}

func unpackFile(path string, content io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncFolder makes the names of the files in a folder durable.
func syncFolder(dir string) error {
	folder, err := vfs.Default.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

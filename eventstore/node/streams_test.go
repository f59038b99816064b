package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A client that gives up is no fault of the node.
func TestReportLeavesOutWhatClientsDo(t *testing.T) {
	for _, c := range []struct {
		err    error
		logged bool
	}{
		{context.Canceled, false},
		{fmt.Errorf("send: %w", context.DeadlineExceeded), false},
		{status.Error(codes.Canceled, "context canceled"), false},
		{status.Error(codes.Unavailable, "transport is closing"), false},
		{errStopped, false},
		{errors.New("read the log: the disk is gone"), true},
		{status.Error(codes.Internal, "cannot encode"), true},
	} {
		var log strings.Builder
		s := &streamsService{log: &eventLog{}, errors: &errorLog{logger: slog.New(slog.NewTextHandler(&log, nil))}}
		s.report("read", c.err)
		if logged := log.Len() > 0; logged != c.logged {
			t.Errorf("%v: logged %t, want %t: %s", c.err, logged, c.logged, log.String())
		}
	}
}

package commands

import (
	"context"
	"errors"
	"strings"
	"testing"

	"roombook/eventstore"
	"roombook/eventstore/eventstoretest"
)

// withoutMetadata is a log whose user may not write metadata.
type withoutMetadata struct{ Log }

func (withoutMetadata) SetMaxCount(context.Context, string, int) error {
	return &eventstore.Refused{User: "roombook", Denied: true, Reason: "PermissionDenied: Access Denied"}
}

// Recovery that lacks a right says what an administrator has to do.
func TestRecoveryNeedsSetup(t *testing.T) {
	store := eventstoretest.Open(t)
	recovery := NewRecovery(New(store, Options{}), withoutMetadata{store}, RecoveryOptions{})
	err := recovery.follow(t.Context(), func() {})
	if _, ok := errors.AsType[*eventstore.Refused](err); !ok || !strings.HasSuffix(err.Error(), "roombook setup --eventstore esdb://admin…") {
		t.Errorf("got %v", err)
	}
}

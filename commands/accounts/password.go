package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The cost of a new hash: 19 MiB of memory, two passes, one lane, as OWASP recommends for argon2id.
const (
	hashMemory = 19 * 1024 // KiB
	hashPasses = 2
	hashLanes  = 1
	hashBytes  = 32
	saltBytes  = 16
)

// Bounds of what a stored hash may ask for, against one that was tampered with.
const (
	maxHashMemory = 256 * 1024
	maxHashPasses = 16
)

// ErrBusy means that too many passwords are already waiting to be hashed.
var ErrBusy = errors.New("too many passwords are being checked")

// hasher hashes passwords, at most two at a time, because each takes 19 MiB of memory and some 20 ms of processor time. It is safe for
// concurrent use.
type hasher struct {
	running chan struct{}
	waiting chan struct{}
	// decoy is a hash of no password. It is checked where there is no hash, which takes as long.
	decoy string
}

// maxWaiting bounds how many wait to be hashed.
const maxWaiting = 64

func newHasher() *hasher {
	return &hasher{
		running: make(chan struct{}, 2), waiting: make(chan struct{}, maxWaiting),
		decoy: encodeHash(hashMemory, hashPasses, hashLanes, make([]byte, saltBytes), make([]byte, hashBytes)),
	}
}

// run calls do once fewer than two passwords are being hashed.
func (h *hasher) run(ctx context.Context, do func()) error {
	select {
	case h.waiting <- struct{}{}:
		defer func() { <-h.waiting }()
	default:
		return ErrBusy
	}
	select {
	case h.running <- struct{}{}:
		defer func() { <-h.running }()
	case <-ctx.Done():
		return ctx.Err()
	}
	do()
	return nil
}

// hash returns the hash of a password, in the PHC string format.
func (h *hasher) hash(ctx context.Context, password string) (hash string, err error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails
	err = h.run(ctx, func() {
		hash = encodeHash(hashMemory, hashPasses, hashLanes, salt, argon2.IDKey([]byte(password), salt, hashPasses, hashMemory, hashLanes, hashBytes))
	})
	return hash, err
}

// matches reports whether a password has the hash. For an empty hash it takes as long, and reports false.
func (h *hasher) matches(ctx context.Context, password, hash string) (ok bool, err error) {
	if hash == "" {
		hash = h.decoy
	}
	memory, passes, lanes, salt, want, err := decodeHash(hash)
	if err != nil {
		return false, err
	}
	err = h.run(ctx, func() {
		got := argon2.IDKey([]byte(password), salt, passes, memory, lanes, uint32(len(want)))
		ok = subtle.ConstantTimeCompare(got, want) == 1
	})
	return ok && hash != h.decoy, err
}

func encodeHash(memory, passes uint32, lanes uint8, salt, hash []byte) string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, passes, lanes, b64(salt), b64(hash))
}

var errHash = errors.New("the stored hash of a password is not one of argon2id")

func decodeHash(text string) (memory, passes uint32, lanes uint8, salt, hash []byte, err error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprint("v=", argon2.Version) {
		return 0, 0, 0, nil, nil, errHash
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &lanes); err != nil || n != 3 {
		return 0, 0, 0, nil, nil, errHash
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	hash, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(hash) < 16 || len(hash) > 64 || memory > maxHashMemory || passes < 1 || passes > maxHashPasses || lanes < 1 {
		return 0, 0, 0, nil, nil, errHash
	}
	return memory, passes, lanes, salt, hash, nil
}

// Package sqlite keeps the directory in a SQLite file.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"roombook/commands/accounts/directory"
	"roombook/domain"
)

// Store is a [directory.Store] in a SQLite file, which several processes may open.
type Store struct{ db *sql.DB }

var _ directory.Store = (*Store)(nil)

const tables = `
CREATE TABLE IF NOT EXISTS people (
	user      TEXT PRIMARY KEY,
	name      TEXT NOT NULL UNIQUE,
	full_name TEXT NOT NULL,
	address   TEXT NOT NULL,
	password  TEXT NOT NULL,
	language  TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS favourites (
	user TEXT NOT NULL,
	room TEXT NOT NULL,
	PRIMARY KEY (user, room)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS identities (
	issuer  TEXT NOT NULL,
	subject TEXT NOT NULL,
	user    TEXT NOT NULL,
	PRIMARY KEY (issuer, subject)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS identities_user ON identities (user);
CREATE TABLE IF NOT EXISTS sessions (
	id      TEXT PRIMARY KEY,
	user    TEXT NOT NULL,
	epoch   INTEGER NOT NULL,
	created INTEGER NOT NULL, -- times are milliseconds since 1970
	seen    INTEGER NOT NULL,
	issuer      TEXT NOT NULL DEFAULT '',
	subject     TEXT NOT NULL DEFAULT '',
	provider_id TEXT NOT NULL DEFAULT '',
	id_token    TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_user ON sessions (user);
CREATE TABLE IF NOT EXISTS tokens (
	id    TEXT PRIMARY KEY,
	user  TEXT NOT NULL,
	label TEXT NOT NULL,
	used  INTEGER NOT NULL -- 0 for never
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tokens_user ON tokens (user);
CREATE TABLE IF NOT EXISTS codes (
	id      TEXT PRIMARY KEY,
	user    TEXT NOT NULL,
	room    TEXT NOT NULL,
	token   TEXT NOT NULL,
	expires INTEGER NOT NULL
) WITHOUT ROWID`

// added are the columns of texts that files of earlier versions lack.
var added = []struct{ table, column string }{
	{"people", "language"}, {"sessions", "issuer"}, {"sessions", "subject"}, {"sessions", "provider_id"}, {"sessions", "id_token"},
}

// Open opens the file, and creates it if it is missing, so that only its owner can read it. Deleted content is overwritten.
func Open(path string) (*Store, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	f, err := os.OpenFile(absolute, os.O_RDWR|os.O_CREATE, 0o600) // SQLite's other files have the permissions of this one
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	query := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "secure_delete(1)"}, "_txlock": {"immediate"}}
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(absolute), RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	if err := prepare(db); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, errors.Join(err, db.Close()))
	}
	return &Store{db}, nil
}

// prepare makes the tables that are missing.
func prepare(db *sql.DB) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	if _, err := tx.Exec(tables); err != nil {
		return err
	}
	for _, a := range added {
		var present bool
		if err := tx.QueryRow(`SELECT count(*) FROM pragma_table_info(?) WHERE name = ?`, a.table, a.column).Scan(&present); err != nil {
			return err
		}
		if !present {
			if _, err := tx.Exec(`ALTER TABLE ` + a.table + ` ADD COLUMN ` + a.column + ` TEXT NOT NULL DEFAULT ''`); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

// Close implements [directory.Store].
func (s *Store) Close() error { return s.db.Close() }

// Ping implements [directory.Store].
func (s *Store) Ping(ctx context.Context) error {
	return failed(s.db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema`).Scan(new(int)))
}

// failed translates an error into those of [directory.Store].
func failed(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, directory.ErrUnknown):
		return err
	case errors.Is(err, sql.ErrNoRows):
		return directory.ErrUnknown
	default:
		return fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
	}
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func timeOf(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
}

// AddPerson implements [directory.Store].
func (s *Store) AddPerson(ctx context.Context, p directory.Person) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO people (user, name, full_name, address, password, language) VALUES (?, ?, ?, ?, ?, ?)`, p.User, p.Name, p.FullName, p.Address, p.Password, p.Language)
	return nameTaken(err)
}

// nameTaken is failed for a write of a name.
func nameTaken(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return directory.ErrNameTaken
	}
	return failed(err)
}

// ChangePerson implements [directory.Store].
func (s *Store) ChangePerson(ctx context.Context, were, p directory.Person) error {
	const update = `UPDATE people SET name = iif(?1 = ?2, name, ?2), full_name = iif(?3 = ?4, full_name, ?4), address = iif(?5 = ?6, address, ?6),
		language = iif(?7 = ?8, language, ?8) WHERE user = ?9`
	result, err := s.db.ExecContext(ctx, update, were.Name, p.Name, were.FullName, p.FullName, were.Address, p.Address, were.Language, p.Language, p.User)
	if err != nil {
		return nameTaken(err)
	}
	return changedOne(result)
}

// changedOne returns [directory.ErrUnknown] if nothing was changed.
func changedOne(result sql.Result) error {
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = directory.ErrUnknown
	}
	return failed(err)
}

const person = `SELECT user, name, full_name, address, password, language FROM people `

func scan(row interface{ Scan(...any) error }) (p directory.Person, err error) {
	err = row.Scan(&p.User, &p.Name, &p.FullName, &p.Address, &p.Password, &p.Language)
	return p, failed(err)
}

// Person implements [directory.Store].
func (s *Store) Person(ctx context.Context, user domain.UserID) (directory.Person, error) {
	return scan(s.db.QueryRowContext(ctx, person+`WHERE user = ?`, user))
}

// Named implements [directory.Store].
func (s *Store) Named(ctx context.Context, name string) (directory.Person, error) {
	return scan(s.db.QueryRowContext(ctx, person+`WHERE name = ?`, name))
}

// People implements [directory.Store].
func (s *Store) People(ctx context.Context, after string, limit int) ([]directory.Person, error) {
	return all(ctx, s.db, scan, person+`WHERE name > ? ORDER BY name LIMIT ?`, after, limited(limit))
}

// limited converts a limit into that of a LIMIT clause.
func limited(limit int) int {
	if limit == 0 {
		return -1
	}
	return limit
}

// all reads all rows of a query.
func all[T any](ctx context.Context, db *sql.DB, scan func(interface{ Scan(...any) error }) (T, error), query string, args ...any) (items []T, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, failed(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, failed(rows.Err())
}

// SetPassword implements [directory.Store].
func (s *Store) SetPassword(ctx context.Context, user domain.UserID, former, hash string) error {
	if _, err := s.db.ExecContext(ctx, `DELETE FROM codes WHERE user = ?`, user); err != nil {
		return failed(err)
	}
	result, err := s.db.ExecContext(ctx, `UPDATE people SET password = ? WHERE user = ? AND ? IN ('', password)`, hash, user, former)
	if err != nil {
		return failed(err)
	}
	if _, err := s.db.ExecContext(ctx, `DELETE FROM sessions WHERE user = ?`, user); err != nil {
		return failed(err)
	}
	return changedOne(result)
}

// Identify implements [directory.Store].
func (s *Store) Identify(ctx context.Context, i directory.Identity, user domain.UserID) (has domain.UserID, err error) {
	const find = `SELECT user FROM identities WHERE issuer = ? AND subject = ?`
	if err := s.db.QueryRowContext(ctx, find, i.Issuer, i.Subject).Scan(&has); !errors.Is(err, sql.ErrNoRows) {
		return has, failed(err)
	}
	if _, err := s.db.ExecContext(ctx, `INSERT INTO identities (issuer, subject, user) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, i.Issuer, i.Subject, user); err != nil {
		return "", failed(err)
	}
	err = s.db.QueryRowContext(ctx, find, i.Issuer, i.Subject).Scan(&has)
	return has, failed(err)
}

// SetFavourite implements [directory.Store].
func (s *Store) SetFavourite(ctx context.Context, user domain.UserID, room domain.RoomID, favourite bool) error {
	query := `DELETE FROM favourites WHERE user = ? AND room = ?`
	if favourite {
		query = `INSERT OR IGNORE INTO favourites (user, room) SELECT user, ?2 FROM people WHERE user = ?1`
	}
	_, err := s.db.ExecContext(ctx, query, user, room)
	return failed(err)
}

// Favourites implements [directory.Store].
func (s *Store) Favourites(ctx context.Context, user domain.UserID) (domain.Rooms, error) {
	scan := func(row interface{ Scan(...any) error }) (room domain.RoomID, err error) {
		err = row.Scan(&room)
		return room, failed(err)
	}
	rooms, err := all(ctx, s.db, scan, `SELECT room FROM favourites WHERE user = ?`, user)
	return domain.NewRooms(rooms...), err
}

// Forget implements [directory.Store].
func (s *Store) Forget(ctx context.Context, user domain.UserID) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return failed(err)
	}
	for _, table := range []string{"people", "favourites", "identities", "sessions", "tokens", "codes"} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE user = ?`, user); err != nil {
			return failed(errors.Join(err, tx.Rollback()))
		}
	}
	if err := tx.Commit(); err != nil {
		return failed(err)
	}
	// The write-ahead log still contains the deleted rows until it is truncated.
	var busy, log, moved int
	if err := s.db.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &log, &moved); err != nil {
		return failed(err)
	}
	if busy != 0 {
		return fmt.Errorf("%w: the rows are deleted, but the file's log, which still has them, is in use; try again", directory.ErrUnavailable)
	}
	return nil
}

// AddSession implements [directory.Store].
func (s *Store) AddSession(ctx context.Context, n directory.Session) error {
	p := n.Provider
	_, err := s.db.ExecContext(ctx, `INSERT INTO sessions (id, user, epoch, created, seen, issuer, subject, provider_id, id_token) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		n.ID, n.User, n.Epoch, millis(n.CreatedAt), millis(n.SeenAt), p.Issuer, p.Subject, p.ID, p.IDToken)
	return failed(err)
}

// Session implements [directory.Store].
func (s *Store) Session(ctx context.Context, id string) (directory.Session, error) {
	return scanSession(s.db.QueryRowContext(ctx, session+`WHERE id = ?`, id))
}

const session = `SELECT id, user, epoch, created, seen, issuer, subject, provider_id, id_token FROM sessions `

func scanSession(row interface{ Scan(...any) error }) (n directory.Session, err error) {
	var created, seen int64
	err = row.Scan(&n.ID, &n.User, &n.Epoch, &created, &seen, &n.Provider.Issuer, &n.Provider.Subject, &n.Provider.ID, &n.Provider.IDToken)
	n.CreatedAt, n.SeenAt = timeOf(created), timeOf(seen)
	return n, failed(err)
}

// Sessions implements [directory.Store].
func (s *Store) Sessions(ctx context.Context, user domain.UserID) ([]directory.Session, error) {
	return all(ctx, s.db, scanSession, session+`WHERE user = ? ORDER BY created DESC, id`, user)
}

// SeeSession implements [directory.Store].
func (s *Store) SeeSession(ctx context.Context, id string, at time.Time) error {
	_, err := s.db.ExecContext(ctx, `UPDATE sessions SET seen = max(seen, ?) WHERE id = ?`, millis(at), id)
	return failed(err)
}

// EndSession implements [directory.Store].
func (s *Store) EndSession(ctx context.Context, id string) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM sessions WHERE id = ?`, id)
	return failed(err)
}

// EndProviderSessions implements [directory.Store].
func (s *Store) EndProviderSessions(ctx context.Context, i directory.Identity, id string) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM sessions WHERE issuer = ?1 AND (?2 = '' OR subject = ?2) AND (?3 = '' OR provider_id = ?3)`, i.Issuer, i.Subject, id)
	return failed(err)
}

// PruneSessions implements [directory.Store].
func (s *Store) PruneSessions(ctx context.Context, begunBefore, seenBefore time.Time) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM sessions WHERE created < ? OR seen < ?`, millis(begunBefore), millis(seenBefore))
	return failed(err)
}

// AddToken implements [directory.Store].
func (s *Store) AddToken(ctx context.Context, t directory.Token) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO tokens (id, user, label, used) VALUES (?, ?, ?, ?)`, t.ID, t.User, t.Label, millis(t.UsedAt))
	return failed(err)
}

func scanToken(row interface{ Scan(...any) error }) (t directory.Token, err error) {
	var used int64
	err = row.Scan(&t.ID, &t.User, &t.Label, &used)
	t.UsedAt = timeOf(used)
	return t, failed(err)
}

// Token implements [directory.Store].
func (s *Store) Token(ctx context.Context, id domain.TokenID) (directory.Token, error) {
	return scanToken(s.db.QueryRowContext(ctx, `SELECT id, user, label, used FROM tokens WHERE id = ?`, id))
}

// Tokens implements [directory.Store].
func (s *Store) Tokens(ctx context.Context, user domain.UserID, after domain.TokenID, limit int) ([]directory.Token, error) {
	return all(ctx, s.db, scanToken, `SELECT id, user, label, used FROM tokens WHERE (user = ?1 OR ?1 = '') AND id > ?2 ORDER BY id LIMIT ?3`, user, after, limited(limit))
}

// SeeToken implements [directory.Store].
func (s *Store) SeeToken(ctx context.Context, id domain.TokenID, at time.Time) error {
	_, err := s.db.ExecContext(ctx, `UPDATE tokens SET used = max(used, ?) WHERE id = ?`, millis(at), id)
	return failed(err)
}

// RemoveToken implements [directory.Store].
func (s *Store) RemoveToken(ctx context.Context, id domain.TokenID) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM tokens WHERE id = ?`, id)
	return failed(err)
}

// AddCode implements [directory.Store].
func (s *Store) AddCode(ctx context.Context, c directory.Code) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO codes (id, user, room, token, expires) VALUES (?, ?, ?, ?, ?)`, c.ID, c.User, c.Room, c.Token, millis(c.ExpiresAt))
	return failed(err)
}

// Code implements [directory.Store].
func (s *Store) Code(ctx context.Context, id string) (c directory.Code, err error) {
	var expires int64
	err = s.db.QueryRowContext(ctx, `SELECT id, user, room, token, expires FROM codes WHERE id = ?`, id).Scan(&c.ID, &c.User, &c.Room, &c.Token, &expires)
	c.ExpiresAt = timeOf(expires)
	return c, failed(err)
}

// TakeCode implements [directory.Store].
func (s *Store) TakeCode(ctx context.Context, id string) error {
	result, err := s.db.ExecContext(ctx, `DELETE FROM codes WHERE id = ?`, id)
	if err != nil {
		return failed(err)
	}
	return changedOne(result)
}

// PruneCodes implements [directory.Store].
func (s *Store) PruneCodes(ctx context.Context, before time.Time) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM codes WHERE expires < ?`, millis(before))
	return failed(err)
}

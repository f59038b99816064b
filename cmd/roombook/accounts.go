package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"roombook/commands/accounts"
	"roombook/commands/accounts/directory"
	directorymongo "roombook/commands/accounts/directory/mongo"
	directorysqlite "roombook/commands/accounts/directory/sqlite"
	"roombook/domain"
)

// peopleFile is where users are kept, unless --mongo names a MongoDB.
func (c *storeConfig) peopleFile() string { return filepath.Join(c.data, "accounts.db") }

// openDirectory opens the directory of users, and creates it if necessary.
func openDirectory(ctx context.Context, c storeConfig) (directory.Store, error) {
	if c.mongo != "" {
		return openMongoDirectory(c, func(s *directorymongo.Store) error { return s.Prepare(ctx) })
	}
	if err := c.makeDataFolder(); err != nil {
		return nil, err
	}
	store, err := directorysqlite.Open(c.peopleFile())
	if err != nil {
		return nil, fmt.Errorf("the users cannot be read: %w: make room on the disk of the file, check who may read and write it, or put a copy of it back", err)
	}
	return store, nil
}

// openMongoDirectory opens the directory in MongoDB, which must answer.
func openMongoDirectory(c storeConfig, ask func(*directorymongo.Store) error) (directory.Store, error) {
	store, err := directorymongo.Open(c.mongo)
	if err != nil {
		return nil, usagef("--mongo: %w", err)
	}
	if err := ask(store); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: start MongoDB, or name another with --mongo", err), store.Close())
	}
	return store, nil
}

// attachDirectory is openDirectory for the commands on existing users: it creates nothing.
func attachDirectory(ctx context.Context, c storeConfig) (directory.Store, error) {
	if c.mongo != "" {
		return openMongoDirectory(c, func(s *directorymongo.Store) error { return s.Ping(ctx) })
	}
	if _, err := os.Stat(c.peopleFile()); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there are no users in %s: name their folder with --data, or their database with --mongo, or add one with roombook user add", c.data)
	}
	return openDirectory(ctx, c)
}

// newAccountsCommand completes a command on accounts with the flags of the stores and their help, and with a RunE that opens the stores and calls
// do with a request of the operator. Stores that do not exist are created if creates is set.
func newAccountsCommand(cmd *cobra.Command, creates bool, do func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, args []string) error) *cobra.Command {
	var c storeConfig
	cmd.Long += "\n\n" + attachHelp
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		openEvents, openPeople := attachEvents, attachDirectory
		if creates {
			openEvents, openPeople = openOrAttach, openDirectory
		}
		store, err := openEvents(cmd.Context(), c)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		people, err := openPeople(cmd.Context(), c)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, people.Close()) }()
		operator, err := operatorRequest()
		if err != nil {
			return err
		}
		err = do(cmd, accounts.New(store, people, accounts.Options{}), accounts.Request{Actor: operator.Actor, At: operator.At, CorrelationID: operator.ID.String()}, args)
		if errors.Is(err, directory.ErrUnavailable) {
			err = fmt.Errorf("%w; make room on the disk of the users' file and check who may write it, or start the MongoDB that has the users", err)
		}
		return err
	}
	c.register(cmd.Flags())
	return fromEnvironment(cmd)
}

// userNamed returns the user with a name or an id.
func userNamed(ctx context.Context, a *accounts.Accounts, r accounts.Request, name string) (accounts.User, error) {
	u, err := a.Named(ctx, r, name)
	if errors.Is(err, domain.ErrUserNotFound) {
		u, err = a.User(ctx, r, domain.UserID(name))
	}
	if err != nil {
		return accounts.User{}, fmt.Errorf("user %s: %w; roombook user list lists all", name, err)
	}
	return u, nil
}

// oneName refuses anything but one argument.
func oneName(advice string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usagef("%s", advice)
		}
		return nil
	}
}

// rightsFlags are the flags that say what a user or token may do.
type rightsFlags struct{ roles, rooms []string }

func (f *rightsFlags) register(cmd *cobra.Command, roles []string, usual string) {
	cmd.Flags().StringSliceVar(&f.roles, "role", roles, "user, approver, admin, door or machine; several are separated by commas"+usual)
	cmd.Flags().StringSliceVar(&f.rooms, "rooms", nil, "rooms for which the roles approver and door count; * for all"+usual)
}

// rights returns what the flags say.
func (f *rightsFlags) rights() (domain.Roles, domain.Rooms, error) {
	roles := make([]domain.Role, len(f.roles))
	for i, role := range f.roles {
		roles[i] = domain.Role(role)
		if domain.NewRoles(roles[i]) == "" {
			return "", "", usagef("--role: there is no role %q; the roles are user, approver, admin, door and machine", role)
		}
	}
	if len(f.rooms) == 1 && f.rooms[0] == string(domain.AllRooms) {
		return domain.NewRoles(roles...), domain.AllRooms, nil
	}
	rooms := make([]domain.RoomID, len(f.rooms))
	for i, room := range f.rooms {
		if room == "" || room == string(domain.AllRooms) || strings.ContainsAny(room, " \t") {
			return "", "", usagef("--rooms is %q; it must be ids of rooms, or * alone", strings.Join(f.rooms, ","))
		}
		rooms[i] = domain.RoomID(room)
	}
	return domain.NewRoles(roles...), domain.NewRooms(rooms...), nil
}

// readPassword asks for a password at the terminal, twice, or reads it from the first line of what standard input otherwise is.
func readPassword(cmd *cobra.Command) (string, error) {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 64<<10)).ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			if err == io.EOF {
				err = nil
			}
			return "", errors.Join(usagef("the password is to be typed in, or to be the first line of standard input"), err)
		}
		return line, nil
	}
	var typed [2]string
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(cmd.ErrOrStderr(), prompt)
		b, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		typed[i] = string(b)
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords differ; try again")
	}
	return typed[0], nil
}

func newUserAddCommand() *cobra.Command {
	var rights rightsFlags
	var n accounts.NewUser
	var withoutPassword bool
	cmd := newAccountsCommand(&cobra.Command{
		Use:   "add NAME",
		Short: "Add a user",
		Long: `Add a user, who signs in with the name and the password that is typed in or is the first line of standard input. The answer is the
user's id, by which bookings name them; it is drawn at random.`,
		Example: "  roombook user add ann --full-name \"Ann O'Hara\" --role user,approver --rooms 1,2",
		Args:    oneName("name one user to add"),
	}, true, func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, args []string) (err error) { // the first before the program has run
		n.Name = args[0]
		if n.Roles, n.Rooms, err = rights.rights(); err != nil {
			return err
		}
		if !withoutPassword {
			if n.Password, err = readPassword(cmd); err != nil {
				return err
			}
		}
		id, err := a.AddUser(cmd.Context(), r, n)
		if err != nil {
			return fmt.Errorf("user %s: %w", n.Name, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "user %s has the id %s\n", n.Name, id)
		return nil
	})
	rights.register(cmd, []string{string(domain.RoleUser)}, "")
	cmd.Flags().StringVar(&n.FullName, "full-name", "", "name to be shown")
	cmd.Flags().StringVar(&n.Address, "address", "", "mail address")
	cmd.Flags().StringVar(&n.Language, "language", "", "language of mail: en or ko, or one of --texts")
	cmd.Flags().BoolVar(&withoutPassword, "no-password", false, "the user cannot sign in, and acts by tokens only")
	return cmd
}

// newUserCommand returns a command on one user.
func newUserCommand(name, short, long, advice string, do func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, u accounts.User) error) *cobra.Command {
	return newAccountsCommand(&cobra.Command{Use: name + " NAME", Short: short, Long: long, Args: oneName(advice)}, false,
		func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, args []string) error {
			u, err := userNamed(cmd.Context(), a, r, args[0])
			if err != nil {
				return err
			}
			return do(cmd, a, r, u)
		})
}

func newUserPasswdCommand() *cobra.Command {
	return newUserCommand("passwd", "Change a user's password",
		"Change the password of a user, to the one that is typed in or is the first line of standard input. All sessions of the user end.",
		"name one user whose password to change",
		func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, u accounts.User) error {
			password, err := readPassword(cmd)
			if err != nil {
				return err
			}
			if err := a.SetPassword(cmd.Context(), r, u.ID, "", password); err != nil {
				return fmt.Errorf("user %s: %w", u.Name, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "user %s has another password\n", u.Name)
			return nil
		})
}

func newUserChangeCommand() *cobra.Command {
	var name, fullName, address, language string
	var change accounts.Change
	flags := []struct {
		flag, usage string
		text        *string
		change      **string
	}{
		{"name", "name to sign in with", &name, &change.Name}, {"full-name", "name to be shown", &fullName, &change.FullName},
		{"address", "mail address", &address, &change.Address}, {"language", "language of mail: en or ko, or one of --texts", &language, &change.Language},
	}
	cmd := newUserCommand("change", "Change who a user is", "Change the name, the full name, the mail address or the language of a user. What is left out stays.",
		"name one user to change",
		func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, u accounts.User) error {
			for _, f := range flags {
				if cmd.Flags().Changed(f.flag) {
					*f.change = f.text
				}
			}
			if err := a.ChangeUser(cmd.Context(), r, u.ID, change); err != nil {
				return fmt.Errorf("user %s: %w", u.Name, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "user %s is changed\n", u.Name)
			return nil
		})
	for _, f := range flags {
		cmd.Flags().StringVar(f.text, f.flag, "", f.usage)
	}
	return cmd
}

func newUserDisableCommand() *cobra.Command {
	var enable bool
	cmd := newUserCommand("disable", "Disable a user, or enable them again",
		"Disable a user: their sessions end, and their tokens are not valid until they are enabled again. Their bookings stay.",
		"name one user to disable",
		func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, u accounts.User) error {
			if err := a.Disable(cmd.Context(), r, u.ID, !enable); err != nil {
				return fmt.Errorf("user %s: %w", u.Name, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "user %s is %s\n", u.Name, map[bool]string{true: "enabled", false: "disabled"}[enable])
			return nil
		})
	cmd.Flags().BoolVar(&enable, "enable", false, "enable the user again")
	return cmd
}

func newUserRolesCommand() *cobra.Command {
	var rights rightsFlags
	cmd := newUserCommand("roles", "Say what a user may do",
		"Give a user these roles and rooms, in place of those that they have. It takes effect at once, within a second in other processes.",
		"name one user to give roles",
		func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, u accounts.User) error {
			roles, rooms, err := rights.rights()
			if err != nil {
				return err
			}
			if err := a.GiveRoles(cmd.Context(), r, u.ID, roles, rooms); err != nil {
				return fmt.Errorf("user %s: %w", u.Name, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "user %s is %s\n", u.Name, roles)
			return nil
		})
	rights.register(cmd, []string{string(domain.RoleUser)}, "")
	return cmd
}

func newUserEraseCommand() *cobra.Command {
	return newAccountsCommand(&cobra.Command{
		Use:   "erase NAME",
		Short: "Forget who a user was, for good",
		Long: `Forget who a user was: name, address, password, sessions, and what they called their tokens. They can do nothing any more. Bookings and their
history keep the user's id, which then says nothing about anybody. This cannot be undone.

The events have only the id, and so have exports and backups of them. Older copies of the directory of users have the user still; where
one is put back, the user is forgotten again as soon as they are looked at.`,
		Args: oneName("name one user to erase"),
	}, false, func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, args []string) error {
		// A user whom the directory has forgotten is found by their id only, if the command is repeated.
		id := domain.UserID(args[0])
		if u, err := a.Named(cmd.Context(), r, args[0]); err == nil {
			id = u.ID
		} else if !errors.Is(err, domain.ErrUserNotFound) {
			return err
		}
		if err := a.Erase(cmd.Context(), r, id); err != nil {
			return fmt.Errorf("user %s: %w; roombook user list lists all", args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "user %s is erased\n", id)
		return nil
	})
}

func newUserListCommand() *cobra.Command {
	return newAccountsCommand(&cobra.Command{
		Use:   "list",
		Short: "List the users",
		Long:  "List the users in the order of their names: id, name, roles, rooms, full name and address.",
		Args:  noArgs,
	}, false, func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, _ []string) error {
		users, _, err := a.Users(cmd.Context(), r, "", 0)
		if err != nil {
			return err
		}
		for _, u := range users {
			line := fmt.Sprintf("%s  %s  %s", u.ID, u.Name, u.Roles)
			if u.Rooms != "" {
				line += fmt.Sprintf(" (rooms %s)", u.Rooms)
			}
			if u.Phase == domain.UserPhaseDisabled {
				line += ", disabled"
			}
			fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(fmt.Sprintf("%s  %s  %s", line, u.FullName, u.Address), " "))
		}
		fmt.Fprintln(cmd.OutOrStdout(), counted(len(users), "user"))
		return nil
	})
}

func newTokenCreateCommand() *cobra.Command {
	var rights rightsFlags
	var label string
	var life time.Duration
	var feeds bool
	cmd := newUserCommand("create", "Create a token for the API",
		`Create a token with which a program acts for the user: Authorization: Bearer rbk_…. It is printed now and kept nowhere. Without roles or rooms
it has those of the user; it never permits more than the user may at that time.`,
		"name the user for whom the token acts",
		func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, u accounts.User) error {
			roles, rooms, err := rights.rights()
			if err != nil {
				return err
			}
			secret, _, err := a.CreateToken(cmd.Context(), r, accounts.NewToken{User: u.ID, Label: label, Roles: roles, Rooms: rooms, Feeds: feeds, ExpiresAt: r.At.Add(life)})
			if err != nil {
				return fmt.Errorf("user %s: %w", u.Name, err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), secret)
			return nil
		})
	rights.register(cmd, nil, "; those of the user if left out")
	cmd.Flags().StringVar(&label, "label", "", "what the token is for")
	cmd.Flags().BoolVar(&feeds, "feeds", false, "it opens calendar feeds and nothing else, as a password of calendar programs")
	cmd.Flags().DurationVar(&life, "life", 90*24*time.Hour, "for how long it is valid, at most two years")
	return cmd
}

func newTokenListCommand() *cobra.Command {
	return newAccountsCommand(&cobra.Command{
		Use:   "list [USER]",
		Short: "List the tokens of a user, or of all users",
		Long:  "List the tokens that are not revoked, the newest first: id, user, roles, when they expire and were last used, and label.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("name one user, or none for the tokens of all users")
			}
			return nil
		},
	}, false, func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, args []string) error {
		var user domain.UserID
		if len(args) == 1 {
			u, err := userNamed(cmd.Context(), a, r, args[0])
			if err != nil {
				return err
			}
			user = u.ID
		}
		tokens, err := a.Tokens(cmd.Context(), r, user)
		if err != nil {
			return err
		}
		for _, t := range tokens {
			used := "never used"
			if !t.UsedAt.IsZero() {
				used = "used " + t.UsedAt.Format(time.RFC3339)
			}
			line := fmt.Sprintf("%s  user %s, %s, expires %s, %s  %s", t.ID, t.User, t.Roles, t.ExpiresAt.UTC().Format(time.RFC3339), used, t.Label)
			fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(line, " "))
		}
		fmt.Fprintln(cmd.OutOrStdout(), counted(len(tokens), "token"))
		return nil
	})
}

func newTokenRevokeCommand() *cobra.Command {
	return newAccountsCommand(&cobra.Command{
		Use:   "revoke TOKEN",
		Short: "Revoke a token",
		Long:  "Revoke the token with an id, at once, within a second in other processes.",
		Args:  oneName("name one token to revoke, by its id"),
	}, false, func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, args []string) error {
		if err := a.RevokeToken(cmd.Context(), r, domain.TokenID(args[0])); err != nil {
			return fmt.Errorf("token %s: %w; roombook token list lists all", args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "token %s is revoked\n", args[0])
		return nil
	})
}

func newTokenPairCommand() *cobra.Command {
	return newAccountsCommand(&cobra.Command{
		Use:   "pair CODE",
		Short: "Pair the display beside a room's door",
		Long:  "Pair the display that shows a code at /rooms/{id}/door. It is then the door of that room, until the token that is printed is revoked.",
		Args:  oneName("name the code that the display shows"),
	}, false, func(cmd *cobra.Command, a *accounts.Accounts, r accounts.Request, args []string) error {
		t, err := a.PairDisplay(cmd.Context(), r, args[0])
		if err != nil {
			return fmt.Errorf("code %s: %w", args[0], err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "the display of room %s has the token %s\n", t.Rooms, t.ID)
		return nil
	})
}

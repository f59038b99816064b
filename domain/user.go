package domain

import (
	"errors"
	"time"
)

// The events of a user's stream. They are stored forever, so they say nothing by which a person can be told: the user's id is drawn at
// random, and names, addresses and passwords are in a directory outside of the log, which can forget them.
type (
	// UserAdded says that the user exists, and what they are to the system.
	UserAdded struct {
		UserID UserID    `json:"userId"`
		Roles  Roles     `json:"roles"`
		Rooms  Rooms     `json:"rooms,omitempty"`
		At     time.Time `json:"at"`
	}

	// RolesGiven says what the user is from now on.
	RolesGiven struct {
		UserID UserID    `json:"userId"`
		Roles  Roles     `json:"roles"`
		Rooms  Rooms     `json:"rooms,omitempty"`
		At     time.Time `json:"at"`
	}

	// MailChosen says which kinds of notifications are not mailed to the user from now on.
	MailChosen struct {
		UserID  UserID    `json:"userId"`
		Without Kinds     `json:"without,omitempty"`
		At      time.Time `json:"at"`
	}

	// PasswordChanged says that the user has another password, which ends all sessions that began before.
	PasswordChanged struct {
		UserID UserID    `json:"userId"`
		At     time.Time `json:"at"`
	}

	// SignedOutEverywhere says that all sessions that began before are over.
	SignedOutEverywhere struct {
		UserID UserID    `json:"userId"`
		At     time.Time `json:"at"`
	}

	// UserDisabled says that the user can do nothing until they are enabled again.
	UserDisabled struct {
		UserID UserID    `json:"userId"`
		At     time.Time `json:"at"`
	}

	// UserEnabled says that the user is no longer disabled.
	UserEnabled struct {
		UserID UserID    `json:"userId"`
		At     time.Time `json:"at"`
	}

	// UserErased says that the directory has forgotten the user for good. Nothing follows it.
	UserErased struct {
		UserID UserID    `json:"userId"`
		At     time.Time `json:"at"`
	}
)

func (UserAdded) EventType() string           { return "UserAdded" }
func (RolesGiven) EventType() string          { return "RolesGiven" }
func (MailChosen) EventType() string          { return "MailChosen" }
func (PasswordChanged) EventType() string     { return "PasswordChanged" }
func (SignedOutEverywhere) EventType() string { return "SignedOutEverywhere" }
func (UserDisabled) EventType() string        { return "UserDisabled" }
func (UserEnabled) EventType() string         { return "UserEnabled" }
func (UserErased) EventType() string          { return "UserErased" }

var (
	// ErrUserNotFound means that no user has this id, or that they were erased.
	ErrUserNotFound = errors.New("there is no such user")
	// ErrNoRoles means that a user or token would have no role.
	ErrNoRoles = errors.New("at least one role is needed")
)

// UserPhase is where a user is in their life.
type UserPhase string

const (
	UserPhaseNone     UserPhase = "" // was never added
	UserPhaseActive   UserPhase = "ACTIVE"
	UserPhaseDisabled UserPhase = "DISABLED"
	UserPhaseErased   UserPhase = "ERASED"
)

// User is the state of one user. The zero value is a user that does not exist.
type User struct {
	ID    UserID
	Roles Roles
	Rooms Rooms
	Phase UserPhase
	// WithoutMail are the kinds of notifications that are not mailed to the user.
	WithoutMail Kinds
	// Epoch counts what ended all of the user's sessions. A session belongs to the epoch in which it began.
	Epoch int64
}

// Evolve folds one event of the user's stream.
func (u User) Evolve(event Event) User {
	switch e := event.(type) {
	case UserAdded:
		u.ID, u.Roles, u.Rooms, u.Phase = e.UserID, e.Roles, e.Rooms, UserPhaseActive
	case RolesGiven:
		u.Roles, u.Rooms = e.Roles, e.Rooms
	case MailChosen:
		u.WithoutMail = e.Without
	case PasswordChanged, SignedOutEverywhere:
		u.Epoch++
	case UserDisabled:
		u.Phase = UserPhaseDisabled
		u.Epoch++
	case UserEnabled:
		u.Phase = UserPhaseActive
	case UserErased:
		u.Phase, u.Roles, u.Rooms, u.WithoutMail = UserPhaseErased, "", "", ""
		u.Epoch++
	}
	return u
}

// Actor returns the actor that the user is; false if they can do nothing.
func (u User) Actor() (Actor, bool) {
	return Actor{User: u.ID, Roles: u.Roles, Rooms: u.Rooms}, u.Phase == UserPhaseActive
}

// exists returns [ErrUserNotFound] for a user that was never added or has been erased.
func (u User) exists() error {
	if u.Phase == UserPhaseNone || u.Phase == UserPhaseErased {
		return ErrUserNotFound
	}
	return nil
}

// DecideAddUser adds a user.
//
//	given no user and a role  then UserAdded
//	given no role             then ErrNoRoles
//	otherwise                 then nothing: a repeat
func DecideAddUser(u User, id UserID, roles Roles, rooms Rooms, at time.Time) ([]Event, error) {
	switch {
	case roles == "":
		return nil, ErrNoRoles
	case u.Phase != UserPhaseNone:
		return nil, nil
	}
	return []Event{UserAdded{UserID: id, Roles: roles, Rooms: rooms, At: at}}, nil
}

// DecideGiveRoles says what a user is from now on.
//
//	given they have other roles or rooms  then RolesGiven
//	given they have these                 then nothing: a repeat
//	given no role                         then ErrNoRoles
//	given no such user                    then ErrUserNotFound
func DecideGiveRoles(u User, roles Roles, rooms Rooms, at time.Time) ([]Event, error) {
	switch err := u.exists(); {
	case err != nil:
		return nil, err
	case roles == "":
		return nil, ErrNoRoles
	case u.Roles == roles && u.Rooms == rooms:
		return nil, nil
	}
	return []Event{RolesGiven{UserID: u.ID, Roles: roles, Rooms: rooms, At: at}}, nil
}

// DecideMail says which kinds of notifications are not mailed to a user.
//
//	given others were not mailed  then MailChosen
//	given these were not          then nothing: a repeat
//	given no such user            then ErrUserNotFound
func DecideMail(u User, without Kinds, at time.Time) ([]Event, error) {
	switch err := u.exists(); {
	case err != nil:
		return nil, err
	case u.WithoutMail == without:
		return nil, nil
	}
	return []Event{MailChosen{UserID: u.ID, Without: without, At: at}}, nil
}

// DecidePassword records that the user has another password.
//
//	given the user exists  then PasswordChanged
//	otherwise              then ErrUserNotFound
func DecidePassword(u User, at time.Time) ([]Event, error) {
	if err := u.exists(); err != nil {
		return nil, err
	}
	return []Event{PasswordChanged{UserID: u.ID, At: at}}, nil
}

// DecideSignOut ends all sessions of the user.
//
//	given the user exists  then SignedOutEverywhere
//	otherwise              then ErrUserNotFound
func DecideSignOut(u User, at time.Time) ([]Event, error) {
	if err := u.exists(); err != nil {
		return nil, err
	}
	return []Event{SignedOutEverywhere{UserID: u.ID, At: at}}, nil
}

// DecideDisable disables a user or enables them again.
//
//	given they are the other  then UserDisabled or UserEnabled
//	given they are that       then nothing: a repeat
//	given no such user        then ErrUserNotFound
func DecideDisable(u User, disabled bool, at time.Time) ([]Event, error) {
	switch err := u.exists(); {
	case err != nil:
		return nil, err
	case disabled && u.Phase == UserPhaseActive:
		return []Event{UserDisabled{UserID: u.ID, At: at}}, nil
	case !disabled && u.Phase == UserPhaseDisabled:
		return []Event{UserEnabled{UserID: u.ID, At: at}}, nil
	}
	return nil, nil
}

// DecideErase records that the user is erased.
//
//	given the user exists      then UserErased
//	given they were erased     then nothing: a repeat
//	given they were never added then ErrUserNotFound
func DecideErase(u User, at time.Time) ([]Event, error) {
	switch u.Phase {
	case UserPhaseErased:
		return nil, nil
	case UserPhaseNone:
		return nil, ErrUserNotFound
	}
	return []Event{UserErased{UserID: u.ID, At: at}}, nil
}

// Package commands is the write side: what users and administrators ask for becomes events, or an error that says why not.
//
// Every command loads what it decides on, lets package domain decide, and appends at the revision it decided on; a lost race
// means to load and decide again. A command is a row of such appends, of which one decides. What is decided goes forward
// whatever happens: the steps that are left are finished by the command itself, by another command that finds them in its
// way, or by the recovery worker, all through the same function, settle. So a reply comes after the last step, and an error
// after the deciding one ([eventstore.ErrOutcomeUnknown]) means "will be finished".
//
// Rooms are kept from being double-booked by the revisions of their calendars alone. Commands of one process that want the same
// room at the same time decide one after the other on what the ones before will leave, and share an append.
//
// It also reads single resources, folded from their streams: always what has been committed.
package commands

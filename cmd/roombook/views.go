package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"roombook/projections"
	"roombook/projections/mongo"
	"roombook/projections/sqlite"
)

// openViews opens the store of the lists that c names, and creates it if necessary. No command needs a list, so a store that cannot be
// opened yet does not keep the program from starting: it is opened as soon as that is possible.
func openViews(c storeConfig, log *slog.Logger) (projections.Store, error) {
	if c.mongo != "" {
		return openMongo(c)
	}
	if err := c.makeDataFolder(); err != nil {
		return nil, err
	}
	return sqlite.OpenWith(c.viewsFile(), sqlite.Options{Retry: true, Logger: log})
}

// attachViews is openViews for replay: the store must answer now, and a data folder that does not exist is a mistake.
func attachViews(ctx context.Context, c storeConfig, log *slog.Logger) (projections.Store, error) {
	if c.mongo != "" {
		return reachMongo(ctx, c)
	}
	if _, err := os.Stat(c.data); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no folder %s: name that of the lists with --data, or their database with --mongo", c.data)
	}
	store, err := sqlite.OpenWith(c.viewsFile(), sqlite.Options{Logger: log})
	return store, badLists(err)
}

// badLists is err with advice for an operator whose file of the lists cannot be used.
func badLists(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the lists cannot be read: %w; check the disk and who may read and write the file, or name another folder with --data", err)
}

// readViews is openViews for verify, which creates and changes nothing.
func readViews(ctx context.Context, c storeConfig) (projections.Store, error) {
	if c.mongo != "" {
		return reachMongo(ctx, c)
	}
	store, err := sqlite.OpenWith(c.viewsFile(), sqlite.Options{Existing: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there are no lists in %s: name their folder with --data, or their database with --mongo, or build them with roombook replay --all", c.data)
	}
	return store, badLists(err)
}

func openMongo(c storeConfig) (projections.Store, error) {
	store, err := mongo.Open(c.mongo)
	if err != nil {
		return nil, usagef("--mongo: %w", err)
	}
	return store, nil
}

// reachMongo is openMongo for a command that cannot go on before MongoDB answers.
func reachMongo(ctx context.Context, c storeConfig) (projections.Store, error) {
	store, err := openMongo(c)
	if err != nil {
		return nil, err
	}
	if err := store.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("MongoDB does not answer: %w: start it, or name another with --mongo", err), store.Close())
	}
	return store, nil
}

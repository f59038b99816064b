package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"roombook/projections"
	"roombook/projections/mongo"
	"roombook/projections/sqlite"
)

// openViews opens the store of the lists that c names, and makes it if it is not there. Commands need no list, so a store that cannot
// be opened now keeps nobody from starting: it is opened when that is possible.
func openViews(c storeConfig, log *slog.Logger) (projections.Store, error) {
	if c.mongo != "" {
		return openMongo(c)
	}
	if err := c.makeDataFolder(); err != nil {
		return nil, err
	}
	return sqlite.OpenWith(c.viewsFile(), sqlite.Options{Retry: true, Logger: log})
}

// attachViews opens the store of the lists for a program that builds lists in a data folder that there is.
func attachViews(c storeConfig, log *slog.Logger) (projections.Store, error) {
	if c.mongo != "" {
		return openMongo(c)
	}
	if _, err := os.Stat(c.data); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no folder %s: name that of the lists with --data, or their database with --mongo", c.data)
	}
	return sqlite.OpenWith(c.viewsFile(), sqlite.Options{Logger: log})
}

// visitViews is openViews for a program that only looks.
func visitViews(c storeConfig) (projections.Store, error) {
	if c.mongo != "" {
		return openMongo(c)
	}
	store, err := sqlite.OpenWith(c.viewsFile(), sqlite.Options{Existing: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there are no lists in %s: name their folder with --data, or their database with --mongo, or make them with roombook replay --all", c.data)
	}
	return store, err
}

func openMongo(c storeConfig) (projections.Store, error) {
	store, err := mongo.Open(c.mongo)
	if err != nil {
		return nil, usagef("--mongo: %w", err)
	}
	return store, nil
}

package main

import (
	"fmt"

	"roombook/projections"
	"roombook/projections/mongo"
	"roombook/projections/sqlite"
)

// openViews opens the store of the lists that c names.
func openViews(c storeConfig) (projections.Store, error) {
	if c.mongo != "" {
		store, err := mongo.Open(c.mongo)
		if err != nil {
			return nil, usagef("--mongo: %w", err)
		}
		return store, nil
	}
	if err := c.makeDataFolder(); err != nil {
		return nil, err
	}
	store, err := sqlite.Open(c.viewsFile())
	if err != nil {
		return nil, fmt.Errorf("%w; choose another folder with --data", err)
	}
	return store, nil
}

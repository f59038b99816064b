package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"roombook/api"
)

// version is the program's module version and, if it was built from a checkout, its commit.
func version() api.Version {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return api.Version{Version: "unknown"}
	}
	v := api.Version{Version: info.Main.Version}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		}
	}
	return v
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Tell the version",
		Args:  arguments(cobra.NoArgs),
		Run: func(cmd *cobra.Command, _ []string) {
			v := version()
			fmt.Fprintln(cmd.OutOrStdout(), "roombook", v.Version, v.Revision)
		},
	}
}

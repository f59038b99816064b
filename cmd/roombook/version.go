package main

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"roombook/api"
)

// release and revision are set by the linker where the program is built without its repository, as in deploy/Dockerfile.
var release, revision string

// version is the program's version, or that of its module, and its commit if that is known.
func version() api.Version {
	if release != "" {
		return api.Version{Version: release, Revision: revision}
	}
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

// versionText is what the version command and --version print.
func versionText() string {
	v := version()
	return strings.TrimSpace("roombook " + v.Version + " " + v.Revision)
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), versionText())
		},
	}
}

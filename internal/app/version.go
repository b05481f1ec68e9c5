package app

import (
	"runtime"
	"runtime/debug"
)

// Version says which build this is.
type Version struct{ Version, Commit, Go string }

// ReadVersion reads what the Go tool stamped into the binary. A build without version control says "unknown".
func ReadVersion() Version {
	v := Version{Version: "dev", Commit: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			v.Commit = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			v.Commit += "+changes"
		}
	}
	return v
}

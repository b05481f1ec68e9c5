package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"syscall"
)

// keepCrashesQuiet lets a crash leave nothing of the memory behind, which holds keys and persons: no core file, and the stack of the
// goroutine that crashed instead of all (M06).
func keepCrashesQuiet(log *slog.Logger) error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("core files cannot be turned off: %w", err)
	}
	debug.SetTraceback("single")
	switch level := os.Getenv("GOTRACEBACK"); level {
	case "", "0", "none", "single":
	default:
		// The runtime lets nobody show less than the environment says.
		log.Warn("GOTRACEBACK is set, so a crash would show more than it should: remove it from the environment")
	}
	return nil
}

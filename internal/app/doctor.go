package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/kycgate/kycgate/internal/auth"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/store"
)

// Doctor checks what serve needs, without disturbing a gateway that runs on the same database. The
// configuration itself has been read and validated by the time it is called.
func Doctor(ctx context.Context, c config.Config, log *slog.Logger) []Check {
	checks := []Check{{"configuration", true, "complete; environment " + string(c.Environment)}}
	for _, w := range c.Warnings() {
		checks = append(checks, Check{"configuration", true, "note: " + w})
	}
	seen := look(ctx, c, 5*time.Second)
	checks = append(checks, checkDatabase(ctx, c), checkKeyset(ctx, c), checkKeys(c), checkClock(seen))
	return append(checks, checkProviders(ctx, Options{Config: c, Logger: log, Version: ReadVersion()}, seen)...)
}

func checkDatabase(ctx context.Context, c config.Config) Check {
	const name = "database"
	path := c.Database.SQLitePath()
	if _, err := os.Stat(path); os.IsNotExist(err) {
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return Check{name, false, errNoFolder.Error()}
		}
		return Check{name, true, "does not exist yet; serve creates it"}
	}
	have, want, err := store.Inspect(ctx, path)
	switch {
	case err != nil:
		return Check{name, false, "cannot be read: " + err.Error()}
	case have > want:
		return Check{name, false, "was made by a newer kycgate: run that one"}
	case have < want:
		return Check{name, true, "readable; serve or `kycgate migrate` brings it to this binary's schema"}
	default:
		return Check{name, true, "readable; schema is this binary's"}
	}
}

// checkKeyset opens the keyset and holds it against the database. It makes none.
func checkKeyset(ctx context.Context, c config.Config) Check {
	const name = "keys"
	if c.Keys == nil {
		if _, err := os.Stat(sandboxKeysetFile(c)); os.IsNotExist(err) {
			return Check{name, true, "none yet; serve makes a sandbox's keyset beside the database"}
		}
	}
	keyset, _, err := openKeys(c, slog.New(slog.DiscardHandler))
	if err != nil {
		return Check{name, false, err.Error()}
	}
	detail := "readable; made by `" + keyset.MadeBy() + "`; "
	n := keyset.Masters()
	if n > 1 {
		return Check{name, true, fmt.Sprintf("%s%d master keys, rotation unfinished: `kycgate keys rotate` finishes it", detail, n)}
	}
	// A database that is not there or is to be migrated first is the database's line.
	if have, want, err := store.Inspect(ctx, c.Database.SQLitePath()); err == nil && have == want {
		if err := ownKeys(ctx, c, keyset); err != nil {
			return Check{name, false, err.Error()}
		}
	}
	return Check{name, true, detail + "1 master key, rotation finished"}
}

func checkKeys(c config.Config) Check {
	const name = "token keys"
	v, err := auth.New(c, time.Now, &http.Client{Timeout: 5 * time.Second})
	if err != nil {
		return Check{name, false, err.Error()}
	}
	v.Close()
	if c.Auth.SigningKeyFile != "" {
		if _, err := auth.NewSigner(c); err != nil {
			return Check{name, false, err.Error()}
		}
		return Check{name, true, "readable; this gateway can issue tokens itself"}
	}
	return Check{name, true, "readable"}
}

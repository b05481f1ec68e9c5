// Command kycgate is one GraphQL API in front of every KYC provider a business uses.
package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// A core file would hold whatever persons were in memory (M06). The only error would be not to be allowed less.
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal drains. After it the handler is gone, so that a second one ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program: it parses the arguments, runs the command and gives the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	parser, exited, err := newParser(&c, stdout, stderr)
	if err != nil {
		return fail(stderr, err)
	}
	parsed, err := parser.Parse(args)
	if *exited {
		return 0 // --help was asked for and answered
	}
	if err != nil {
		return fail(stderr, usage(err))
	}
	logger := c.logger(stderr)
	log.SetFlags(0)
	log.SetOutput(libraryLog{logger})
	err = parsed.Run(&process{ctx: ctx, stdout: stdout, log: logger})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return 0 // told to stop while it started
	}
	return fail(stderr, err)
}

// libraryLog takes what libraries print to Go's standard logger: net/http quotes there the bytes an upstream sent after its
// answer, which may be a person's data. Only that it happened is passed on. MUST: TestLibrariesLogNoData.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Write(b []byte) (int, error) {
	kind := "other"
	if bytes.Contains(b, []byte("Unsolicited response received on idle HTTP channel")) {
		kind = "unsolicited_response"
	}
	l.log.Warn("a library reports something; its text is withheld, it may hold personal data", "kind", kind)
	return len(b), nil
}

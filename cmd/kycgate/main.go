// Command kycgate is one GraphQL API in front of every KYC provider a business uses.
package main

import (
	"context"
	"errors"
	"io"
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
	err = parsed.Run(&process{ctx: ctx, stdout: stdout, log: c.logger(stderr)})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return 0 // told to stop while it started
	}
	return fail(stderr, err)
}

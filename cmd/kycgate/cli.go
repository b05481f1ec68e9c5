package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/alecthomas/kong"

	"github.com/kycgate/kycgate/internal/config"
)

// exitConfiguration is EX_CONFIG of sysexits.h: starting again will not help, mending a setting will.
const exitConfiguration = 78

// cli is the command line (contract, section 1).
type cli struct {
	LogFormat string `enum:"json,text" default:"json" help:"How logs on stderr are written: json for machines, text for people."`

	Sandbox  sandboxCmd  `cmd:"" help:"Run the whole product on this machine: the gateway and a simulator of every provider."`
	Serve    serveCmd    `cmd:"" help:"Run the gateway; it refuses to start on a missing or weak security setting."`
	Simulate simulateCmd `cmd:"" help:"Run the simulators of the providers alone."`
	Token    tokenCmd    `cmd:"" help:"Sign a token with the configured local signing key."`
	Migrate  migrateCmd  `cmd:"" help:"Bring the database to the schema of this binary; serve and sandbox do it too."`
	Doctor   doctorCmd   `cmd:"" help:"Check configuration, database, keys, clock and providers, one line a check."`
	Keys     keysCmd     `cmd:"" help:"Make and rotate the keys that personal data is encrypted with."`
	Audit    auditCmd    `cmd:"" help:"Look after the audit log."`
	DataMap  dataMapCmd  `cmd:"" help:"Print which personal data is kept where, under which key, and who receives it."`
	Version  versionCmd  `cmd:"" help:"Print version, commit and Go version."`
}

const description = `One GraphQL API in front of every KYC provider a business uses.

Every flag can be given as an environment variable, named beside it. Exit codes: 0 after a clean end, 78 when a
setting must be mended, 1 for everything else.

Try it with nothing installed: kycgate sandbox`

// newParser makes the parser. exited becomes true when it has answered by itself, as --help does.
func newParser(c *cli, stdout, stderr io.Writer) (parser *kong.Kong, exited *bool, err error) {
	exited = new(bool)
	parser, err = kong.New(c,
		kong.Name("kycgate"),
		kong.Description(description),
		kong.DefaultEnvars("KYCGATE"),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { *exited = true }),
		kong.ConfigureHelp(kong.HelpOptions{NoAppDescFormat: true, NoExpandSubcommands: true, WrapUpperBound: 110}),
	)
	return parser, exited, err
}

// process is what a command may use of the process it runs in.
type process struct {
	ctx    context.Context // ends when the process is told to stop
	stdout io.Writer
	log    *slog.Logger
}

func (c *cli) logger(stderr io.Writer) *slog.Logger {
	if c.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(stderr, nil))
	}
	return slog.New(slog.NewJSONHandler(stderr, nil))
}

// fail tells the error on stderr and gives the exit code.
func fail(stderr io.Writer, err error) int {
	var wrong *config.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		for _, p := range wrong.Problems {
			_, _ = fmt.Fprintf(stderr, "kycgate: configuration: %s\n", p)
		}
		return exitConfiguration
	case !errors.Is(err, errSilent):
		_, _ = fmt.Fprintf(stderr, "kycgate: %v\n", err)
	}
	return 1
}

// errSilent ends with exit code 1 when the output has told everything.
var errSilent = errors.New("")

func usage(err error) error {
	return fmt.Errorf("%w\nrun kycgate --help, or kycgate COMMAND --help", err)
}

// configFlag is the flag of every command that reads the configuration file. It is not `required` for the
// parser, because a missing configuration is a configuration error and not a wrong usage.
type configFlag struct {
	Config string `placeholder:"FILE" help:"The configuration file (YAML); required."`
}

func (f configFlag) load() (config.Config, error) {
	if f.Config == "" {
		return config.Config{}, config.Wrong("--config", "is required: the path of the configuration file")
	}
	return config.Load(f.Config)
}

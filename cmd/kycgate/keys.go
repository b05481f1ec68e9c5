package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kycgate/kycgate/internal/app"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/internal/vault"
)

type keysCmd struct {
	Init   keysInitCmd   `cmd:"" help:"Make the keyset that personal data is encrypted with."`
	Rotate keysRotateCmd `cmd:"" help:"Put a new master key in the place of the old one, while the gateway serves or not."`
}

func (keysCmd) Help() string {
	return `The keyset is a file that holds the master keys, and the keys of blind indexes and of the audit trail. It never lies in the
database, so that a copy of one without the other shows nobody's data.

Examples:

    kycgate keys init --out /etc/kycgate/keyset.json --passphrase env:KYCGATE_PASSPHRASE
    kycgate keys rotate --config /etc/kycgate/kycgate.yaml`
}

type keysInitCmd struct {
	Out        string `placeholder:"FILE" help:"Where the keyset is written; required. A file that exists is never replaced."`
	Passphrase string `placeholder:"env:NAME|file:PATH" help:"The passphrase that the keyset is encrypted with: the name of an environment variable or a file that holds it."`
	KMSURI     string `name:"kms-uri" placeholder:"URI" help:"Instead of a passphrase, the key of a KMS, such as hcvault://vault.example.com:8200/transit/keys/kycgate."`
}

func (keysInitCmd) Help() string {
	return `The file is readable by its user alone. Keep a copy of it and of its passphrase, and not beside the backups of the database:
what was encrypted with a keyset that is lost is lost, and who has both can read everything.

A passphrase has at least 16 characters, such as those of openssl rand -base64 24. It is not taken from the command line,
which other users can see; the environment variable ` + passphraseVariable + ` may hold the passphrase itself instead of env:NAME.

The KMS is the transit engine of HashiCorp Vault: give its token in VAULT_TOKEN and its certificate authority in VAULT_CACERT.
It is asked when a process starts, and sees none of the keys in the keyset.

Examples:

    kycgate keys init --out /etc/kycgate/keyset.json --passphrase env:KYCGATE_PASSPHRASE
    kycgate keys init --out /etc/kycgate/keyset.json --passphrase file:/run/secrets/passphrase
    kycgate keys init --out /etc/kycgate/keyset.json --kms-uri ` + vault.KMSExample
}

// passphraseVariable is where the parser finds --passphrase, as it finds every flag. The configuration's example has the passphrase
// itself in the very variable, and a variable is a fit place for it.
const passphraseVariable = "KYCGATE_PASSPHRASE" //nolint:gosec // G101: it is the name of a variable

// Run makes the file and opens it again, so that what was made is known to work.
func (c keysInitCmd) Run(p *process) error {
	if c.Out == "" {
		return config.Wrong("--out", "is required: where the keyset is written")
	}
	wrapper, configured, err := c.wrapper(p)
	if err != nil {
		return err
	}
	if err := vault.Create(c.Out, wrapper); err != nil {
		return c.told(err)
	}
	if _, err := vault.Open(c.Out, wrapper); err != nil {
		return c.told(err)
	}
	_, err = fmt.Fprintf(p.stdout, `The keyset is in %[1]s. Keep a copy of it and of what opens it, away from the backups of the database:
what was encrypted with a keyset that is lost is lost.

In the configuration:

keys:
  file: %[1]s
  %[2]s
`, c.Out, configured)
	return err
}

// wrapper gives what opens the keyset, and the line of the configuration that says so.
func (c keysInitCmd) wrapper(p *process) (w vault.Wrapper, configured string, err error) {
	inVariable := c.Passphrase != "" && c.Passphrase == os.Getenv(passphraseVariable)
	if c.KMSURI != "" {
		if c.Passphrase != "" && !inVariable {
			return w, "", config.Wrong("--kms-uri", "is given together with --passphrase: remove one")
		}
		if err := vault.CheckKMS(c.KMSURI); err != nil {
			return w, "", config.Wrong("--kms-uri", "%v", err)
		}
		if w, err = vault.ForKMS(c.KMSURI); err != nil {
			return w, "", config.Wrong("--kms-uri", "%v", err)
		}
		return w, "kms_uri: " + c.KMSURI, nil
	}
	reference := strings.HasPrefix(c.Passphrase, "env:") || strings.HasPrefix(c.Passphrase, "file:")
	switch {
	case c.Passphrase == "":
		return w, "", config.Wrong("--passphrase", "is required (or --kms-uri): env:NAME or file:PATH of the keyset's passphrase")
	case !reference && !inVariable:
		return w, "", config.Wrong("--passphrase", "must be env:NAME or file:PATH: other users can see a command line")
	}
	secret, err := config.ResolveSecret(c.Passphrase)
	if err != nil {
		return w, "", config.Wrong("--passphrase", "%v", err)
	}
	if err := config.CheckPassphrase(secret); err != nil {
		p.log.Warn("production refuses this passphrase", "problem", err.Error())
	}
	configured = c.Passphrase
	if !reference {
		configured = "env:" + passphraseVariable
	}
	return vault.Passphrase(secret.Reveal()), "passphrase: " + configured, nil
}

// told names the flag of what the KMS refused.
func (c keysInitCmd) told(err error) error {
	if errors.Is(err, vault.ErrKMS) {
		return config.Wrong("--kms-uri", "%v", err)
	}
	return err
}

type keysRotateCmd struct {
	configFlag
}

func (keysRotateCmd) Help() string {
	return `A new master key is put into the keyset, every data key is wrapped anew with it, and the old master key is removed. The data
itself is not touched. A gateway that runs on the database does the work and goes on serving; without one it is done here. A
rotation that was interrupted is finished, not begun again.

Keep the copy of the old keyset as long as backups of the database from before: only it opens them.

Example:

    kycgate keys rotate --config /etc/kycgate/kycgate.yaml`
}

// Run rotates and tells how far it is.
func (c keysRotateCmd) Run(p *process) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	err = app.RotateKeys(p.ctx, cfg, p.log, p.stdout)
	if err != nil && p.ctx.Err() != nil {
		return errors.New("the rotation was interrupted and nothing is lost: run `kycgate keys rotate` again to finish it")
	}
	return err
}

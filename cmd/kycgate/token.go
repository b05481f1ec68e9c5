package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kycgate/kycgate/internal/auth"
	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/kyc"
)

type tokenCmd struct {
	configFlag
	Partner string        `required:"" placeholder:"ID" help:"The partner the token acts for."`
	Scope   string        `required:"" placeholder:"WORDS" help:"What the token may do: scopes, separated by blanks."`
	Person  string        `placeholder:"ID" help:"Make a subject token, which is about this person (per_…) and nobody else."`
	Purpose string        `placeholder:"CODE" help:"What the data is wanted for, as the audit log will say: a code, as credit_analysis."`
	TTL     time.Duration `name:"ttl" default:"1h" help:"How long the token is valid."`
}

func (tokenCmd) Help() string {
	return `For sandboxes and tests: partners in production bring tokens of their own issuer. The token is the only line on stdout.

The scopes are ` + scopeWords() + `.

Examples:

    kycgate token --config kycgate.yaml --partner acme --scope "persons:read persons:write pii:read"
    kycgate token --config kycgate.yaml --partner acme --scope persons:read --person per_01JD7XK8Z3N4Q5R6S7T8V9WABC --ttl 15m`
}

func scopeWords() string {
	words := make([]string, 0, len(kyc.Scopes()))
	for _, s := range kyc.Scopes() {
		words = append(words, string(s))
	}
	return strings.Join(words, " ")
}

// Run prints the token.
func (c tokenCmd) Run(p *process) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	scopes, err := parseScopes(c.Scope)
	if err != nil {
		return err
	}
	if _, known := cfg.Partner(c.Partner); !known {
		return fmt.Errorf("--partner: no such partner; the configured ones are %s", partnerIDs(cfg))
	}
	signer, err := auth.NewSigner(cfg)
	if err != nil {
		return err
	}
	token, _, err := signer.Sign(auth.Claims{
		Partner: kyc.PartnerID(c.Partner), Subject: "kycgate-token", Scopes: scopes, Person: kyc.PersonID(c.Person), Purpose: c.Purpose, TTL: c.TTL,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, token)
	return err
}

// parseScopes refuses a word nobody knows: it would grant nothing, and nobody would see why.
func parseScopes(text string) (kyc.ScopeSet, error) {
	var list []kyc.Scope
	for _, word := range strings.Fields(text) {
		if !slices.Contains(kyc.Scopes(), kyc.Scope(word)) {
			return 0, fmt.Errorf("--scope: %q is not a scope; the scopes are %s", word, scopeWords())
		}
		list = append(list, kyc.Scope(word))
	}
	if len(list) == 0 {
		return 0, fmt.Errorf("--scope: names no scope; the scopes are %s", scopeWords())
	}
	return kyc.NewScopeSet(list...), nil
}

func partnerIDs(cfg config.Config) string {
	ids := make([]string, len(cfg.Partners))
	for i, p := range cfg.Partners {
		ids[i] = p.ID
	}
	return strings.Join(ids, ", ")
}

package kyc

import (
	"context"
	"time"
)

// CreateSubjectTokenInput asks for a token for the front end of one person (schema: CreateSubjectTokenInput).
type CreateSubjectTokenInput struct {
	PersonID   PersonID
	TTLSeconds *int
}

// CreateSubjectTokenPayload is the answer.
type CreateSubjectTokenPayload struct {
	Token      *string
	ExpiresAt  *time.Time
	UserErrors []UserError
}

// SubjectToken is what a token for one person says.
type SubjectToken struct {
	Partner PartnerID
	Person  PersonID
	TTL     time.Duration
}

// How long a subject token may live (ours: it is for the minutes somebody spends on a page).
const (
	defaultSubjectTTL = 15 * time.Minute
	minSubjectTTL     = time.Minute
	maxSubjectTTL     = time.Hour
)

// CreateSubjectToken signs a token that may read the onboarding of one person and start their processes, and nothing else. It cannot
// be taken back, so it is short; a person who is erased is gone for it too.
func (s *Service) CreateSubjectToken(ctx context.Context, in CreateSubjectTokenInput) (*CreateSubjectTokenPayload, error) {
	c := CallerFrom(ctx)
	if c.IsSubject() {
		return nil, E(Forbidden, "kyc.create_subject_token", nil) // it could live for ever
	}
	var errs checks
	ttl := defaultSubjectTTL
	if in.TTLSeconds != nil {
		ttl = time.Duration(min(max(*in.TTLSeconds, 0), int(maxSubjectTTL/time.Second)+1)) * time.Second
	}
	if ttl < minSubjectTTL || ttl > maxSubjectTTL {
		errs.invalid("must be from 60 to 3600", "ttlSeconds")
	}
	p, err := s.Person(ctx, in.PersonID)
	if err != nil {
		return nil, err
	}
	if p == nil {
		errs.add(CodeNotFound, "names no person of yours", "personId")
	}
	if s.SignSubjectToken == nil {
		errs.add(CodeProviderNotConfigured, "this gateway has no key to sign tokens with: its operator sets auth.signing_key_file, or your own issuer signs a token with the claim person")
	}
	if len(errs.errs) > 0 {
		return &CreateSubjectTokenPayload{UserErrors: errs.errs}, nil
	}
	token, expiry, err := s.SignSubjectToken(SubjectToken{Partner: c.Partner, Person: p.ID, TTL: ttl})
	if err != nil {
		return nil, E(Internal, "kyc.create_subject_token", err)
	}
	expiry = expiry.UTC()
	return &CreateSubjectTokenPayload{Token: &token, ExpiresAt: &expiry, UserErrors: []UserError{}}, nil
}

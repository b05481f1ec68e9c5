package kyc

import (
	"context"
	"strings"
	"time"
)

// personFor gives the partner's person that an input names, or makes one from what the input tells when it names nobody
// (contract: registerCustomer and registerProspect without personId). Such a person has no document number, so no later
// registration can find it; its KYC was never asked about. A refusal means that nothing was written.
func personFor(ctx context.Context, tx Tx, partner Partner, id *PersonID, profile Profile, now time.Time) (p *Person, refusal *UserError, err error) {
	if id != nil {
		if wellFormed(string(*id), personPrefix) {
			p, err = tx.PersonByID(ctx, partner.ID, *id)
		}
		if err != nil {
			return nil, nil, err
		}
		if p = visible(CallerFrom(ctx), p); p == nil {
			return nil, &UserError{Code: CodeNotFound, Message: "names no person of yours", Path: []string{"input", "personId"}}, nil
		}
		return p, nil, nil
	}
	profile.DocumentNumber = DocumentNumber{}
	p = &Person{
		ID: NewPersonID(), PartnerID: partner.ID, Profile: profile, SourceKyc: partner.SourceKyc,
		Kyc: KycReview{Status: KycNotRequired}, CreatedAt: now, UpdatedAt: now, Version: 1,
	}
	if partner.SourceKyc == SourceQitech {
		p.Kyc.Status = KycPending // it is asked for, and nobody has asked yet
	}
	return p, nil, tx.InsertPerson(ctx, p)
}

// fullName puts the parts of a name together, as a Person keeps it.
func fullName(parts ...Name) Name {
	words := make([]string, 0, len(parts))
	for _, part := range parts {
		if !part.Empty() {
			words = append(words, part.Reveal())
		}
	}
	return NewName(strings.Join(words, " "))
}

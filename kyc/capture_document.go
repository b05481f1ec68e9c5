package kyc

import (
	"context"
	"strings"
)

// CaptureDocumentInput has a document read, or one the provider has reused (schema: CaptureDocumentInput).
type CaptureDocumentInput struct {
	Subject            SubjectInput
	Purpose            DocumentPurpose
	AuthProcessID      *ProcessID
	ReusableDocumentID *string
	Files              []Base64
	Selfie             *SelfieInput
	IdempotencyKey     *string
}

// CaptureDocument starts a document process: one or two files, or a reusable document.
func (s *Service) CaptureDocument(ctx context.Context, in CaptureDocumentInput, received JSON) (*ProcessPayload, error) {
	d := &processDraft{mutation: "captureDocument", kind: KindDocumentCapture, subject: in.Subject, needsName: true, purpose: in.Purpose, selfie: in.Selfie, payload: received}
	c := &d.checks
	if in.ReusableDocumentID != nil {
		d.reusable = strings.TrimSpace(*in.ReusableDocumentID)
	}
	switch {
	case d.reusable != "" && len(in.Files) > 0:
		c.invalid("must not be given together with files", "reusableDocumentId")
	case d.reusable != "":
		if CodeLike(d.reusable) != d.reusable {
			c.invalid("must be a documentId of reusableDocuments", "reusableDocumentId")
		}
	case len(in.Files) == 0:
		c.required("must hold one file, or front and back, unless reusableDocumentId is given", "files")
	case len(in.Files) > 2:
		c.invalid("must hold one file, or front and back", "files")
	default:
		d.files = in.Files
	}
	if in.AuthProcessID != nil {
		d.reference = &draftReference{id: *in.AuthProcessID, field: "authProcessId", fresh: true}
	}
	return s.startProcess(ctx, d, in.IdempotencyKey)
}

// ReusableDocuments lists what a provider has of a person already. A provider that is down cannot be asked, and
// that is told: an empty list would mean that there is none.
func (s *Service) ReusableDocuments(ctx context.Context, document string, kind *ReusableDocumentType) ([]*ReusableDocument, error) {
	const op = "kyc.reusable_documents"
	d, ok := ParseCPF(document, !s.SkipCheckDigits)
	if !ok {
		return nil, &Error{Kind: Invalid, Op: op, Message: "documentNumber must be a CPF: eleven digits with right check digits"}
	}
	// That a provider knows a document is something to find out by trying, too. Who asks for persons of their own guesses nobody.
	c := CallerFrom(ctx)
	done, err := s.guesses.begin(ctx, c, d)
	if err != nil {
		return nil, err
	}
	guessed := false // a provider that cannot be asked tells nothing
	defer func() { done(!guessed) }()
	own, err := s.Store.PersonByDocument(ctx, c.Partner, d)
	if err != nil {
		return nil, err
	}
	r := ReusableDocumentsRequest{DocumentNumber: d}
	if kind != nil {
		r.Type = *kind
	}
	for _, p := range s.Providers {
		if p.ReusableDocuments == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(WithPriority(ctx, User), s.AnswerWithin)
		defer cancel()
		found, err := p.ReusableDocuments(ctx, r)
		guessed = visible(c, own) == nil && (err == nil && len(found) == 0 || KindOf(err) == Rejected && err != nil)
		switch {
		case err == nil:
			out := make([]*ReusableDocument, len(found))
			for i := range found {
				out[i] = &found[i]
			}
			return out, nil
		case KindOf(err) == Rejected:
			return nil, &Error{Kind: Invalid, Op: op, Message: "the provider does not know this document number", Err: err}
		default:
			s.Logger.Warn("reusable documents could not be asked for", "provider", p.Name, "kind", KindOf(err).String(), "code", codeOf(err))
			return nil, E(Unavailable, op, err)
		}
	}
	return []*ReusableDocument{}, nil // nobody who could have any is configured
}

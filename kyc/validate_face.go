package kyc

import "context"

// ValidateFaceInput asks whether a face is that of an earlier process (schema: ValidateFaceInput).
type ValidateFaceInput struct {
	Subject            SubjectInput
	Selfie             SelfieInput
	ReferenceProcessID ProcessID
	IdempotencyKey     *string
}

// ValidateFace starts a 1:1 against a finished process of the same person.
func (s *Service) ValidateFace(ctx context.Context, in ValidateFaceInput, received JSON) (*ProcessPayload, error) {
	d := &processDraft{
		mutation: "validateFace", kind: KindFaceValidation, subject: in.Subject, selfie: &in.Selfie, payload: received,
		reference: &draftReference{id: in.ReferenceProcessID, field: "referenceProcessId"},
	}
	return s.startProcess(ctx, d, in.IdempotencyKey)
}

package kyc

import "context"

// VerifyIdentityInput asks whether a face belongs to a document (schema: VerifyIdentityInput).
type VerifyIdentityInput struct {
	Subject SubjectInput
	Selfie  SelfieInput
	// Capabilities are wanted beside the identity; none wants what the smallest key offers.
	Capabilities   []Capability
	UseCase        *string
	IdempotencyKey *string
}

// VerifyIdentity starts an identity process, with what else is wanted of it.
func (s *Service) VerifyIdentity(ctx context.Context, in VerifyIdentityInput, received JSON) (*ProcessPayload, error) {
	d := &processDraft{mutation: "verifyIdentity", kind: KindIdentityVerification, subject: in.Subject, needsName: true, useCase: in.UseCase, selfie: &in.Selfie, payload: received}
	d.addWanted(in.Capabilities)
	return s.startProcess(ctx, d, in.IdempotencyKey)
}

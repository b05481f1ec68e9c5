package kyc

import "context"

// CheckLivenessInput asks whether a living person is before the camera (schema: CheckLivenessInput).
type CheckLivenessInput struct {
	Subject        SubjectInput
	Selfie         SelfieInput
	UseCase        *string
	IdempotencyKey *string
}

// CheckLiveness starts a liveness process. received is the payload to the letter, for the idempotency key.
func (s *Service) CheckLiveness(ctx context.Context, in CheckLivenessInput, received JSON) (*ProcessPayload, error) {
	d := &processDraft{mutation: "checkLiveness", kind: KindLiveness, subject: in.Subject, useCase: in.UseCase, selfie: &in.Selfie, payload: received}
	return s.startProcess(ctx, d, in.IdempotencyKey)
}

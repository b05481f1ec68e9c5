package resolvers

import (
	"slices"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2/ast"
)

// subjectFields is everything a subject token may ask for. A field that is not here is refused, a new one too, until somebody decides
// and adds it here and to the schema. internal/app tries each of them over HTTP.
const subjectFields = `
Query.person Query.viewer
Mutation.checkLiveness Mutation.verifyIdentity Mutation.validateFace Mutation.captureDocument
Subscription.onboardingUpdated Subscription.processUpdated
Viewer.partner Viewer.subject Viewer.scopes Viewer.person
Node.id Person.id Person.onboarding Customer.id
Onboarding.state Onboarding.steps Onboarding.nextAction Onboarding.updatedAt Onboarding.version
OnboardingStep.kind OnboardingStep.status OnboardingStep.required OnboardingStep.reason OnboardingStep.subject OnboardingStep.updatedAt
NextAction.kind NextAction.step NextAction.message
ProcessPayload.process ProcessPayload.userErrors
Process.id Process.kind Process.status Process.failure Process.createdAt Process.updatedAt Process.finishedAt Process.version
Failure.code Failure.message Failure.retryable Failure.nextAction
UserError.code UserError.message UserError.path UserError.retryable
`

func TestSubjectTokensMayAskForTheseFieldsOnly(t *testing.T) {
	t.Parallel()
	s := theSchema()
	p, err := NewPolicy(s)
	if err != nil {
		t.Fatal(err)
	}
	allowed, seen := strings.Fields(subjectFields), 0
	for _, typ := range s.Types {
		if typ.BuiltIn || typ.Kind != ast.Object && typ.Kind != ast.Interface {
			continue
		}
		for _, f := range typ.Fields {
			name := typ.Name + "." + f.Name
			if p.fields[f].subject != slices.Contains(allowed, name) {
				t.Errorf("%s: the schema lets subject tokens ask for it: %t; the list here: %t", name, p.fields[f].subject, slices.Contains(allowed, name))
			}
			if p.fields[f].subject {
				seen++
			}
		}
	}
	if seen != len(allowed) {
		t.Errorf("%d of the %d fields of the list are in the schema", seen, len(allowed))
	}
}

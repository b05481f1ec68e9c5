package app_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/kycgate/kycgate/internal/app/apptest"
	"github.com/kycgate/kycgate/internal/server"
	"github.com/kycgate/kycgate/kyc"
	"github.com/kycgate/kycgate/resolvers"
)

// brokenStore does what a database should never do, with a person's data in its mouth.
type brokenStore struct{ kyc.Store }

func (brokenStore) PersonByID(context.Context, kyc.PartnerID, kyc.PersonID) (*kyc.Person, error) {
	panic("CPF 529.982.247-25 of canary@example.com")
}

func (brokenStore) PersonByDocument(context.Context, kyc.PartnerID, kyc.DocumentNumber) (*kyc.Person, error) {
	return nil, errors.New("UNIQUE constraint failed: persons.document_number = 52998224725")
}

func (brokenStore) PersonByExternalID(context.Context, kyc.PartnerID, string) (*kyc.Person, error) {
	return nil, kyc.E(kyc.Unavailable, "store.read", errors.New("database is locked"))
}

// L02, L03: a panic and a database error reach the caller as a code, and the log without the value.
func TestPanicsAndDatabaseErrorsAreMasked(t *testing.T) {
	t.Parallel()
	var logs apptest.Buffer
	log := slog.New(slog.NewJSONHandler(&logs, nil))
	caller := kyc.Caller{Partner: "p", Scopes: kyc.NewScopeSet(kyc.Scopes()...)}
	handler, err := server.NewGraphQL(server.GraphQLConfig{
		Schema:       resolvers.NewSchema(kyc.New(kyc.Config{Store: brokenStore{}, Clock: clockwork.NewFakeClock(), Logger: log})),
		Authenticate: func(*http.Request) (kyc.Caller, time.Time, error) { return caller, time.Time{}, nil },
		Authorize: func(kyc.Caller, *ast.QueryDocument, *ast.OperationDefinition, map[string]any) *gqlerror.Error {
			return nil
		},
		Presenter: resolvers.Presenter(log, func() string { return "err_1" }), Recover: resolvers.Recover(log, func() string { return "err_2" }),
		Metrics: server.NewMetrics(prometheus.NewRegistry()), Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{
		`person(id: \"` + string(kyc.NewPersonID()) + `\")`: `"code":"INTERNAL","errorId":"err_2"`,
		`personByDocument(documentNumber: \"52998224725\")`: `"code":"INTERNAL","errorId":"err_1"`,
		`personByExternalId(externalId: \"E\")`:             `"code":"OVERLOADED"`,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/graphql", strings.NewReader(`{"query":"{ x: `+field+` { id } }"}`))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", field, w.Code, w.Body)
		}
		for _, secret := range []string{"529.982", "52998224725", "canary", "UNIQUE", "persons.", "locked"} {
			if strings.Contains(w.Body.String(), secret) {
				t.Errorf("%s: %q in the answer %s", field, secret, w.Body)
			}
		}
	}
	for _, id := range []string{"err_1", "err_2"} {
		if !strings.Contains(logs.String(), id) {
			t.Errorf("%s is not in the log", id)
		}
	}
	for _, secret := range []string{"529.982", "52998224725", "canary@"} {
		if strings.Contains(logs.String(), secret) {
			t.Errorf("%q in the log: %s", secret, logs.String())
		}
	}
}

package app_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/kycgate/kycgate/internal/app/apptest"
)

// billed is the ledger's word for the requests that cost money or act, by the path they arrive at.
var billed = map[string]string{
	"/qitech/onboarding/natural_person":              "analyze_person",
	"/qitech/face_recognition/registration":          "register_face",
	"/unico/processes/v1":                            "create_process",
	"/finhub/api/v2.1/customers/individual/register": "register_customer",
	"/leap/v1/auth/register-user-v2":                 "register_prospect",
}

// TestCallIsRecordedBeforeItLeaves: whenever a request that acts arrives, at first and when it is repeated after the provider was too busy,
// the ledger has a row for it that is committed (another connection sees it) and has no outcome yet.
func TestCallIsRecordedBeforeItLeaves(t *testing.T) {
	t.Parallel()
	sims := apptest.Start(t, apptest.Options{})
	to, err := url.Parse(sims.SimURL)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ledger, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "kycgate.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ledger.Close() })

	proxy := httputil.NewSingleHostReverseProxy(to)
	var mu sync.Mutex
	arrived, unrecorded := make(map[string]int), make(map[string]int)
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		operation := billed[r.URL.Path]
		if operation == "" || r.Method != http.MethodPost {
			proxy.ServeHTTP(w, r)
			return
		}
		var open int
		err := ledger.QueryRowContext(r.Context(), `SELECT count(*) FROM provider_calls WHERE operation = ? AND outcome IS NULL`, operation).Scan(&open)
		mu.Lock()
		arrived[operation]++
		if err != nil || open != 1 {
			unrecorded[operation]++
		}
		first := arrived[operation] == 1
		mu.Unlock()
		if first {
			w.WriteHeader(http.StatusTooManyRequests) // which did not act, so it is repeated
			return
		}
		proxy.ServeHTTP(w, r)
	})
	g := apptest.Start(t, apptest.Options{Dir: dir, Upstream: upstream, NoWebhooks: true})
	token := g.Token(apptest.Acme)
	g.Query(token, registerMutation, apptest.Input(apptest.CPF(9, 1), "session-1", nil))
	g.Query(token, starting("checkLiveness"), input(magic("00", 1), newSelfie()))
	g.Query(token, registerCustomer, customerInput("recorded@example.com", nil))
	g.Query(token, registerLeap, prospect(1, nil))
	g.Query(token, registerFace, face(apptest.CPF(9, 2), "image", selfie(64)))
	seen := func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, operation := range billed {
			wanted := 2
			if operation == "register_customer" || operation == "register_face" {
				wanted = 1 // nothing is kept to repeat it with: no password, no picture
			}
			if arrived[operation] < wanted {
				return false
			}
		}
		return true
	}
	apptest.Until(t, seen, func() string {
		mu.Lock()
		defer mu.Unlock()
		return fmt.Sprint("not every arrival that is wanted: ", arrived)
	})
	mu.Lock()
	defer mu.Unlock()
	if len(unrecorded) > 0 {
		t.Errorf("arrived before they were recorded: %v of %v", unrecorded, arrived)
	}
}

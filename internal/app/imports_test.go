package app_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kycgate/kycgate/"

// importMap says who may import whom inside this module: the house plan of docs/architecture.md. Every
// arrow points at kyc and only internal/app sees two adapters at once. A package that is not listed
// fails, so that whoever adds one decides where it stands.
var importMap = map[string][]string{
	"kyc":                        {},
	"graph":                      {"kyc", "graph/scalar"},
	"graph/scalar":               {"kyc"},
	"resolvers":                  {"kyc", "graph"},
	"store":                      {"kyc"},
	"store/storetest":            {"kyc"},
	"providers":                  {"kyc", "providers/httpjson", "providers/qitech", "providers/unico", "providers/leap", "providers/finhub"},
	"providers/httpjson":         {"kyc"},
	"providers/providertest":     {"kyc", "providers/httpjson"},
	"providers/qitech":           {"kyc", "providers/httpjson"},
	"providers/unico":            {"kyc", "providers/httpjson"},
	"providers/leap":             {"kyc", "providers/httpjson"},
	"providers/leap/leapsim":     {"providers/simulator"},
	"providers/finhub":           {"kyc", "providers/httpjson"},
	"providers/simulator":        {},
	"providers/finhub/finhubsim": {"providers/simulator"},
	"providers/qitech/qitechsim": {"providers/simulator"},
	"providers/unico/unicosim":   {"providers/simulator"},
	"internal/auth/keys":         {},
	"internal/datamap":           {},
	"internal/config":            {"kyc", "internal/auth/keys", "internal/vault"},
	"internal/auth":              {"kyc", "internal/config", "internal/auth/keys"},
	"internal/server":            {"kyc"},
	"internal/vault":             {},
	"internal/worker":            {"kyc"},
	"internal/erasures":          {"kyc"},
	"internal/app":               {"kyc", "resolvers", "store", "internal/datamap", "providers", "providers/qitech", "providers/unico", "providers/leap", "providers/finhub", "internal/auth", "internal/auth/keys", "internal/config", "internal/server", "internal/worker", "internal/erasures", "internal/vault"},
	"internal/app/apptest":       {"kyc", "internal/app", "internal/auth", "internal/config", "providers/simulator", "providers/qitech/qitechsim", "providers/unico/unicosim", "providers/leap/leapsim", "providers/finhub/finhubsim"},
	"cmd/kycgate":                {"kyc", "internal/app", "internal/auth", "internal/auth/keys", "internal/config", "internal/vault", "providers/simulator", "providers/qitech/qitechsim", "providers/unico/unicosim", "providers/leap/leapsim", "providers/finhub/finhubsim"},
}

func TestImportMap(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		name := strings.TrimPrefix(p.ImportPath, module)
		allowed, listed := importMap[name]
		if !listed {
			t.Errorf("package %s is not in the import map", name)
			continue
		}
		for _, i := range p.Imports {
			if to, ours := strings.CutPrefix(i, module); ours && !slices.Contains(allowed, to) {
				t.Errorf("%s must not import %s", name, to)
			}
		}
	}
	if seen != len(importMap) {
		t.Errorf("%d packages, %d in the import map", seen, len(importMap))
	}
}

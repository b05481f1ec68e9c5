package server

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReferenceAudit runs the reference audit of GraphQL over HTTP, if GRAPHQL_HTTP_AUDIT names a copy of
// .ci/graphql-http in which its packages are installed.
func TestReferenceAudit(t *testing.T) {
	dir := os.Getenv("GRAPHQL_HTTP_AUDIT")
	if dir == "" {
		t.Skip("GRAPHQL_HTTP_AUDIT is not set")
	}
	g := serve(t).start()
	token := strings.TrimPrefix(adminToken, "Bearer ")
	out, err := exec.CommandContext(t.Context(), "node", filepath.Join(dir, "audit.mjs"), "http://"+g.PublicAddr().String()+"/graphql", token).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

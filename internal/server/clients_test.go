package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRealClients runs the clients that front ends use, if GRAPHQL_CLIENTS names a copy of .ci/graphql-clients in which
// its packages are installed.
func TestRealClients(t *testing.T) {
	dir := os.Getenv("GRAPHQL_CLIENTS")
	if dir == "" {
		t.Skip("GRAPHQL_CLIENTS is not set")
	}
	const events = 50
	g := serve(t).start()
	go func() { // every subscription gets numbers from one on
		for s := range g.door.sources {
			go func() {
				for i := range 2 * events {
					select {
					case s.values <- fmt.Sprint(i + 1):
					case <-s.ctx.Done():
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { close(g.door.sources) })
	out, err := exec.CommandContext(t.Context(), "node", filepath.Join(dir, "clients.mjs"), "http://"+g.PublicAddr().String()+"/graphql",
		strings.TrimPrefix(partnerToken, "Bearer "), "subscription S($from: Int!) { ticks(from: $from) }", `{"from":1}`, fmt.Sprint(events)).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

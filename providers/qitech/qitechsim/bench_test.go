package qitechsim

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kycgate/kycgate/providers/simulator"
)

// benchmark posts and reads analyses of full size over real HTTP, client and server on the same machine.
func benchmark(b *testing.B, s *Sim) {
	server := httptest.NewServer(simulator.New(s))
	defer server.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	body, _ := json.Marshal(full("ID", cpf(9)))
	var n atomic.Int64
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := strconv.FormatInt(n.Add(1), 10)
			for _, method := range []string{"POST", "GET"} {
				path, content := "/qitech/onboarding/natural_person?analyze=true", strings.Replace(string(body), `"ID"`, `"`+id+`"`, 1)
				if method == "GET" {
					path, content = "/qitech/onboarding/natural_person/"+id, ""
				}
				r, _ := http.NewRequest(method, server.URL+path, strings.NewReader(content))
				r.Header.Set("Authorization", SandboxAPIKey)
				answer, err := client.Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
				if answer.StatusCode != http.StatusOK {
					b.Errorf("%s: %d", method, answer.StatusCode)
				}
			}
		}
	})
	b.ReportMetric(float64(2*b.N)/b.Elapsed().Seconds(), "requests/s")
}

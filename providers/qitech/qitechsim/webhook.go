package qitechsim

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/kycgate/kycgate/providers/simulator"
)

// retries are the waits of dossier A.10: five, after the first attempt.
var retries = []time.Duration{30 * time.Second, 60 * time.Second, 120 * time.Second, 240 * time.Second, 360 * time.Second}

// Sign returns the value of the header Signature: HMAC-SHA1 in lower-case hexadecimal over URL, method and raw
// body without separators (dossier A.10). The URL is the one that was configured, byte for byte.
func Sign(key, url, method string, body []byte) string {
	mac := hmac.New(sha1.New, []byte(key))
	mac.Write([]byte(url + method))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

func (s *Sim) newOutbox() *simulator.Outbox {
	return simulator.NewOutbox(simulator.OutboxConfig{
		Faults:   s.front.Faults(),
		Requests: s.front.Requests(),
		Sign: func(h *simulator.Webhook) {
			h.Header.Set("Signature", Sign(s.config.WebhookKey, h.URL, h.Method, h.Body))
		},
		Retries:      retries,
		Scale:        s.config.RetryScale,
		Acknowledged: func(status int) bool { return status == http.StatusOK }, // 201 and 204 are retried (A.10)
		Now:          s.config.Now,
	})
}

// outcome is a change of status that the gateway is to hear of.
type outcome struct {
	url   string
	id    string
	event event
}

// notify wakes who waits for the change and sends its webhook, if there is anywhere to send it.
func (s *Sim) notify(o outcome) {
	s.changed.Notify()
	if o.url == "" {
		return
	}
	body, err := json.Marshal(struct {
		NaturalPersonID string `json:"natural_person_id"`
		AnalysisStatus  string `json:"analysis_status"`
		EventDate       string `json:"event_date"`
		Reason          string `json:"reason"`
	}{o.id, o.event.status, o.event.date, o.event.reason})
	if err != nil {
		panic(err) // four strings always encode
	}
	method := http.MethodPost
	if s.config.WebhookPUT {
		method = http.MethodPut
	}
	s.outbox.Send(simulator.Webhook{
		Method: method, URL: o.url, Body: body,
		Header: http.Header{"Content-Type": {"application/json"}, "User-Agent": {"qitech-simulator"}},
	})
}

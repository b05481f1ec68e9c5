package unicosim

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kycgate/kycgate/providers/simulator"
)

// The classifications of the documents (dossier 8.1).
const (
	typeRG       = "unico.moja.dictionary.br.rg.v2.Rg"
	typeCNH      = "unico.moja.dictionary.br.cnh.v2.Cnh"
	typeCIN      = "unico.moja.dictionary.br.cin.v1.Cin"
	typePassport = "unico.moja.dictionary.br.passaporte.v1.Passaporte"
)

// documentView is the document of an answer (dossier 8.2).
type documentView struct {
	ID        string         `json:"id"`
	Type      string         `json:"type"`
	CpfMatch  bool           `json:"cpfMatch"`
	FaceMatch *bool          `json:"faceMatch,omitempty"` // not in the seed
	Content   map[string]any `json:"content,omitempty"`
	FileURLs  []string       `json:"fileUrls"`
}

func documentOf(p *process) *documentView {
	d := &documentView{ID: newGUID(), Type: typeCNH, CpfMatch: p.fate.cpfMatch, FaceMatch: &p.fate.faceMatch}
	if p.fate.unreadable {
		d.Type, d.CpfMatch = "UNKNOWN", false
		return d
	}
	d.Content = map[string]any{
		"numero": "04458973156", "cpfNumero": p.code, "nomeCivil": "Pessoa Simulada", "filiacao": []string{"Mae Simulada", "Pai Simulado"},
		"dataNascimento": "1990-05-12T00:00:00Z", "data_habilitacao": "2010-01-02T00:00:00Z", "data_expiracao": "2031-01-02T00:00:00Z",
		"categoria": "B", "local_emissao": "SAO PAULO, SP",
	}
	return d
}

type reusableDocument struct {
	DocumentType string `json:"documentType,omitempty"`
	DocumentID   string `json:"documentId,omitempty"`
}

// reusable gives the documents Unico has of a person: their ids follow from the CPF, so that they are the same
// in every run.
func reusable(cpf string) []reusableDocument {
	if fateOf(cpf).docsNone != "" {
		return nil
	}
	list := make([]reusableDocument, 0, 2)
	for _, kind := range []string{typeRG, typeCNH} {
		h := sha256.Sum256([]byte(kind + cpf))
		list = append(list, reusableDocument{kind, guid([16]byte(h[:16]))})
	}
	return list
}

// reusableTypes are all values any generation lists, and what each finds (dossier 11, row 22).
var reusableTypes = map[string]string{"BR_CPF": "", "BR_RG": typeRG, "BR_CNH": typeCNH, "BR_CIN": typeCIN, "BR_PASSPORT": typePassport}

// serveDocuments is GET /documents/v1 (dossier 8.1).
func (s *Sim) serveDocuments(w http.ResponseWriter, r *http.Request) {
	_, enabled, ok := s.authorized(w, r)
	if !ok {
		return
	}
	query := r.URL.Query()
	code := query.Get("code")
	kind, known := reusableTypes[query.Get("type")]
	switch {
	case !slices.Contains(enabled, DocumentCapture):
		s.refuse(w, refusals["40300"])
		return
	case code == "":
		s.refuse(w, refusals["20005"])
		return
	case len(code) != 11 || strings.Trim(code, "0123456789") != "":
		s.refuse(w, refusals["20507"])
		return
	case !known:
		s.refuse(w, refusals["20003"])
		return
	}
	if none := fateOf(code).docsNone; none != "" {
		writeJSON(w, []byte(`{"items":`+none+`}`))
		return
	}
	items := slices.DeleteFunc(reusable(code), func(d reusableDocument) bool { return kind != "" && d.DocumentType != kind })
	if len(items) == 0 && s.config.Generation < G4 {
		items = []reusableDocument{{}} // "none" is one empty object up to the third generation
	}
	simulator.WriteJSON(w, http.StatusOK, map[string]any{"items": items})
}

// serveControl is for whoever drives the simulator; none of it is the provider's. It asks for no credentials,
// has no faults and is not logged.
func (s *Sim) serveControl(w http.ResponseWriter, r *http.Request, path string) {
	w.Header().Set(simulator.Header, "true")
	method := http.MethodGet
	if path == settlePath {
		method = http.MethodPost
	}
	if r.Method != method {
		simulator.MethodNotAllowed(w, method)
		return
	}
	switch path {
	case privateKeyPath:
		w.Header().Set("Content-Type", "application/x-pem-file")
		_, _ = w.Write(PrivateKeyPEM()) // the client may be gone; there is nobody to tell
	case sdkTokenPath:
		age, err := time.ParseDuration(orDefault(r.URL.Query().Get("age"), "0s"))
		if err != nil {
			simulator.WriteError(w, http.StatusBadRequest, "Invalid request", "age: must be a duration such as 11m")
			return
		}
		bundle := orDefault(r.URL.Query().Get("bundle"), sandboxBundle)
		simulator.WriteJSON(w, http.StatusOK, map[string]string{"sdkToken": sdkToken(s.config.Now().Add(-age), bundle)})
	case heldPath:
		list := s.Processes()
		total := len(list)
		list = list[max(0, total-1000):]
		slices.Reverse(list)
		simulator.WriteJSON(w, http.StatusOK, map[string]any{"total": total, "processes": list})
	case settlePath:
		s.serveSettle(w, r)
	}
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

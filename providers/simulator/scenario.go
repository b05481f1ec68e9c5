package simulator

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
)

// Scenario is one magic value of a simulator: what to send, and what then happens.
type Scenario struct {
	Provider  string `json:"provider"`
	Operation string `json:"operation"`
	When      string `json:"when"`
	Then      string `json:"then"`
	// Source says whose rule it is: a section of the provider's dossier, or "ours".
	Source string `json:"source"`
}

// Scenarios lists the scenarios of several simulators, in their order.
func Scenarios(sims ...Simulator) []Scenario {
	list := []Scenario{}
	for _, s := range sims {
		list = append(list, s.Scenarios()...)
	}
	return list
}

// WriteScenarios writes the table that `kycgate simulate --scenarios` prints and `GET /scenarios` answers
// to `Accept: text/plain`.
func WriteScenarios(w io.Writer, sims ...Simulator) error {
	// Tabs and line breaks inside a cell would shift every column after it.
	cell := strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "PROVIDER\tOPERATION\tWHEN\tTHEN\tSOURCE")
	for _, s := range Scenarios(sims...) {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", cell.Replace(s.Provider), cell.Replace(s.Operation),
			cell.Replace(s.When), cell.Replace(s.Then), cell.Replace(s.Source))
	}
	return table.Flush() // the table is written here, so this is the one place where w can fail
}

func serveScenarios(w http.ResponseWriter, r *http.Request, sims []Simulator) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		MethodNotAllowed(w, http.MethodGet, http.MethodHead)
		return
	}
	w.Header().Set("Vary", "Accept")
	if !prefersText(r.Header.Get("Accept")) {
		WriteJSON(w, http.StatusOK, Scenarios(sims...))
		return
	}
	var text strings.Builder
	_ = WriteScenarios(&text, sims...) // a strings.Builder does not fail
	writeBody(w, http.StatusOK, "text/plain; charset=utf-8", []byte(text.String()))
}

// prefersText is true when plain text is asked for by name and JSON is not. Browsers and curl send neither
// and get JSON, so quality values need no weighing.
func prefersText(accept string) bool {
	accept = strings.ToLower(accept)
	return strings.Contains(accept, "text/plain") && !strings.Contains(accept, "application/json")
}

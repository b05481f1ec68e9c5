package qitech

import "testing"

// The status may be told in the events only; their order is not documented, so the newest date decides.
func TestNewestStatus(t *testing.T) {
	t.Parallel()
	for events, want := range map[string]lenient{
		`[{"new_status":"in_manual_analysis","event_date":"2026-11-24T10:00:00Z"},{"new_status":"manually_approved","event_date":"2026-11-24T11:00:00Z"}]`:      "manually_approved",
		`[{"new_status":"manually_approved","event_date":"2026-11-24T11:00:00-03:00"},{"new_status":"in_manual_analysis","event_date":"2026-11-24T11:00:00Z"}]`: "manually_approved",
		`[{"new_status":"manually_approved","event_date":"2026-11-24T11:00:00Z"},{"new_status":"manually_reproved","event_date":"2026-11-24T11:00:00Z"}]`:       "",
		`[{"new_status":"manually_approved"}]`: "",
		`[]`:                                   "", `{}`: "", `null`: "",
	} {
		if got := newestStatus([]byte(events)); got != want {
			t.Errorf("%s: %q, want %q", events, got, want)
		}
	}
}

package store

import (
	"context"
	"slices"
	"testing"

	"github.com/kycgate/kycgate/kyc"
)

// TestExportKnowsEveryTable: a table that holds something of a person and is in no section of the export would be held
// back from them.
func TestExportKnowsEveryTable(t *testing.T) {
	t.Parallel()
	s := open(t)
	var tables []string
	if err := s.use(t.Context(), "test", func(ctx context.Context, q *session) error {
		return q.conn.SelectContext(ctx, &tables, `SELECT DISTINCT m.name FROM sqlite_schema m, pragma_table_info(m.name) c
			WHERE m.type = 'table' AND (m.name = 'persons' OR c.name IN ('person_id', 'owner', 'reference') OR c.name LIKE 'sealed%')`)
	}); err != nil {
		t.Fatal(err)
	}
	nothing := map[string]string{
		"data_keys":       "the key itself tells nothing and would tell everything",
		"erasures":        "of those who are gone",
		"events":          "the same statuses and times as the rows they tell of, a version each",
		"early_callbacks": "a provider's id of something that is nobody's yet, for an hour",
	}
	exported := kyc.ExportTables()
	for _, table := range tables {
		if nothing[table] == "" && !slices.Contains(exported, table) {
			t.Errorf("%s holds something of persons and no section of the export covers it", table)
		}
	}
	for _, table := range exported {
		if !slices.Contains(tables, table) {
			t.Errorf("the export covers %s, which is no table of persons", table)
		}
	}
	if len(tables) < 9 {
		t.Errorf("only %v found", tables)
	}
}

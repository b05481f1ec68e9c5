package store

import (
	"context"
	"database/sql/driver"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mattn/go-sqlite3"
)

// TestEveryStatementNamesThePartner (Z11) reads all SQL of the package: what touches a table of the tenants says which.
func TestEveryStatementNamesThePartner(t *testing.T) {
	t.Parallel()
	tenants := regexp.MustCompile(`(?i)\b(FROM|INTO|UPDATE|JOIN)\s+(persons|external_ids|registrations|processes|faces|idempotency_keys|callbacks|data_keys|partner_keys|events|onboardings|customers)\b`)
	inserts := regexp.MustCompile(`(?is)^\s*INSERT INTO \w+ \(.*partner_id`)
	selects := regexp.MustCompile(`\bpartner_id = (\?|:partner_id)`)
	found := 0
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			text, ok := literal(n)
			if !ok {
				return true
			}
			if tenants.MatchString(text) {
				found++
				if ofAllPartners[text] {
					return false
				}
				if !inserts.MatchString(text) && !selects.MatchString(text) {
					t.Errorf("%s: a statement without the partner: %s", fset.Position(n.Pos()), text)
				}
			}
			return false
		})
	}
	if found < 18 {
		t.Errorf("found %d statements only: the test reads the wrong thing", found)
	}
}

// ofAllPartners are the statements that are asked in nobody's name: by a rotation of keys and by the retention, of which no value
// leaves the store.
var ofAllPartners = map[string]bool{
	oldPersons: true, oldRegistrations: true, deleteOldCallbacks: true, deleteOldKeys: true, oldFaces: true, oldProcesses: true, deleteOldEvents: true,
	`SELECT p.partner_id, p.version, p.wrapped,
		(SELECT count(*) FROM data_keys k WHERE k.partner_id = p.partner_id AND k.version = p.version) AS keys
		FROM partner_keys p ORDER BY p.partner_id, p.version`: true,
	// A metric of the operator's, which counts; a start, which finds what was under way.
	openProcesses: true,
	lostCaptures:  true,
	`UPDATE processes SET submission = 'AMBIGUOUS', updated_at = ? WHERE submission = 'SENT'`: true,
	`UPDATE customers SET submission = 'AMBIGUOUS', updated_at = ? WHERE submission = 'SENT'`: true,
	// A webhook's, which knows its provider's id and no partner; it only makes us ask.
	strings.ReplaceAll(processByProviderID, processColumns, ""): true,
	// Whether a key is known at all: asked so that nobody is told of another partner's face.
	`SELECT EXISTS (SELECT 1 FROM faces WHERE provider = ? AND registration_key = ?)`: true,
	// A start, which is everybody's.
	`UPDATE faces SET state = 'AMBIGUOUS', updated_at = ? WHERE state = 'SENT'`: true,
}

// literal gives the text of a string and of strings put together. What is not spelled out, such as a list of columns, counts as
// nothing, so that it cannot name the partner for a condition.
func literal(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(n.Value)
		return s, n.Kind == token.STRING && err == nil
	case *ast.BinaryExpr:
		if n.Op != token.ADD {
			return "", false
		}
		x, isX := literal(n.X)
		y, isY := literal(n.Y)
		return x + y, isX || isY
	}
	return "", false
}

// statements are the texts that the sessions of a store have prepared.
func (s *Store) statements() (texts []string) {
	collect := func(q *session) {
		for text := range q.stmts {
			texts = append(texts, text)
		}
	}
	_ = s.writer.do(untimed, func(t *tx) error {
		collect(t.q)
		return nil
	})
	for range cap(s.pool.free) {
		q := <-s.pool.free
		collect(q)
		defer func() { s.pool.free <- q }()
	}
	return texts
}

// checkStatement holds what must be true of each statement the conformance suite has run.
func checkStatement(t *testing.T, q *session, text string) {
	t.Helper()
	if n := reprepared(t, q, unpeekable(text)); n != 0 {
		t.Errorf("prepared again at each run: %s", text)
	}
	if !regexp.MustCompile(`(?i)^\s*(WITH|SELECT|UPDATE|DELETE)`).MatchString(text) {
		return
	}
	var plan []struct {
		ID      int    `db:"id"`
		Parent  int    `db:"parent"`
		NotUsed int    `db:"notused"`
		Detail  string `db:"detail"`
	}
	args := make([]any, strings.Count(text, "?"))
	if err := q.conn.SelectContext(untimed, &plan, `EXPLAIN QUERY PLAN `+text, args...); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, step := range plan {
		// A scan is fine over what the statement made itself, and over an index made for just that question.
		switch d := step.Detail; {
		case !strings.HasPrefix(d, "SCAN"), d == "SCAN page", d == "SCAN CONSTANT ROW", strings.HasPrefix(d, "SCAN (subquery"):
		case strings.Contains(d, "INDEX jobs_due"), strings.Contains(d, "INDEX provider_calls_open"), strings.Contains(d, "INDEX processes_open"):
		default:
			t.Errorf("%s in: %s", d, text)
		}
	}
}

// reprepared runs a statement several times and tells how often SQLite has thrown its plan away. SQLite 3.54 does so whenever a
// value is bound that it looked at while planning, a LIMIT for one; it costs as much as preparing each time.
func reprepared(t *testing.T, q *session, text string) (n int64) {
	t.Helper()
	err := q.conn.Raw(func(c any) error {
		conn := c.(*sqlite3.SQLiteConn)
		if _, err := conn.Exec(`SAVEPOINT reprepared`, nil); err != nil {
			return err
		}
		defer conn.Exec(`ROLLBACK TO reprepared; RELEASE reprepared`, nil)
		stmt, err := conn.Prepare(text)
		if err != nil {
			return err
		}
		defer stmt.Close()
		for _, value := range []driver.Value{int64(1), int64(7), int64(0), int64(1 << 50), int64(1 << 51)} {
			args := make([]driver.NamedValue, stmt.NumInput())
			for i := range args {
				args[i] = driver.NamedValue{Ordinal: i + 1, Value: value}
			}
			rows, err := stmt.(driver.StmtQueryContext).QueryContext(context.Background(), args)
			if err != nil {
				continue // a constraint, say; its plan was made all the same
			}
			_ = rows.Close()
			n = reflect.ValueOf(stmt).Elem().FieldByName("repreps").Int()
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return n
}

// TestReprepared makes sure that the trap is still there and that we would notice.
func TestReprepared(t *testing.T) {
	t.Parallel()
	s := open(t)
	mustWrite(t, s, nothing)
	q := <-s.pool.free
	defer func() { s.pool.free <- q }()
	for text, want := range map[string]bool{
		`SELECT id FROM persons WHERE partner_id = ? LIMIT ?`:                                                                   true,
		`SELECT seq FROM external_ids WHERE partner_id = ? AND person_id IN (?) ORDER BY person_id, mapped_at, seq`:             true,
		`SELECT id FROM persons WHERE partner_id = ? AND id = ?`:                                                                false, // one unique index has it all
		unpeekable(`SELECT id FROM persons WHERE partner_id = ? LIMIT ?`):                                                       false,
		unpeekable(`SELECT seq FROM external_ids WHERE partner_id = ? AND person_id IN (?) ORDER BY person_id, mapped_at, seq`): false,
	} {
		if n := reprepared(t, q, text); (n > 0) != want {
			t.Errorf("prepared again %d times: %s", n, text)
		}
	}
}

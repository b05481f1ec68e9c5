package store

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/mattn/go-sqlite3"
)

// session is one connection with the statements prepared on it. It serves one goroutine at a time.
//
// Preparing costs more than most of our statements take, so each is prepared once and kept. The driver's own cache
// (_stmt_cache_size) does the same for 5 µs more an INSERT. Keeping them for good is safe because the texts are constants:
// nothing is ever put into one but a number of question marks.
type session struct {
	// committed says that it reads outside of a transaction: what it sees will stay.
	committed bool

	conn  *sqlx.Conn
	stmts map[string]*sqlx.Stmt
	named map[string]*sqlx.NamedStmt
}

func newSession(ctx context.Context, db *sqlx.DB) (*session, error) {
	conn, err := db.Connx(ctx)
	if err != nil {
		return nil, err
	}
	return &session{conn: conn, stmts: make(map[string]*sqlx.Stmt), named: make(map[string]*sqlx.NamedStmt)}, nil
}

// untimed is the context of statements that take microseconds. A context that can end costs database/sql and
// the driver a goroutine and a callback for each statement, twice the time of the statement itself; and a write
// that has begun is not to be interrupted by its caller's leaving.
var untimed = context.Background()

// get reads at most one row into a row struct.
func (q *session) get(dest any, query string, args ...any) (found bool, err error) {
	return q.first(untimed, query, args, func(rows *sqlx.Rows) error { return rows.StructScan(dest) })
}

// value reads at most one value. It is interrupted when ctx ends.
func (q *session) value(ctx context.Context, dest any, query string, args ...any) (found bool, err error) {
	return q.first(ctx, query, args, func(rows *sqlx.Rows) error { return rows.Scan(dest) })
}

// first looks whether there is a row before it prepares to scan one, unlike sqlx's Get: a registration asks twice for somebody who
// is usually not there.
func (q *session) first(ctx context.Context, query string, args []any, scan func(*sqlx.Rows) error) (found bool, err error) {
	stmt, err := q.stmt(query)
	if err != nil {
		return false, err
	}
	rows, err := stmt.QueryxContext(ctx, args...)
	if err != nil {
		return false, err
	}
	if rows.Next() {
		found, err = true, scan(rows)
	}
	err = errors.Join(err, rows.Err(), rows.Close())
	return found && err == nil, err
}

// all reads all rows. It is interrupted when ctx ends.
func (q *session) all(ctx context.Context, dest any, query string, args ...any) error {
	stmt, err := q.stmt(query)
	if err != nil {
		return err
	}
	return stmt.SelectContext(ctx, dest, args...)
}

// exec runs a statement and tells how many rows it changed.
func (q *session) exec(query string, args ...any) (int64, error) {
	stmt, err := q.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := stmt.ExecContext(untimed, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// execRow is exec with the arguments (:column) taken from the fields of a row struct.
func (q *session) execRow(query string, row any) (int64, error) {
	stmt := q.named[query]
	if stmt == nil {
		text, params := positional(query)
		prepared, err := q.stmt(text)
		if err != nil {
			return 0, err
		}
		stmt = &sqlx.NamedStmt{Params: params, QueryString: text, Stmt: prepared}
		q.named[query] = stmt
	}
	res, err := stmt.ExecContext(untimed, row)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (q *session) stmt(query string) (*sqlx.Stmt, error) {
	if stmt := q.stmts[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := q.conn.PreparexContext(untimed, unpeekable(query))
	if err != nil {
		return nil, err
	}
	q.stmts[query] = stmt
	return stmt, nil
}

// unpeekable hides the parameters from SQLite's planner behind a plus, which does nothing else, to text included. SQLite 3.54
// looks at what is bound to LIMIT ? and to any = ?, a text key too, that an index it considers leaves over. Once it has looked,
// each new binding throws the plan away, and the driver clears all bindings before each run: the statement is prepared again every
// time. Measured: the external ids of a person 15 µs, or 9 with the plus; a page of its registrations 46, or 14.
func unpeekable(query string) string { return strings.ReplaceAll(query, "?", "+?") }

var param = regexp.MustCompile(`:[a-z_]+`)

// positional turns :column into ?, which sqlx does for a DB and a Tx but not for a Conn.
func positional(query string) (text string, params []string) {
	text = param.ReplaceAllStringFunc(query, func(p string) string {
		params = append(params, p[1:])
		return "?"
	})
	return text, params
}

// inTransaction asks SQLite: it ends a transaction by itself on some errors, a full disk among them.
func (q *session) inTransaction() bool {
	in := false
	err := q.conn.Raw(func(c any) error {
		in = !c.(*sqlite3.SQLiteConn).AutoCommit()
		return nil
	})
	return err == nil && in
}

func (q *session) close() error {
	var errs []error
	for _, stmt := range q.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, q.conn.Close())...)
}

// listed fits a list of ids to an IN with one of few lengths (1, 2, 4, … 128), repeating the last id, so that lists of any
// length share a handful of prepared statements.
func listed[T ~string](query string, ids []T, before, after []any) (string, []any, error) {
	n := 1
	for n < len(ids) {
		n *= 2
	}
	list := make([]T, n)
	for i := range list {
		list[i] = ids[min(i, len(ids)-1)]
	}
	args := append(append(append([]any{}, before...), list), after...)
	return sqlx.In(query, args...)
}

// maxListed is the longest list of one statement; longer ones are asked in parts.
const maxListed = 128

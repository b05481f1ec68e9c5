// Package scalar binds the schema's scalars that are plain Go types. Those with rules of their own are
// types of package kyc.
package scalar

import (
	"io"
	"strconv"
	"time"

	"github.com/99designs/gqlgen/graphql"

	"github.com/kycgate/kycgate/kyc"
)

// MarshalDateTime writes RFC 3339 in UTC, whatever zone the value was read in.
func MarshalDateTime(t time.Time) graphql.Marshaler {
	return graphql.WriterFunc(func(w io.Writer) {
		_, _ = io.WriteString(w, strconv.Quote(t.UTC().Format(time.RFC3339Nano)))
	})
}

// UnmarshalDateTime takes RFC 3339. Its error is ours, so that the presenter can tell the caller what is
// wrong; gqlgen's own scalar fails with an error that cannot be told from an internal one.
func UnmarshalDateTime(v any) (time.Time, error) {
	if s, ok := v.(string); ok {
		if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, &kyc.Error{Kind: kyc.Invalid, Op: "scalar.date_time", Message: "must be an instant in RFC 3339, e.g. 2026-01-31T12:00:00Z"}
}

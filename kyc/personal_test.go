package kyc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/nyaruka/phonenumbers"
)

// Every personal type redacts itself in every formatter; found by reflection over Profile and the
// inputs, so that a field of a new type is held to it too.
func TestPersonalTypesDoNotPrint(t *testing.T) {
	t.Parallel()
	const canary = "52998224725"
	values := []any{
		NewName(canary), NewDocumentNumber(canary), NewEmailAddress(canary), NewPhoneNumber(canary), NewDate(canary), NewPersonalText(canary), NewPassword(canary), NewCents(52998224725),
		Email{NewEmailAddress(canary)}, &Phone{Number: NewPhoneNumber(canary)}, Address{Street: NewPersonalText(canary)},
		Profile{DocumentNumber: NewDocumentNumber(canary)}, &Person{Profile: Profile{Name: NewName(canary)}}, []Name{NewName(canary)}, map[string]Date{"x": NewDate(canary)},
	}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%T %v"} {
			args := []any{v, v}[:strings.Count(verb, "%")]
			if s := fmt.Sprintf(verb, args...); strings.Contains(s, canary) || strings.Contains(s, fmt.Sprintf("%x", canary)) {
				t.Errorf("%T prints with %s", v, verb)
			}
		}
		if b, err := json.Marshal(v); err != nil || bytes.Contains(b, []byte(canary)) {
			t.Errorf("%T prints as JSON (%v)", v, err)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		if strings.Contains(log.String(), canary) {
			t.Errorf("%T prints in a log", v)
		}
	}
}

// A personal field of Profile that is a plain string would print. Codes may be plain.
func TestProfileHoldsNoPlainText(t *testing.T) {
	t.Parallel()
	plain := map[string]bool{"Nationality": true, "Gender": true, "FaceRecognitionID": true, "SessionID": true, "City": true, "State": true, "Country": true, "Type": true}
	for _, typ := range []reflect.Type{reflect.TypeFor[Profile](), reflect.TypeFor[Email](), reflect.TypeFor[Phone](), reflect.TypeFor[Address](), reflect.TypeFor[RegisterPersonInput]()} {
		for f := range typ.Fields() {
			ft := f.Type
			for ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Slice {
				ft = ft.Elem()
			}
			if (ft.Kind() == reflect.String || ft.Kind() == reflect.Int64) && !plain[f.Name] && f.Name != "ExternalID" && f.Name != "IdempotencyKey" {
				t.Errorf("%s.%s is plain %s", typ.Name(), f.Name, ft)
			}
		}
	}
}

func TestMasks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		mask     func(string) string
		in, want string
	}{
		{maskName, "Maria da Silva", "M*** d*** S***"},
		{maskName, "Élodie", "É***"},
		{maskDocument, "52998224725", "***.982.247-**"},
		{maskDocument, "123456789", "***456***"},
		{maskDocument, "12", "**"},
		{maskEmail, "maria@example.com", "m***@e***.com"},
		{maskEmail, "maria@mail.example.com.br", "m***@m***.br"},
		{maskEmail, "nonsense", "***"},
		{maskPhone, "+5511987654389", "+55*******89"},
		{maskPhone, "+14155550123", "+1*******23"},
		{maskDate, "1990-02-28", "1990"},
		{maskText, "Rua A", "***"},
	} {
		if got := tc.mask(tc.in); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.in, got, tc.want)
		}
	}
}

func TestMaskingFollowsTheScope(t *testing.T) {
	t.Parallel()
	told := 0
	unrecorded := WithCaller(context.Background(), Caller{Scopes: NewScopeSet(PIIRead)})
	with := WithDisclosures(unrecorded, func(context.Context) { told++ })
	var clear, masked, nobody, income bytes.Buffer
	name := NewName("Maria")
	if err := name.MarshalGQLContext(with, &clear); err != nil || clear.String() != `"Maria"` {
		t.Errorf("with pii:read: %s %v", &clear, err)
	}
	if told != 1 {
		t.Errorf("whoever records it was told %d times", told)
	}
	var blind bytes.Buffer
	if err := name.MarshalGQLContext(unrecorded, &blind); err != nil || blind.String() != `"M***"` {
		t.Errorf("where nobody records it: %s %v", &blind, err)
	}
	if err := name.MarshalGQLContext(WithDisclosures(WithCaller(context.Background(), Caller{Scopes: NewScopeSet(Admin)}), func(context.Context) { told++ }), &masked); err != nil || masked.String() != `"M***"` {
		t.Errorf("without: %s %v", &masked, err)
	}
	if err := name.MarshalGQLContext(context.Background(), &nobody); err != nil || nobody.String() != `"M***"` {
		t.Errorf("without a caller: %s %v", &nobody, err)
	}
	if told != 1 {
		t.Error("a masked value was called disclosed")
	}
	if err := NewCents(5).MarshalGQLContext(context.Background(), &income); err != nil || income.String() != "null" {
		t.Errorf("income: %s %v", &income, err)
	}
}

func TestCodeLike(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "automatically_approved": "automatically_approved", "not_center": "not_center", "HTTP_400": "HTTP_400", "1.2.18": "1.2.18",
		"CPF 529.982.247-25 invalid": "unknown", "52998224725": "unknown", "a123456": "unknown", "é": "unknown", strings.Repeat("a", 65): "unknown",
		"529.982.247-25": "unknown", "1990-02-28": "unknown", "v529.982": "unknown", // punctuation does not hide a number
		"00000000-1234-4678-9012-123456789012": "00000000-1234-4678-9012-123456789012", "00000000-1234-4678-9012_123456789012": "unknown",
	} {
		if got := CodeLike(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// Of every region's example, and of whatever else a store may hold, the short way shows what the library's shows.
func TestCallingCode(t *testing.T) {
	t.Parallel()
	check := func(number string) {
		want := ""
		if n, err := phonenumbers.Parse(number, "ZZ"); err == nil {
			want = fmt.Sprintf("+%d", n.GetCountryCode())
		}
		if got := callingCode(number); got != want {
			t.Errorf("%s has %q, not %q", number, got, want)
		}
	}
	regions := 0
	for region := range phonenumbers.GetSupportedRegions() {
		for kind := phonenumbers.FIXED_LINE; kind <= phonenumbers.VOICEMAIL; kind++ {
			if n := phonenumbers.GetExampleNumberForType(region, kind); n != nil {
				check(phonenumbers.Format(n, phonenumbers.E164))
				regions++
			}
		}
	}
	if regions < 500 {
		t.Errorf("only %d examples", regions)
	}
	for _, number := range []string{"+5511987654321", "+80012345678", "+999123456", "5511987654321", "(11) 98765-4321", "+55 11 98765-4321", "+551", "+0000000000"} {
		check(number)
	}
}

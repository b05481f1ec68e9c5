package app_test

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"image"
	"image/png"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kycgate/kycgate/internal/config"
	"github.com/kycgate/kycgate/internal/vault"
	"github.com/kycgate/kycgate/kyc"
)

const (
	redactionCanary = "52998224725-Canária"
	canaryCents     = 52998224725
)

// hidingTypes holds a value of every type that has something to hide. TestEverySecretIsKnown finds the types in the source.
func hidingTypes(t *testing.T) map[string]any {
	t.Helper()
	keyset, err := vault.NewInMemory()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"kyc.Name": kyc.NewName(redactionCanary), "kyc.DocumentNumber": kyc.NewDocumentNumber(redactionCanary), "kyc.EmailAddress": kyc.NewEmailAddress(redactionCanary),
		"kyc.PhoneNumber": kyc.NewPhoneNumber(redactionCanary), "kyc.Date": kyc.NewDate(redactionCanary), "kyc.PersonalText": kyc.NewPersonalText(redactionCanary), "kyc.Cents": kyc.NewCents(canaryCents),
		"kyc.PersonalJSON": kyc.NewPersonalJSON([]byte(`"` + redactionCanary + `"`)),
		"kyc.Password":     kyc.NewPassword(redactionCanary), "kyc.Degrees": kyc.NewDegrees(canaryCents),
		"kyc.JSON":   kyc.JSON(`{"name":"` + redactionCanary + `"}`),
		"kyc.Base64": kyc.NewBase64(redactionCanary), "kyc.Image": canaryImage(t),
		"config.Secret": config.NewSecret(redactionCanary),
		"vault.Keyset":  keyset, "vault.Wrapper": vault.Passphrase(redactionCanary),
	}
}

// canaryImage is a real picture whose file holds the canary: in its pixels, which are all that is left of a file.
func canaryImage(t *testing.T) kyc.Image {
	t.Helper()
	picture := image.NewGray(image.Rect(0, 0, 640, 480))
	for i := range picture.Pix {
		picture.Pix[i] = redactionCanary[i%len(redactionCanary)]
	}
	var file bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.NoCompression}
	if err := encoder.Encode(&file, picture); err != nil {
		t.Fatal(err)
	}
	img, refused := kyc.NewBase64(base64.StdEncoding.EncodeToString(file.Bytes())).Image(kyc.ImageLimits{})
	if refused != nil {
		t.Fatal(refused)
	}
	if !bytes.Contains(img.Reveal(), []byte(redactionCanary)) {
		t.Fatal("the picture does not hold the canary")
	}
	return img
}

// Nothing that hides something can be printed by mistake: not alone, not behind a pointer, not inside of what is printed.
func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	for name, secret := range hidingTypes(t) {
		forms := map[string]any{
			"alone": secret, "in a slice": []any{secret}, "in a map": map[string]any{"k": secret}, "in a struct": struct{ V any }{secret}, "in an error": fmt.Errorf("x: %v", secret),
			"behind a pointer": &struct{ V *any }{&secret},
		}
		if _, slice := secret.(kyc.JSON); !slice { // fmt prints the bytes of a slice in a field it may not ask: nothing can hide them there
			forms["in a field of somebody's own"] = struct{ v any }{secret}
			forms["in one, behind a pointer"] = &struct{ v struct{ w any } }{struct{ w any }{secret}}
		}
		for form, v := range forms {
			var printed []string
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%08.3f", "%t"} {
				printed = append(printed, fmt.Sprintf(verb, v))
			}
			if m, ok := v.(encoding.TextMarshaler); ok {
				b, err := m.MarshalText()
				printed = append(printed, string(b), fmt.Sprint(err))
			}
			b, err := json.Marshal(v)
			printed = append(printed, string(b), fmt.Sprint(err))
			var log bytes.Buffer
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v, "g", slog.GroupValue(slog.Any("v", v)))
			slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v, "g", slog.GroupValue(slog.Any("v", v)))
			printed = append(printed, log.String())
			for _, s := range printed {
				for _, canary := range []string{redactionCanary, "52998224725", "53 50 57 57 56 50 50", "0x35, 0x32, 0x39", "ária", hex.EncodeToString([]byte("52998224725")), fmt.Sprintf("%x", canaryCents), base64.StdEncoding.EncodeToString([]byte(redactionCanary))[:12]} {
					if strings.Contains(strings.ToLower(s), strings.ToLower(canary)) {
						t.Errorf("%s %s prints as %s", name, form, s)
					}
				}
			}
		}
		if _, ok := secret.(encoding.TextMarshaler); !ok {
			t.Errorf("%s does not redact itself as text", name)
		}
		if _, ok := secret.(slog.LogValuer); !ok {
			t.Errorf("%s does not redact itself in a log", name)
		}
	}
}

// The types that hide something are those of the source that can reveal it, or that embed one which can, or that
// redact their format. One that is not in hidingTypes has not been tried.
func TestEverySecretIsKnown(t *testing.T) {
	t.Parallel()
	known := hidingTypes(t)
	found := make(map[string]bool)
	for pkg, dir := range map[string]string{"kyc": "../../kyc", "config": "../config", "vault": "../vault"} {
		hiding := make(map[string]bool)     // has a method of its own that hides or reveals
		embeds := make(map[string][]string) // exported and not
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			for _, decl := range file.Decls {
				switch d := decl.(type) {
				case *ast.FuncDecl:
					if d.Recv != nil && (d.Name.Name == "Reveal" || d.Name.Name == "Format") {
						hiding[receiver(d.Recv.List[0].Type)] = true
					}
				case *ast.GenDecl:
					for _, spec := range d.Specs {
						typ, ok := spec.(*ast.TypeSpec)
						if !ok {
							continue
						}
						s, ok := typ.Type.(*ast.StructType)
						if !ok {
							continue
						}
						for _, f := range s.Fields.List {
							if len(f.Names) == 0 {
								embeds[typ.Name.Name] = append(embeds[typ.Name.Name], receiver(f.Type))
							}
						}
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, list := range embeds {
			for _, e := range list {
				if hiding[e] && !ast.IsExported(e) {
					hiding[name] = true
				}
			}
		}
		for name := range hiding {
			if ast.IsExported(name) {
				found[pkg+"."+name] = true
				if known[pkg+"."+name] == nil {
					t.Errorf("%s.%s hides something and no test tries to print it: add it to hidingTypes", pkg, name)
				}
			}
		}
	}
	for name := range known {
		if !found[name] {
			t.Errorf("%s was not found in the source: the test reads the wrong thing", name)
		}
	}
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	case *ast.IndexExpr:
		return receiver(e.X)
	default:
		return ""
	}
}

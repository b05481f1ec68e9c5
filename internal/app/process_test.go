package app_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"image"
	"image/jpeg"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kycgate/kycgate/internal/app/apptest"
)

const processFields = `id kind capabilities provider providerProcessId status version finishedAt
  result { liveness identity riskScore fraudProfile authenticated governmentSimilarity personName document { id type cpfMatch faceMatch content fileUrls fileUrlsExpireAt } }
  failure { code retryable nextAction } person { id } referenceProcess { id }
  attempts { number outcome providerCode durationMs }`

func mutation(name string) string {
	input := string(bytes.ToUpper([]byte(name[:1]))) + name[1:] + "Input!"
	return `mutation M($input: ` + input + `) { ` + name + `(input: $input) { process { ` + processFields + ` }
	  userErrors { code message path provider providerCode retryable } } }`
}

const readProcess = `query P($id: ID!) { process(id: $id) { ` + processFields + ` } }`

var plainSelfie = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 640, 480)), nil); err != nil {
		panic(err)
	}
	return b.Bytes()
})

var pictures atomic.Uint64

// selfie is a picture nobody else has: the last bytes of its pixels' data are a serial number in a quantisation-free
// place, a second image header that decoders skip.
func selfie() string {
	plain := plainSelfie()
	serial := binary.BigEndian.AppendUint64([]byte{0xff, 0xd9}, 0)[:2]
	_ = serial
	return base64.StdEncoding.EncodeToString(uniqueJPEG(plain, pictures.Add(1)))
}

// uniqueJPEG puts a number into the luminance table, where it changes what the picture looks like and not whether it
// is one.
func uniqueJPEG(plain []byte, n uint64) []byte {
	out := bytes.Clone(plain)
	at := bytes.Index(out, []byte{0xff, 0xdb}) + 5 // marker, length, table number
	for i := range 8 {
		out[at+8+i] = byte(n>>(7*i))&0x7f + 1 // no zero, which would be a broken table
	}
	return out
}

func subject(cpf string) map[string]any {
	return map[string]any{"documentNumber": cpf, "name": "Maria da Silva"}
}

func TestSmoke(t *testing.T) {
	t.Parallel()
	g := apptest.Start(t, apptest.Options{})
	token := g.Token(apptest.Acme)
	a := g.Query(token, mutation("checkLiveness"), map[string]any{"input": map[string]any{"subject": subject(apptest.CPF(9, 100)), "selfie": map[string]any{"image": selfie()}}})
	t.Logf("%s", a.Body)
	a = g.Query(token, mutation("verifyIdentity"), map[string]any{"input": map[string]any{"subject": subject(apptest.CPF(9, 100)), "selfie": map[string]any{"image": selfie()}}})
	t.Logf("%s", a.Body)
	t.Logf("%s", g.Logs.String())
}

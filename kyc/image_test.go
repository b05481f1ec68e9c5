package kyc

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// picture is no flat colour, so that a lost scan shows in its pixels.
func picture(width, height int) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.Set(x, y, color.NRGBA{uint8(x * 7), uint8(y * 5), uint8(x * y), uint8(255 - y%3)})
		}
	}
	return img
}

func jpegOf(width, height int) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, picture(width, height), nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func pngOf(width, height int) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, picture(width, height)); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// segment is a JPEG segment, chunk a PNG chunk.
func segment(marker byte, payload string) string {
	return string([]byte{0xff, marker, byte((len(payload) + 2) >> 8), byte(len(payload) + 2)}) + payload
}

func chunk(name, body string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = append(append(b, name...), body...)
	return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:])))
}

// insert puts segments behind SOI, or chunks behind IHDR.
func insert(file []byte, parts ...string) []byte {
	at := 2
	if bytes.HasPrefix(file, []byte(pngMagic)) {
		at = 8 + 25
	}
	return slices.Concat(file[:at], []byte(strings.Join(parts, "")), file[at:])
}

// exif is a TIFF body with an orientation, a make and a GPS directory with a position.
func exif(order binary.AppendByteOrder, o uint16) string {
	b := []byte("II*\x00")
	if order.String() == "BigEndian" {
		b = []byte("MM\x00*")
	}
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, 2)
	for _, e := range [][4]uint32{{tagOrientation, typeShort, 1, uint32(o)}, {0x8825, 4, 1, 38}} {
		b = order.AppendUint32(order.AppendUint16(order.AppendUint16(b, uint16(e[0])), uint16(e[1])), e[2])
		if e[1] == typeShort {
			b = append(order.AppendUint16(b, uint16(e[3])), 0, 0)
		} else {
			b = order.AppendUint32(b, e[3])
		}
	}
	return string(order.AppendUint32(b, 0)) + canary
}

const canary = "GPS-23.5505-46.6333"

func encoded(file []byte) Base64 { return NewBase64(base64.StdEncoding.EncodeToString(file)) }

// flood is the picture of security B10: few bytes, many pixels.
func flood(side int) []byte {
	var data bytes.Buffer
	w, _ := zlib.NewWriterLevel(&data, zlib.BestCompression)
	row := make([]byte, 1+(side+7)/8)
	for range side {
		_, _ = w.Write(row)
	}
	_ = w.Close()
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(side)), uint32(side))
	return []byte(pngMagic + chunk("IHDR", string(header)+"\x01\x00\x00\x00\x00") + chunk("IDAT", data.String()) + chunk("IEND", ""))
}

func TestImageRefusals(t *testing.T) {
	t.Parallel()
	jpg, pn := jpegOf(64, 48), pngOf(64, 48)
	raw := func(s string) Base64 { return encoded([]byte(s)) }
	jfif := segment(markerAPP0, "JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00") // with it, Go reads the header no further than the frame
	sof := bytes.Index(jpg, []byte{0xff, markerSOF0})
	sos := bytes.Index(jpg, []byte{0xff, markerSOS})
	withSOF := func(marker byte) []byte { b := bytes.Clone(jpg); b[sof+1] = marker; return b }
	badCRC := bytes.Clone(pn)
	badCRC[8+25+8+3] ^= 1 // inside IDAT
	for _, tc := range []struct {
		name   string
		in     Base64
		limits ImageLimits
		want   ImageReason
	}{
		{"nothing", NewBase64(""), ImageLimits{}, ImageEmpty},
		{"data URL", NewBase64("data:image/jpeg;base64," + encoded(jpg).Reveal()), ImageLimits{}, ImageDataURL},
		{"line breaks", NewBase64(encoded(jpg).Reveal()[:76] + "\r\n" + encoded(jpg).Reveal()[76:]), ImageLimits{}, ImageWhitespace},
		{"line break at the end", NewBase64(encoded(jpg).Reveal() + "\n"), ImageLimits{}, ImageWhitespace},
		{"blank", NewBase64(encoded(jpg).Reveal()[:76] + " " + encoded(jpg).Reveal()[76:]), ImageLimits{}, ImageWhitespace},
		{"URL-safe alphabet", NewBase64(base64.URLEncoding.EncodeToString(jpg)), ImageLimits{}, ImageBase64URL},
		{"no padding", NewBase64(strings.TrimRight(raw("\xff\xd8\xff\xe0").Reveal(), "=")), ImageLimits{}, ImageNotBase64},
		{"padding in the middle", NewBase64("/9j=" + encoded(jpg).Reveal()[4:]), ImageLimits{}, ImageNotBase64},
		{"bits behind the end", NewBase64("/9j/4B=="), ImageLimits{}, ImageNotBase64},
		{"not ASCII", NewBase64("é" + encoded(jpg).Reveal()[2:]), ImageLimits{}, ImageNotBase64},
		{"one byte too many", encoded(jpg), ImageLimits{MaxBytes: len(jpg) - 1}, ImageTooManyBytes},
		{"one byte too many, far from base64", NewBase64(strings.Repeat("!", 4_000_001)), ImageLimits{}, ImageTooManyBytes},
		{"text", raw("a letter to my bank"), ImageLimits{}, ImageText},
		{"JSON", raw(`{"a":1}`), ImageLimits{}, ImageText},
		{"SVG", raw(`<svg xmlns="http://www.w3.org/2000/svg"/>`), ImageLimits{}, ImageSVG},
		{"SVG with a prologue", raw("\ufeff<?xml version='1.0'?>\n<!-- x --><SVG/>"), ImageLimits{}, ImageSVG},
		{"GIF", raw("GIF89a\x01\x00\x01\x00\x80\x00\x00"), ImageLimits{}, ImageGIF},
		{"WebP", raw("RIFF\x10\x00\x00\x00WEBPVP8 "), ImageLimits{}, ImageWebP},
		{"HEIC", raw("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00"), ImageLimits{}, ImageHEIC},
		{"TIFF", raw("II*\x00\x08\x00\x00\x00"), ImageLimits{}, ImageTIFF},
		{"BMP", raw("BM\x9a\x00\x00\x00\x00\x00\x00\xff"), ImageLimits{}, ImageBMP},
		{"PDF", raw("%PDF-1.7\n%\xe2\xe3"), ImageLimits{}, ImagePDF},
		{"bytes", raw("\x01\x02\x03\xff\xfe"), ImageLimits{}, ImageUnknown},
		{"JPEG magic alone", raw(jpegMagic), ImageLimits{}, ImageTruncated},
		{"half a magic", raw(pngMagic[:4]), ImageLimits{}, ImageTruncated},
		{"JPEG without its end", encoded(jpg[:len(jpg)-2]), ImageLimits{}, ImageTruncated},
		{"half a JPEG", encoded(jpg[:len(jpg)/2]), ImageLimits{}, ImageTruncated},
		{"JPEG without scan", encoded(append(bytes.Clone(jpg[:sos]), 0xff, markerEOI)), ImageLimits{}, ImageCorrupt},
		{"JPEG with two frames", encoded(slices.Concat(jpg[:sos], jpg[sof:sof+19], jpg[sos:])), ImageLimits{}, ImageCorrupt},
		{"JPEG with a second start", encoded(insert(slices.Concat(jpg[:sos], jpg[:2], jpg[sos:]), jfif)), ImageLimits{}, ImageCorrupt},
		{"lossless JPEG", encoded(withSOF(0xc3)), ImageLimits{}, ImageUnsupported},
		{"arithmetic JPEG", encoded(withSOF(0xc9)), ImageLimits{}, ImageUnsupported},
		{"PNG without its end", encoded(pn[:len(pn)-12]), ImageLimits{}, ImageTruncated},
		{"half a PNG", encoded(pn[:len(pn)/2]), ImageLimits{}, ImageTruncated},
		{"PNG with a wrong checksum", encoded(badCRC), ImageLimits{}, ImageCorrupt},
		{"PNG without pixels", raw(string(pn[:33]) + chunk("IEND", "")), ImageLimits{}, ImageCorrupt},
		{"PNG with a critical chunk of its own", encoded(insert(pn, chunk("CgBI", "x"))), ImageLimits{}, ImageUnsupported},
		{"PNG with a second header", encoded(insert(pn, string(pn[8:33]))), ImageLimits{}, ImageCorrupt},
		{"pixel flood", encoded(flood(10_000)), ImageLimits{}, ImageTooLarge},
		{"too wide by one", encoded(pngOf(4097, 1)), ImageLimits{}, ImageTooLarge},
		{"too many pixels", encoded(flood(4001)), ImageLimits{}, ImageTooLarge},
		{"too small", encoded(jpegOf(640, 479)), ImageLimits{MinLong: 640, MinShort: 480}, ImageTooSmall},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := checks{}
			img := c.image(tc.in, tc.limits, "image")
			if len(c.errs) != 1 {
				t.Fatalf("%d refusals; an image of %d bytes", len(c.errs), len(img.Reveal()))
			}
			e := c.errs[0]
			if e.Code != CodeImageRejected || e.ProviderCode == nil || *e.ProviderCode != string(tc.want) || e.Provider != nil || e.Retryable {
				t.Errorf("%+v, want reason %s, got %s", e, tc.want, *e.ProviderCode)
			}
			if len(e.Message) < 15 || !slices.Equal(e.Path, []string{"input", "image"}) || img.Reveal() != nil {
				t.Errorf("message %q path %v", e.Message, e.Path)
			}
		})
	}
}

func TestImageLimitsAreExact(t *testing.T) {
	t.Parallel()
	for _, file := range [][]byte{jpegOf(64, 48), jpegOf(65, 48), jpegOf(66, 47), pngOf(4096, 1), flood(4000)} {
		if _, refused := encoded(file).Image(ImageLimits{MaxBytes: len(file)}); refused != nil {
			t.Errorf("%d bytes of %d: %s", len(file), len(file), refused.Reason)
		}
	}
	for _, side := range [][2]int{{640, 480}, {480, 640}} { // a portrait is no less
		img, refused := encoded(jpegOf(side[0], side[1])).Image(ImageLimits{MinLong: 640, MinShort: 480})
		if refused != nil {
			t.Fatalf("%v: %s", side, refused.Reason)
		}
		if w, h := img.Size(); w != side[0] || h != side[1] || img.MediaType() != "image/jpeg" {
			t.Errorf("%d x %d %s", w, h, img.MediaType())
		}
	}
}

// MUST: what leaves the process says nothing about where, when and with what it was taken, and every pixel is
// the one that was sent (security B12).
func TestImageLosesMetadataAndNoPixel(t *testing.T) {
	t.Parallel()
	order := []binary.AppendByteOrder{binary.BigEndian, binary.LittleEndian}
	jpg, pn := jpegOf(64, 48), pngOf(64, 48)
	for _, tc := range []struct {
		name string
		file []byte
		want byte // orientation
	}{
		{"JPEG Exif", insert(jpg, segment(markerAPP1, exifHeader+exif(order[0], 6))), 6},
		{"JPEG Exif little endian", insert(jpg, segment(markerAPP1, exifHeader+exif(order[1], 3))), 3},
		{"JPEG Exif upright", insert(jpg, segment(markerAPP1, exifHeader+exif(order[1], 1))), 0},
		{"JPEG Exif nonsense", insert(jpg, segment(markerAPP1, exifHeader+exif(order[0], 9))), 0},
		{"JPEG Exif cut", insert(jpg, segment(markerAPP1, exifHeader+exif(order[0], 6)[:11]), segment(markerCOM, canary)), 0},
		{"JPEG Exif twice", insert(jpg, segment(markerAPP1, exifHeader+exif(order[0], 8)), segment(markerAPP1, exifHeader+exif(order[0], 6))), 8},
		{"JPEG XMP, ICC, IPTC, comment", insert(jpg, segment(markerAPP1, "http://ns.adobe.com/xap/1.0/\x00"+canary),
			segment(0xe2, "ICC_PROFILE\x00"+canary), segment(0xed, canary), segment(markerCOM, canary), segment(markerAPP15, canary)), 0},
		{"JPEG thumbnail", insert(jpg, segment(markerAPP0, "JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x02\x02"+canary), segment(markerAPP0, "JFXX\x00\x10"+canary)), 0},
		{"JPEG before its scan", func() []byte {
			sos := bytes.Index(jpg, []byte{0xff, markerSOS})
			return slices.Concat(jpg[:sos], []byte(canary+segment(markerCOM, canary)+"\xff\xff"), jpg[sos+1:])
		}(), 0},
		{"JPEG behind its end", append(bytes.Clone(jpg), canary...), 0},
		{"PNG Exif", insert(pn, chunk("eXIf", exif(order[0], 6))), 6},
		{"PNG text", insert(pn, chunk("tEXt", "GPS\x00"+canary), chunk("iTXt", canary), chunk("zTXt", canary), chunk("tIME", canary), chunk("iCCP", canary), chunk("prVt", canary)), 0},
		{"PNG behind its end", append(bytes.Clone(pn), canary...), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if !bytes.Contains(tc.file, []byte(canary)) {
				t.Fatal("the case holds nothing to remove")
			}
			img, refused := encoded(tc.file).Image(ImageLimits{})
			if refused != nil {
				t.Fatal(refused.Reason)
			}
			out := img.Reveal()
			if bytes.Contains(out, []byte(canary)) {
				t.Error("the canary left")
			}
			if got := orientationOf(out); got != tc.want {
				t.Errorf("orientation %d, want %d", got, tc.want)
			}
			same(t, tc.file, out)
			if sent, _ := base64.StdEncoding.DecodeString(img.RevealBase64()); !bytes.Equal(sent, out) {
				t.Error("RevealBase64 is another file")
			}
		})
	}
}

func orientationOf(file []byte) byte {
	for _, o := range []byte{1, 2, 3, 4, 5, 6, 7, 8} {
		if bytes.Contains(file, []byte(segment(markerAPP1, exifHeader+string(exifOf(o))))) || bytes.Contains(file, []byte(chunk("eXIf", string(exifOf(o))))) {
			return o
		}
	}
	return 0
}

func same(t *testing.T, before, after []byte) {
	t.Helper()
	a, _, err := image.Decode(bytes.NewReader(before))
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := image.Decode(bytes.NewReader(after))
	if err != nil {
		t.Fatal(err)
	}
	if a.Bounds() != b.Bounds() {
		t.Fatal("another size")
	}
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			if a.At(x, y) != b.At(x, y) {
				t.Fatalf("pixel %d,%d differs", x, y)
			}
		}
	}
}

// Every prefix of a picture is refused, as cut off wherever the cut is.
func TestEveryCutIsFound(t *testing.T) {
	t.Parallel()
	for _, file := range [][]byte{jpegOf(24, 24), pngOf(24, 24), insert(jpegOf(24, 24), segment(markerAPP1, exifHeader+exif(binary.BigEndian, 6)))} {
		for cut := 1; cut < len(file); cut++ {
			_, refused := encoded(file[:cut]).Image(ImageLimits{})
			if refused == nil {
				t.Fatalf("%d of %d bytes pass", cut, len(file))
			}
			if cut > 8 && refused.Reason != ImageTruncated {
				t.Errorf("%d of %d bytes: %s", cut, len(file), refused.Reason)
			}
		}
	}
}

// Random sizes and metadata: accepted, clean, the same pixels, and a second pass changes nothing.
func TestStrippingIsStable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w, h := rapid.IntRange(1, 40).Draw(rt, "w"), rapid.IntRange(1, 40).Draw(rt, "h")
		o := rapid.Uint16Range(0, 10).Draw(rt, "o")
		junk := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(rt, "junk")
		file := insert(jpegOf(w, h), segment(markerCOM, string(junk)), segment(markerAPP1, exifHeader+exif(binary.LittleEndian, o)))
		if rapid.Bool().Draw(rt, "png") {
			file = insert(pngOf(w, h), chunk("prVt", string(junk)), chunk("eXIf", exif(binary.LittleEndian, o)))
		}
		img, refused := encoded(append(file, junk...)).Image(ImageLimits{})
		if refused != nil {
			rt.Fatal(refused.Reason)
		}
		if bytes.Contains(img.Reveal(), []byte(canary)) {
			rt.Fatal("the canary left")
		}
		again, refused := encoded(img.Reveal()).Image(ImageLimits{})
		if refused != nil || !bytes.Equal(again.Reveal(), img.Reveal()) {
			rt.Fatal("a second pass changes it")
		}
		same(t, file, img.Reveal())
	})
}

func TestCapturesDoNotPrint(t *testing.T) {
	t.Parallel()
	capture := encoded(jpegOf(8, 8))
	img, refused := capture.Image(ImageLimits{})
	if refused != nil {
		t.Fatal(refused.Reason)
	}
	head := capture.Reveal()[:12]
	type input struct {
		Image *Base64
		Read  Image
	}
	for _, v := range []any{capture, &capture, img, &img, input{&capture, img}, []Base64{capture}, map[string]Image{"x": img}} {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			_, _ = fmt.Fprintf(&out, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		out.Write(b)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		for _, leak := range []string{head, string(img.Reveal()[:6]), "ffd8ff", "255 216 255", "0xff, 0xd8", fmt.Sprintf("%x", head)} {
			if strings.Contains(out.String(), leak) {
				t.Errorf("%T prints %q", v, leak)
			}
		}
	}
	var answer bytes.Buffer
	if err := capture.MarshalGQLContext(WithCaller(context.Background(), Caller{Scopes: NewScopeSet(PIIRead)}), &answer); err != nil || answer.String() != `"[REDACTED]"` {
		t.Errorf("marshalled as %s (%v)", &answer, err)
	}
	if err := new(Base64).UnmarshalGQLContext(context.Background(), 5); KindOf(err) != Invalid {
		t.Errorf("a number: %v", err)
	}
}

func FuzzImage(f *testing.F) {
	for _, file := range [][]byte{
		jpegOf(8, 8), pngOf(8, 8), []byte("GIF89a"), []byte("<svg/>"), insert(jpegOf(8, 8), segment(markerAPP1, exifHeader+exif(binary.BigEndian, 6))),
		insert(pngOf(8, 8), chunk("eXIf", exif(binary.LittleEndian, 6))), flood(5000), []byte(jpegMagic), append(bytes.Clone(jpegOf(3, 3)), 0xff),
	} {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		_, _ = NewBase64(string(file)).Image(ImageLimits{}) // the text itself is from outside too
		img, refused := encoded(file).Image(ImageLimits{})
		if refused != nil {
			if refused.Reason == "" || refused.Message == "" || img.Reveal() != nil {
				t.Fatalf("a refusal without words: %+v", refused)
			}
			return
		}
		out := img.Reveal()
		config, format, err := image.DecodeConfig(bytes.NewReader(out))
		if err != nil || "image/"+format != img.MediaType() {
			t.Fatalf("cannot be read again: %v %s", err, format)
		}
		if w, h := img.Size(); config.Width != w || config.Height != h || w > 4096 || h > 4096 || w*h > 16_000_000 {
			t.Fatalf("%d x %d was %d x %d", config.Width, config.Height, w, h)
		}
		if len(out) > len(file)+64 {
			t.Fatalf("%d bytes became %d", len(file), len(out))
		}
		again, refused := encoded(out).Image(ImageLimits{MaxBytes: len(out)})
		if refused != nil || !bytes.Equal(again.Reveal(), out) {
			t.Fatal("a second pass changes it")
		}
	})
}

// The figure of security B10: a full decode took 95 MB and 1.08 s.
func BenchmarkPixelFlood(b *testing.B) {
	in := encoded(flood(10_000))
	b.ReportAllocs()
	b.ReportMetric(float64(len(in.Reveal())), "base64-B")
	for b.Loop() {
		if _, refused := in.Image(ImageLimits{}); refused == nil || refused.Reason != ImageTooLarge {
			b.Fatal("the flood passed")
		}
	}
}

// The dearest picture there is: as many bytes as allowed, most of them in one scan.
func BenchmarkLargestImage(b *testing.B) {
	file := insert(jpegOf(640, 480), segment(markerAPP1, exifHeader+exif(binary.BigEndian, 6)))
	file = slices.Concat(file[:len(file)-2], bytes.Repeat([]byte{0x12, 0x34, 0xff, 0x00, 0x56}, (3_000_000-len(file))/5), file[len(file)-2:])
	in := encoded(file)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if _, refused := in.Image(ImageLimits{}); refused != nil {
			b.Fatal(refused.Reason)
		}
	}
}

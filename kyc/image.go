package kyc

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A picture takes two steps here. [Base64] is what a caller sent, unread. [Base64.Image] reads it within
// bounds and gives an [Image]: known to be a JPEG or PNG of a bearable size, complete as far as its structure
// tells, and without metadata. No pixel is ever decoded: the size of a picture is in its header, its end is
// found by walking its segments, and both cost no more than the bytes that were sent.

// Base64 is a capture as it was received: base64 of RFC 4648 section 4, the standard alphabet with padding.
// It does not print, and no answer ever holds one. Captures live in memory only.
type Base64 struct{ text *string } // a pointer, for the reason given at personal

// NewBase64 wraps a text as it is.
func NewBase64(text string) Base64 { return Base64{&text} }

// Reveal gives the text. Callers hash it or hand it to a decoder.
func (b Base64) Reveal() string {
	if b.text == nil {
		return ""
	}
	return *b.text
}

func (Base64) String() string               { return redacted }
func (Base64) GoString() string             { return redacted }
func (Base64) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Base64) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Base64) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Base64) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalGQLContext takes any string; whether it is an image is decided together with all other fields.
func (b *Base64) UnmarshalGQLContext(_ context.Context, v any) error {
	s, ok := v.(string)
	if !ok {
		return errNotAString
	}
	b.text = &s
	return nil
}

// MarshalGQLContext writes no capture, to nobody: the scalar stands in inputs only.
func (Base64) MarshalGQLContext(_ context.Context, w io.Writer) error {
	return writeJSONString(w, redacted)
}

// Image is a picture that may leave the process. It does not print.
type Image struct {
	mediaType     string
	width, height int
	// A function, for the reason given at personal: of a pointer to a slice fmt prints the bytes when the verb does not fit it.
	data func() []byte
}

// MediaType is image/jpeg or image/png, by content.
func (i Image) MediaType() string { return i.mediaType }

// Size is in pixels as they are stored, before any orientation.
func (i Image) Size() (width, height int) { return i.width, i.height }

// Reveal gives the file without its metadata. The caller MUST NOT change it.
func (i Image) Reveal() []byte {
	if i.data == nil {
		return nil
	}
	return i.data()
}

// RevealBase64 gives the file as upstreams take it: standard base64 with padding and no data: prefix.
func (i Image) RevealBase64() string { return base64.StdEncoding.EncodeToString(i.Reveal()) }

func (Image) String() string               { return redacted }
func (Image) GoString() string             { return redacted }
func (Image) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Image) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Image) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Image) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// ImageLimits is what an upstream takes. A zero field takes its default.
type ImageLimits struct {
	// MaxBytes bounds the file as it was sent, metadata included: 3,000,000. The base64 around it is a third
	// longer and is bounded before it is decoded.
	MaxBytes int
	// MinLong and MinShort bound the longer and the shorter side, so that a portrait passes like a landscape: 1.
	MinLong, MinShort int
	// MaxSide bounds both sides: 4,096. MaxPixels bounds their product: 16,000,000 (security B10).
	MaxSide, MaxPixels int
}

func (l ImageLimits) withDefaults() ImageLimits {
	def := func(n *int, otherwise int) {
		if *n <= 0 {
			*n = otherwise
		}
	}
	def(&l.MaxBytes, 3_000_000)
	def(&l.MinLong, 1)
	def(&l.MinShort, 1)
	def(&l.MaxSide, 4096)
	def(&l.MaxPixels, 16_000_000)
	return l
}

// ImageReason says why an image was refused; it is the providerCode of an IMAGE_REJECTED that no provider
// spoke. The words are ours and stable.
type ImageReason string

// The reasons of our own decoder. Those of a provider are its image_status, as it sends them.
const (
	ImageEmpty        ImageReason = "empty"
	ImageDataURL      ImageReason = "data_url"
	ImageWhitespace   ImageReason = "whitespace"
	ImageBase64URL    ImageReason = "base64url"
	ImageNotBase64    ImageReason = "not_base64"
	ImageTooManyBytes ImageReason = "too_many_bytes"
	ImageText         ImageReason = "text"
	ImageSVG          ImageReason = "svg"
	ImageGIF          ImageReason = "gif"
	ImageWebP         ImageReason = "webp"
	ImageHEIC         ImageReason = "heic" // and AVIF: what phones store when nobody asks them for JPEG
	ImageTIFF         ImageReason = "tiff"
	ImageBMP          ImageReason = "bmp"
	ImagePDF          ImageReason = "pdf"
	ImageUnknown      ImageReason = "unknown_format"
	ImageUnsupported  ImageReason = "unsupported_encoding" // a JPEG or PNG that common decoders do not read
	ImageTruncated    ImageReason = "truncated"
	ImageCorrupt      ImageReason = "corrupt"
	ImageTooSmall     ImageReason = "too_small"
	ImageTooLarge     ImageReason = "too_large"
)

// ImageRefusal is why an image was refused.
type ImageRefusal struct {
	Reason  ImageReason
	Message string // a sentence its sender can act on
}

func (r *ImageRefusal) refuse() (Image, *ImageRefusal) { return Image{}, r }

func otherFormat(name string) string { return "is " + name + "; send a JPEG or a PNG" }

// imageMessages are the sentences that need no figures.
var imageMessages = map[ImageReason]string{
	ImageEmpty:       "must not be empty",
	ImageDataURL:     "must be the base64 alone, without the data: prefix",
	ImageWhitespace:  "must be base64 in one piece, without blanks or line breaks",
	ImageBase64URL:   "is in the URL-safe alphabet; use standard base64 (+ and /)",
	ImageNotBase64:   "must be standard base64 with padding (RFC 4648 section 4)",
	ImageText:        otherFormat("text"),
	ImageSVG:         otherFormat("an SVG"),
	ImageGIF:         otherFormat("a GIF"),
	ImageWebP:        otherFormat("a WebP"),
	ImageHEIC:        otherFormat("a HEIC or AVIF"),
	ImageTIFF:        otherFormat("a TIFF"),
	ImageBMP:         otherFormat("a BMP"),
	ImagePDF:         otherFormat("a PDF"),
	ImageUnknown:     "is no image format we know; send a JPEG or a PNG",
	ImageUnsupported: "uses an encoding few programs read; save it again as an ordinary JPEG or PNG",
	ImageTruncated:   "ends before the picture is complete; it was probably cut off on its way: send it again",
	ImageCorrupt:     "is damaged; take the picture again, or save it again as a JPEG or PNG",
}

func refuseImage(reason ImageReason) *ImageRefusal {
	return &ImageRefusal{reason, imageMessages[reason]}
}

// Image reads the capture. What it costs is bounded by limits.MaxBytes, whatever the picture claims to be.
//
// Metadata is removed without touching a pixel: of a JPEG stay the frame, its tables and its scans, of a PNG
// the chunks its pixels need; what is behind the end goes too. The one thing kept of Exif is the
// orientation, without which a phone's portrait lies on its side: it is written again into an otherwise empty
// Exif block of our own. Colour profiles go (they can name a device); a face in sRGB is the same face.
//
// The pixels themselves are not checked: a picture whose middle is missing, neatly closed, is the upstream's
// to refuse.
func (b Base64) Image(limits ImageLimits) (Image, *ImageRefusal) {
	limits = limits.withDefaults()
	file, refused := b.decode(limits.MaxBytes)
	if refused != nil {
		return refused.refuse()
	}
	var img Image
	var config image.Config
	var err error
	var strip func([]byte) ([]byte, *ImageRefusal)
	switch {
	case bytes.HasPrefix(file, []byte(jpegMagic)):
		img.mediaType, strip = "image/jpeg", stripJPEG
		config, err = jpeg.DecodeConfig(bytes.NewReader(file))
	case bytes.HasPrefix(file, []byte(pngMagic)):
		img.mediaType, strip = "image/png", stripPNG
		config, err = png.DecodeConfig(bytes.NewReader(file))
	default:
		return refuseImage(sniff(file)).refuse()
	}
	if err != nil {
		return refuseImage(headerReason(err)).refuse()
	}
	img.width, img.height = config.Width, config.Height
	if refused := limits.size(config.Width, config.Height); refused != nil {
		return refused.refuse()
	}
	stripped, refused := strip(file)
	if refused != nil {
		return refused.refuse()
	}
	img.data = func() []byte { return stripped }
	return img, nil
}

// decode takes one alphabet only. Go's decoder skips CR and LF, so they are looked for first.
func (b Base64) decode(maxBytes int) ([]byte, *ImageRefusal) {
	text := b.Reveal()
	switch {
	case text == "":
		return nil, refuseImage(ImageEmpty)
	case strings.HasPrefix(text, "data:"):
		return nil, refuseImage(ImageDataURL)
	case len(text) > base64.StdEncoding.EncodedLen(maxBytes):
		return nil, tooManyBytes(maxBytes)
	case strings.ContainsAny(text, "\r\n"):
		return nil, refuseImage(ImageWhitespace)
	}
	if len(text)%4 == 0 {
		padding := 2 - len(strings.TrimRight(text[len(text)-2:], "="))
		if len(text)/4*3-padding > maxBytes {
			return nil, tooManyBytes(maxBytes)
		}
	}
	file, err := base64.StdEncoding.Strict().DecodeString(text)
	if err == nil {
		return file, nil
	}
	switch {
	case strings.ContainsAny(text, " \t\v\f"):
		return nil, refuseImage(ImageWhitespace)
	case strings.ContainsAny(text, "-_"):
		return nil, refuseImage(ImageBase64URL)
	}
	return nil, refuseImage(ImageNotBase64)
}

func tooManyBytes(limit int) *ImageRefusal {
	return &ImageRefusal{ImageTooManyBytes, "must have at most " + grouped(limit) + " bytes before base64; send a smaller or more compressed picture"}
}

// size is asked before anything is made of the picture.
func (l ImageLimits) size(width, height int) *ImageRefusal {
	long, short := max(width, height), min(width, height)
	switch {
	case short < 1:
		return refuseImage(ImageCorrupt)
	case long > l.MaxSide || width > l.MaxPixels/height:
		return &ImageRefusal{ImageTooLarge, "must have at most " + grouped(l.MaxSide) + " pixels a side and " + grouped(l.MaxPixels) + " in all; send a smaller picture"}
	case long < l.MinLong || short < l.MinShort:
		return &ImageRefusal{ImageTooSmall, "must have at least " + grouped(l.MinLong) + " x " + grouped(l.MinShort) + " pixels; take the picture with a better camera setting"}
	}
	return nil
}

// grouped writes 3000000 as 3,000,000.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func headerReason(err error) ImageReason {
	var (
		jpegUnsupported jpeg.UnsupportedError
		pngUnsupported  png.UnsupportedError
	)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ImageTruncated
	case errors.As(err, &jpegUnsupported), errors.As(err, &pngUnsupported):
		return ImageUnsupported
	}
	return ImageCorrupt
}

// sniff names what is neither JPEG nor PNG, for the sentence only.
func sniff(file []byte) ImageReason {
	has := func(prefixes ...string) bool {
		for _, p := range prefixes {
			if bytes.HasPrefix(file, []byte(p)) {
				return true
			}
		}
		return false
	}
	switch {
	case bytes.HasPrefix([]byte(jpegMagic), file), bytes.HasPrefix([]byte(pngMagic), file):
		return ImageTruncated
	case has("GIF8"):
		return ImageGIF
	case has("RIFF") && len(file) >= 12 && string(file[8:12]) == "WEBP":
		return ImageWebP
	case len(file) >= 12 && string(file[4:8]) == "ftyp":
		return ImageHEIC
	case has("II*\x00", "MM\x00*"):
		return ImageTIFF
	case has("%PDF-"):
		return ImagePDF
	case has("BM") && !utf8.Valid(file):
		return ImageBMP
	}
	head := file[:min(len(file), 4096)]
	if bytes.Contains(bytes.ToLower(head), []byte("<svg")) {
		return ImageSVG
	}
	if utf8.Valid(file) && bytes.IndexByte(head, 0) < 0 {
		return ImageText
	}
	return ImageUnknown
}

// image checks one capture and adds its refusal to those of the other fields.
func (c *checks) image(b Base64, limits ImageLimits, path ...string) Image {
	img, refused := b.Image(limits)
	if refused != nil {
		c.add(CodeImageRejected, refused.Message, path...)
		c.errs[len(c.errs)-1].ProviderCode = new(string(refused.Reason))
	}
	return img
}

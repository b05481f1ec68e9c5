package kyc

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

const (
	jpegMagic = "\xff\xd8\xff"
	pngMagic  = "\x89PNG\r\n\x1a\n"
)

// The markers of ITU-T T.81, table B.1, that are told apart here.
const (
	markerSOF0  = 0xc0
	markerSOF1  = 0xc1
	markerSOF2  = 0xc2
	markerDHT   = 0xc4
	markerRST0  = 0xd0
	markerRST7  = 0xd7
	markerSOI   = 0xd8
	markerEOI   = 0xd9
	markerSOS   = 0xda
	markerDQT   = 0xdb
	markerDRI   = 0xdd
	markerAPP0  = 0xe0
	markerAPP1  = 0xe1
	markerAPP14 = 0xee
	markerAPP15 = 0xef
	markerCOM   = 0xfe
)

// stripJPEG walks the segments from SOI to EOI and copies what a decoder needs: one frame of a kind every
// decoder reads, the tables, the scans, and the two application segments that say how colours are meant.
func stripJPEG(file []byte) ([]byte, *ImageRefusal) {
	out := append(make([]byte, 0, len(file)+len(exifOf(1))), file[:2]...)
	frame, scan, oriented := false, false, false
	for at := 2; ; {
		// What is between two segments is nobody's; decoders skip it and so do we.
		next := bytes.IndexByte(file[at:], 0xff)
		if next < 0 {
			return nil, refuseImage(ImageTruncated)
		}
		at += next
		for at < len(file) && file[at] == 0xff { // a marker may be filled up with any number of them
			at++
		}
		if at == len(file) {
			return nil, refuseImage(ImageTruncated)
		}
		marker := file[at]
		at++
		switch {
		case marker == 0x00, marker == 0x01, marker >= markerRST0 && marker <= markerRST7:
			continue // no segment, and nothing outside of a scan
		case marker == markerSOI:
			return nil, refuseImage(ImageCorrupt)
		case marker == markerEOI:
			if !frame || !scan {
				return nil, refuseImage(ImageCorrupt)
			}
			return append(out, 0xff, markerEOI), nil
		}
		if len(file)-at < 2 {
			return nil, refuseImage(ImageTruncated)
		}
		length := int(binary.BigEndian.Uint16(file[at:]))
		if length < 2 {
			return nil, refuseImage(ImageCorrupt)
		}
		if len(file)-at < length {
			return nil, refuseImage(ImageTruncated)
		}
		payload := file[at+2 : at+length]
		at += length
		switch {
		case marker == markerDHT, marker == markerDQT, marker == markerDRI:
			out = appendSegment(out, marker, payload)
		case marker == markerSOF0, marker == markerSOF1, marker == markerSOF2:
			if frame { // the size that was checked is the first one's
				return nil, refuseImage(ImageCorrupt)
			}
			frame = true
			out = appendSegment(out, marker, payload)
		case marker == markerSOS:
			if !frame {
				return nil, refuseImage(ImageCorrupt)
			}
			out = appendSegment(out, marker, payload)
			end := endOfScan(file, at)
			if end < 0 {
				return nil, refuseImage(ImageTruncated)
			}
			scan = scan || end > at
			out = append(out, file[at:end]...)
			at = end
		case marker == markerAPP0:
			// JFIF 1.02: identifier, version, units and densities, then a thumbnail, which goes.
			if bytes.HasPrefix(payload, []byte("JFIF\x00")) && len(payload) >= 14 {
				out = appendSegment(out, marker, append(bytes.Clone(payload[:12]), 0, 0))
			}
		case marker == markerAPP14:
			if bytes.HasPrefix(payload, []byte("Adobe")) && len(payload) >= 12 { // which colour transform
				out = appendSegment(out, marker, payload[:12])
			}
		case marker == markerAPP1:
			if exif, ok := bytes.CutPrefix(payload, []byte(exifHeader)); ok && !oriented {
				if o := orientation(exif); o > 1 {
					oriented = true
					out = appendSegment(out, marker, append([]byte(exifHeader), exifOf(o)...))
				}
			}
		case marker >= markerAPP0 && marker <= markerAPP15, marker == markerCOM:
		default: // lossless, arithmetic, hierarchical, or a size that comes later (DNL)
			return nil, refuseImage(ImageUnsupported)
		}
	}
}

func appendSegment(out []byte, marker byte, payload []byte) []byte {
	out = append(out, 0xff, marker)
	out = binary.BigEndian.AppendUint16(out, uint16(len(payload)+2))
	return append(out, payload...)
}

// endOfScan finds the marker behind entropy-coded data: a 0xff that neither stuffs nor restarts. -1 if none.
func endOfScan(file []byte, at int) int {
	for {
		next := bytes.IndexByte(file[at:], 0xff)
		if next < 0 || at+next+1 >= len(file) {
			return -1
		}
		at += next
		if b := file[at+1]; b != 0x00 && b != 0xff && (b < markerRST0 || b > markerRST7) {
			return at
		} else if b == 0xff {
			at++ // fill: the second one may begin a marker
			continue
		}
		at += 2
	}
}

const exifHeader = "Exif\x00\x00"

const (
	tagOrientation = 0x0112
	typeShort      = 3
)

// orientation reads tag 0x0112 of the first directory of a TIFF body: 1 to 8, or 0 when there is none.
func orientation(tiff []byte) byte {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(tiff, []byte("II*\x00")):
		order = binary.LittleEndian
	case bytes.HasPrefix(tiff, []byte("MM\x00*")):
		order = binary.BigEndian
	default:
		return 0
	}
	if len(tiff) < 8 {
		return 0
	}
	at := uint64(order.Uint32(tiff[4:]))
	if at+2 > uint64(len(tiff)) {
		return 0
	}
	count := uint64(order.Uint16(tiff[at:]))
	for entry := at + 2; count > 0 && entry+12 <= uint64(len(tiff)); count, entry = count-1, entry+12 {
		e := tiff[entry:]
		if order.Uint16(e) != tagOrientation {
			continue
		}
		if v := order.Uint16(e[8:]); order.Uint16(e[2:]) == typeShort && order.Uint32(e[4:]) == 1 && v >= 1 && v <= 8 {
			return byte(v)
		}
		return 0
	}
	return 0
}

// exifOf is a TIFF body that holds an orientation and nothing else.
func exifOf(o byte) []byte {
	return []byte{
		'M', 'M', 0, '*', 0, 0, 0, 8, // big endian, the first directory follows
		0, 1, tagOrientation >> 8, tagOrientation & 0xff, 0, typeShort, 0, 0, 0, 1, 0, o, 0, 0,
		0, 0, 0, 0, // no second directory
	}
}

// pngKeep are the chunks that pixels need: PNG (third edition), sections 11.2 and 11.3. tEXt, zTXt, iTXt, tIME,
// iCCP, the frames of an animation and all private chunks go.
var pngKeep = map[string]bool{
	"IHDR": true, "PLTE": true, "IDAT": true, "IEND": true,
	"tRNS": true, "gAMA": true, "cHRM": true, "sRGB": true, "sBIT": true, "cICP": true,
}

// stripPNG walks the chunks to IEND, verifies the checksum of each it keeps and copies those.
func stripPNG(file []byte) ([]byte, *ImageRefusal) {
	out := append(make([]byte, 0, len(file)+16), file[:len(pngMagic)]...)
	data, oriented := false, false
	for at := len(pngMagic); ; {
		if len(file)-at < 12 {
			return nil, refuseImage(ImageTruncated)
		}
		length := binary.BigEndian.Uint32(file[at:])
		if uint64(length) > uint64(len(file)-at-12) {
			return nil, refuseImage(ImageTruncated)
		}
		chunk := file[at : at+12+int(length)]
		name, body := string(chunk[4:8]), chunk[8:8+length]
		first := at == len(pngMagic)
		at += len(chunk)
		switch {
		case first != (name == "IHDR"):
			return nil, refuseImage(ImageCorrupt)
		case pngKeep[name]:
			if crc32.ChecksumIEEE(chunk[4:8+length]) != binary.BigEndian.Uint32(chunk[8+length:]) {
				return nil, refuseImage(ImageCorrupt)
			}
			out = append(out, chunk...)
			data = data || name == "IDAT" && length > 0
			if name == "IEND" {
				if !data || length != 0 {
					return nil, refuseImage(ImageCorrupt)
				}
				return out, nil
			}
		case name == "eXIf":
			if o := orientation(body); o > 1 && !oriented {
				oriented = true
				out = appendChunk(out, name, exifOf(o))
			}
		case name[0] >= 'A' && name[0] <= 'Z': // critical, and unknown to us: its picture would be another one
			return nil, refuseImage(ImageUnsupported)
		}
	}
}

func appendChunk(out []byte, name string, body []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
	start := len(out)
	out = append(append(out, name...), body...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[start:]))
}

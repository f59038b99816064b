package picture

import (
	"bytes"
	"encoding/binary"
	"image"
	"iter"
)

// orient is how a picture is to be turned to be seen as it was taken, as EXIF counts it: from 1, which is not at all, to 8.
type orient int

// Markers of segments of a JPEG.
const (
	markerBaseline    = 0xc0 // the lowest; those from it to markerProgressive are the header of the frame, which describes its components
	markerProgressive = 0xc2
	markerRestart     = 0xd0 // those from it to before markerScan have no length
	markerScan        = 0xda // what follows is the picture itself
	markerApp1        = 0xe1
)

// The parts of the TIFF in EXIF metadata that say how a picture is to be turned.
const (
	tagOrientation = 0x0112
	typeShort      = 3
	entryBytes     = 12
)

// segments yields the segments before the picture itself, by their markers. It stops early at bytes that are no segment, even where a tolerant
// decoder would go on.
func segments(photo []byte) iter.Seq2[byte, []byte] {
	return func(yield func(byte, []byte) bool) {
		rest, ok := bytes.CutPrefix(photo, []byte{0xff, 0xd8})
		for ok {
			for len(rest) > 1 && rest[0] == 0xff && rest[1] == 0xff { // fill bytes before a marker
				rest = rest[1:]
			}
			if len(rest) <= 4 || rest[0] != 0xff || rest[1] < markerBaseline || rest[1] >= markerRestart && rest[1] <= markerScan {
				return
			}
			end := 2 + int(binary.BigEndian.Uint16(rest[2:]))
			if end < 4 || end > len(rest) || !yield(rest[1], rest[4:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// orientation is what the EXIF metadata of a JPEG or WebP says; upright if there is none, or it says nothing.
func orientation(upload []byte) orient {
	for marker, segment := range segments(upload) {
		if tiff, exif := bytes.CutPrefix(segment, []byte("Exif\x00\x00")); exif && marker == markerApp1 {
			return orientationOf(tiff)
		}
	}
	for name, data := range chunks(upload) {
		if name == "EXIF" {
			return orientationOf(bytes.TrimPrefix(data, []byte("Exif\x00\x00"))) // which some programs put before it
		}
	}
	return 1
}

// orientationOf is the orientation among the entries of the first directory of a TIFF.
func orientationOf(tiff []byte) orient {
	var order binary.ByteOrder = binary.LittleEndian
	if bytes.HasPrefix(tiff, []byte("MM")) {
		order = binary.BigEndian
	}
	if len(tiff) < 8 {
		return 1
	}
	at := int64(order.Uint32(tiff[4:]))
	if at+2 > int64(len(tiff)) {
		return 1
	}
	entries := tiff[at+2:]
	for range order.Uint16(tiff[at:]) {
		if len(entries) < entryBytes {
			break
		}
		if order.Uint16(entries) == tagOrientation && order.Uint16(entries[2:]) == typeShort {
			return orient(order.Uint16(entries[8:]))
		}
		entries = entries[entryBytes:]
	}
	return 1
}

// turn returns the picture as it is to be seen. What EXIF does not know stays as it is.
func (o orient) turn(of *image.RGBA) *image.RGBA {
	w, h := of.Bounds().Dx(), of.Bounds().Dy()
	to := image.NewRGBA(image.Rect(0, 0, w, h))
	if o >= 5 && o <= 8 {
		to = image.NewRGBA(image.Rect(0, 0, h, w))
	}
	for y := range h {
		for x := range w {
			atX, atY := x, y
			switch o {
			case 2:
				atX = w - 1 - x
			case 3:
				atX, atY = w-1-x, h-1-y
			case 4:
				atY = h - 1 - y
			case 5:
				atX, atY = y, x
			case 6:
				atX, atY = h-1-y, x
			case 7:
				atX, atY = h-1-y, w-1-x
			case 8:
				atX, atY = y, w-1-x
			}
			to.SetRGBA(atX, atY, of.RGBAAt(x, y))
		}
	}
	return to
}

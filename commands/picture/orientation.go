package picture

import (
	"bytes"
	"encoding/binary"
	"image"
)

// orient is how a picture is to be turned to be seen as it was taken, as EXIF counts it: from 1, which is not at all, to 8.
type orient int

// The parts of a JPEG, and of the TIFF in its EXIF metadata, that say how it is to be turned.
const (
	markerScan     = 0xda // what follows is the picture itself
	markerApp1     = 0xe1
	tagOrientation = 0x0112
	typeShort      = 3
	entryBytes     = 12
)

// orientation is what the EXIF metadata of a JPEG says; upright if it says nothing, or if it is none.
func orientation(upload []byte) orient {
	rest, ok := bytes.CutPrefix(upload, []byte{0xff, 0xd8})
	for ok && len(rest) > 4 && rest[0] == 0xff && rest[1] != markerScan {
		end := 2 + int(binary.BigEndian.Uint16(rest[2:]))
		if end < 4 || end > len(rest) {
			break
		}
		if tiff, exif := bytes.CutPrefix(rest[4:end], []byte("Exif\x00\x00")); exif && rest[1] == markerApp1 {
			return orientationOf(tiff)
		}
		rest = rest[end:]
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

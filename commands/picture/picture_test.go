package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"testing"
)

// corners is a picture whose four quarters have different colours: red and green above, blue and white below.
func corners(width, height int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := []color.RGBA{{255, 0, 0, 255}, {0, 255, 0, 255}, {0, 0, 255, 255}, {255, 255, 255, 255}}[2*(2*y/height)+2*x/width]
			m.SetRGBA(x, y, c)
		}
	}
	return m
}

func encode(t testing.TB, m image.Image, how func(*bytes.Buffer, image.Image) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := how(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJPEG(b *bytes.Buffer, m image.Image) error { return jpeg.Encode(b, m, nil) }
func asPNG(b *bytes.Buffer, m image.Image) error  { return png.Encode(b, m) }
func asGIF(b *bytes.Buffer, m image.Image) error  { return gif.Encode(b, m, nil) }

// withEXIF adds EXIF metadata to a JPEG: an orientation, and where it was taken.
func withEXIF(photo []byte, order binary.AppendByteOrder, orientation int) []byte {
	tiff := []byte("II*\x00")
	if order == binary.AppendByteOrder(binary.BigEndian) {
		tiff = []byte("MM\x00*")
	}
	tiff = order.AppendUint32(tiff, 8)
	tiff = order.AppendUint16(tiff, 2)
	for _, e := range [][4]int{{0x010f, 2, 4, 0x41424300}, {tagOrientation, typeShort, 1, orientation}} {
		tiff = order.AppendUint32(order.AppendUint16(order.AppendUint16(tiff, uint16(e[0])), uint16(e[1])), uint32(e[2]))
		if e[1] == typeShort {
			tiff = order.AppendUint16(order.AppendUint16(tiff, uint16(e[3])), 0)
		} else {
			tiff = order.AppendUint32(tiff, uint32(e[3]))
		}
	}
	tiff = append(tiff, "GPS 37.5665 N 126.9780 E"...)
	segment := append([]byte("Exif\x00\x00"), tiff...)
	comment := []byte{0xff, 0xfe, 0, 6, 't', 'e', 's', 't'} // a segment before it
	out := append([]byte{0xff, 0xd8}, comment...)
	out = append(out, 0xff, markerApp1)
	out = binary.BigEndian.AppendUint16(out, uint16(len(segment)+2))
	return append(append(out, segment...), photo[2:]...)
}

// seen decodes a result, and names the colours of its four quarters, row by row.
func seen(t *testing.T, p Picture) string {
	t.Helper()
	m, err := jpeg.Decode(bytes.NewReader(p.JPEG))
	if err != nil {
		t.Fatal(err)
	}
	w, h := m.Bounds().Dx(), m.Bounds().Dy()
	if w != p.Width || h != p.Height || len(p.JPEG) > MaxStored {
		t.Errorf("%d x %d, said to be %d x %d, in %d bytes", w, h, p.Width, p.Height, len(p.JPEG))
	}
	var names []byte
	for _, at := range []image.Point{{w / 4, h / 4}, {3 * w / 4, h / 4}, {w / 4, 3 * h / 4}, {3 * w / 4, 3 * h / 4}} {
		r, g, b, _ := m.At(at.X, at.Y).RGBA()
		name := byte('?')
		for _, c := range []struct {
			name    byte
			r, g, b bool
		}{{'r', true, false, false}, {'g', false, true, false}, {'b', false, false, true}, {'w', true, true, true}} {
			if (r > 0xc000) == c.r && (g > 0xc000) == c.g && (b > 0xc000) == c.b && (r < 0x4000) != c.r && (g < 0x4000) != c.g && (b < 0x4000) != c.b {
				name = c.name
			}
		}
		names = append(names, name)
	}
	return string(names)
}

func TestConvert(t *testing.T) {
	big := corners(1400, 700)
	clear := image.NewNRGBA(image.Rect(5, 5, 45, 25)) // transparent, and not from 0 on
	photo := encode(t, corners(160, 80), asJPEG)
	for name, row := range map[string]struct {
		upload        []byte
		width, height int
		seen          string
	}{
		"JPEG":            {encode(t, big, asJPEG), 1280, 640, "rgbw"},
		"PNG":             {encode(t, corners(160, 80), asPNG), 160, 80, "rgbw"},
		"GIF":             {encode(t, corners(160, 80), asGIF), 160, 80, "rgbw"},
		"a small one":     {encode(t, corners(40, 60), asPNG), 40, 60, "rgbw"},
		"a narrow one":    {encode(t, corners(4, 4000), asPNG), 1, 1280, ""},
		"transparent":     {encode(t, clear, asPNG), 40, 20, "wwww"},
		"upright":         {withEXIF(photo, binary.LittleEndian, 1), 160, 80, "rgbw"},
		"mirrored":        {withEXIF(photo, binary.LittleEndian, 2), 160, 80, "grwb"},
		"upside down":     {withEXIF(photo, binary.BigEndian, 3), 160, 80, "wbgr"},
		"flipped":         {withEXIF(photo, binary.LittleEndian, 4), 160, 80, "bwrg"},
		"transposed":      {withEXIF(photo, binary.LittleEndian, 5), 80, 160, "rbgw"},
		"on its left":     {withEXIF(photo, binary.BigEndian, 6), 80, 160, "brwg"},
		"transversed":     {withEXIF(photo, binary.LittleEndian, 7), 80, 160, "wgbr"},
		"on its right":    {withEXIF(photo, binary.LittleEndian, 8), 80, 160, "gwrb"},
		"unknown to EXIF": {withEXIF(photo, binary.LittleEndian, 9), 160, 80, "rgbw"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Convert(row.upload)
			if err != nil {
				t.Fatal(err)
			}
			if got := seen(t, p); p.Width != row.width || p.Height != row.height || row.seen != "" && got != row.seen {
				t.Errorf("%d x %d, %s; want %d x %d, %s", p.Width, p.Height, got, row.width, row.height, row.seen)
			}
			if bytes.Contains(p.JPEG, []byte("GPS")) || bytes.Contains(p.JPEG, []byte("Exif")) {
				t.Error("it still has the metadata")
			}
			again, err := Convert(row.upload)
			if err != nil || !bytes.Equal(again.JPEG, p.JPEG) {
				t.Errorf("another time it is another: %v", err)
			}
		})
	}
}

// What cannot be compressed is made small enough all the same.
func TestConvertNoise(t *testing.T) {
	noise := image.NewGray(image.Rect(0, 0, 1000, 1000))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise.Pix {
		noise.Pix[i] = byte(random.Uint32())
	}
	p, err := Convert(encode(t, noise, asPNG))
	if err != nil || len(p.JPEG) > MaxStored || p.Width < 300 || p.Width != p.Height {
		t.Errorf("%d bytes of %d x %d, %v", len(p.JPEG), p.Width, p.Height, err)
	}
}

// bomb is a PNG of a few bytes that says that it has many pixels.
func bomb(width, height uint32) []byte { return bombOf(width, height, 8, 0) }

// bombOf is a bomb of that many bits for each of red, green, blue and alpha, which may be interlaced.
func bombOf(width, height uint32, bits, interlaced byte) []byte {
	head := append([]byte("IHDR"), 0, 0, 0, 0, 0, 0, 0, 0, bits, 6, 0, 0, interlaced)
	binary.BigEndian.PutUint32(head[4:], width)
	binary.BigEndian.PutUint32(head[8:], height)
	out := append([]byte("\x89PNG\r\n\x1a\n"), 0, 0, 0, 13)
	return binary.BigEndian.AppendUint32(append(out, head...), crc32.ChecksumIEEE(head))
}

// frame is a JPEG of a header alone, of three components, of which the first has these sampling factors and the others have none.
func frame(marker byte, width, height uint16, factors byte, before ...byte) []byte {
	out := append(append([]byte{0xff, 0xd8}, before...), 0xff, marker, 0, 17, 8)
	out = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(out, height), width)
	return append(out, 3, 1, factors, 0, 2, 0x11, 0, 3, 0x11, 0, 0xff, markerScan, 0, 2)
}

// What would take too much memory is not decoded, and photos of common cameras are: these fail for want of a picture after their headers.
func TestConvertBoundsMemory(t *testing.T) {
	adobeRGB := []byte("\xff\xee\x00\x0eAdobe\x00\x00\x00\x00\x00\x00\x00")
	for name, row := range map[string]struct {
		upload []byte
		err    error
	}{
		"baseline, 24 MP":                  {frame(markerBaseline, 6000, 4000, 0x22), ErrUnreadable},
		"baseline, 24 MP, 4:4:4":           {frame(markerBaseline, 6000, 4000, 0x11), ErrUnreadable},
		"after fill bytes":                 {frame(markerBaseline, 6000, 4000, 0x22, 0xff, 0xff), ErrUnreadable},
		"baseline RGB, 24 MP":              {frame(markerBaseline, 6000, 4000, 0x11, adobeRGB...), ErrTooDetailed},
		"progressive, 12 MP":               {frame(markerProgressive, 4000, 3000, 0x22), ErrUnreadable},
		"progressive, 12 MP, 4:4:4":        {frame(markerProgressive, 4000, 3000, 0x11), ErrTooDetailed},
		"progressive, 24 MP":               {frame(markerProgressive, 6000, 4000, 0x22), ErrTooDetailed},
		"progressive after fill bytes":     {frame(markerProgressive, 6000, 4000, 0x22, 0xff, 0xff), ErrTooDetailed},
		"progressive after stray bytes":    {frame(markerProgressive, 6000, 4000, 0x22, 0, 0), ErrTooDetailed},
		"progressive after a stray marker": {frame(markerProgressive, 6000, 4000, 0x22, 0xff, markerRestart), ErrTooDetailed},
		"PNG of 8 bits, 24 MP":             {bombOf(6000, 4000, 8, 0), ErrUnreadable},
		"PNG of 16 bits, 24 MP":            {bombOf(6000, 4000, 16, 0), ErrTooDetailed},
		"PNG of 16 bits, 12 MP":            {bombOf(4000, 3000, 16, 0), ErrUnreadable},
		"interlaced PNG, 24 MP":            {bombOf(6000, 4000, 8, 1), ErrTooDetailed},
	} {
		if _, err := Convert(row.upload); !errors.Is(err, row.err) {
			t.Errorf("%s: %v, want %v", name, err, row.err)
		}
	}
}

func TestConvertRefuses(t *testing.T) {
	photo := encode(t, corners(200, 100), asJPEG)
	for name, row := range map[string]struct {
		upload []byte
		err    error
	}{
		"nothing":                     {nil, ErrUnreadable},
		"a text":                      {[]byte("<svg xmlns='http://www.w3.org/2000/svg'/>"), ErrUnreadable},
		"the first half":              {photo[:len(photo)/2], ErrUnreadable},
		"the head alone":              {bomb(10, 10), ErrUnreadable},
		"many pixels":                 {bomb(30_000, 30_000), ErrTooDetailed},
		"more than can be multiplied": {bomb(1<<31-1, 1<<31-1), ErrUnreadable},
		"many bytes":                  {make([]byte, MaxUpload+1), ErrTooLarge},
	} {
		if p, err := Convert(row.upload); !errors.Is(err, row.err) {
			t.Errorf("%s: %d bytes, %v; want %v", name, len(p.JPEG), err, row.err)
		}
	}
}

// Whatever is uploaded, it is refused or becomes a JPEG within the bounds.
func FuzzConvert(f *testing.F) {
	photo := encode(f, corners(16, 8), asJPEG)
	for _, upload := range [][]byte{photo, withEXIF(photo, binary.LittleEndian, 6), withEXIF(photo, binary.BigEndian, 8), encode(f, corners(3, 5), asPNG), encode(f, corners(3, 5), asGIF), bomb(5, 5), webpOf("VP8 ", decoded(f, lossyCorners))} {
		f.Add(upload)
	}
	f.Fuzz(func(t *testing.T, upload []byte) {
		if config, _, err := image.DecodeConfig(bytes.NewReader(upload)); err == nil && config.Width*config.Height > 1<<20 {
			return // which would take long, and is decoded elsewhere
		}
		p, err := Convert(upload)
		if err == nil && (p.Width < 1 || p.Height < 1 || max(p.Width, p.Height) > MaxSide || len(p.JPEG) > MaxStored) {
			t.Error(fmt.Sprint(p.Width, p.Height, len(p.JPEG)))
		}
	})
}

package picture

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
)

// Chunks of pictures of 160 x 80 pixels, as a browser made them: corners, lossy and lossless, and a compressed alpha channel.
const (
	lossyCorners    = "kAgAnQEqoABQAD7RXqhOqCUjoimoAQAaCWNu3V2zIB+JO2i8A/E/8jq/8A9z8HpYZOKMpTmv86h3ppsR6E8uNq0ErstxDVxzrIjmyAAA/us49u/WDr6rOM+6vjZyYonnrBQCRWybVxvD9uH7f4ZWh0F+tQXoACZpDAh+QT/xiGWZSdck4OGiXmUX//vXttVMOWkcRwJeSZFLwiJpeA0g2DQLCeA6P7WAAAA="
	losslessCorners = "L5/AEwAfIBBI3h86jfkXEBT8H938R2QPgEDSZiVX8iWX4hDR/9i2bdu2bds2VVVVVdVfAAAAAACoqqqqqrqFAA=="
	compressedAlpha = "AQ8w/xERQkhA+H9ac0CJ6P8EEI0v+CM="
)

// webpOf is a WebP of chunks, each a name and what it has.
func webpOf(chunks ...string) []byte {
	out := []byte("RIFF\x00\x00\x00\x00WEBP")
	for i := 0; i < len(chunks); i += 2 {
		out = binary.LittleEndian.AppendUint32(append(out, chunks[i]...), uint32(len(chunks[i+1])))
		out = append(out, chunks[i+1]...)
		if len(out)%2 == 1 {
			out = append(out, 0)
		}
	}
	binary.LittleEndian.PutUint32(out[4:], uint32(len(out)-8))
	return out
}

func decoded(t testing.TB, text string) string {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// canvas is a VP8X chunk: flags and the size of the picture.
func canvas(flags byte, width, height int) string {
	w, h := width-1, height-1
	return string([]byte{flags, 0, 0, 0, byte(w), byte(w >> 8), byte(w >> 16), byte(h), byte(h >> 8), byte(h >> 16)})
}

// lossyOf is the lossy picture with another size in its header, so that what follows describes too little of it.
func lossyOf(t testing.TB, width, height int) string {
	data := []byte(decoded(t, lossyCorners))
	binary.LittleEndian.PutUint16(data[6:], uint16(width))
	binary.LittleEndian.PutUint16(data[8:], uint16(height))
	return string(data)
}

const (
	withAlpha = 1 << 4
	withExif  = 1 << 3
)

func TestConvertWebP(t *testing.T) {
	lossy := decoded(t, lossyCorners)
	turned := "II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00 GPS 37.5665 N"
	for name, row := range map[string]struct {
		upload        []byte
		width, height int
		seen          string
	}{
		"lossy":             {webpOf("VP8 ", lossy), 160, 80, "rgbw"},
		"with other chunks": {webpOf("VP8X", canvas(0, 160, 80), "ICCP", "odd", "VP8 ", lossy), 160, 80, "rgbw"},
		"on its left":       {webpOf("VP8X", canvas(withExif, 160, 80), "VP8 ", lossy, "EXIF", turned), 80, 160, "brwg"},
		"as JPEGs have it":  {webpOf("VP8X", canvas(withExif, 160, 80), "VP8 ", lossy, "EXIF", "Exif\x00\x00"+turned), 80, 160, "brwg"},
		"transparent":       {webpOf("VP8X", canvas(withAlpha, 160, 80), "ALPH", string(make([]byte, 1+160*80)), "VP8 ", lossy), 160, 80, "wwww"},
	} {
		p, err := Convert(row.upload)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := seen(t, p); p.Width != row.width || p.Height != row.height || got != row.seen {
			t.Errorf("%s: %d x %d, %s; want %d x %d, %s", name, p.Width, p.Height, got, row.width, row.height, row.seen)
		}
	}
}

// What is broken, or would or might take too much memory, is not decoded.
func TestConvertRefusesWebP(t *testing.T) {
	lossy := decoded(t, lossyCorners)
	whole := webpOf("VP8 ", lossy)
	claiming := func(size uint32) []byte {
		upload := webpOf("VP8 ", lossy)
		binary.LittleEndian.PutUint32(upload[4:], size+12)
		binary.LittleEndian.PutUint32(upload[16:], size)
		return upload
	}
	chunkClaiming := webpOf("VP8 ", lossy)
	binary.LittleEndian.PutUint32(chunkClaiming[16:], 100<<20)
	for name, row := range map[string]struct {
		upload []byte
		err    error
	}{
		"many pixels":                {webpOf("VP8 ", lossyOf(t, 1<<14-1, 1<<14-1)), ErrTooDetailed},
		"a large canvas":             {webpOf("VP8X", canvas(0, 1<<15, 1<<15), "VP8 ", lossy), ErrTooDetailed},
		"the largest canvas":         {webpOf("VP8X", canvas(0, 1<<24, 1<<24), "VP8 ", lossy), ErrUnreadable},
		"more pixels than canvas":    {webpOf("VP8X", canvas(0, 160, 80), "VP8 ", lossyOf(t, 1<<14-1, 1<<14-1)), ErrUnreadable},
		"lossless":                   {webpOf("VP8L", decoded(t, losslessCorners)), ErrTooDetailed},
		"lossless on a canvas":       {webpOf("VP8X", canvas(0, 160, 80), "VP8L", decoded(t, losslessCorners)), ErrTooDetailed},
		"compressed alpha":           {webpOf("VP8X", canvas(withAlpha, 160, 80), "ALPH", decoded(t, compressedAlpha), "VP8 ", lossy), ErrTooDetailed},
		"more bytes than there are":  {claiming(15 << 20), ErrUnreadable},
		"a chunk of more than it is": {chunkClaiming, ErrUnreadable},
		"the first half":             {whole[:len(whole)/2], ErrUnreadable},
		"the half of its chunk":      {webpOf("VP8 ", lossy[:len(lossy)/2]), ErrUnreadable},
		"the head alone":             {webpOf("VP8X", canvas(0, 160, 80)), ErrUnreadable},
		"no picture":                 {webpOf("VP8 ", ""), ErrUnreadable},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p, err := Convert(row.upload)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, row.err) {
			t.Errorf("%s: %d bytes, %v; want %v", name, len(p.JPEG), err, row.err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
			t.Errorf("%s: it took %d bytes to refuse it", name, took)
		}
	}
}

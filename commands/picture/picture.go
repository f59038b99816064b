// Package picture makes a picture that somebody uploaded fit to be stored and shown to others: turned as its camera was held, scaled down,
// and encoded anew, which leaves out where it was taken and everything else that a file tells beside the picture.
package picture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/gif" // Convert decodes what these register
	"image/jpeg"
	_ "image/png"
	"slices"

	_ "golang.org/x/image/webp"
)

// The limits of pictures.
const (
	MaxUpload  = 10 << 20   // bytes of an upload
	MaxPixels  = 26_000_000 // width times height of an upload
	MaxDecoded = 100 << 20  // bytes of memory that the decoding of an upload takes, whatever its own bytes are
	MaxSide    = 1280       // pixels of the longer side of a result
	MaxStored  = 300 << 10  // bytes of a result
)

// Types are the media types of pictures that can be uploaded.
var Types = []string{"image/jpeg", "image/png", "image/gif", "image/webp"}

// What is wrong with a picture.
var (
	ErrTooLarge    = errors.New("the picture has too many bytes")
	ErrTooDetailed = errors.New("the picture has too many pixels, or takes too much memory to decode")
	ErrUnreadable  = errors.New("the picture cannot be read")
)

// Picture is a picture that is fit to be stored.
type Picture struct {
	JPEG          []byte
	Width, Height int // in pixels
}

// Convert makes a Picture of an upload, whose own bytes say what format it has. The same upload makes the same Picture, as long as the
// program is the same. The error is, or wraps, [ErrTooLarge], [ErrTooDetailed] or [ErrUnreadable]; a picture that would take
// more than [MaxDecoded] is not decoded.
func Convert(upload []byte) (Picture, error) {
	if len(upload) > MaxUpload {
		return Picture{}, ErrTooLarge
	}
	config, format, err := image.DecodeConfig(bytes.NewReader(upload))
	switch {
	case err != nil:
		return Picture{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	case !slices.Contains(Types, "image/"+format): // which another package of the program has registered
		return Picture{}, fmt.Errorf("%w: it is a %s", ErrUnreadable, format)
	case int64(config.Width)*int64(config.Height) > MaxPixels:
		return Picture{}, ErrTooDetailed
	case config.Width <= 0 || config.Height <= 0:
		return Picture{}, fmt.Errorf("%w: it is empty", ErrUnreadable)
	case format == "webp" && isCutOff(upload):
		return Picture{}, fmt.Errorf("%w: it is cut off", ErrUnreadable)
	}
	if decodedBytes(upload, format, config) > MaxDecoded {
		return Picture{}, ErrTooDetailed
	}
	decoded, _, err := image.Decode(bytes.NewReader(upload))
	if err != nil {
		return Picture{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	of, ok := decoded.(image.RGBA64Image) // as all formats above are decoded to
	if !ok || of.Bounds().Empty() {
		return Picture{}, fmt.Errorf("%w: it is empty", ErrUnreadable)
	}
	o := orientation(upload)
	for side := MaxSide; ; side = side * 3 / 4 {
		small := o.turn(shrink(of, side))
		for _, quality := range []int{85, 70, 50} {
			var out bytes.Buffer
			if err := jpeg.Encode(&out, small, &jpeg.Options{Quality: quality}); err != nil {
				return Picture{}, fmt.Errorf("encode a picture: %w", err)
			}
			if out.Len() <= MaxStored {
				return Picture{out.Bytes(), small.Bounds().Dx(), small.Bounds().Dy()}, nil
			}
		}
	}
}

// decodedBytes is an upper bound of the memory that the decoding of an upload takes.
func decodedBytes(upload []byte, format string, config image.Config) int {
	pixels := config.Width * config.Height
	switch format {
	case "gif":
		return 2 * pixels // the rows of an interlaced one are sorted into a copy
	case "png":
		perPixel := 4
		switch config.ColorModel {
		case color.Gray16Model, color.RGBA64Model, color.NRGBA64Model:
			perPixel = 8
		}
		if string(upload[12:16]) != "IHDR" || upload[28] != 0 { // it is, or may be, interlaced: its passes are pictures of their own
			perPixel *= 2
		}
		return perPixel * pixels
	case "webp":
		return webpBytes(upload, config)
	}
	for marker, frame := range segments(upload) {
		if marker > markerProgressive {
			continue
		}
		components := frame[6:] // three bytes each, the second of which has the sampling factors
		across, down := int(components[1]>>4), int(components[1]&15)
		units := ((config.Width + 8*across - 1) / (8 * across)) * ((config.Height + 8*down - 1) / (8 * down))
		samples := 0
		for ; len(components) > 0; components = components[3:] {
			samples += units * 64 * int(components[1]>>4) * int(components[1]&15)
		}
		bytes := samples
		if marker == markerProgressive {
			bytes += 4 * samples // the coefficients are kept until the last scan
		}
		if config.ColorModel == color.RGBAModel || config.ColorModel == color.CMYKModel {
			bytes += 4 * pixels // a copy
		}
		return bytes
	}
	return (4 + 4*4 + 4) * pixels // the frame's header is hidden among other bytes, so it may be the worst
}

// shrink returns the picture, on white, with no side longer than that: each of its pixels is the mean of those that it stands for.
func shrink(of image.RGBA64Image, side int) *image.RGBA {
	from := of.Bounds()
	width, height := from.Dx(), from.Dy()
	if longer := max(width, height); longer > side {
		width, height = max(1, width*side/longer), max(1, height*side/longer)
	}
	to := image.NewRGBA(image.Rect(0, 0, width, height))
	sums := make([]struct{ r, g, b, n uint64 }, width) // of the pixels of one row of the result
	for y := range height {
		clear(sums)
		for row := y * from.Dy() / height; row < (y+1)*from.Dy()/height; row++ {
			for column := range from.Dx() {
				c := of.RGBA64At(from.Min.X+column, from.Min.Y+row)
				white, s := uint64(0xffff-c.A), &sums[column*width/from.Dx()]
				s.r, s.g, s.b, s.n = s.r+uint64(c.R)+white, s.g+uint64(c.G)+white, s.b+uint64(c.B)+white, s.n+1
			}
		}
		for x, s := range sums {
			to.SetRGBA(x, y, color.RGBA{uint8(s.r / s.n >> 8), uint8(s.g / s.n >> 8), uint8(s.b / s.n >> 8), 0xff})
		}
	}
	return to
}

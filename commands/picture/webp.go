package picture

import (
	"bytes"
	"encoding/binary"
	"image"
	"iter"
	"math"
)

// isCutOff reports whether a WebP has fewer bytes than its header says. The decoder would make room for them all.
func isCutOff(webp []byte) bool {
	return int64(binary.LittleEndian.Uint32(webp[4:]))+8 > int64(len(webp))
}

// chunks yields the chunks of a WebP, by their names. It stops early at one that is not whole.
func chunks(upload []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		if len(upload) < 12 || !bytes.HasPrefix(upload, []byte("RIFF")) || string(upload[8:12]) != "WEBP" {
			return
		}
		for rest := upload[12:]; len(rest) >= 8; {
			size := int64(binary.LittleEndian.Uint32(rest[4:]))
			if 8+size > int64(len(rest)) || !yield(string(rest[:4]), rest[8:8+size]) {
				return
			}
			rest = rest[min(8+size+size%2, int64(len(rest))):]
		}
	}
}

// webpBytes is decodedBytes for a WebP that is not cut off. How much the decoding of a lossless one takes cannot be told from its headers: a few
// bytes can describe 2600 groups of Huffman trees, which are more than MaxDecoded. The same goes for a compressed alpha channel.
func webpBytes(upload []byte, config image.Config) int {
	const block, firstPartition = 16, 1 << 19
	blocks := ((config.Width + block - 1) / block) * ((config.Height + block - 1) / block)
	total := blocks*(block*block*3/2+4) + firstPartition // with the parameters of a block's filter
	for name, data := range chunks(upload) {
		switch {
		case name == "VP8L", name == "ALPH" && len(data) > 0 && data[0]&3 != 0:
			return math.MaxInt
		case name == "ALPH":
			total += config.Width * config.Height
		case name == "VP8 ":
			return total + len(data) // which the decoder copies
		}
	}
	return total
}

package main

import (
	"math"
	"math/bits"
	"time"
)

// histogram counts durations in buckets that each span less than 1 % of their value, from a nanosecond to centuries: the
// first 2^subBits buckets are a nanosecond wide, and from there on each power of two is divided into 2^(subBits-1) buckets.
// The zero value is empty. It is not for concurrent use.
type histogram struct {
	buckets [(64 - subBits + 2) << (subBits - 1)]uint64
	count   uint64
	max     time.Duration
}

const subBits = 8

func (h *histogram) record(d time.Duration) {
	h.buckets[bucket(uint64(max(d, 0)))]++
	h.count++
	h.max = max(h.max, d)
}

func (h *histogram) add(other *histogram) {
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
	h.count += other.count
	h.max = max(h.max, other.max)
}

// quantile is the duration that the share q of all durations does not exceed, rounded up to its bucket's end; 0 if there are
// none.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.count)))
	var seen uint64
	for i, n := range h.buckets {
		seen += n
		if n > 0 && seen >= rank {
			return min(time.Duration(bucketEnd(i)), h.max)
		}
	}
	return 0
}

// bucket is the index of the bucket of v.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-subBits, 0)
	return shift<<(subBits-1) + int(v>>shift)
}

// bucketEnd is the greatest value in bucket i.
func bucketEnd(i int) uint64 {
	if i < 1<<subBits {
		return uint64(i)
	}
	shift := i>>(subBits-1) - 1
	return (uint64(i-shift<<(subBits-1))+1)<<shift - 1
}

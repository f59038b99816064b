package node

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// streamSet is a growing Bloom filter over the names of all streams, two bytes each. Most appends begin a stream, and looking up a
// stream that does not exist would be their most expensive step. Safe for concurrent use.
type streamSet struct {
	seed maphash.Seed
	// complete is set once the streams of the stored log are added; until then the set is of no use.
	complete atomic.Bool
	layers   atomic.Pointer[[]*streamLayer]

	mu   sync.Mutex // guards adding
	free int        // names that the last layer has room for
}

// streamLayer is a Bloom filter whose bits for one name lie in one block, the size of a cache line.
type streamLayer struct {
	blocks []streamBlock
}

type streamBlock [8]atomic.Uint64

const (
	// firstLayerSize is the number of names in the first layer. Each further one holds twice as many.
	firstLayerSize = 1 << 15
	bitsPerName    = 16
	bitsPerBlock   = 512
	probes         = 5 // of 9 bits of hash each
)

func newStreamSet() *streamSet {
	s := &streamSet{seed: maphash.MakeSeed()}
	s.layers.Store(new([]*streamLayer))
	return s
}

// add puts a stream into the set.
func (s *streamSet) add(stream string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		layers := *s.layers.Load()
		s.free = firstLayerSize << len(layers)
		grown := append(layers[:len(layers):len(layers)], &streamLayer{make([]streamBlock, s.free*bitsPerName/bitsPerBlock)})
		s.layers.Store(&grown)
	}
	s.free--
	layers := *s.layers.Load()
	layers[len(layers)-1].add(maphash.String(s.seed, stream))
}

// lacks reports that stream does not exist. False: it may.
func (s *streamSet) lacks(stream string) bool {
	if !s.complete.Load() {
		return false
	}
	hash := maphash.String(s.seed, stream)
	for _, l := range *s.layers.Load() {
		if l.mayHave(hash) {
			return false
		}
	}
	return true
}

// block returns where the bits of a name are, and a hash to choose them by.
func (l *streamLayer) block(hash uint64) (*streamBlock, uint64) {
	return &l.blocks[(hash>>32)*uint64(len(l.blocks))>>32], hash * 0x9e3779b97f4a7c15
}

func (l *streamLayer) add(hash uint64) {
	block, bits := l.block(hash)
	for range probes {
		block[bits>>6&7].Or(1 << (bits & 63))
		bits >>= 9
	}
}

func (l *streamLayer) mayHave(hash uint64) bool {
	block, bits := l.block(hash)
	for range probes {
		if block[bits>>6&7].Load()&(1<<(bits&63)) == 0 {
			return false
		}
		bits >>= 9
	}
	return true
}

package eventstoretest

// Rounds returns how often a test does the same thing: all times, or fewer under the race detector, which makes everything many times as slow
// and finds a race by how the same code interleaves, not by how much it is given to do.
func Rounds(all, raced int) int {
	if Raced {
		return raced
	}
	return all
}

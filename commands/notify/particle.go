package notify

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Particle appends a Korean particle to a word. pair names its two forms, after a consonant and after a vowel, as in "을/를" or "으로/로". If
// the pronunciation of the word is unknown both forms are written, as in 을(를).
func Particle(word, pair string) string {
	after, otherwise, _ := strings.Cut(pair, "/")
	switch final := finalOf(word); {
	case final == unknownFinal:
		return word + after + "(" + otherwise + ")"
	case final == noFinal, final == finalL && otherwise == "로":
		return word + otherwise
	default:
		return word + after
	}
}

// final is how the last syllable of a word ends when it is read in Korean.
type final int

const (
	unknownFinal final = iota
	noFinal            // in a vowel
	finalL             // in ㄹ
	otherFinal         // in another consonant
)

// finalOf supports Hangul, digits and Latin letters.
func finalOf(word string) final {
	word = strings.TrimRightFunc(word, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	r, _ := utf8.DecodeLastRuneInString(word)
	const (
		firstSyllable, lastSyllable = '가', '힣'
		finals                      = 28 // per initial and vowel, including none
		rieul                       = 8
	)
	switch {
	case r >= firstSyllable && r <= lastSyllable:
		switch (r - firstSyllable) % finals {
		case 0:
			return noFinal
		case rieul:
			return finalL
		default:
			return otherFinal
		}
	case r >= '0' && r <= '9':
		return finalOfNumber(word)
	case r < utf8.RuneSelf && unicode.IsLetter(r):
		return finalOfLatin(word)
	default:
		return unknownFinal
	}
}

// finalOfNumber goes by the last digit: 영 일 이 삼 사 오 육 칠 팔 구. Numbers that end in zeros are read as 십, 백, 천, 만 or 억, which end in a
// consonant other than ㄹ, as 영 does.
func finalOfNumber(word string) final {
	switch word[len(word)-1] {
	case '2', '4', '5', '9':
		return noFinal
	case '1', '7', '8':
		return finalL
	default:
		return otherFinal
	}
}

// finalOfLatin reads single letters and abbreviations by the names of letters (엘, 엠, 엔, 알), and words as they are usually transcribed: Kim 김,
// Carol 캐롤, Bob 밥, Eric 에릭, but Peter 피터, desk 데스크.
func finalOfLatin(word string) final {
	start := strings.LastIndexFunc(word, func(r rune) bool { return r >= utf8.RuneSelf || !unicode.IsLetter(r) }) + 1
	letters := word[start:]
	last := letters[len(letters)-1]
	if letters == strings.ToUpper(letters) || len(letters) == 1 {
		switch last | 0x20 {
		case 'l', 'r':
			return finalL
		case 'm', 'n':
			return otherFinal
		default:
			return noFinal
		}
	}
	letters = strings.ToLower(letters)
	switch {
	case strings.HasSuffix(letters, "le") && len(letters) > 2, last == 'l': // table 테이블, Nicole 니콜
		return finalL
	case last == 'm', last == 'n', strings.HasSuffix(letters, "ng"), silent(letters): // Jane 제인
		return otherFinal
	case strings.HasSuffix(letters, "ck"):
		return otherFinal
	case strings.IndexByte("bckpt", last) >= 0 && closed(letters):
		return otherFinal
	default:
		return noFinal
	}
}

// closed reports whether a word ends in a single vowel and a consonant, as Bob does.
func closed(letters string) bool {
	n := len(letters)
	return n >= 2 && vowel(letters[n-2]) && (n == 2 || !vowel(letters[n-3]))
}

// silent reports whether a word ends in m or n and a silent e, as Jane and Anne do, but not Daphne.
func silent(letters string) bool {
	n := len(letters)
	return n >= 3 && letters[n-1] == 'e' && (letters[n-2] == 'm' || letters[n-2] == 'n') && (vowel(letters[n-3]) || letters[n-3] == letters[n-2])
}

func vowel(c byte) bool { return strings.IndexByte("aeiouy", c) >= 0 }

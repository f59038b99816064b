package domain

import "time"

// KeyStream is the stream of the key that a caller chose for a command, so as to be able to repeat it; the id is the command's.
func KeyStream(command string) string { return KeyCategory + "-" + command }

// The events of a key stream. They are stored forever.
type (
	// KeyUsed says what the key's command asks for. It is written before anything is decided, so that only one of two commands with
	// the same key is carried out.
	KeyUsed struct {
		Digest string    `json:"digest"`
		At     time.Time `json:"at"`
	}

	// KeyRefused says that the command was refused, and with which answer. Nothing follows it.
	KeyRefused struct {
		Answer string    `json:"answer"`
		At     time.Time `json:"at"`
	}

	// KeyUnchanged says that the command had nothing to do, and the revision at which it found its aggregate. Nothing follows it.
	KeyUnchanged struct {
		Revision Revision  `json:"revision"`
		At       time.Time `json:"at"`
	}
)

func (KeyUsed) EventType() string      { return "KeyUsed" }
func (KeyRefused) EventType() string   { return "KeyRefused" }
func (KeyUnchanged) EventType() string { return "KeyUnchanged" }

// Key is the state of a key. What its command decided is not here, but in the streams that the command changed.
type Key struct {
	Digest    string
	Refusal   string   // the answer to a command that was refused; otherwise empty
	Unchanged bool     // there was nothing to do
	Revision  Revision // at which there was nothing to do
}

// Evolve folds one event of the key's stream.
func (k Key) Evolve(event Event) Key {
	switch e := event.(type) {
	case KeyUsed:
		k.Digest = e.Digest
	case KeyRefused:
		k.Refusal = e.Answer
	case KeyUnchanged:
		k.Unchanged, k.Revision = true, e.Revision
	}
	return k
}

// DecideKeyAnswer records the answer to a command that decided nothing.
//
//	given no answer is recorded  then the answer
//	given one is                 then nothing: the first one is final
//	given the key was not used   then nothing
func DecideKeyAnswer(k Key, answer Event) []Event {
	if k.Digest == "" || k.Refusal != "" || k.Unchanged {
		return nil
	}
	return []Event{answer}
}

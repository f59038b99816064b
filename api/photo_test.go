package api

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/jpeg"
	"io"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"roombook/commands/picture"
)

// aPicture is a GIF of 2 x 1 pixels.
const aPicture = "GIF87a\x02\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x02\x00\x01\x00\x00\x02\x02D\n\x00;"

// A photo is given, shown, changed and taken away, each as often as one likes.
func TestAPhoto(t *testing.T) {
	s := newService(t)
	s.do(t, "POST", "/rooms", blue).want(t, 201)
	const gif = "Content-Type: image/gif"
	wantProblem(t, "before", s.do(t, "GET", "/rooms/1/photo", ""), 404, "photo-not-found")
	put := func(query, body string, headers ...string) reply {
		return s.do(t, "PUT", "/rooms/1/photo"+query, body, append([]string{gif}, headers...)...)
	}
	first := put("?alt=a%20wall", aPicture, `If-Match: "0"`, "Idempotency-Key: photo").want(t, 200)
	hash, _ := first.at(t, "photo.hash").(string)
	if first.at(t, "photo.alt") != "a wall" || first.at(t, "photo.width") != 2.0 || first.at(t, "photo.height") != 1.0 || first.header.Get("Etag") != `"1"` ||
		first.at(t, "_links.photo.href") != "http://example.com/rooms/1/photo?hash="+hash {
		t.Fatal(first.body)
	}
	if again := put("?alt=a%20wall", aPicture, "Idempotency-Key: photo", `If-Match: "0"`).want(t, 200); again.body != first.body {
		t.Errorf("again: %s", again.body)
	}
	if same := put("?alt=a%20wall", aPicture).want(t, 200); same.body != first.body || same.header.Get("Etag") != `"1"` {
		t.Errorf("the same: %s", same.body)
	}
	wantProblem(t, "another one by the same key", put("?alt=a%20door", aPicture, "Idempotency-Key: photo"), 422, "key-reused")
	wantProblem(t, "for a room that was changed", put("?alt=a%20door", aPicture, `If-Match: "0"`), 412, "precondition-failed")
	if back := s.do(t, "PUT", "/rooms/1", s.do(t, "GET", "/rooms/1", "").want(t, 200).body).want(t, 200); back.body != first.body { // as it was answered
		t.Errorf("the room's own change: %s", back.body)
	}

	for query, cached := range map[string]string{"?hash=" + hash: "private, max-age=31536000, immutable", "": "private, no-cache", "?hash=former": "private, no-cache"} {
		got := s.do(t, "GET", "/rooms/1/photo"+query, "").want(t, 200)
		m, err := jpeg.DecodeConfig(strings.NewReader(got.body))
		if err != nil || m.Width != 2 || m.Height != 1 || got.header.Get("Content-Type") != "image/jpeg" || got.header.Get("Etag") != `"`+hash+`"` || got.header.Get("Cache-Control") != cached ||
			got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Content-Security-Policy") != noContent[0] {
			t.Errorf("%q: %v, %v, %v", query, m, err, got.header)
		}
		if known := s.do(t, "GET", "/rooms/1/photo"+query, "", `If-None-Match: "`+hash+`"`).want(t, 304); known.body != "" || known.header.Get("Cache-Control") != cached {
			t.Errorf("%q, which is known: %v", query, known.header)
		}
	}
	list := s.do(t, "GET", "/audit", "").want(t, 200)
	if strings.Contains(list.body, "PhotoStored") || !strings.Contains(list.body, "RoomPhotoChanged") {
		t.Errorf("the audit has %s", list.body)
	}

	none := s.do(t, "DELETE", "/rooms/1/photo", "", `If-Match: "1"`).want(t, 200)
	if none.object(t)["photo"] != nil || none.header.Get("Etag") != `"2"` || none.at(t, "_links.photo.href") != "http://example.com/rooms/1/photo" {
		t.Error(none.body)
	}
	if again := s.do(t, "DELETE", "/rooms/1/photo", "").want(t, 200); again.body != none.body {
		t.Errorf("again: %s", again.body)
	}
	wantProblem(t, "when it is gone", s.do(t, "GET", "/rooms/1/photo?hash="+hash, ""), 404, "photo-not-found")
	if history := s.do(t, "GET", "/rooms/1/history", "").want(t, 200); strings.Count(history.body, "RoomPhotoChanged") != 2 {
		t.Error(history.body)
	}
}

// What cannot be a photo is refused, and says why.
func TestNoPhoto(t *testing.T) {
	s := newService(t)
	s.do(t, "POST", "/rooms", blue).want(t, 201)
	bomb, err := base64.StdEncoding.DecodeString("iVBORw0KGgoAAAANSUhEUgAAdTAAAHUwCAYAAABmJ/i6") // a PNG of 30000 x 30000 pixels, as its head says
	if err != nil {
		t.Fatal(err)
	}
	before := len(s.log.all())
	for name, c := range map[string]struct {
		query, media, body string
		status             int
		problem            string
	}{
		"no text":           {"", "image/gif", aPicture, 400, "invalid-parameters"},
		"an empty text":     {"?alt=%20", "image/gif", aPicture, 400, "invalid-parameters"},
		"a long text":       {"?alt=" + strings.Repeat("x", 301), "image/gif", aPicture, 400, "invalid-parameters"},
		"another parameter": {"?alt=x&title=x", "image/gif", aPicture, 400, "invalid-parameters"},
		"no media type":     {"?alt=x", "", aPicture, 415, "unsupported-media-type"},
		"a drawing":         {"?alt=x", "image/svg+xml", "<svg/>", 415, "unsupported-media-type"},
		"JSON":              {"?alt=x", "application/json", "{}", 415, "unsupported-media-type"},
		"a text":            {"?alt=x", "image/jpeg", "<svg/>", 422, "unusable-picture"},
		"a half":            {"?alt=x", "image/gif", aPicture[:len(aPicture)/2], 422, "unusable-picture"},
		"a bomb":            {"?alt=x", "image/png", string(bomb), 422, "unusable-picture"},
		"many bytes":        {"?alt=x", "image/jpeg", strings.Repeat("x", picture.MaxUpload+1), 413, "body-too-large"},
	} {
		got := s.do(t, "PUT", "/rooms/1/photo"+c.query, c.body, "Content-Type: "+c.media)
		wantProblem(t, name, got, c.status, c.problem)
	}
	wantProblem(t, "nothing", s.do(t, "PUT", "/rooms/1/photo?alt=x", "", "Content-Type: image/jpeg"), 422, "unusable-picture")
	wantProblem(t, "of no room", s.do(t, "GET", "/rooms/2/photo", ""), 404, "room-not-found")
	wantProblem(t, "to no room", s.do(t, "PUT", "/rooms/2/photo?alt=x", aPicture, "Content-Type: image/gif"), 404, "room-not-found")
	wantProblem(t, "from no room", s.do(t, "DELETE", "/rooms/2/photo", ""), 404, "room-not-found")
	if after := s.log.all(); len(after) != before {
		t.Errorf("%v", after[before:])
	}
}

// A photo of a camera is as large as this.
func TestALargePhoto(t *testing.T) {
	s := newService(t)
	s.do(t, "POST", "/rooms", blue).want(t, 201)
	m := image.NewGray(image.Rect(0, 0, 1600, 1200))
	for i := range m.Pix {
		m.Pix[i] = byte(i * i >> 8)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 95}); err != nil || b.Len() < 2*maxBodyBytes {
		t.Fatal(b.Len(), err)
	}
	r := httptest.NewRequest("PUT", "/rooms/1/photo?alt=x", &b)
	r.Header.Set("Content-Type", "image/jpeg")
	got := s.serve(r)
	if s.checkContract(t, r, got); got.status != 200 || 4*got.at(t, "photo.height").(float64) != 3*got.at(t, "photo.width").(float64) {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// An upload beyond the limit is refused before any of it is read, whether it is put or comes by a form, and forms without one are not.
func TestTooManyUploads(t *testing.T) {
	s := furnished(t)
	s.do(t, "POST", "/rooms", blue).want(t, 201)
	ann := newReader(s, "ann", "en")
	form := ann.get(t, "/house/1").fields(t, "alt")
	form.Set("do", "photo")
	form.Set("alt", "A wall")
	replies, bodies := make(chan reply), make([]*io.PipeWriter, maxUploads)
	for i := range bodies {
		body, w := io.Pipe()
		bodies[i] = w
		r := httptest.NewRequest("PUT", "/rooms/1/photo?alt=x", body)
		r.Header.Set("Content-Type", "image/gif")
		if i == 0 {
			r = httptest.NewRequest("POST", "/house/1", body)
			r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}
		go func() { replies <- s.serve(r) }()
	}
	for s.uploadLimit.inFlight.Load() < maxUploads {
		time.Sleep(time.Millisecond)
	}

	unread := readerFunc(func([]byte) (int, error) { panic("it is read") })
	r := httptest.NewRequest("PUT", "/rooms/1/photo?alt=x", unread)
	r.Header.Set("Content-Type", "image/gif")
	got := s.serve(r)
	if wantProblem(t, "one more", got, 503, "overloaded"); got.header.Get("Retry-After") == "" {
		t.Errorf("%v", got.header)
	}
	if got := ann.upload(t, "/house/1", form, aPicture).want(t, 503); got.header.Get("Retry-After") == "" {
		t.Errorf("%v", got.header)
	}
	ann.ask(t, "POST", "/house/1", url.Values{"do": {"remove-photo"}, "revision": {form.Get("revision")}}).want(t, 303)

	for _, w := range bodies {
		go func() {
			_, _ = io.WriteString(w, aPicture) // which is no form
			_ = w.Close()
		}()
	}
	statuses := map[int]int{}
	for range bodies {
		statuses[(<-replies).status]++
	}
	if statuses[200] != maxUploads-1 || statuses[400] != 1 || s.uploadLimit.inFlight.Load() != 0 || s.commandLimit.inFlight.Load() != 0 {
		t.Errorf("%v; %d uploads and %d commands in flight", statuses, s.uploadLimit.inFlight.Load(), s.commandLimit.inFlight.Load())
	}
	s.do(t, "PUT", "/rooms/1/photo?alt=x", aPicture, "Content-Type: image/gif").want(t, 200)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

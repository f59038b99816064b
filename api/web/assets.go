package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// assets are the files that screens load. One hash of them all is in their addresses, so that modules can import each other by relative paths
// and clients can keep them forever.
type assets struct {
	hash  string
	files map[string]asset
}

type asset struct {
	media            string
	content, gzipped []byte
}

var embeddedAssets = func() *assets {
	a := &assets{files: make(map[string]asset)}
	sum := sha256.New()
	entries, _ := assetFiles.ReadDir("assets") // in the order of their names
	for _, e := range entries {
		content, _ := assetFiles.ReadFile("assets/" + e.Name())
		io.WriteString(sum, e.Name())
		sum.Write(content)
		media := mime.TypeByExtension(path.Ext(e.Name()))
		switch path.Ext(e.Name()) { // the same everywhere, whatever the system knows
		case ".js":
			media = "text/javascript; charset=utf-8"
		case ".css":
			media = "text/css; charset=utf-8"
		case ".svg":
			media = "image/svg+xml"
		}
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
		_, _ = z.Write(content) // a buffer takes everything
		_ = z.Close()
		a.files[e.Name()] = asset{media, content, b.Bytes()}
	}
	a.hash = hex.EncodeToString(sum.Sum(nil))[:16]
	return a
}()

// path is the address of a file, empty if there is none.
func (a *assets) path(name string) string {
	if _, ok := a.files[name]; !ok {
		return ""
	}
	return "/assets/" + a.hash + "/" + name
}

// asset replies with a file. A request with the hash of another version gets the current file, which must not be cached.
func (p *Pages) asset(v *view) error {
	f, ok := p.assets.files[v.r.PathValue("file")]
	if !ok {
		return errNoPage
	}
	h := v.w.Header()
	h.Set("Content-Type", f.media)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	if v.r.PathValue("hash") != p.assets.hash {
		h.Set("Cache-Control", "no-cache")
	}
	body := f.content
	if acceptsGzip(v.r) && len(f.gzipped) < len(f.content) {
		h.Set("Content-Encoding", "gzip")
		body = f.gzipped
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	v.w.WriteHeader(http.StatusOK)
	if v.r.Method != http.MethodHead {
		_, _ = v.w.Write(body) // a client that has gone needs no reply
	}
	return nil
}

// acceptsGzip reports whether the client accepts gzip: it must name it, and not with q=0.
func acceptsGzip(r *http.Request) bool {
	for _, header := range r.Header["Accept-Encoding"] {
		for coding := range strings.SplitSeq(header, ",") {
			name, weight, _ := strings.Cut(strings.ReplaceAll(coding, " ", ""), ";")
			if strings.EqualFold(name, "gzip") {
				q, err := strconv.ParseFloat(strings.TrimPrefix(weight, "q="), 64)
				return err != nil || q > 0
			}
		}
	}
	return false
}

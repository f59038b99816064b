package api

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
)

// pageStyle is the style sheet of pages for people.
const pageStyle = `body{font:16px/1.5 system-ui,sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#222;background:#fff}` +
	`code,pre{background:#eee;padding:0 .3em}pre{padding:.6em;overflow-x:auto}dt{font-weight:600;margin-top:.6em}` +
	`@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}code,pre{background:#333}a{color:#8bf}}`

// isolated is what every page may not do: be shown in a frame, change the base of its links, send forms.
const isolated = "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pagePolicy is the content security policy of pages for people: they have their style sheet and nothing else.
var pagePolicy = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'" + isolated
}()

// docsPolicy is that of the API's documentation: Swagger UI sets styles of its own, has its icons in itself, and asks this server.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'" + isolated

// pages are those for people: root, docs and problems.
var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"style": func() template.CSS { return pageStyle },
}).Parse(pageTemplates))

//go:embed pages.html
var pageTemplates string

// pageAbout is what a page is made from.
type pageAbout struct {
	// Prefix is the path before the API's own; links begin with it.
	Prefix   string
	Problems []described
}

// page answers with a page for people.
func (x *exchange) page(name, policy string, about pageAbout) error {
	x.mediaType = "text/html; charset=utf-8"
	x.header("Content-Security-Policy", policy)
	x.header("Referrer-Policy", "no-referrer")
	about.Prefix = prefixOf(x.base)
	return pages.ExecuteTemplate(&x.out, name, about)
}

package api

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
)

// pageStyle is the style sheet of HTML pages.
const pageStyle = `body{font:16px/1.5 system-ui,sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#222;background:#fff}` +
	`code,pre{background:#eee;padding:0 .3em}pre{padding:.6em;overflow-x:auto}dt{font-weight:600;margin-top:.6em}` +
	`@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}code,pre{background:#333}a{color:#8bf}}`

// basePolicy is the part of the content security policy that all pages share: no framing, no change of the base URL, no forms.
const basePolicy = "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pagePolicy is the content security policy of pages that have nothing but their style sheet.
var pagePolicy = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'" + basePolicy
}()

// docsPolicy is that of the API's documentation: Swagger UI sets inline styles, has icons in data URLs, and sends requests to this server.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'" + basePolicy

// setUpPolicy is that of the page for adding the first user, whose script sends what is filled in.
var setUpPolicy = pagePolicy + "; script-src 'self'; connect-src 'self'"

// pages are the templates of the HTML pages for programmers: docs and problems; and of that for the first user.
var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"style": func() template.CSS { return pageStyle },
}).Parse(pageTemplates))

//go:embed pages.html
var pageTemplates string

// pageData is the data of a page.
type pageData struct {
	// Prefix is the path prefix in front of the API's own paths; links start with it.
	Prefix   string
	Problems []problemEntry
}

// page replies with an HTML page.
func (x *exchange) page(name, policy string, data pageData) error {
	x.mediaType = "text/html; charset=utf-8"
	x.header("Content-Security-Policy", policy)
	data.Prefix = prefixOf(x.base)
	return pages.ExecuteTemplate(&x.out, name, data)
}

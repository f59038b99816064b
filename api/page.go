package api

import (
	_ "embed"
	"html/template"
)

// basePolicy is the part of the content security policy that all pages share: the style sheet and the icon of this server, no framing, no
// change of the base URL, no forms.
const basePolicy = "; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pagePolicy is the content security policy of pages that have no scripts.
const pagePolicy = "default-src 'none'; style-src 'self'" + basePolicy

// docsPolicy is that of the API's documentation: Swagger UI sets inline styles, has icons in data URLs, and sends requests to this server.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'" + basePolicy

// setUpPolicy is that of the page for adding the first user, whose script sends what is filled in.
const setUpPolicy = pagePolicy + "; script-src 'self'; connect-src 'self'"

// pages are the templates of the HTML pages for programmers: docs and problems; and of that for the first user.
var pages = template.Must(template.New("").Parse(pageTemplates))

//go:embed pages.html
var pageTemplates string

// pageData is the data of a page.
type pageData struct {
	// Prefix is the path prefix in front of the API's own paths; links start with it.
	Prefix      string
	Name        string // of the template
	Style, Icon string // paths
	Problems    []problemEntry
	One         bool // whether the page is about one of the problems, and not about all
}

// page replies with an HTML page.
func (x *exchange) page(name, policy string, data pageData) error {
	x.mediaType = "text/html; charset=utf-8"
	x.header("Content-Security-Policy", policy)
	data.Prefix, data.Name = prefixOf(x.base), name
	data.Style, data.Icon = x.server.pages.Asset("page.css"), x.server.pages.Asset("icon.svg")
	return pages.ExecuteTemplate(&x.out, name, data)
}

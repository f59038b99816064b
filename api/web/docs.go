package web

// docsPolicy is the content security policy of the API's documentation: Swagger UI sets inline styles and builds its page from HTML texts.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Docs shows the API's description with Swagger UI, whose files are at /docs/.
func (p *Pages) Docs() Route {
	return Route{"GET", "/docs", true, func(v *view) error {
		v.policy = docsPolicy
		return v.show("docs", v.T("title.docs"), nil)
	}}
}

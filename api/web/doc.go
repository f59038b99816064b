// Package web is the page: the screens on which people book rooms, as HTML that works without scripts, and the scripts, styles and texts that
// come with it.
//
// A screen is a file: its routes, what it reads, and the forms that it takes. It calls the same commands and queries as the JSON side, so that
// there is one set of rules. Its template has the same name; its texts are in text/en.json and text/ko.json.
//
// Screens have addresses of their own, beside those of the JSON side, so that a cache, a bookmark or a program never gets one for the other.
// Only /, /problems and failures are served as either, by the Accept header.
package web

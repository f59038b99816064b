// Package optest tests the program with an identity provider that is none of this repository's making, and with a browser.
//
// It is a module of its own, so that the product does not depend on what it needs.
package optest

// Package check tests the folder deploy: that its files are what the tools that read them accept, and that every flag, environment
// variable, port, path and metric that they name exists in the program, which is asked while it runs.
//
// It is a module of its own, so that the product does not depend on what it needs. Package cluster, below, applies the manifests to a real
// Kubernetes API server.
package check

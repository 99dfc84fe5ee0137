//go:build tools

// Package h2spec names the program that `make h2spec` builds, so that go.mod and go.sum pin all that it is made of.
package h2spec

import _ "github.com/summerwind/h2spec/cmd/h2spec"

// Package js holds the JavaScript client, so that a Go program can serve its modules to pages: it owns the files, and makes no promise
// beyond theirs. The client itself is described in README.md beside this file.
package js

import (
	"embed"
	"io/fs"
)

//go:embed src/*.js
var files embed.FS

// Source returns the client's ES modules; index.js is the one to import. They import each other by relative names only.
func Source() fs.FS {
	src, err := fs.Sub(files, "src")
	if err != nil {
		panic(err) // the pattern above names it
	}
	return src
}

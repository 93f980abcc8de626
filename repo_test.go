// Package rollcall holds the rules of the house as tests: which package may import which, how long a file, a function and an
// interface may be, and that every package says what it owns and promises.
package rollcall

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rollcallhq/rollcall"

// imports lists, for every package, the packages of this module that it may import outside tests (docs/architecture.md).
var imports = map[string][]string{
	"api":                      {},
	"client":                   {"api"},
	"clients/js":               {},
	"internal/input":           {"api"},
	"internal/limit":           {},
	"internal/websock":         {"api"},
	"internal/registry":        {"api"},
	"internal/store":           {"api"},
	"internal/store/storetest": {"api", "internal/pgserver", "internal/store"},
	"internal/pgserver":        {},
	"internal/jwks":            {},
	"internal/forwarded":       {},
	// mcp: what it sends must be what the server's input takes, and tokens are judged by the same keys
	"mcp":             {"api", "client", "internal/forwarded", "internal/input", "internal/jwks"},
	"internal/tenant": {"api", "internal/jwks", "internal/store"},
	// cluster: what its rosters carry is the registry's rows
	"internal/cluster":             {"api", "internal/registry"},
	"internal/cluster/clustertest": {"api", "internal/cluster", "internal/registry"},
	"internal/view":                {"api", "internal/registry", "internal/store", "internal/tenant"},
	"internal/gateway": {"api", "internal/input", "internal/limit", "internal/registry", "internal/store", "internal/tenant", "internal/view",
		"internal/websock"},
	"internal/manage": {"api", "internal/input", "internal/limit", "internal/registry", "internal/store", "internal/tenant", "internal/view",
		"internal/websock"},
	"internal/server": {"api", "clients/js", "internal/cluster", "internal/forwarded", "internal/gateway", "internal/limit", "internal/manage",
		"internal/registry", "internal/store", "internal/tenant", "web"},
	"web":                {},
	"internal/chaos":     {}, // tests only
	"internal/hostile":   {}, // tests only
	"internal/dashboard": {}, // tests only
	"internal/testkit":   {"api", "client", "internal/gateway", "internal/manage", "internal/server"},
	// registry, pgserver: for bench alone, its synthetic rows and what it is compared with
	"cmd/rollcall": {"api", "client", "internal/gateway", "internal/manage", "internal/pgserver", "internal/registry", "internal/server", "mcp"},
}

// Caps of page 5 of the specification: what wants to be longer is two ideas.
const (
	maxFile      = 800
	maxTestFile  = 1200
	maxFunction  = 70
	maxInterface = 8
	maxMain      = 40
)

type file struct {
	path string // slash-separated, from the root
	dir  string
	test bool
	ast  *ast.File
	fset *token.FileSet
}

func parse(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, file{filepath.ToSlash(path), filepath.ToSlash(filepath.Dir(path)), strings.HasSuffix(path, "_test.go"), f, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("found only %d Go files: the walk is wrong", len(files))
	}
	return files
}

func (f file) line(p token.Pos) int { return f.fset.Position(p).Line }

func TestImportDirections(t *testing.T) {
	for _, f := range parse(t) {
		if f.test || f.dir == "." {
			continue
		}
		allowed, known := imports[f.dir]
		if !known {
			t.Errorf("%s: package %s is not in the table of imports: say in docs/architecture.md what it owns, then add it", f.path, f.dir)
			continue
		}
		for _, imp := range f.ast.Imports {
			pkg, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module+"/")
			if ours && !slices.Contains(allowed, pkg) {
				t.Errorf("%s:%d: %s must not import %s", f.path, f.line(imp.Pos()), f.dir, pkg)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for _, f := range parse(t) {
		lines, limit := f.line(f.ast.FileEnd)-1, maxFile
		if f.test {
			limit = maxTestFile
		}
		if f.path == "cmd/rollcall/main.go" {
			limit = maxMain
		}
		if lines > limit {
			t.Errorf("%s has %d lines, more than %d: it is more than one idea", f.path, lines, limit)
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if length := f.line(n.End()) - f.line(n.Pos()) + 1; length > maxFunction && !f.test {
					t.Errorf("%s:%d: %s has %d lines, more than %d", f.path, f.line(n.Pos()), n.Name.Name, length, maxFunction)
				}
			case *ast.InterfaceType:
				if n.Methods.NumFields() > maxInterface {
					t.Errorf("%s:%d: an interface of %d methods, more than %d", f.path, f.line(n.Pos()), n.Methods.NumFields(), maxInterface)
				}
			}
			return true
		})
	}
}

func TestPackageDocs(t *testing.T) {
	docs := map[string]int{}
	for _, f := range parse(t) {
		if f.test {
			continue
		}
		if f.ast.Doc != nil {
			docs[f.dir]++
		} else {
			docs[f.dir] += 0
		}
		for _, banned := range []string{"util", "utils", "common", "models", "pkg", "mocks", "helpers"} {
			if f.ast.Name.Name == banned {
				t.Errorf("%s: a package called %s says nothing of what it owns", f.path, banned)
			}
		}
	}
	for dir, n := range docs {
		if n != 1 && dir != "." {
			t.Errorf("%s has %d package comments, want one", dir, n)
		}
	}
}

// TestGuaranteesAreTested: every test that docs/architecture.md names for a guarantee is in the package that it names.
func TestGuaranteesAreTested(t *testing.T) {
	have := map[string]bool{} // "registry.TestX"
	for _, f := range parse(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test {
				have[path.Base(f.dir)+"."+fn.Name.Name] = true
			}
		}
	}
	doc, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z]+)`:|\\b((?:Test|Fuzz)[A-Z]\\w*)")
	guarantees := 0
	for line := range strings.Lines(string(doc)) {
		if !regexp.MustCompile(`^\| G\d `).MatchString(line) {
			continue
		}
		guarantees++
		pkg, tests := "", 0
		for _, m := range named.FindAllStringSubmatch(line, -1) {
			if m[1] != "" {
				pkg = m[1]
				continue
			}
			if tests++; !have[pkg+"."+m[2]] {
				t.Errorf("%.4s: package %s has no %s", line, pkg, m[2])
			}
		}
		if tests == 0 {
			t.Errorf("%.4s: no test is named", line)
		}
	}
	if guarantees != 9 {
		t.Errorf("%d guarantees in the table, want 9", guarantees)
	}
}

// TestGoroutinesHaveOwners: outside tests a goroutine starts through a WaitGroup or an errgroup, so that somebody waits for it.
func TestGoroutinesHaveOwners(t *testing.T) {
	for _, f := range parse(t) {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s:%d: a naked go statement: use sync.WaitGroup.Go, and wait", f.path, f.line(g.Pos()))
			}
			return true
		})
	}
}

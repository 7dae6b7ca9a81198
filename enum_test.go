package starling

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/starling-go/starling/internal/wire"
)

// enums are the public types that are enumerations, and how a value of each is made.
var enums = map[string]func(int) fmt.Stringer{
	"ChangeKind":     func(i int) fmt.Stringer { return ChangeKind(i) },
	"Direction":      func(i int) fmt.Stringer { return Direction(i) },
	"Feature":        func(i int) fmt.Stringer { return Feature(i) },
	"Drop":           func(i int) fmt.Stringer { return Drop(i) },
	"NotReadyReason": func(i int) fmt.Stringer { return NotReadyReason(i) },
	"EventKind":      func(i int) fmt.Stringer { return EventKind(i) },
	"MissingReason":  func(i int) fmt.Stringer { return MissingReason(i) },
	"Profile":        func(i int) fmt.Stringer { return Profile(i) },
	"ProgressState":  func(i int) fmt.Stringer { return ProgressState(i) },
	"RefusedReason":  func(i int) fmt.Stringer { return RefusedReason(i) },
	"SendReason":     func(i int) fmt.Stringer { return SendReason(i) },
	"Status":         func(i int) fmt.Stringer { return Status(i) },
	"Via":            func(i int) fmt.Stringer { return Via(i) },
}

// enumsIn reads the source in a directory, and returns the names of the exported constants of each exported type of its own, by
// value.
func enumsIn(t *testing.T, dir string) map[string]map[int64]string {
	t.Helper()
	fset := token.NewFileSet()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no source in %s: %v", dir, err)
	}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	// What is imported is not needed for the values of constants: that it is missing is no error.
	conf := types.Config{Error: func(error) {}}
	pkg, _ := conf.Check(dir, fset, files, nil)
	found := map[string]map[int64]string{}
	for _, name := range pkg.Scope().Names() {
		c, ok := pkg.Scope().Lookup(name).(*types.Const)
		if !ok || !c.Exported() {
			continue
		}
		named, ok := c.Type().(*types.Named)
		if !ok || !named.Obj().Exported() || named.Obj().Pkg() != pkg {
			continue
		}
		value, exact := constant.Int64Val(c.Val())
		if !exact {
			t.Fatalf("%s is no integer", name)
		}
		enum := named.Obj().Name()
		if found[enum] == nil {
			found[enum] = map[int64]string{}
		}
		if other, taken := found[enum][value]; taken {
			t.Errorf("%s and %s are the same", name, other)
		}
		found[enum][value] = name
	}
	return found
}

// TestEnumNames: String names each value of each enumeration, says which value it does not know, and constants begin with a
// prefix that is their type's.
func TestEnumNames(t *testing.T) {
	found := enumsIn(t, ".")
	if got, want := slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(enums)); !slices.Equal(got, want) {
		t.Errorf("enumerations %v, this test knows %v", got, want)
	}
	for enum, values := range found {
		of, known := enums[enum]
		if !known {
			continue
		}
		texts := map[string]string{}
		for value, name := range values {
			text := of(int(value)).String()
			if text == "" || strings.Contains(text, "(") {
				t.Errorf("%s is called %q", name, text)
			}
			if other, taken := texts[text]; taken {
				t.Errorf("%s and %s are both called %q", name, other, text)
			}
			texts[text] = name
			prefix, _, _ := strings.Cut(enum, "Reason")
			if prefix = strings.TrimSuffix(strings.TrimSuffix(prefix, "Kind"), "State"); !strings.HasPrefix(name, prefix) {
				t.Errorf("%s is a %s", name, enum)
			}
			if value < 0 || value >= int64(len(values)) {
				t.Errorf("%s is %d of %d values", name, value, len(values))
			}
		}
		for _, value := range []int{-1, len(values), 1 << 40} {
			if got, want := of(value).String(), fmt.Sprintf("%s(%d)", enum, value); got != want {
				t.Errorf("an unknown value is called %q, want %q", got, want)
			}
		}
	}
}

// TestViaIsRoute: the ways by which a message may come have the same values and the same names on the wire's side.
func TestViaIsRoute(t *testing.T) {
	for via, route := range map[Via]wire.Route{
		ViaGossip: wire.RouteGossip, ViaStream: wire.RouteStream, ViaRepair: wire.RouteRepair,
		ViaSync: wire.RouteSync, ViaDirect: wire.RouteDirect, ViaEcho: wire.RouteEcho,
	} {
		if Via(route) != via {
			t.Errorf("%v is %d, its route %d", via, via, route)
		}
	}
	vias, routes := enumsIn(t, ".")["Via"], enumsIn(t, "internal/wire")["Route"]
	if len(vias) != len(routes) {
		t.Errorf("%d ways, %d routes", len(vias), len(routes))
	}
	for value, via := range vias {
		if route := routes[value]; strings.TrimPrefix(route, "Route") != strings.TrimPrefix(via, "Via") {
			t.Errorf("%s is the route %q", via, route)
		}
	}
}

package tenant

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/rollcallhq/rollcall/api"
)

// maxValues bounds how many values of a document are read. A value counts once for every alias of it, so that a small file cannot
// stand for a huge one.
const maxValues = 1 << 19

// fieldForm is the form of field names that may be repeated in a message: too short for a secret.
var fieldForm = regexp.MustCompile(`^[A-Za-z0-9_<-]{1,24}$`)

// fault is what is wrong with a file, and where. It never carries a value of the file, which may be a secret.
type fault struct {
	place string // such as organizations[0].applications[1].idleAfter; "" = the file
	line  int    // from 1; 0 = unknown
	must  string
}

func (f *fault) Error() string {
	text := f.must
	if f.place != "" {
		text = f.place + ": " + text
	}
	if f.line > 0 {
		text += fmt.Sprintf(" (line %d)", f.line)
	}
	return text
}

// document is a YAML document that is read by hand rather than decoded into structs: every mistake gets its place and line,
// unknown fields and wrong types are refused, and no library's message can quote a secret. The first fault stands, and no mapping
// or list is read after it.
type document struct {
	lines map[string]int // by place, of every value that was looked at
	left  int            // of maxValues
	fault *fault
}

// value is a node of the document with its place.
type value struct {
	doc   *document
	place string
	node  *yaml.Node // never an alias, but what it stands for
}

// readYAML parses a file of one document; what follows a separator may be empty.
func readYAML(text []byte) (value, error) {
	// The parser knows the directive of YAML 1.1 alone, where it must take that of 1.2 (YAML 1.2.2, section 6.8.1).
	if rest, ok := bytes.CutPrefix(text, []byte("%YAML 1.2")); ok {
		text = slices.Concat([]byte("%YAML 1.1"), rest)
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		return value{}, err
	}
	var roots []*yaml.Node
	for len(roots) < 2 {
		var parsed yaml.Node
		err := loader.Load(&parsed)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return value{}, parseFault(err)
		}
		if root := parsed.Content[0]; root.ShortTag() != "!!null" || root.Value != "" {
			roots = append(roots, root)
		}
	}
	if len(roots) != 1 {
		return value{}, &fault{must: "must be one YAML document with `organizations`"}
	}
	doc := &document{lines: map[string]int{}, left: maxValues}
	return doc.at("", roots[0]), nil
}

// parseFault repeats what the scanner and the parser say, which is about the characters of YAML. Other messages quote the file.
func parseFault(err error) *fault {
	wrong := &fault{must: "must be YAML"}
	if told, ok := errors.AsType[*yaml.LoadError](err); ok {
		wrong.line = told.Mark.Line
		switch told.Stage {
		case yaml.ReaderStage, yaml.ScannerStage, yaml.ParserStage:
			wrong.must += ": " + told.Message
		case yaml.ComposerStage:
			wrong.must += ": has an alias of nothing"
		default:
		}
	}
	return wrong
}

// at returns the value of a node.
func (d *document) at(place string, node *yaml.Node) value {
	if d.lines[place] == 0 {
		d.lines[place] = node.Line
	}
	if d.left--; d.left < 0 {
		d.fail(place, fmt.Sprintf("is beyond the %d values that a file may have, aliases followed", maxValues))
	}
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return value{d, place, node}
}

// fail notes the first fault.
func (d *document) fail(place, must string) {
	if d.fault == nil {
		d.fault = d.faultAt(place, must)
	}
}

// faultAt makes a fault with the line of the place, or of the nearest place around it that is in the file.
func (d *document) faultAt(place, must string) *fault {
	around := place
	for d.lines[around] == 0 && around != "" {
		around = around[:max(strings.LastIndexAny(around, ".["), 0)]
	}
	return &fault{place, d.lines[around], must}
}

func (v value) fail(format string, args ...any) { v.doc.fail(v.place, fmt.Sprintf(format, args...)) }

// misplaced makes an error of a check one with its place in the file, and leaves others as they are.
func (v value) misplaced(err error) error {
	var wrong *problem
	if !errors.As(err, &wrong) {
		return err
	}
	return v.doc.faultAt(join(v.place, wrong.field), wrong.must)
}

func join(place, field string) string {
	if place == "" {
		return field
	}
	return place + "." + field
}

// is tells whether the value has one of the tags, which YAML gives to what has none by its form.
func (v value) is(tags ...string) bool { return slices.Contains(tags, v.node.ShortTag()) }

// isWord tells whether the value is no mapping and no list.
func (v value) isWord() bool { return v.node.Kind == yaml.ScalarNode }

// fields reads a mapping with the known fields; a field that is null is as one that is not there.
func (v value) fields(known ...string) map[string]value {
	fields, seen := map[string]value{}, map[string]bool{}
	if v.node.Kind != yaml.MappingNode || !v.is("!!map") {
		v.fail("must be a mapping with fields %s", strings.Join(known, ", "))
	}
	for i := 0; i+1 < len(v.node.Content) && v.doc.fault == nil; i += 2 {
		key, name := v.node.Content[i], v.node.Content[i].Value
		if key.Kind != yaml.ScalarNode || !fieldForm.MatchString(name) {
			v.fail("has a field that is not known; known are %s", strings.Join(known, ", "))
			break
		}
		place := join(v.place, name)
		v.doc.lines[place] = key.Line
		switch {
		case !slices.Contains(known, name):
			v.doc.fail(place, "is not a known field; known are "+strings.Join(known, ", "))
		case seen[name]:
			v.doc.fail(place, "is given twice")
		}
		seen[name] = true
		if field := v.doc.at(place, v.node.Content[i+1]); !field.is("!!null") {
			fields[name] = field
		}
	}
	return fields
}

// items reads a list.
func (v value) items() []value {
	if v.node.Kind != yaml.SequenceNode || !v.is("!!seq") {
		v.fail("must be a list")
	}
	var items []value
	for i, node := range v.node.Content {
		if v.doc.fault != nil {
			return nil
		}
		items = append(items, v.doc.at(v.place+"["+strconv.Itoa(i)+"]", node))
	}
	return items
}

// text reads a string. What YAML 1.1 took for a time is one.
func (v value) text() string {
	if !v.isWord() || !v.is("!!str", "!!timestamp") {
		v.fail("must be a string; quote it")
		return ""
	}
	return v.node.Value
}

// optional is text for a field that may not be there.
func (v value) optional() string {
	if v.node == nil {
		return ""
	}
	return v.text()
}

// figures reads a string that may consist of digits, and takes it as it is written when it was not quoted.
func (v value) figures() string {
	if v.isWord() && v.is("!!int", "!!float") {
		return v.node.Value
	}
	return v.text()
}

func (v value) boolean() bool {
	if !v.isWord() || !v.is("!!bool") {
		v.fail("must be true or false")
		return false
	}
	return strings.EqualFold(v.node.Value, "true")
}

func (v value) integer() int {
	number, err := strconv.Atoi(v.node.Value)
	if err != nil || !v.is("!!int") {
		v.fail("must be a whole number")
	}
	return number
}

func (v value) duration() api.Duration {
	var d api.Duration
	if err := d.UnmarshalText([]byte(v.text())); err != nil {
		v.fail("must be a duration such as 90s, 5m or 720h")
	}
	return d
}

func (v value) time() api.Millis {
	var t api.Timestamp
	if err := t.UnmarshalText([]byte(v.text())); err != nil {
		v.fail("must be a time such as 2027-01-01T00:00:00Z")
	}
	return api.Millis(t)
}

func idOf[T any](v value) api.ID[T] {
	id, err := api.ParseID[T](v.text())
	if err != nil {
		v.fail("must be a UUID")
	}
	return id
}

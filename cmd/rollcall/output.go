package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/term"
	"golang.org/x/text/width"
)

// outputFlag chooses between a table for people and JSON for programs.
type outputFlag struct {
	Output string `short:"o" enum:"table,json" default:"table" help:"How to print the result: ${enum}."`
}

func (o outputFlag) json() bool { return o.Output == "json" }

// maxMarks is how many combining marks a letter may carry, more than any language has; a pile of them covers the lines around it.
const maxMarks = 4

// cellWidth is where a table cuts a value; JSON has it whole.
const cellWidth = 40

// printJSON writes v as one indented JSON document. What a terminal would obey, or hide, is written as an escape.
func printJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escapeJSON(b.Bytes()))
	return err
}

// printLine writes a JSON value on one line.
func printLine(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escapeJSON(b.Bytes()))
	return err
}

// escapeJSON writes runes that are unsafe on a terminal as \u escapes. Outside strings JSON has none but white space.
func escapeJSON(data []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(data) {
		switch {
		case r == '\n' || r == ' ' || safeRune(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xD800+(r>>10), 0xDC00+(r&0x3FF))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

// safeRune tells whether a terminal shows r as itself and nothing else: no control, no bidi override, nothing invisible, no line
// or paragraph separator, no private use.
func safeRune(r rune) bool {
	if r == utf8.RuneError {
		return true
	}
	return unicode.IsPrint(r) &&
		!unicode.In(r, unicode.Bidi_Control, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// printable returns s as a terminal can show it on one line, cut at width columns when that is positive.
func printable(s string, most int) string {
	var b strings.Builder
	columns, marks := 0, 0
	for i, r := range s {
		shown := string(r)
		if marks++; !unicode.In(r, unicode.Mn, unicode.Me) {
			marks = 0
		}
		if _, size := utf8.DecodeRuneInString(s[i:]); r == utf8.RuneError && size == 1 {
			shown = fmt.Sprintf(`\x%02x`, s[i])
		} else if !safeRune(r) || marks > maxMarks {
			shown = escaped(r)
		}
		n := columnsOf(shown)
		if most > 0 && columns+n > most-1 && columnsOf(s[i:]) > most-columns {
			b.WriteString("…")
			break
		}
		columns += n
		b.WriteString(shown)
	}
	return b.String()
}

func escaped(r rune) string {
	switch r {
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	if r > 0xFFFF {
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// columnsOf returns how many columns of a terminal a printable string takes: wide runes (UAX 11) two, marks none.
func columnsOf(s string) int {
	n := 0
	for _, r := range s {
		switch k := width.LookupRune(r).Kind(); {
		case unicode.In(r, unicode.Mn, unicode.Me):
		case k == width.EastAsianWide || k == width.EastAsianFullwidth:
			n += 2
		default:
			n++
		}
	}
	return n
}

// table prints aligned columns.
type table struct {
	rows [][]string
}

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

// add appends a row; values may be anything that a client sent.
func (t *table) add(cells ...string) *table {
	row := make([]string, len(cells))
	for i, c := range cells {
		if row[i] = printable(c, cellWidth); c == "" {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
	return t
}

// set replaces a cell of the last row by a value that must not be cut.
func (t *table) set(column int, cell string) { t.rows[len(t.rows)-1][column] = printable(cell, 0) }

func (t *table) print(w io.Writer) error {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], columnsOf(c))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		for i, c := range row {
			b.WriteString(c)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-columnsOf(c)+2))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// text returns what s points to; "" for nil.
func text[T ~string](s *T) string {
	if s == nil {
		return ""
	}
	return string(*s)
}

// isTerminal tells whether somebody looks at what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

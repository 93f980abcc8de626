package main

import (
	"encoding/csv"
	goio "io"
	"strings"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
)

// listOutputFlag is outputFlag with CSV, for spreadsheets.
type listOutputFlag struct {
	Output string `short:"o" enum:"table,json,csv" default:"table" help:"How to print the result: ${enum}."`
}

func (o listOutputFlag) json() bool { return o.Output == "json" }

func (o listOutputFlag) csv() bool { return o.Output == "csv" }

// printCSV writes a head and records as RFC 4180 has it: lines end in CRLF, and there are no control characters (its TEXTDATA has
// none). What clients sent is written as tables write it, invisible runes as escapes, and never as a formula; programs that want
// every byte take JSON.
func printCSV(w goio.Writer, head []string, records [][]string) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	if err := out.Write(head); err != nil {
		return err
	}
	for _, record := range records {
		safe := make([]string, len(record))
		for i, value := range record {
			safe[i] = csvCell(value)
		}
		if err := out.Write(safe); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// csvCell returns a value that no spreadsheet takes for a formula: one that begins like a formula, after any spaces, gets an
// apostrophe before it, which spreadsheets take for "this is text". The wide forms count, because some fold them.
func csvCell(value string) string {
	value = printable(value, 0)
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(value, " "))
	if strings.ContainsRune("=+-@＝＋－＠", first) && value != "" {
		return "'" + value
	}
	return value
}

func printSessionsCSV(w goio.Writer, items []api.Session) error {
	var head []string
	for _, f := range allFields(api.Session{Details: &api.Details{}}) {
		head = append(head, f[0])
	}
	records := make([][]string, len(items))
	for i, s := range items {
		if s.Details == nil {
			s.Details = &api.Details{}
		}
		for _, f := range allFields(s) {
			records[i] = append(records[i], f[1])
		}
	}
	return printCSV(w, head, records)
}

func printRowsCSV(w goio.Writer, rows []api.Row) error {
	records := make([][]string, len(rows))
	for i, r := range rows {
		records[i] = []string{string(r.ServerID), r.IPAddress, api.Timestamp(r.CreatedAt).String(), r.ClientID, text(r.Login), text(r.License)}
	}
	return printCSV(w, []string{"serverId", "ipAddress", "createdAt", "clientId", "login", "license"}, records)
}

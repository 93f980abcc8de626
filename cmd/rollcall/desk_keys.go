package main

import (
	"slices"

	tea "charm.land/bubbletea/v2"

	"github.com/rollcallhq/rollcall/api"
)

// keyHelp is what keys do, most useful first: the footer shows what fits, help shows all, in short where there is little room.
var keyHelp = []struct{ keys, short, long string }{
	{"?", "help", "this help"},
	{"q", "quit", "quit"},
	{"/", "search", "search as you type; enter keeps it, esc clears it"},
	{"d", "disconnect", "disconnect the selected session; asks first"},
	{"enter", "details", "details of the selected session"},
	{"↑ ↓", "select", "select a session (also k, j)"},
	{"← →", "page", "page (also h, l, PgUp, PgDn)"},
	{"1 2 3", "categories", "where to search: license, ip, clientId; alt in a search"},
	{"home end", "ends", "first page, last page (also g, G)"},
	{"K J", "scroll", "scroll the details"},
	{"esc", "close, clear", "close the details, clear the search"},
	{"ctrl+z", "suspend", "suspend"},
}

func (d *desk) key(k tea.KeyPressMsg) tea.Cmd {
	switch k.String() {
	case "ctrl+c":
		return tea.Quit
	case "ctrl+z":
		return tea.Suspend
	}
	switch d.mode {
	case modeSearch:
		return d.searchKey(k)
	case modeConfirm:
		return d.confirmKey(k)
	case modeHelp:
		d.mode = modeTable
		return nil
	default:
		return d.tableKey(k)
	}
}

func (d *desk) tableKey(k tea.KeyPressMsg) tea.Cmd {
	switch key := k.String(); key {
	case "q":
		return tea.Quit
	case "?":
		d.mode = modeHelp
	case "/":
		d.mode = modeSearch
		d.search.CursorEnd()
		return d.search.Focus()
	case "up", "k":
		return d.pick(-1)
	case "down", "j":
		return d.pick(1)
	case "left", "h", "pgup":
		return d.turn(d.query.Page - 1)
	case "right", "l", "pgdown":
		return d.turn(d.query.Page + 1)
	case "home", "g":
		return d.turn(1)
	case "end", "G":
		return d.turn(d.pages())
	case "1", "2", "3", "alt+1", "alt+2", "alt+3":
		return d.toggle(int(key[len(key)-1] - '1'))
	case "enter", "space":
		d.details = details{open: !d.details.open, fetching: d.details.fetching}
		return d.fetch()
	case "J":
		d.details.scroll++
	case "K":
		d.details.scroll = max(0, d.details.scroll-1)
	case "d", "x", "delete":
		return d.askWhetherToDisconnect()
	case "esc":
		if d.details.open {
			d.details.open = false
			return nil
		}
		return d.clearSearch()
	}
	return nil
}

func (d *desk) searchKey(k tea.KeyPressMsg) tea.Cmd {
	switch key := k.String(); key {
	case "enter", "down", "tab":
		d.leaveSearch()
		return nil
	case "esc":
		d.leaveSearch()
		return d.clearSearch()
	case "alt+1", "alt+2", "alt+3":
		return d.toggle(int(key[len(key)-1] - '1'))
	}
	return d.typed(k)
}

func (d *desk) leaveSearch() {
	d.mode = modeTable
	d.search.Blur()
}

func (d *desk) clearSearch() tea.Cmd {
	d.search.SetValue("")
	if d.query.Search == "" {
		return nil
	}
	d.query.Search, d.query.Page = "", 1
	return d.ask()
}

// typed hands a key or a paste to the line that is being typed in, if there is one.
func (d *desk) typed(msg tea.Msg) (cmd tea.Cmd) {
	switch d.mode {
	case modeSearch:
		d.search, cmd = d.search.Update(msg)
		if text := d.search.Value(); text != d.query.Search {
			d.query.Search, d.query.Page = text, 1
			return tea.Batch(cmd, d.settle())
		}
	case modeConfirm:
		d.confirm.reason, cmd = d.confirm.reason.Update(msg)
	default: // nothing is typed in
	}
	return cmd
}

// categories are in the order of their keys.
var categories = []api.Category{api.CategoryLicense, api.CategoryIP, api.CategoryClientID}

// toggle searches a category, or no longer does; the last one stays.
func (d *desk) toggle(n int) tea.Cmd {
	on := slices.DeleteFunc(slices.Clone(categories), func(c api.Category) bool {
		return slices.Contains(d.query.Categories, c) == (c == categories[n])
	})
	if len(on) == 0 {
		d.say(false, "a search needs a place to look in")
		return nil
	}
	d.query.Categories, d.query.Page = on, 1
	return d.ask()
}

func (d *desk) askWhetherToDisconnect() tea.Cmd {
	row, ok := d.chosen()
	if !ok {
		d.say(true, "choose a session first: the one that was selected has left this page")
		return nil
	}
	d.mode, d.confirm = modeConfirm, confirm{row: row, reason: newInput(api.MaxReason)}
	return d.confirm.reason.Focus()
}

func (d *desk) confirmKey(k tea.KeyPressMsg) tea.Cmd {
	switch k.String() {
	case "enter":
		return d.disconnect()
	case "esc":
		d.mode = modeTable
		return nil
	}
	return d.typed(k)
}

package client

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/rollcallhq/rollcall/api"
)

// Page is what the messages of a live stream amount to: the rows of one page of a live query, newest first (createdAt descending,
// then serverId descending, bytewise), each once, and the counts. The zero Page waits for an init message. It is for one
// goroutine.
//
// Between two messages of one flush a page can be short of rows, never too long (removals come first); after the flush it is what
// the HTTP list answers for the same query at that point (G1). Counts other than those of init follow only on streams with
// totals.
type Page struct {
	api.View
	ready bool
}

// delta is the union of the messages that change one thing.
type delta struct {
	Row      *api.Row      `json:"row"`
	ServerID *api.ServerID `json:"serverId"`
	Value    *api.Millis   `json:"value"`
}

// Apply changes the page as one message of the stream says. Messages of unknown types, and error messages, change nothing. An
// error wraps ErrOutOfStep when the message does not fit the page; the page is then of no further use, until an init.
func (p *Page) Apply(raw []byte) error {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return outOfStep("a message that is not a JSON object with a type: %v", err)
	}
	return p.apply(head.Type, raw)
}

func (p *Page) apply(kind string, raw []byte) error {
	switch kind {
	case api.TypeInit:
		return p.init(raw)
	case api.TypeAdded, api.TypeUpdated, api.TypeRemoved, api.TypeLastConnectionTime, api.TypeTotals:
	default:
		return nil
	}
	if !p.ready {
		return outOfStep("%s before init", kind)
	}
	if kind == api.TypeTotals {
		var t api.TotalsMessage
		if err := json.Unmarshal(raw, &t); err != nil {
			return outOfStep("totals: %v", err)
		}
		p.Counts = t.Counts
		return nil
	}
	var d delta
	if err := json.Unmarshal(raw, &d); err != nil {
		return outOfStep("%s: %v", kind, err)
	}
	switch kind {
	case api.TypeAdded:
		return p.add(d.Row)
	case api.TypeUpdated:
		return p.update(d.Row)
	case api.TypeRemoved:
		return p.remove(d.ServerID)
	}
	if d.Value == nil {
		return outOfStep("%s without value", kind)
	}
	p.LastConnectionTime = *d.Value
	return nil
}

func (p *Page) init(raw []byte) error {
	var m api.Init
	if err := json.Unmarshal(raw, &m); err != nil {
		return outOfStep("init: %v", err)
	}
	if len(m.Items) > m.PageSize {
		return outOfStep("init has %d rows on a page of %d", len(m.Items), m.PageSize)
	}
	for i := 1; i < len(m.Items); i++ {
		if m.Items[i-1].Position().Compare(m.Items[i].Position()) >= 0 {
			return outOfStep("init has %s before %s", m.Items[i-1].ServerID, m.Items[i].ServerID)
		}
	}
	p.View, p.ready = m.View, true
	return nil
}

func (p *Page) add(row *api.Row) error {
	if row == nil {
		return outOfStep("added without row")
	}
	if p.index(row.ServerID) >= 0 {
		return outOfStep("added %s, which is there", row.ServerID)
	}
	if len(p.Items) >= p.PageSize {
		return outOfStep("added %s to a full page", row.ServerID)
	}
	at, _ := slices.BinarySearchFunc(p.Items, row.Position(), func(r api.Row, at api.Position) int { return r.Position().Compare(at) })
	p.Items = slices.Insert(p.Items, at, *row)
	return nil
}

func (p *Page) update(row *api.Row) error {
	if row == nil {
		return outOfStep("updated without row")
	}
	i := p.index(row.ServerID)
	if i < 0 {
		return outOfStep("updated %s, which is not there", row.ServerID)
	}
	if p.Items[i].CreatedAt != row.CreatedAt {
		return outOfStep("updated moved %s", row.ServerID)
	}
	p.Items[i] = *row
	return nil
}

func (p *Page) remove(id *api.ServerID) error {
	if id == nil {
		return outOfStep("removed without serverId")
	}
	i := p.index(*id)
	if i < 0 {
		return outOfStep("removed %s, which is not there", *id)
	}
	p.Items = slices.Delete(p.Items, i, i+1)
	return nil
}

func (p *Page) index(id api.ServerID) int {
	return slices.IndexFunc(p.Items, func(r api.Row) bool { return r.ServerID == id })
}

// Clone returns a copy that later messages do not change.
func (p *Page) Clone() Page {
	c := *p
	c.Items = slices.Clone(p.Items)
	return c
}

func outOfStep(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrOutOfStep, fmt.Sprintf(format, args...))
}

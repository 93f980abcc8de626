package manage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/input"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/websock"
)

// appendMessage appends v as a text frame. The messages are ours and always encode.
func appendMessage(frames []byte, v any) []byte {
	body, err := encodeJSON(v)
	if err != nil {
		panic(fmt.Sprintf("message of a stream: %v", err))
	}
	return websock.AppendText(frames, body[:len(body)-1]) // without the encoder's newline
}

// encodeDelta writes one flush in the order of G1: removed, added, updated, last_connection_time, totals.
func (a *API) encodeDelta(d *registry.Delta) []byte {
	const perMessage = 256 // a row with its frame's header
	frames := make([]byte, 0, perMessage*(len(d.Removed)+len(d.Added)+len(d.Updated)+2))
	for _, id := range d.Removed {
		frames = appendMessage(frames, api.RemovedMessage{Type: api.TypeRemoved, ServerID: id})
	}
	for _, row := range d.Added {
		frames = appendMessage(frames, api.RowMessage{Type: api.TypeAdded, Row: row})
	}
	for _, row := range d.Updated {
		frames = appendMessage(frames, api.RowMessage{Type: api.TypeUpdated, Row: row})
	}
	if d.LastConnection != nil {
		frames = appendMessage(frames, api.LastConnectionTimeMessage{Type: api.TypeLastConnectionTime, Value: *d.LastConnection})
	}
	if d.Counts != nil {
		frames = appendTotals(frames, *d.Counts, len(a.missing()) > 0)
	}
	return frames
}

func appendTotals(frames []byte, counts api.Counts, partial bool) []byte {
	totals := api.TotalsMessage{Type: api.TypeTotals, Counts: counts}
	if partial {
		totals.Partial = partialNodes
	}
	return appendMessage(frames, totals)
}

// saysPartial tells whether frames with totals say that nodes are missing. Quotes inside of values are escaped.
func saysPartial(frames []byte) bool {
	return bytes.Contains(frames, []byte(`"partial":"`+partialNodes+`"`))
}

func encodeInit(view api.View) []byte {
	return appendMessage(nil, api.Init{Type: api.TypeInit, Success: true, View: view})
}

func encodeError(e *api.Error) []byte {
	return appendMessage(nil, api.StreamError{Type: api.TypeError, Code: e.Code, Message: e.Message})
}

// command is what a client asked for on a stream: exactly one field is set.
type command struct {
	disconnect api.ServerID
	query      func(registry.Query) registry.Query // moves a query
}

// parseCommand reads a client's message. The error is what the client is told.
func parseCommand(data []byte) (command, error) {
	parsed, err := input.ParseBody(data)
	if err != nil {
		return command{}, api.Errorf(api.CodeValidation, "the message must be a JSON object with a type: %s", err.Error())
	}
	o := &object{parsed}
	var kind string
	if raw, ok := o.Get("type"); !ok || input.IsNull(raw) || json.Unmarshal(raw, &kind) != nil {
		return command{}, api.Errorf(api.CodeValidation, "type is required and must be a string")
	}
	switch kind {
	case api.TypeDisconnectSession:
		id := input.Scalar[string](o.Object, "serverId", "a string")
		if id == nil {
			return command{}, api.Errorf(api.CodeValidation, "serverId is required and must be a string")
		}
		return command{disconnect: api.ServerID(*id)}, nil
	case api.TypeQuery:
		move := o.move()
		return command{query: move}, o.Err()
	}
	return command{}, api.Errorf(api.CodeValidation, "%q is not a type of message; there are %s and %s", input.Clip(kind),
		api.TypeDisconnectSession, api.TypeQuery)
}

// move reads a query message. What it leaves out stays as it is on the stream.
func (o *object) move() func(registry.Query) registry.Query {
	page := o.Integer("page", 1, math.MaxInt)
	size := o.Integer("pageSize", 1, api.MaxPageSize)
	search := input.Scalar[string](o.Object, "searchString", fmt.Sprintf("a string of at most %d characters", api.MaxSearch))
	if search != nil && utf8.RuneCountInString(*search) > api.MaxSearch {
		o.Fail("searchString", fmt.Sprintf("a string of at most %d characters", api.MaxSearch))
	}
	categories := o.categories()
	return func(q registry.Query) registry.Query {
		keep(&q.Page, page)
		keep(&q.PageSize, size)
		keep(&q.Search, search)
		keep(&q.Categories, categories)
		return q
	}
}

func keep[T any](into, given *T) {
	if given != nil {
		*into = *given
	}
}

// categories reads "string or string[]", as the document has it.
func (o *object) categories() *registry.Categories {
	const name = "categories"
	accepts := input.OneOf(categoryNames) + ", or an array of these"
	raw, ok := o.Get(name)
	if !ok {
		return nil
	}
	var names []string
	if one := new(string); !input.IsNull(raw) && json.Unmarshal(raw, one) == nil {
		names = []string{*one}
	} else if many := input.List[string](o.Object, name, accepts); many != nil {
		names = slices.Clone(*many)
	}
	set, known := categoriesOf(names)
	if !known || len(names) == 0 {
		o.Fail(name, accepts)
		return nil
	}
	return &set
}

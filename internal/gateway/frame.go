package gateway

import (
	"bytes"
	"encoding/json"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/input"
)

// frame is a client's frame: a JSON object with a type.
type frame struct {
	kind string
	*input.Object
}

// parseFrame reads a frame whose bytes are valid UTF-8; false unless it is one JSON object with a string `type` (4300).
func parseFrame(data []byte) (*frame, bool) {
	o, ok := input.ParseFrame(data)
	if !ok {
		return nil, false
	}
	kind, ok := o.Kind("type")
	return &frame{kind, o}, ok
}

// encode writes a server's frame, as it is: nothing here is HTML.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // the frames are structs of strings and numbers
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func encodeError(e *api.Error) []byte {
	return encode(api.FrameError{Type: api.TypeError, Code: e.Code, Message: e.Message})
}

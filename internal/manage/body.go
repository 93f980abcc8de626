package manage

import (
	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/input"
)

// object is a body, or a message on a stream.
type object struct{ *input.Object }

// readBody reads the JSON object that a POST or PATCH must carry.
func (c *call) readBody() (*object, error) {
	o, err := input.ReadBody(c.w, c.r, c.limits.MaxBody)
	if err != nil {
		c.countTooLarge(err)
		return nil, err
	}
	return &object{o}, nil
}

func (c *call) countTooLarge(err error) {
	if api.CodeOf(err) == api.CodeBodyTooLarge {
		c.metrics.limits[limitBody].Inc()
	}
}

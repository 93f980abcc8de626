package manage

import (
	"net/http"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// seriesMinutes is how many whole minutes a series has before the running one.
const seriesMinutes = 60

// series is GET /applications/{applicationId}/series.
//
// How many sessions were live at a minute's end follows from how many are now, and who came and went since: so it needs no counters
// that a restart would lose, and is the same at every node. A session that ends at this very moment may be counted on both sides.
func (c *call) series() error {
	p := readParams(c.r)
	id := pathID[api.Application](p, "applicationId")
	if p.err != nil {
		return p.err
	}
	if _, err := c.application(api.ScopeSessionsRead, id.String()); err != nil {
		return err
	}
	const step = time.Minute
	starts, running := make([]api.Millis, seriesMinutes+1), store.MinuteOf(now())
	for i := range starts {
		starts[i] = running.Add(time.Duration(i-seriesMinutes) * step)
	}
	c.partialNodes()
	live, since := c.registry.CreatedSince(id, starts)
	minutes, err := c.records.Minutes(c.r.Context(), id, starts[0])
	if err != nil {
		c.partialStore(err)
	}
	reply := api.Series{StepSeconds: int(step.Seconds()), Items: make([]api.SeriesItem, len(starts))}
	for i, at := range starts {
		reply.Items[i] = api.SeriesItem{Time: api.Timestamp(at), Connects: since[i]}
		if i < seriesMinutes {
			reply.Items[i].Connects -= since[i+1]
		}
	}
	for _, m := range minutes {
		// The clock of another node may be ahead.
		item := &reply.Items[min(int((m.At-starts[0])/api.Millis(step.Milliseconds())), seriesMinutes)]
		item.Connects += m.Connects
		item.Ends += m.Ends
	}
	for i := seriesMinutes; i >= 0; i-- {
		item := &reply.Items[i]
		item.Live = max(live, 0)
		live += item.Ends - item.Connects
	}
	return c.json(http.StatusOK, reply)
}

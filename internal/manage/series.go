package manage

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

const (
	// seriesMinutes is how many whole minutes a series has before the running one.
	seriesMinutes = 60
	seriesStep    = time.Minute
	// A minute that is over by settled is counted once in a while: by then the sessions of a node that died are recorded. It is counted
	// again after recount, for records that a database which was away has taken late.
	settled = 30 * time.Second
	recount = 5 * time.Minute
)

// charts keeps what was counted, by application, so that a chart that is looked at costs a minute or two of records, and not an hour's.
type charts struct {
	mu  sync.Mutex
	all map[api.ApplicationID]*chart
}

// chart has the counts of whole minutes of one application.
type chart struct {
	turn    chan struct{} // has room for one, who counts: who asks meanwhile finds what was counted
	minutes map[api.Millis]counted
}

// counted are the sessions that connected and ended in a minute, as of a moment.
type counted struct {
	connects, ends int
	at             api.Millis
	// sure says that the same was counted twice, some time after the minute: a session that was just leaving may have been counted as
	// live and as ended, or as neither, and must not stay so for as long as recount.
	sure bool
}

func (c *charts) of(app api.ApplicationID) *chart {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[api.ApplicationID]*chart{}
	}
	if c.all[app] == nil {
		c.all[app] = &chart{turn: make(chan struct{}, 1), minutes: map[api.Millis]counted{}}
	}
	return c.all[app]
}

// series is GET /applications/{applicationId}/series.
func (c *call) series() error {
	p := readParams(c.r)
	id := pathID[api.Application](p, "applicationId")
	if p.err != nil {
		return p.err
	}
	if _, err := c.application(api.ScopeSessionsRead, id.String()); err != nil {
		return err
	}
	c.partialNodes()
	reply, err := c.charts.of(id).read(c.r.Context(), c.API, id)
	if err != nil {
		c.partialStore(err)
	}
	return c.json(http.StatusOK, reply)
}

// read returns the series. The error is the store's: what ended is not counted then.
//
// How many sessions connected in a minute is how many of those that live and of those that have ended; how many were live at its end
// follows from how many are now, and who came and went since. So there are no counters that a restart would lose or a node would not
// have. Only records of ends up to the moment at which the live ones are counted are looked at, lest a session be both; one that is
// leaving at that very moment can be, until the series is read again.
func (ch *chart) read(ctx context.Context, a *API, app api.ApplicationID) (api.Series, error) {
	select {
	case ch.turn <- struct{}{}:
		defer func() { <-ch.turn }()
	case <-ctx.Done():
		return api.Series{}, ctx.Err()
	}
	at := a.now()
	starts := make([]api.Millis, seriesMinutes+1)
	for i := range starts {
		starts[i] = store.MinuteOf(at).Add(time.Duration(i-seriesMinutes) * seriesStep)
	}
	live, since := a.registry.CreatedSince(app, starts)
	var missing []api.Millis
	for _, start := range starts {
		if !ch.minutes[start].holds(start, at) {
			missing = append(missing, start)
		}
	}
	minutes, err := a.records.Minutes(ctx, app, missing, at+1)
	old := ch.minutes
	ch.minutes = make(map[api.Millis]counted, len(starts))
	for i, start := range starts {
		n := counted{connects: since[i], at: at}
		if i < seriesMinutes { // the clock of another node may be ahead: the running minute has all that is left
			n.connects -= since[i+1]
		}
		ch.minutes[start] = n
	}
	for _, start := range starts {
		if old[start].holds(start, at) {
			ch.minutes[start] = old[start]
		}
	}
	for _, m := range minutes {
		n := ch.minutes[m.At]
		n.connects, n.ends = n.connects+m.Connects, n.ends+m.Ends
		ch.minutes[m.At] = n
	}
	for start, n := range ch.minutes {
		if before, ok := old[start]; ok && before.over(start) && before.connects == n.connects && before.ends == n.ends {
			n.sure = true
			ch.minutes[start] = n
		}
	}
	reply := api.Series{StepSeconds: int(seriesStep.Seconds()), Items: make([]api.SeriesItem, len(starts))}
	for i := seriesMinutes; i >= 0; i-- {
		n := ch.minutes[starts[i]]
		reply.Items[i] = api.SeriesItem{Time: api.Timestamp(starts[i]), Live: max(live, 0), Connects: n.connects, Ends: n.ends}
		live += n.ends - n.connects
	}
	if err != nil {
		ch.minutes = old
	}
	return reply, err
}

// over tells whether it was counted when the minute was over, and settled.
func (n counted) over(start api.Millis) bool { return n.at >= start.Add(seriesStep+settled) }

// holds tells whether a minute need not be counted again.
func (n counted) holds(start, now api.Millis) bool {
	return n.sure && n.over(start) && now < n.at.Add(recount)
}

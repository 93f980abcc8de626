package manage

import (
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/input"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// previewPause is how long a dry run waits between the moment that it answers for and counting: what connects in this very
// millisecond, here or at a node whose rows are on their way, is counted as well, and the act ends no more than was shown.
const previewPause = 20 * time.Millisecond

// disconnectMatching is POST /applications/{applicationId}/sessions:disconnect.
func (c *call) disconnectMatching() error {
	p := readParams(c.r)
	id := pathID[api.Application](p, "applicationId")
	dry := p.boolean("dryRun")
	if p.err != nil {
		return p.err
	}
	q, before, reason, err := c.matchingBody(dry)
	if err != nil {
		return err
	}
	app, err := c.application(api.ScopeSessionsDisconnect, id.String())
	if err != nil {
		return err
	}
	q.Organization, q.Application = app.Organization, id
	c.partialNodes()
	if dry {
		if before == 0 {
			before = c.now()
			time.Sleep(previewPause)
		}
		_, n := c.registry.Matching(q, before)
		return c.json(http.StatusOK, api.DisconnectPreview{DryRun: true, Count: n, CreatedBefore: api.Timestamp(before)})
	}
	ctx, cancel := c.acting()
	defer cancel()
	n, whole, err := c.owner.DisconnectMatching(ctx, q, before, tenant.Actor(c.key.PublicID), reason)
	if err != nil {
		return err
	}
	if !whole {
		c.partial(partialNodes)
	}
	record := audited(c.now(), c.origin, &app, api.ActionSessionsDisconnected, reason)
	record.Count = &n
	record.Details = detailed(struct {
		SearchString  string         `json:"searchString"`
		Categories    []api.Category `json:"categories"`
		CreatedBefore api.Timestamp  `json:"createdBefore"`
	}{q.Search, namesOf(q.Categories), api.Timestamp(before)})
	c.records.AuditLater(record)
	c.settle(ctx)
	return c.json(http.StatusOK, api.DisconnectResult{Success: true, DisconnectedCount: n})
}

// matchingBody reads which sessions a disconnect by search is about. before is 0 when a dry run leaves it out.
func (c *call) matchingBody(dry bool) (q registry.Query, before api.Millis, reason string, err error) {
	o, err := c.readBody()
	if err != nil {
		return q, 0, "", err
	}
	// Required, so that a body that lost it does not end everything.
	accepts := fmt.Sprintf("a string of at most %d characters; empty matches every session", api.MaxSearch)
	o.Require("searchString")
	if search := input.Scalar[string](o.Object, "searchString", accepts); search != nil {
		q.Search = *search
	}
	if utf8.RuneCountInString(q.Search) > api.MaxSearch {
		o.Fail("searchString", accepts)
	}
	q.Categories = registry.License
	keep(&q.Categories, o.categories())
	keep(&reason, o.String("reason"))
	if utf8.RuneCountInString(reason) > api.MaxReason {
		o.Fail("reason", fmt.Sprintf("at most %d characters", api.MaxReason))
	}
	if !dry {
		o.Require("createdBefore")
	}
	if at := input.Scalar[api.Timestamp](o.Object, "createdBefore", "a time such as 2026-01-31T15:04:05Z"); at != nil {
		// Nodes' clocks may differ by so much; beyond it, sessions would be ended that nobody can have seen.
		if before = api.Millis(*at); before <= 0 || before > c.now().Add(api.IssuedAtSkew) {
			o.Fail("createdBefore", "the time that a dry run has answered, which does not lie ahead")
		}
	}
	return q, before, reason, o.Done()
}

package manage

import (
	"context"
	"net/http"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/input"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// Leases holds the sessions that servers report of their own clients.
type Leases interface {
	// Report does what the items say for a reporter, and returns an error for each, nil for what was done: an *api.Error, or one that
	// says how a session has ended (EndOf).
	Report(ctx context.Context, app tenant.Application, reporter string, items []api.LeaseItem) []error
	// EndOf returns how a session ended that an error of Report says has ended.
	EndOf(err error) (api.EndReason, bool)
	// Ended returns the reporter's sessions that ended since it was told last; when there are none it waits for one.
	Ended(ctx context.Context, app api.ApplicationID, reporter string, wait time.Duration) []api.LeaseEnded
	// EndUnheld ends a lease that no node holds at the moment; false when it is none, or has ended.
	EndUnheld(ctx context.Context, app api.ApplicationID, id api.SessionID, by tenant.Actor, reason string) (bool, error)
}

// batchLeases is POST /applications/{applicationId}/leases:batch.
func (c *call) batchLeases() error {
	p := readParams(c.r)
	id := pathID[api.Application](p, "applicationId")
	if p.err != nil {
		return p.err
	}
	batch, err := c.batchBody()
	if err != nil {
		return err
	}
	app, err := c.application(api.ScopeSessionsCreate, id.String())
	if err != nil {
		return err
	}
	reporter := c.key.PublicID + "/" + batch.reporter
	reply := api.LeaseBatchReply{Results: batch.results}
	for i, err := range c.leases.Report(c.r.Context(), app, reporter, batch.items) {
		reply.Results[batch.places[i]] = c.leaseResult(batch.items[i].ID, err)
	}
	if reply.Ended, err = c.awaitEnded(app.ID, reporter, batch.wait); err != nil {
		return err
	}
	return c.json(http.StatusOK, reply)
}

// leaseResult says what became of an item.
func (c *call) leaseResult(id api.SessionID, err error) api.LeaseResult {
	if err == nil {
		return api.LeaseResult{ID: &id, OK: true}
	}
	if reason, ended := c.leases.EndOf(err); ended {
		return api.LeaseResult{ID: &id, Error: &api.LeaseError{Code: api.CodeSessionEnded, Message: err.Error(), Reason: reason,
			Reauthenticate: reason.Reauthenticate()}}
	}
	told := toldError(err)
	return api.LeaseResult{ID: &id, Error: &api.LeaseError{Code: told.Code, Message: told.Message}}
}

// awaitEnded waits for ends in steps, so that a key that loses its access is refused within a second (G7).
func (c *call) awaitEnded(app api.ApplicationID, reporter string, wait time.Duration) ([]api.LeaseEnded, error) {
	until, ctx := time.Now().Add(wait), c.r.Context()
	for {
		step := min(time.Until(until), recheckEvery)
		ended := c.leases.Ended(ctx, app, reporter, step)
		if len(ended) > 0 || step < recheckEvery || c.streams.isDraining() {
			return ended, nil
		}
		select {
		case <-ctx.Done(): // the caller is gone
			return ended, nil
		default:
		}
		key, err := c.tenants.Recheck(c.key)
		if err != nil {
			return nil, err
		}
		c.key = key
		if _, err := c.application(api.ScopeSessionsCreate, app.String()); err != nil {
			return nil, err
		}
	}
}

// batch is a body of leases:batch. results has the refusals of items that cannot be read; places says where the results of the
// others go.
type batch struct {
	reporter string
	wait     time.Duration
	items    []api.LeaseItem
	places   []int
	results  []api.LeaseResult
}

// batchBody reads the body. What is wrong with its form, a field that is not known included, refuses all of it; what is wrong with
// a value refuses the item.
func (c *call) batchBody() (*batch, error) {
	o, err := input.ReadBody(c.w, c.r, api.MaxBatchBody)
	if err != nil {
		return nil, err
	}
	o.Require("items")
	all := o.AllInside("items")
	reporter := o.String("reporter")
	if reporter != nil && (utf8.RuneCountInString(*reporter) > api.MaxReporter) {
		o.Fail("reporter", "a string of at most 64 characters")
	}
	seconds := o.Integer("waitSeconds", 0, api.MaxBatchWait)
	if err := o.Done(); err != nil {
		return nil, err
	}
	if len(all) > api.MaxBatchItems {
		return nil, api.Errorf(api.CodeValidation, "items must be at most %d, not %d", api.MaxBatchItems, len(all))
	}
	b := &batch{results: make([]api.LeaseResult, len(all))}
	keep(&b.reporter, reporter)
	if seconds != nil {
		b.wait = time.Duration(*seconds) * time.Second
	}
	for i, fields := range all {
		item, id, err := readLeaseItem(fields.NullIsNone())
		if fields.Unknown() != "" {
			return nil, fields.Done()
		}
		if err != nil {
			told := toldError(err)
			b.results[i] = api.LeaseResult{ID: id, Error: &api.LeaseError{Code: told.Code, Message: told.Message}}
			continue
		}
		b.items, b.places = append(b.items, item), append(b.places, i)
	}
	return b, nil
}

// readLeaseItem reads an item; id is nil when it has none.
func readLeaseItem(o *input.Object) (item api.LeaseItem, id *api.SessionID, err error) {
	o.Require("op")
	o.Require("id")
	if op := o.String("op"); op != nil {
		switch item.Op = api.LeaseOp(*op); item.Op {
		case api.LeaseOpen, api.LeaseHeartbeat, api.LeaseEnd:
		default:
			o.Fail("op", "open, heartbeat or end")
		}
	}
	if id = input.Scalar[api.SessionID](o, "id", "a UUID"); id != nil {
		if item.ID = *id; id.IsZero() {
			o.Fail("id", "a UUID that is not zero")
		}
	}
	if item.Op == api.LeaseOpen {
		o.Require("ipAddress")
		o.Require("authorized")
	}
	if ip := o.String("ipAddress"); ip != nil {
		addr, err := netip.ParseAddr(*ip)
		if item.IPAddress = *ip; err != nil || addr.Zone() != "" {
			o.Fail("ipAddress", "an IPv4 or IPv6 address")
		}
	}
	keep(&item.Login, o.Text("login"))
	keep(&item.License, o.Text("license"))
	keep(&item.ClientID, o.ClientID("clientId"))
	keep(&item.Authorized, o.Boolean("authorized"))
	keep(&item.CredentialID, o.Text("credentialId"))
	keep(&item.Hostname, o.Text("hostname"))
	keep(&item.UserAgent, o.Text("userAgent"))
	item.ClientInfo = o.ClientInfo("clientInfo")
	item.LastActiveAt = input.Scalar[api.Timestamp](o, "lastActiveAt", "a time such as 2026-01-31T15:04:05.000Z")
	keep(&item.LeaseSeconds, o.Integer("leaseSeconds", api.MinLeaseSeconds, api.MaxLeaseSeconds))
	return item, id, o.Err()
}

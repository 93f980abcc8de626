package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// auditCmd lists audit records.
type auditCmd struct {
	keyFlags
	applicationFlag
	outputFlag
	Action []api.AuditAction `placeholder:"ACTION" help:"Only these actions, such as session.disconnected."`
	From   time.Time         `placeholder:"TIME" help:"Only records of this time or later."`
	To     time.Time         `placeholder:"TIME" help:"Only records from before this time."`
	Limit  int               `default:"100" help:"How many at most, 1 to 1000."`
}

// Validate refuses what the server would, and 0, which it would not see.
func (c auditCmd) Validate() error {
	if c.Limit < 1 || c.Limit > api.MaxLimit {
		return fmt.Errorf("--limit takes 1 to %d", api.MaxLimit)
	}
	return nil
}

// Run lists the newest records, of one application when that is given.
func (c auditCmd) Run(ctx context.Context, io *stdio) error {
	m, err := c.manage(io)
	if err != nil {
		return err
	}
	q := client.AuditQuery{Actions: c.Action, From: c.From, To: c.To, Limit: c.Limit}
	if c.Application != "" {
		if q.Application, err = c.id(ctx, m); err != nil {
			return err
		}
	}
	list, err := m.Audit(ctx, q)
	if err != nil {
		return err
	}
	if c.json() {
		return printJSON(io.out, list)
	}
	t := newTable("TIME", "ACTION", "ACTOR", "ADDRESS", "TARGET", "COUNT", "REASON")
	for _, r := range list.Items {
		actor, count := string(r.Actor.Type), ""
		if r.Actor.PublicID != "" {
			actor = r.Actor.PublicID + " " + r.Actor.Name
		}
		if r.Count != nil {
			count = strconv.Itoa(*r.Count)
		}
		t.add(r.Time.String(), string(r.Action), actor, text(r.IPAddress), text(r.Target), count, text(r.Reason))
	}
	return t.print(io.out)
}

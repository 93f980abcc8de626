package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// matchingFlags say which sessions a disconnect by search is about.
type matchingFlags struct {
	Search     string         `short:"s" placeholder:"TEXT" help:"End the sessions that contain TEXT, instead of one."`
	Categories []api.Category `enum:"license,ip,clientId" default:"license" help:"Where to search: ${enum}."`
	DryRun     bool           `help:"With --search: count only, and print the time for --before."`
	Before     *time.Time     `placeholder:"TIME" help:"With --search: end only what matched at TIME already, as a dry run has printed it; now by default."`
}

// matching ends what the search finds: what it finds at this moment, unless an earlier one is given.
func (c disconnectCmd) matching(ctx context.Context, io *stdio) error {
	m, app, err := c.manageOne(ctx, io, c.applicationFlag)
	if err != nil {
		return err
	}
	in := api.DisconnectInput{SearchString: c.Search, Categories: c.Categories, Reason: c.Reason}
	if c.Before != nil {
		in.CreatedBefore = new(api.Timestamp(c.Before.UnixMilli())) // as it was given: a zero time is not "now"
	}
	if c.DryRun || in.CreatedBefore == nil {
		preview, err := m.PreviewMatching(ctx, app, in)
		switch {
		case err != nil:
			return err
		case c.DryRun && c.json():
			return printJSON(io.out, preview)
		case c.DryRun:
			_, err = fmt.Fprintf(io.out, "%d matching; --before %s ends these and no other\n", preview.Count, preview.CreatedBefore)
			return err
		}
		in.CreatedBefore = &preview.CreatedBefore
	}
	n, err := m.DisconnectMatching(ctx, app, in)
	if err != nil {
		return err
	}
	return c.ended(io, n)
}

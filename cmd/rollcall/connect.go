package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

type connectCmd struct {
	keyFlags
	applicationFlag
	tokenFlags
	Token          string          `help:"Session token to present."`
	PublishableKey string          `placeholder:"rca_…" help:"Publishable key of the application: an unauthorized session."`
	Hostname       string          `help:"Host name to report."`
	UserAgent      string          `help:"User agent to report."`
	ClientInfo     json.RawMessage `placeholder:"JSON" help:"Client metadata to report, a JSON object."`
	Activity       time.Duration   `default:"0s" help:"Report activity this often; 0 is never."`
	For            time.Duration   `default:"0s" help:"Say goodbye after this long; 0 is at the first signal."`
	Retry          bool            `help:"Keep trying when the first attempt fails."`
	Lease          time.Duration   `default:"0s" help:"Hold it by heartbeats, without a connection: a lease of this length; 0 is a connection."`
}

// Validate refuses client metadata that could not even be sent.
func (c connectCmd) Validate() error {
	if c.ClientInfo != nil && !json.Valid(c.ClientInfo) {
		return errors.New("--client-info must be a JSON object")
	}
	return c.tokenFlags.Validate()
}

// Run holds the session until a signal, --for, or the server's last word.
func (c connectCmd) Run(ctx context.Context, io *stdio) error {
	cfg := client.SessionConfig{
		URL: c.URL, Application: c.Application, PublishableKey: c.PublishableKey, ClientID: c.ClientID, Name: c.Name,
		Hostname: c.Hostname, UserAgent: c.UserAgent, ClientInfo: c.ClientInfo,
	}
	if err := c.credential(ctx, io, &cfg); err != nil {
		return err
	}
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	if c.Lease > 0 {
		return c.hold(ctx, io, cfg)
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	opened := false
	cfg.OnEvent = func(e client.Event) {
		if err := printLine(io.out, eventLine(e)); err != nil {
			giveUp(err)
		}
		switch e := e.(type) {
		case api.Welcome:
			opened = true
		case client.Closed:
			_, told := errors.AsType[*client.EndedError](e.Err)
			if !opened && !c.Retry && e.Err != nil && !told {
				giveUp(e.Err)
			}
		}
	}
	s, err := client.NewSession(cfg)
	if err != nil {
		return usageError{err}
	}
	var reporter sync.WaitGroup
	reporter.Go(func() { c.report(ctx, s) })
	err = s.Run(ctx)
	if why := context.Cause(ctx); err == nil && !errors.Is(why, context.Canceled) && !errors.Is(why, context.DeadlineExceeded) {
		err = why
	}
	giveUp(nil)
	reporter.Wait()
	return err
}

// hold holds a lease.
func (c connectCmd) hold(ctx context.Context, io *stdio, cfg client.SessionConfig) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	cfg.OnEvent = func(e client.Event) {
		if err := printLine(io.out, eventLine(e)); err != nil {
			giveUp(err)
		}
	}
	return client.HoldLease(ctx, cfg, c.Lease)
}

// report says that something happened, for as long as the session lives.
func (c connectCmd) report(ctx context.Context, s *client.Session) {
	if c.Activity <= 0 {
		return
	}
	tick := time.NewTicker(c.Activity)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = s.Activity(ctx) // the session sees its connection's trouble
		}
	}
}

// credential takes the first of --token, --publishable-key and --key.
func (c connectCmd) credential(ctx context.Context, io *stdio, cfg *client.SessionConfig) error {
	switch {
	case c.Token != "":
		cfg.Token = func(context.Context) (string, error) { return c.Token, nil }
	case c.PublishableKey != "":
	case c.Key != "":
		m, app, err := c.manageOne(ctx, io, c.applicationFlag)
		if err != nil {
			return err
		}
		cfg.Token = func(ctx context.Context) (string, error) {
			reply, err := c.issue(ctx, m, app)
			return reply.Token, err
		}
	default:
		return missing("there is no credential", "give --token, --publishable-key, or --key to have a token issued")
	}
	return nil
}

// closedLine is a client.Closed as connect prints it.
type closedLine struct {
	Type      string `json:"type"`
	Error     string `json:"error,omitempty"`
	Final     bool   `json:"final"`
	RetryInMs int64  `json:"retryInMs,omitempty"`
}

// eventLine is what an event looks like on a line: the server's frames as they are, and closed.
func eventLine(e client.Event) any {
	c, ok := e.(client.Closed)
	if !ok {
		return e
	}
	line := closedLine{Type: "closed", Final: c.Final, RetryInMs: c.RetryIn.Milliseconds()}
	if c.Err != nil {
		line.Error = c.Err.Error()
	}
	return line
}

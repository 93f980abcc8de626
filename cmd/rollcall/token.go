package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// tokenFlags are what a session token can carry.
type tokenFlags struct {
	Login     string        `help:"Login of the person or agent."`
	License   string        `help:"License of the software."`
	ClientID  string        `name:"client-id" help:"Client id, 4 to 64 characters."`
	Name      string        `help:"Name of the session."`
	ExpiresIn time.Duration `default:"1h" help:"How long tokens are valid."`
}

// Validate refuses what the server could not be asked for.
func (f tokenFlags) Validate() error {
	if f.ExpiresIn < time.Second || f.ExpiresIn%time.Second != 0 {
		return fmt.Errorf("--expires-in must be whole seconds, at least 1s")
	}
	return nil
}

func (f tokenFlags) input() api.TokenInput {
	return api.TokenInput{
		Login: f.Login, License: f.License, ClientID: f.ClientID, Name: f.Name, ExpiresIn: int(f.ExpiresIn / time.Second),
	}
}

func (f tokenFlags) issue(ctx context.Context, m *client.Manage, app api.ApplicationID) (api.TokenReply, error) {
	return m.IssueToken(ctx, app, f.input())
}

type tokenCmd struct {
	keyFlags
	applicationFlag
	tokenFlags
	outputFlag
}

// Run prints the token alone, so that it can be substituted into another command; JSON has the expiry as well.
func (c tokenCmd) Run(ctx context.Context, io *stdio) error {
	m, app, err := c.manageOne(ctx, io, c.applicationFlag)
	if err != nil {
		return err
	}
	reply, err := c.issue(ctx, m, app)
	if err != nil {
		return err
	}
	if c.json() {
		return printJSON(io.out, reply)
	}
	_, err = fmt.Fprintln(io.out, reply.Token)
	return err
}

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

type adminApplicationsCmd struct {
	List    applicationsListCmd    `cmd:"" help:"List an organization's applications."`
	Create  applicationsCreateCmd  `cmd:"" help:"Create an application."`
	Get     applicationsGetCmd     `cmd:"" help:"Show an application with its session counts."`
	Pause   applicationsPauseCmd   `cmd:"" help:"End an application's sessions and refuse new ones."`
	Resume  applicationsResumeCmd  `cmd:"" help:"Take sessions again."`
	Archive applicationsArchiveCmd `cmd:"" help:"Archive an application, which is final."`
}

type applicationsListCmd struct {
	adminFlags
	outputFlag
	Organization api.OrganizationID `arg:"" help:"UUID of the organization."`
}

// Run lists applications.
func (c applicationsListCmd) Run(ctx context.Context, io *stdio) error {
	return adminCall(c.adminFlags, c.outputFlag, io, func(a *client.Admin) (api.ApplicationList, error) {
		items, err := a.Applications(ctx, c.Organization)
		return api.ApplicationList{Items: items}, err
	}, func(l api.ApplicationList) *table { return applicationTable(l.Items...) })
}

func applicationTable(list ...api.Application) *table {
	t := newTable("APPLICATION", "NUMBER", "NAME", "STATE", "PUBLISHABLE KEY", "IDLE AFTER", "CREATED")
	for _, a := range list {
		t.add(a.ID.String(), a.Number, a.Name, string(a.State), a.PublishableKey, a.IdleAfter.String(),
			a.CreatedAt.String())
	}
	return t
}

type applicationsCreateCmd struct {
	adminFlags
	outputFlag
	Organization   api.OrganizationID `arg:"" help:"UUID of the organization."`
	Name           string             `required:"" help:"Name of the application."`
	ID             *api.ApplicationID `name:"id" placeholder:"UUID" help:"Id to give it; default: a new one."`
	Number         *string            `placeholder:"DIGITS" help:"Number to give it; default: a new one."`
	PublishableKey *string            `placeholder:"rca_…" help:"Publishable key to give it; default: a new one."`
	IdleAfter      *time.Duration     `placeholder:"5m" help:"Without activity, until a session counts as idle."`
	AllowedOrigins []string           `name:"allowed-origin" placeholder:"ORIGIN" help:"The only origins of browsers that may connect."`
	HS256Secret    string             `name:"hs256-secret" placeholder:"SECRET" help:"Verifies the application's own session tokens; at least 32 bytes."`
	JWKSURL        string             `name:"jwks-url" placeholder:"URL" help:"Keys that verify the application's own session tokens."`
	Issuer         string             `help:"Issuer of tokens verified through --jwks-url."`
	Audience       string             `help:"Audience of tokens verified through --jwks-url."`
}

// Run creates an application.
func (c applicationsCreateCmd) Run(ctx context.Context, io *stdio) error {
	in := client.ApplicationInput{ID: c.ID, Number: c.Number, Name: &c.Name, PublishableKey: c.PublishableKey}
	if c.IdleAfter != nil {
		d := api.Duration(*c.IdleAfter)
		in.IdleAfter = &d
	}
	if c.AllowedOrigins != nil {
		in.AllowedOrigins = &c.AllowedOrigins
	}
	tokens := client.TokensInput{HS256Secret: c.HS256Secret, JWKSURL: c.JWKSURL, Issuer: c.Issuer, Audience: c.Audience}
	if tokens != (client.TokensInput{}) {
		in.Tokens = &tokens
	}
	return adminCall(c.adminFlags, c.outputFlag, io, func(a *client.Admin) (api.Application, error) {
		return a.CreateApplication(ctx, c.Organization, in)
	}, func(a api.Application) *table { return applicationTable(a) })
}

// applicationCall is what the commands on one application share.
type applicationCall struct {
	adminFlags
	outputFlag
	Application api.ApplicationID `arg:"" help:"UUID of the application."`
}

func (c applicationCall) do(io *stdio, call func(*client.Admin) (api.Application, error)) error {
	var app api.Application
	err := adminCall(c.adminFlags, c.outputFlag, io, func(a *client.Admin) (_ api.Application, err error) {
		app, err = call(a)
		return app, err
	}, func(a api.Application) *table { return applicationTable(a) })
	if err != nil || app.Sessions == nil || c.json() {
		return err
	}
	n := app.Sessions
	_, err = fmt.Fprintf(io.out, "%d live (%d active, %d idle), %d with the ended ones\n", n.Live, n.Active, n.Idle, n.Total)
	return err
}

func (c applicationCall) setState(ctx context.Context, io *stdio, state api.ApplicationState) error {
	return c.do(io, func(a *client.Admin) (api.Application, error) {
		return a.PatchApplication(ctx, c.Application, client.ApplicationInput{State: &state})
	})
}

type applicationsGetCmd struct{ applicationCall }

// Run shows an application.
func (c applicationsGetCmd) Run(ctx context.Context, io *stdio) error {
	return c.do(io, func(a *client.Admin) (api.Application, error) { return a.Application(ctx, c.Application) })
}

type applicationsPauseCmd struct{ applicationCall }

// Run pauses an application.
func (c applicationsPauseCmd) Run(ctx context.Context, io *stdio) error {
	return c.setState(ctx, io, api.ApplicationPaused)
}

type applicationsResumeCmd struct{ applicationCall }

// Run makes an application active again.
func (c applicationsResumeCmd) Run(ctx context.Context, io *stdio) error {
	return c.setState(ctx, io, api.ApplicationActive)
}

type applicationsArchiveCmd struct {
	applicationCall
	Yes bool `help:"Archive it: there is no way back."`
}

// Run archives an application.
func (c applicationsArchiveCmd) Run(ctx context.Context, io *stdio) error {
	if !c.Yes {
		return missing("archiving is final", "give --yes if it is meant")
	}
	return c.do(io, func(a *client.Admin) (api.Application, error) {
		if err := a.ArchiveApplication(ctx, c.Application); err != nil {
			return api.Application{}, err
		}
		return a.Application(ctx, c.Application)
	})
}

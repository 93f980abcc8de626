package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/server"
)

type adminCmd struct {
	Organizations adminOrganizationsCmd `cmd:"" aliases:"orgs" help:"Organizations and their plans."`
	Applications  adminApplicationsCmd  `cmd:"" aliases:"apps" help:"Applications of an organization."`
	Keys          adminKeysCmd          `cmd:"" help:"API keys of an organization."`
}

// adminFlags find the admin token: given, or in the data directory of a server on the same machine.
type adminFlags struct {
	serverFlag
	Data       string `default:"./rollcall-data" placeholder:"DIR" help:"Data directory of the server on this machine (${default})."`
	AdminToken string `placeholder:"TOKEN" help:"Admin token; default: the one in --data."`
}

func (f adminFlags) admin() (*client.Admin, error) {
	token := f.AdminToken
	if token == "" {
		data, err := os.ReadFile(filepath.Join(f.Data, server.AdminTokenFile))
		if err != nil {
			return nil, hinted{fmt.Errorf("there is no admin token: %w", err),
				"give the server's data directory with --data, or the token with --admin-token or ROLLCALL_ADMIN_TOKEN"}
		}
		token = strings.TrimSpace(string(data))
	}
	a, err := client.NewAdmin(client.ManageConfig{URL: f.URL, Key: token})
	if err != nil {
		return nil, usageError{err}
	}
	return a, nil
}

// adminHint points a refused admin token to the flags that give it.
func adminHint(err error) error {
	if api.CodeOf(err) == api.CodeKeyInvalid {
		return hinted{err, "give the server's data directory with --data, or its admin token with --admin-token"}
	}
	return err
}

// adminCall makes a call and prints its result as JSON, or as a table.
func adminCall[T any](f adminFlags, o outputFlag, io *stdio, call func(*client.Admin) (T, error), rows func(T) *table) error {
	a, err := f.admin()
	if err != nil {
		return err
	}
	v, err := call(a)
	if err != nil {
		return adminHint(err)
	}
	if o.json() {
		return printJSON(io.out, v)
	}
	return rows(v).print(io.out)
}

type adminOrganizationsCmd struct {
	List   organizationsListCmd   `cmd:"" help:"List organizations."`
	Create organizationsCreateCmd `cmd:"" help:"Create an organization."`
	Update organizationsUpdateCmd `cmd:"" help:"Change an organization; a plan is replaced whole."`
}

type organizationsListCmd struct {
	adminFlags
	outputFlag
}

// Run lists organizations.
func (c organizationsListCmd) Run(ctx context.Context, io *stdio) error {
	return adminCall(c.adminFlags, c.outputFlag, io, func(a *client.Admin) (api.OrganizationList, error) {
		items, err := a.Organizations(ctx)
		return api.OrganizationList{Items: items}, err
	}, func(l api.OrganizationList) *table { return organizationTable(l.Items...) })
}

func organizationTable(list ...api.Organization) *table {
	t := newTable("ORGANIZATION", "NAME", "PLAN", "AUTHORIZED", "OVERVIEW", "RETENTION", "CREATED")
	for _, o := range list {
		limit := "unlimited"
		if n := o.Plan.MaxAuthorizedSessions; n != nil {
			limit = strconv.Itoa(*n)
		}
		t.add(o.ID.String(), o.Name, o.Plan.Name, limit, strconv.FormatBool(o.Plan.LiveSessionsOverview),
			o.Plan.HistoryRetention.String(), o.CreatedAt.String())
	}
	return t
}

// planFlags describe a plan; without --plan there is none in the request.
type planFlags struct {
	Plan                  string         `placeholder:"NAME" help:"Name of the plan."`
	MaxAuthorizedSessions *int           `placeholder:"N" help:"Of the plan; unlimited when not given."`
	LiveSessionsOverview  bool           `default:"true" negatable:"" help:"Whether the plan has lists and streams of live sessions."`
	HistoryRetention      *time.Duration `placeholder:"720h" help:"How long the plan keeps ended sessions listed."`
}

func (f planFlags) input() (*client.PlanInput, error) {
	if f.Plan == "" {
		if f.MaxAuthorizedSessions != nil || f.HistoryRetention != nil || !f.LiveSessionsOverview {
			return nil, usagef("a plan needs a name: give --plan")
		}
		return nil, nil
	}
	p := &client.PlanInput{
		Name: f.Plan, MaxAuthorizedSessions: f.MaxAuthorizedSessions, LiveSessionsOverview: &f.LiveSessionsOverview,
	}
	if f.HistoryRetention != nil {
		d := api.Duration(*f.HistoryRetention)
		p.HistoryRetention = &d
	}
	return p, nil
}

type organizationsCreateCmd struct {
	adminFlags
	outputFlag
	planFlags
	Name string              `required:"" help:"Name of the organization."`
	ID   *api.OrganizationID `name:"id" placeholder:"UUID" help:"Id to give it; default: a new one."`
}

// Run creates an organization.
func (c organizationsCreateCmd) Run(ctx context.Context, io *stdio) error {
	plan, err := c.input()
	if err != nil {
		return err
	}
	return adminCall(c.adminFlags, c.outputFlag, io, func(a *client.Admin) (api.Organization, error) {
		return a.CreateOrganization(ctx, client.OrganizationInput{ID: c.ID, Name: &c.Name, Plan: plan})
	}, func(o api.Organization) *table { return organizationTable(o) })
}

type organizationsUpdateCmd struct {
	adminFlags
	outputFlag
	planFlags
	Organization api.OrganizationID `arg:"" help:"UUID of the organization."`
	Name         *string            `help:"New name."`
}

// Run changes an organization.
func (c organizationsUpdateCmd) Run(ctx context.Context, io *stdio) error {
	plan, err := c.input()
	if err != nil {
		return err
	}
	return adminCall(c.adminFlags, c.outputFlag, io, func(a *client.Admin) (api.Organization, error) {
		return a.PatchOrganization(ctx, c.Organization, client.OrganizationInput{Name: c.Name, Plan: plan})
	}, func(o api.Organization) *table { return organizationTable(o) })
}

type adminKeysCmd struct {
	List   keysListCmd   `cmd:"" help:"List an organization's API keys."`
	Create keysCreateCmd `cmd:"" help:"Create an API key; its plaintext is shown this once."`
	Update keysUpdateCmd `cmd:"" help:"Change an API key."`
	Revoke keysRevokeCmd `cmd:"" help:"Revoke an API key, which is final."`
}

type keysListCmd struct {
	adminFlags
	outputFlag
	Organization api.OrganizationID `arg:"" help:"UUID of the organization."`
}

// Run lists API keys.
func (c keysListCmd) Run(ctx context.Context, io *stdio) error {
	return adminCall(c.adminFlags, c.outputFlag, io, func(a *client.Admin) (api.APIKeyList, error) {
		items, err := a.Keys(ctx, c.Organization)
		return api.APIKeyList{Items: items}, err
	}, func(l api.APIKeyList) *table { return keyTable(l.Items...) })
}

func keyTable(list ...api.APIKey) *table {
	t := newTable("KEY", "NAME", "STATE", "APPLICATIONS", "EXPIRES", "LAST USED", "SCOPES")
	for _, k := range list {
		apps, expires, used := "all", "never", "never"
		if k.Applications != nil {
			apps = strconv.Itoa(len(k.Applications))
		}
		if k.ExpiresAt != nil {
			expires = k.ExpiresAt.String()
		}
		if k.LastUsedAt != nil {
			used = k.LastUsedAt.String()
		}
		scopes := make([]string, len(k.Scopes))
		for i, s := range k.Scopes {
			scopes[i] = string(s)
		}
		t.add(k.PublicID, k.Name, string(k.State), apps, expires, used, "").set(6, strings.Join(scopes, ","))
	}
	return t
}

// keyInputFlags are what a key can be given.
type keyInputFlags struct {
	Scopes       []api.Scope         `name:"scope" placeholder:"SCOPE" help:"What the key may do, such as sessions:read; repeat or separate by commas."`
	Applications []api.ApplicationID `name:"only" placeholder:"UUID" help:"The only applications that the key may see; repeat or separate by commas."`
	ExpiresAt    *time.Time          `placeholder:"2027-01-01T00:00:00Z" help:"When the key stops working."`
}

func (f keyInputFlags) input(name *string) client.KeyInput {
	in := client.KeyInput{Name: name, Scopes: f.Scopes, Applications: f.Applications}
	if f.ExpiresAt != nil {
		t := api.Timestamp(api.MillisOf(*f.ExpiresAt))
		in.ExpiresAt = &t
	}
	return in
}

type keysCreateCmd struct {
	adminFlags
	outputFlag
	keyInputFlags
	Organization api.OrganizationID `arg:"" help:"UUID of the organization."`
	Name         string             `required:"" help:"Name of the key."`
}

// Run creates an API key and prints its plaintext alone, so that it can be substituted; JSON has the rest as well.
func (c keysCreateCmd) Run(ctx context.Context, io *stdio) error {
	if len(c.Scopes) == 0 {
		return usagef("a key without scopes can do nothing: give --scope")
	}
	a, err := c.admin()
	if err != nil {
		return err
	}
	k, err := a.CreateKey(ctx, c.Organization, c.input(&c.Name))
	if err != nil {
		return adminHint(err)
	}
	if c.json() {
		return printJSON(io.out, k)
	}
	_, err = fmt.Fprintln(io.out, k.Key)
	return err
}

type keysUpdateCmd struct {
	adminFlags
	outputFlag
	keyInputFlags
	PublicID        string  `arg:"" name:"key" help:"Public id of the key."`
	Name            *string `help:"New name."`
	AllApplications bool    `help:"Take the restriction to applications away."`
	NeverExpires    bool    `help:"Take the expiry away."`
}

// Run changes an API key.
func (c keysUpdateCmd) Run(ctx context.Context, io *stdio) error {
	return adminCall(c.adminFlags, c.outputFlag, io, func(a *client.Admin) (api.APIKey, error) {
		in := c.input(c.Name)
		in.AllApplications, in.NeverExpires = c.AllApplications, c.NeverExpires
		return a.PatchKey(ctx, c.PublicID, in)
	}, func(k api.APIKey) *table { return keyTable(k) })
}

type keysRevokeCmd struct {
	adminFlags
	PublicID string `arg:"" name:"key" help:"Public id of the key."`
}

// Run revokes an API key.
func (c keysRevokeCmd) Run(ctx context.Context, io *stdio) error {
	a, err := c.admin()
	if err != nil {
		return err
	}
	if err := a.RevokeKey(ctx, c.PublicID); err != nil {
		return adminHint(err)
	}
	_, err = fmt.Fprintf(io.out, "%s revoked\n", printable(c.PublicID, 0))
	return err
}

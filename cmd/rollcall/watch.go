package main

import (
	"context"
	"errors"
	goio "io"
	"os"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/term"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

type watchCmd struct {
	keyFlags
	applicationFlag
	queryFlags
	Totals bool `help:"Print the counts as well when they change."`
}

// Run shows a live table on a terminal, and prints JSON lines anywhere else.
func (c watchCmd) Run(ctx context.Context, io *stdio) error {
	if err := c.required(); err != nil {
		return err
	}
	if out, ok := io.out.(*os.File); ok && isTerminal(out) && os.Getenv("TERM") != "dumb" {
		return c.desk(ctx, out)
	}
	return c.print(ctx, io)
}

// print writes every message of the stream as it comes, init first. After a lost connection a fresh init follows.
func (c watchCmd) print(ctx context.Context, io *stdio) error {
	m, err := c.manage(io)
	if err != nil {
		return err
	}
	q := c.query(c.Application)
	q.Totals = c.Totals
	w, err := m.Watch(ctx, q)
	if err != nil {
		return unlessDone(ctx, err)
	}
	defer w.Close() //nolint:errcheck // it has no error
	for {
		step, err := w.Next(ctx)
		if err != nil {
			return unlessDone(ctx, err)
		}
		for _, msg := range step.Messages {
			if err := printLine(io.out, msg.Raw); err != nil {
				return err
			}
		}
	}
}

// desk shows the live table until the operator quits, a signal comes, or the server ends the stream for good. Whatever it is, the
// terminal is as it was.
func (c watchCmd) desk(ctx context.Context, out *os.File) error {
	m, err := c.manage(&stdio{err: goio.Discard}) // the stream says itself when it is partial, and the screen is taken
	if err != nil {
		return err
	}
	q := c.query(c.Application)
	q.Totals, q.Page = true, max(q.Page, 1)
	width, height, err := term.GetSize(out.Fd())
	if err != nil {
		return err
	}
	if c.PageSize == nil {
		q.PageSize = pageSizeFor(height)
	}
	app, err := c.uuid(ctx, m)
	if err != nil {
		return unlessDone(ctx, err)
	}
	w, err := m.Watch(ctx, q)
	if err != nil {
		return unlessDone(ctx, err)
	}
	defer w.Close() //nolint:errcheck // it has no error
	d := newDesk(ctx, &liveFeed{w, m, app}, c.URL, q)
	d.width, d.height, d.fixedSize = width, height, c.PageSize != nil

	options := []tea.ProgramOption{tea.WithOutput(out), tea.WithoutSignalHandler()} // run handles signals
	if os.Getenv("NO_COLOR") != "" {
		// Whatever its value, says no-color.org; the library takes only those that read as true.
		options = append(options, tea.WithColorProfile(colorprofile.ASCII))
	}
	if _, err := tea.NewProgram(d, options...).Run(); err != nil { // a signal ends ctx, which ends Next
		return err
	}
	return d.failed
}

// uuid returns the id of the application; a stream may be read by keys that may not list applications.
func (c watchCmd) uuid(ctx context.Context, m *client.Manage) (api.ApplicationID, error) {
	if id, err := api.ParseID[api.Application](c.Application); err == nil {
		return id, nil
	}
	return m.Resolve(ctx, c.Application)
}

// feed is what a desk shows and obeys: a stream with the Sessions API beside it.
type feed interface {
	// Next waits for the page to change; an error is final.
	Next(ctx context.Context) (client.Step, error)
	// Query moves the stream; a fresh page follows. While the stream is down it is moved when it comes back.
	Query(ctx context.Context, q client.Query) error
	// Down returns why the page is an old one; nil while it is not.
	Down() error
	Session(ctx context.Context, id api.SessionID) (api.Session, error)
	Disconnect(ctx context.Context, id api.SessionID, reason string) (int, error)
}

type liveFeed struct {
	*client.Watch
	m   *client.Manage
	app api.ApplicationID
}

// Query forgives a stream that is down: it comes back with the query.
func (f *liveFeed) Query(ctx context.Context, q client.Query) error {
	if err := f.Watch.Query(ctx, q); !errors.Is(err, client.ErrNotConnected) {
		return err
	}
	return nil
}

// Session returns a session with its details.
func (f *liveFeed) Session(ctx context.Context, id api.SessionID) (api.Session, error) {
	return f.m.Session(ctx, f.app, id, true)
}

// Disconnect ends a session through the Sessions API, which takes a reason and tells the outcome; the stream's own command does
// neither.
func (f *liveFeed) Disconnect(ctx context.Context, id api.SessionID, reason string) (int, error) {
	return f.m.Disconnect(ctx, f.app, id, reason)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/rollcallhq/rollcall/api"
)

// Exit codes (page 6).
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
)

// cli is the command line: kong makes flags, environment variables, the keys of --config and --help from it.
type cli struct {
	Config kong.ConfigFlag `placeholder:"FILE" help:"YAML file with values of flags, by their names without the dashes."`

	Serve    serveCmd    `cmd:"" help:"Run the server: API and session protocol."`
	Demo     demoCmd     `cmd:"" help:"Run the server with a demo organization and real clients that come and go."`
	Sessions sessionsCmd `cmd:"" help:"List, watch and end sessions."`
	Audit    auditCmd    `cmd:"" help:"List what was changed, by whom and from where."`
	Token    tokenCmd    `cmd:"" help:"Issue a session token."`
	Connect  connectCmd  `cmd:"" help:"Hold a session from the terminal and print its events, one JSON object a line."`
	Admin    adminCmd    `cmd:"" help:"Organizations, applications and API keys; takes the admin token."`
	MCP      mcpCmd      `cmd:"" name:"mcp" help:"Stand in front of an MCP server and show who is connected to it."`
	Bench    benchCmd    `cmd:"" help:"Measure the whole system over real sockets."`
	Version  versionCmd  `cmd:"" help:"Print the version."`

	Completion completionCmd `cmd:"" help:"Print the script that completes commands and flags in a shell."`

	BenchServer   benchServerCmd   `cmd:"" hidden:""`
	BenchClient   benchClientCmd   `cmd:"" hidden:""`
	BenchWatchers benchWatchersCmd `cmd:"" hidden:""`
	BenchStormers benchStormersCmd `cmd:"" hidden:""`
	BenchHeld     benchHeldCmd     `cmd:"" hidden:""`
	BenchBare     benchBareCmd     `cmd:"" hidden:""`
}

// stdio is where a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// usageError is a command line that cannot be meant: exit code 2.
type usageError struct{ error }

// Unwrap returns what is wrong with the command line.
func (u usageError) Unwrap() error { return u.error }

// missing is a usage error that names what to give.
func missing(what, hint string) error { return usageError{hinted{errors.New(what), hint}} }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// run is the whole program but the exit.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	var root cli
	parser, err := kong.New(&root,
		kong.Name("rollcall"),
		kong.Description("Who is connected, what just changed, and how to cut someone off."),
		kong.DefaultEnvars("ROLLCALL"),
		kong.Configuration(loadConfig),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: false}),
		kong.Writers(out, errs),
		flagDefaults,
	)
	if err != nil {
		return report(errs, err, "")
	}
	if len(args) > 0 && args[0] == completeArg {
		printCandidates(out, parser.Model.Node, args[1:])
		return exitFine
	}
	kctx, err := parser.Parse(args)
	if err != nil {
		if parse, ok := errors.AsType[*kong.ParseError](err); ok {
			kctx = parse.Context
		}
		return report(errs, usageError{err}, commandOf(kctx))
	}
	ctx, stop := untilSignal(errs)
	defer stop()
	kctx.BindTo(ctx, (*context.Context)(nil))
	return report(errs, kctx.Run(&stdio{in: in, out: out, err: errs}), commandOf(kctx))
}

// sameSignal is how soon a signal counts as the same one again: timeout(1) and shells send theirs to the process and to its
// group.
const sameSignal = 20 * time.Millisecond

// untilSignal returns a context that the first SIGINT or SIGTERM ends; the second ends the process at once (page 6).
func untilSignal(errs io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	stopped := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-signals:
			cancel()
		case <-stopped:
			return
		}
		select {
		case <-time.After(sameSignal):
		case <-stopped:
			return
		}
		for len(signals) > 0 {
			<-signals
		}
		select {
		case <-signals:
			fmt.Fprintln(errs, "rollcall: a second signal; stopping at once")
			os.Exit(exitFailed)
		case <-stopped:
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(stopped)
		watching.Wait()
		cancel()
	}
}

// report writes the one line that says why, and what to do, and returns the exit code.
func report(w io.Writer, err error, command string) int {
	if err == nil {
		return exitFine
	}
	_, isUsage := errors.AsType[usageError](err)
	hint := hintFor(err)
	if isUsage && hint == "" {
		hint = strings.TrimSpace("see rollcall "+command) + " --help"
	}
	line := err.Error()
	if hint != "" {
		line += "; " + hint
	}
	fmt.Fprintln(w, "rollcall: "+printable(line, 0))
	if isUsage {
		return exitUsage
	}
	return exitFailed
}

// commandOf returns the words of the command that was given, as far as they were understood.
func commandOf(kctx *kong.Context) string {
	var words []string
	if kctx != nil {
		for _, p := range kctx.Path {
			if p.Command != nil {
				words = append(words, p.Command.Name)
			}
		}
	}
	return strings.Join(words, " ")
}

// hintFor says what to do about an error; "" when the error says it, or nothing is known.
func hintFor(err error) string {
	if h, ok := errors.AsType[hinted](err); ok {
		return h.hint
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "is the server running? Give its address with --url or ROLLCALL_URL"
	}
	switch api.CodeOf(err) {
	case api.CodeKeyInvalid, api.CodeKeyExpired, api.CodeKeyRevoked:
		return "give another key with --key or ROLLCALL_KEY"
	case api.CodeInsufficientScope:
		return "use a key that has it"
	case api.CodeApplicationForbidden, api.CodeApplicationNotFound:
		return "give another application with --application, or use another key"
	case api.CodePlanRestricted:
		return "change the plan with rollcall admin organizations"
	case api.CodeRateLimited, api.CodeUnavailable:
		return "try again"
	default:
		return ""
	}
}

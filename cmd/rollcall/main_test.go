package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rollcall": main})
}

// patience is how long a script waits for anything before it counts as broken.
const patience = 20 * time.Second

func TestScripts(t *testing.T) {
	postgres := postgresOf(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Deadline:            time.Now().Add(8 * time.Minute), // what hangs fails, with what it wrote
		Setup: func(env *testscript.Env) error {
			env.Values["procs"] = map[string]*proc{}
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else every command takes a second more under the race detector
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": cmdStart, "signal": cmdSignal, "await": cmdAwait, "ended": cmdEnded, "taken": cmdTaken, "once": cmdOnce,
			"grab": cmdGrab, "free": cmdFree, "nats": cmdNATS, "noleak": cmdNoLeak, "postgres": postgres.cmd,
		},
		Condition: postgres.here,
	})
}

// proc is a rollcall that runs beside the script.
type proc struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended

	mu  sync.Mutex
	out bytes.Buffer // of both streams
}

// Write collects output.
func (p *proc) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *proc) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func procs(ts *testscript.TestScript) map[string]*proc {
	return ts.Value("procs").(map[string]*proc)
}

func lookup(ts *testscript.TestScript, name string) *proc {
	p := procs(ts)[name]
	if p == nil {
		ts.Fatalf("nothing named %q was started", name)
	}
	return p
}

// cmdStart is `start NAME ARG…`: it starts rollcall with the arguments and goes on with the script.
func cmdStart(ts *testscript.TestScript, _ bool, args []string) {
	path := ""
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, "rollcall")); err == nil {
			path = filepath.Join(dir, "rollcall")
			break
		}
	}
	p := &proc{cmd: exec.Command(path, args[1:]...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = ts.MkAbs("."), p, p
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GORACE", "ROLLCALL_URL", "ROLLCALL_KEY", "ROLLCALL_APPLICATION"} {
		if v := ts.Getenv(name); v != "" {
			p.cmd.Env = append(p.cmd.Env, name+"="+v)
		}
	}
	ts.Check(p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	procs(ts)[args[0]] = p
	ts.Defer(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		ts.Logf("%s wrote:\n%s", args[0], p.output())
	})
}

// cmdAwait is `await NAME REGEXP [VARIABLE…]`: it waits until the output matches, and sets the variables to the groups.
func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	p, re := lookup(ts, args[0]), regexp.MustCompile("(?m)"+args[1])
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if m := re.FindStringSubmatch(p.output()); m != nil {
			for i, name := range args[2:] {
				ts.Setenv(name, m[i+1])
			}
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s did not write %q", args[0], args[1])
		}
	}
}

// cmdSignal is `signal NAME TERM|INT|KILL`.
func cmdSignal(ts *testscript.TestScript, _ bool, args []string) {
	sig := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}[args[1]]
	ts.Check(lookup(ts, args[0]).cmd.Process.Signal(sig))
}

// cmdEnded is `ended NAME CODE`: it waits for the end and compares the exit code.
func cmdEnded(ts *testscript.TestScript, _ bool, args []string) {
	p := lookup(ts, args[0])
	select {
	case <-p.done:
	case <-time.After(patience):
		ts.Fatalf("%s did not end", args[0])
	}
	if code := fmt.Sprint(p.cmd.ProcessState.ExitCode()); code != args[1] {
		ts.Fatalf("%s ended with %s, want %s", args[0], code, args[1])
	}
}

// cmdTaken is `taken VARIABLE`: it listens on a port for as long as the script runs.
func cmdTaken(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// cmdOnce is `once CODE ARG…`: rollcall ends with the exit code, and says why on one line of stderr, which `stderr` then holds.
func cmdOnce(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("rollcall", args[1:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	stderr := ts.ReadFile("stderr")
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s; stderr: %s", code, args[0], stderr)
	}
	if !strings.HasPrefix(stderr, "rollcall: ") || strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "\n") {
		ts.Fatalf("stderr is not one line that says why: %q", stderr)
	}
}

// cmdGrab is `grab FILE REGEXP VARIABLE…`: it sets the variables to the groups of the match in the file, or in stdout.
func cmdGrab(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile(args[0]))
	if m == nil {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	for i, name := range args[2:] {
		ts.Setenv(name, m[i+1])
	}
}

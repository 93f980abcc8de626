//go:build unix

package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// installed is where distributions put the binaries.
const installed = "/usr/lib/postgresql/*/bin"

// patience is how long a server may take to start or to stop, on a machine that others use.
const patience = 2 * time.Minute

// Server is a running server, or one that was stopped and can be started again. Not for concurrent use.
type Server struct {
	bin, dir   string
	credential *syscall.Credential // nil = ours
	settings   []string
	cmd        *exec.Cmd // nil while it does not run
	paused     []int     // the processes that Pause stopped
}

// Start makes a data directory below /tmp and runs a server in it, with settings such as "shared_buffers=512MB", until Close. What
// it holds need not outlast the machine: nothing is synced to disk. ErrAbsent when there are no binaries, or nobody who may run
// them.
func Start(ctx context.Context, settings ...string) (*Server, error) {
	s := &Server{settings: append([]string{"listen_addresses=", "fsync=off"}, settings...)}
	err := s.prepare(ctx)
	if err == nil {
		err = s.Up(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// binaries returns the directory of the server in PATH, else of the newest that matches, "" when there is none.
func binaries(pattern string) string {
	var dirs []string
	if path, err := exec.LookPath("initdb"); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	found, _ := filepath.Glob(pattern) // the pattern is well-formed
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))) // 0 is the oldest
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range append(dirs, found...) {
		_, first := os.Stat(filepath.Join(dir, "initdb"))
		_, second := os.Stat(filepath.Join(dir, "postgres"))
		if first == nil && second == nil {
			return dir
		}
	}
	return ""
}

// unprivileged returns who runs the server: it refuses to be root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("%w: it does not run as root, and there is neither a user postgres nor nobody", ErrAbsent)
}

// prepare makes a data directory.
func (s *Server) prepare(ctx context.Context) (err error) {
	if s.bin = binaries(installed); s.bin == "" {
		return fmt.Errorf("%w: no initdb and postgres in PATH or %s", ErrAbsent, installed)
	}
	if s.credential, err = unprivileged(); err != nil {
		return err
	}
	// Not TMPDIR: another user must get there, and a socket's path has at most 107 bytes.
	if s.dir, err = os.MkdirTemp("/tmp", "rollcall-pg-"); err != nil {
		return err
	}
	if s.credential != nil {
		if err := os.Chown(s.dir, int(s.credential.Uid), int(s.credential.Gid)); err != nil {
			return err
		}
	}
	initdb := s.command(ctx, "initdb", "-D", s.data(), "-U", User, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	rules := "local all " + Guarded + " scram-sha-256\nlocal all all trust\n"
	if err := os.WriteFile(filepath.Join(s.data(), "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		return err
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...) //nolint:gosec // the installed PostgreSQL
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TMPDIR=" + s.dir}
	// A group of its own: a Ctrl-C at the terminal is ours to pass on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential, Setpgid: true}
	endWithParent(cmd.SysProcAttr)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = patience
	return cmd
}

// leftovers is what a server says that finds processes of one that was killed: they end a moment later than it did.
const leftovers = "pre-existing shared memory block"

// start runs the server, which is stopped when ctx ends.
func (s *Server) start(ctx context.Context) error {
	log, err := os.Create(s.logFile())
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", s.data(), "-k", s.dir}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	s.cmd = s.command(ctx, "postgres", args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return err
	}
	return nil
}

// Up runs the server and waits until it answers. It is stopped when ctx ends.
func (s *Server) Up(ctx context.Context) error {
	if err := s.start(ctx); err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		if time.Now().After(end) {
			return fmt.Errorf("PostgreSQL does not answer: %w: %s", err, strings.TrimSpace(s.Log()))
		}
		if strings.Contains(s.Log(), leftovers) {
			_ = s.cmd.Wait() // nobody needs what it says
			if err := s.start(ctx); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// Dir is the directory of the server's socket.
func (s *Server) Dir() string { return s.dir }

// Log returns what the server has said since it was started.
func (s *Server) Log() string {
	said, _ := os.ReadFile(s.logFile()) // a server that cannot say it has said nothing
	return string(said)
}

// Binaries is the directory of the server's programs.
func (s *Server) Binaries() string { return s.bin }

// URL names one of the server's databases; "postgres" is always there. Its user may do everything.
func (s *Server) URL(database string) string {
	return "postgres://" + User + "@/" + database + "?host=" + s.dir + "&sslmode=disable"
}

// Exec runs statements as the user who may do everything.
func (s *Server) Exec(ctx context.Context, database, statements string) error {
	conn, err := pgx.Connect(ctx, s.URL(database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statements, pgx.QueryExecModeSimpleProtocol)
	return errors.Join(err, conn.Close(ctx))
}

// Down ends every connection and stops the server.
func (s *Server) Down() { s.end(syscall.SIGINT) }

// Kill ends the server as a power failure would: Up recovers what was committed.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(signal syscall.Signal) {
	if s.cmd == nil {
		return
	}
	s.Resume()
	children := s.children()
	_ = s.cmd.Process.Signal(signal) // it may have ended
	if signal == syscall.SIGKILL {   // or they serve on until they see that they are alone
		for _, pid := range children {
			_ = syscall.Kill(pid, signal) // it may have ended
		}
	}
	_ = s.cmd.Wait() // nobody needs what it says
	s.cmd = nil
}

// children returns the processes of the server but for the first, where the system lists them (Linux).
func (s *Server) children() (pids []int) {
	all, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", s.cmd.Process.Pid)) // elsewhere there is none
	for field := range strings.FieldsSeq(string(all)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Pause stops every process of the server, which then neither answers nor closes anything, until Resume.
func (s *Server) Pause(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	rows, err := conn.Query(ctx, `SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()`)
	if err != nil {
		return errors.Join(err, conn.Close(ctx))
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return err
	}
	// The one that starts new ones first.
	s.paused = append([]int{s.cmd.Process.Pid}, pids...)
	for _, pid := range s.paused {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // it may have ended
	}
	return nil
}

// Resume undoes Pause.
func (s *Server) Resume() {
	for _, pid := range slices.Backward(s.paused) {
		_ = syscall.Kill(pid, syscall.SIGCONT) // it may have ended
	}
	s.paused = nil
}

// Close stops the server and removes its directory.
func (s *Server) Close() {
	s.Down()
	if s.dir != "" {
		_ = os.RemoveAll(s.dir) // it is temporary
	}
}

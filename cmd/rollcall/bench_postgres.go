//go:build unix

package main

import (
	"bytes"
	"context"
	"database/sql"
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
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rollcallhq/rollcall/api"
)

// postgres is a PostgreSQL server of the benchmark's own, on a socket in its directory.
type postgres struct {
	bin, dir   string
	credential *syscall.Credential // nil = ours
	server     *exec.Cmd
	log        bytes.Buffer
}

const (
	postgresPatience = 2 * time.Minute // to start and to stop, on a machine that others use
	postgresUser     = "bench"
)

// openPostgresRival starts a server and fills it. errNotHere = there are no binaries, or nobody who may run them.
func openPostgresRival(ctx context.Context, source synthetic, rows int, progress progress) (*rival, func(), error) {
	p := &postgres{}
	if err := p.prepare(ctx); err != nil {
		p.stop()
		return nil, nil, err
	}
	if err := p.start(ctx); err != nil {
		p.stop()
		return nil, nil, err
	}
	db, err := p.fill(ctx, source, rows, progress)
	if err != nil {
		p.stop()
		return nil, nil, fmt.Errorf("filling it: %w", err)
	}
	r := &rival{db: db, like: "ILIKE", place: func(n int) string { return "$" + strconv.Itoa(n) }, app: source.app.String()}
	return r, func() {
		_ = db.Close() // it is removed
		p.stop()
	}, nil
}

// installedPostgres is where distributions put it.
const installedPostgres = "/usr/lib/postgresql/*/bin"

// postgresBinaries returns the directory of the server in PATH, else of the newest that matches, "" when there is none.
func postgresBinaries(pattern string) string {
	var dirs []string
	if path, err := exec.LookPath("initdb"); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	installed, _ := filepath.Glob(pattern) // the pattern is well-formed
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))) // 0 is the oldest
		return n
	}
	slices.SortFunc(installed, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range append(dirs, installed...) {
		_, first := os.Stat(filepath.Join(dir, "initdb"))
		_, second := os.Stat(filepath.Join(dir, "postgres"))
		if first == nil && second == nil {
			return dir
		}
	}
	return ""
}

// postgresCredential returns who runs the server: it refuses to be root.
func postgresCredential() (*syscall.Credential, error) {
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
	return nil, fmt.Errorf("%w: it does not run as root, and there is neither a user postgres nor nobody", errNotHere)
}

// prepare makes a data directory.
func (p *postgres) prepare(ctx context.Context) (err error) {
	if p.bin = postgresBinaries(installedPostgres); p.bin == "" {
		return fmt.Errorf("%w: no initdb and postgres in PATH or %s", errNotHere, installedPostgres)
	}
	if p.credential, err = postgresCredential(); err != nil {
		return err
	}
	// Not TMPDIR: another user must get there, and a socket's path has at most 107 bytes.
	if p.dir, err = os.MkdirTemp("/tmp", "rollcall-pg-"); err != nil {
		return err
	}
	if p.credential != nil {
		if err := os.Chown(p.dir, int(p.credential.Uid), int(p.credential.Gid)); err != nil {
			return err
		}
	}
	initdb := p.command(ctx, "initdb", "-D", filepath.Join(p.dir, "data"), "-U", postgresUser, "--auth=trust", "--no-sync",
		"--encoding=UTF8", "--locale=C.UTF-8")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func (p *postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...) //nolint:gosec // the installed PostgreSQL
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TMPDIR=" + p.dir}
	// A group of its own: a Ctrl-C at the terminal is ours to pass on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential, Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = postgresPatience
	return cmd
}

// start runs the server and waits until it answers.
func (p *postgres) start(ctx context.Context) error {
	p.server = p.command(ctx, "postgres", "-D", filepath.Join(p.dir, "data"), "-k", p.dir, "-c", "listen_addresses=",
		"-c", "shared_buffers=512MB", "-c", "work_mem=64MB", "-c", "maintenance_work_mem=512MB", "-c", "jit=off",
		"-c", "max_wal_size=4GB", "-c", "random_page_cost=1.1", "-c", "effective_cache_size=2GB")
	p.server.Stdout, p.server.Stderr = &p.log, &p.log
	if err := p.server.Start(); err != nil {
		p.server = nil
		return err
	}
	for end := time.Now().Add(postgresPatience); ; {
		conn, err := p.connect(ctx)
		if err == nil {
			return conn.Close(ctx)
		}
		if time.Now().After(end) {
			return fmt.Errorf("it does not answer: %w", err)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func (p *postgres) config() (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig("host=" + p.dir + " user=" + postgresUser + " dbname=postgres sslmode=disable")
	if err != nil {
		return nil, err
	}
	// The plan of a statement that is prepared for any needle is the wrong one for most: have one made for each.
	cfg.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	return cfg, nil
}

func (p *postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := p.config()
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, cfg)
}

// fill copies the rows, then makes the indexes. It takes what it takes: ctx alone ends it.
func (p *postgres) fill(ctx context.Context, source synthetic, rows int, progress progress) (*sql.DB, error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx) //nolint:errcheck // what it did is done
	if _, err := conn.Exec(ctx, strings.Replace(rivalTable, "CREATE TABLE", "CREATE UNLOGGED TABLE", 1)); err != nil {
		return nil, err
	}
	next := 0
	copied := pgx.CopyFromFunc(func() ([]any, error) {
		if next == rows {
			return nil, nil
		}
		if next++; next%progressEvery == 0 {
			progress("%s has %d of %d sessions", systemPostgres, next, rows)
		}
		return rivalValues(source.row(next - 1)), nil
	})
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{"sessions"}, rivalColumns, copied); err != nil {
		return nil, err
	}
	statements := []string{rivalIndex, "CREATE EXTENSION pg_trgm"}
	for _, category := range []api.Category{api.CategoryLicense, api.CategoryIP, api.CategoryClientID} {
		column := rivalSearched[category]
		statements = append(statements, fmt.Sprintf("CREATE INDEX sessions_%s ON sessions USING gin (%s gin_trgm_ops)", column, column))
	}
	for _, statement := range append(statements, "VACUUM ANALYZE sessions") {
		progress("%s: %s", systemPostgres, statement)
		if _, err := conn.Exec(ctx, statement); err != nil {
			return nil, fmt.Errorf("%s: %w", statement, err)
		}
	}
	cfg, err := p.config()
	if err != nil {
		return nil, err
	}
	return stdlib.OpenDB(*cfg), nil
}

// stop ends the server and removes its directory.
func (p *postgres) stop() {
	if p.server != nil {
		_ = p.server.Process.Signal(syscall.SIGINT) // fast shutdown; it may have ended
		_ = p.server.Wait()                         // nobody needs what it says
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir) // it is temporary
	}
}

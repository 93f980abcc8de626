package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// postgresUse is what a PostgreSQL server has done.
type postgresUse struct {
	Rows int64   `json:"rows"` // records of sessions that nodes wrote
	WAL  int64   `json:"walBytes"`
	CPU  float64 `json:"cpuSeconds"` // of all its processes
}

func (u postgresUse) since(before postgresUse) postgresUse {
	return postgresUse{u.Rows - before.Rows, u.WAL - before.WAL, math.Round(100*(u.CPU-before.CPU)) / 100}
}

// postgresMeter reads it. Where the system has no /proc, processor time is 0.
type postgresMeter struct {
	conn *pgx.Conn
	main int // the process that all others of the server are children of
}

func openPostgresMeter(ctx context.Context, database string) (*postgresMeter, error) {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return nil, err
	}
	m := &postgresMeter{conn: conn}
	var own int
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&own); err != nil {
		m.close(ctx)
		return nil, err
	}
	m.main, _ = familyOf(own)
	return m, nil
}

func (m *postgresMeter) close(ctx context.Context) { _ = m.conn.Close(ctx) } // it has read what it was for

// read returns all but the rows.
func (m *postgresMeter) read(ctx context.Context) (u postgresUse, err error) {
	err = m.conn.QueryRow(ctx, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").Scan(&u.WAL)
	if err != nil || m.main == 0 {
		return u, err
	}
	_, u.CPU = familyOf(m.main)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat))) // the pattern matches digits
		if parent, cpu := familyOf(pid); parent == m.main {
			u.CPU += cpu
		}
	}
	return u, err
}

// familyOf returns the parent of a process, and the seconds that it and those of its children that have ended have used
// (proc_pid_stat(5)); 0 for one that is not there.
func familyOf(pid int) (parent int, cpu float64) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the name may have spaces
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(fields[1]) // 0, as for one that is not there
	for _, f := range fields[11:15] {
		ticks, _ := strconv.ParseInt(f, 10, 64) // as above
		cpu += float64(ticks) * clockTick.Seconds()
	}
	return parent, cpu
}

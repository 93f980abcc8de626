package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// sweepBatch is how many records one transaction of a sweep closes, so that writers wait for milliseconds, not for the sweep.
const sweepBatch = 1000

const (
	raiseIncarnation = `UPDATE counters SET value = value + 1 WHERE name = 'incarnation' RETURNING value`
	insertNode       = `INSERT INTO nodes (incarnation, name, claimed_at, beat_at, fenced_at) VALUES (?, ?, {now}, {now}, 0)`
	// A beat counts only for the newest incarnation of a name, and only while no sweep has fenced it.
	beatNode = `UPDATE nodes SET beat_at = CASE WHEN beat_at < {now} THEN {now} ELSE beat_at END
		WHERE incarnation = ? AND name = ? AND fenced_at = 0
			AND NOT EXISTS (SELECT 1 FROM nodes AS newer WHERE newer.name = nodes.name AND newer.incarnation > nodes.incarnation)`
	newerNodes = `SELECT count(*) FROM nodes WHERE name = ? AND incarnation > ? AND fenced_at = 0`
	// The condition is repeated in the write, so that a node that beats at this moment either is fenced or lives.
	fenceNodes = `UPDATE nodes SET fenced_at = {now}
		WHERE fenced_at = 0 AND ((name = ? AND incarnation < ?) OR (name <> ? AND beat_at < {now} - ?))`
	releaseNode = `UPDATE nodes SET beat_at = CASE WHEN beat_at < {now} THEN {now} ELSE beat_at END, fenced_at = {now}
		WHERE incarnation = ? AND fenced_at = 0`
	livingNodes = `SELECT name, max(incarnation) FROM nodes WHERE fenced_at = 0 AND beat_at >= {now} - ? GROUP BY name`
	selectNow   = `SELECT {now}`
	holdNode    = `SELECT incarnation FROM nodes WHERE incarnation = ? AND fenced_at = 0 {hold}`
	selectNode  = `SELECT name, beat_at, fenced_at FROM nodes WHERE incarnation = ?`
	// Asked again and again for the next one it walks the distinct incarnations of the open records by index, however many records
	// each has.
	nextOpen = `SELECT min(incarnation) FROM sessions WHERE ended_at = 0 AND incarnation > ?`
	// What makes a record fit is asked of the row that is written, too: while this waited for another writer of it, it may have been
	// closed or adopted.
	closeOpen = `UPDATE sessions SET ended_at = CASE WHEN created_at > ? THEN created_at ELSE ? END, end_reason = ?
		WHERE ended_at = 0 AND incarnation = ? AND (application, id) IN
			(SELECT application, id FROM sessions WHERE ended_at = 0 AND incarnation = ? AND lease_seconds = 0 LIMIT ?)`
	// The length of a lease says when it is overdue, for all of a dead node have run since that was seen last.
	closeLeases = `UPDATE sessions SET ended_at = CASE WHEN created_at > ? THEN created_at ELSE ? END + 1000 * lease_seconds,
		end_reason = ?
		WHERE ended_at = 0 AND incarnation = ? AND (application, id) IN
			(SELECT application, id FROM sessions WHERE ended_at = 0 AND incarnation = ?
				AND lease_seconds > 0 AND lease_seconds < ({now} - ? - ?) / 1000 LIMIT ?)`
	forgetNodes = `DELETE FROM nodes WHERE fenced_at <> 0
		AND NOT EXISTS (SELECT 1 FROM sessions WHERE ended_at = 0 AND sessions.incarnation = nodes.incarnation)`
)

// nodes implements Nodes.
type nodes struct{ *engine }

func (n nodes) Claim(ctx context.Context, name string) (incarnation int64, err error) {
	err = n.update(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, n.sql(raiseIncarnation)).Scan(&incarnation); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, n.sql(insertNode), incarnation, escape(name))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("claim the node name %s: %w", name, err)
	}
	return incarnation, nil
}

func (n nodes) Beat(ctx context.Context, name string, incarnation int64) error {
	switch rows, err := n.exec(ctx, beatNode, incarnation, escape(name)); {
	case err != nil:
		return fmt.Errorf("write the node's sign of life: %w", err)
	case rows == 0:
		return fmt.Errorf("node %s, incarnation %d: %w", name, incarnation, n.why(ctx, name, incarnation))
	}
	return nil
}

func (n nodes) Now(ctx context.Context) (now api.Millis, err error) {
	if err = n.get(ctx, n.read, selectNow, nil, &now); err != nil {
		return 0, fmt.Errorf("read the database's clock: %w", err)
	}
	return now, nil
}

func (n nodes) Release(ctx context.Context, incarnation int64) error {
	if _, err := n.exec(ctx, releaseNode, incarnation); err != nil {
		return fmt.Errorf("release the node's name: %w", err)
	}
	return nil
}

func (n nodes) Living(ctx context.Context, lapse time.Duration) (map[string]int64, error) {
	living := map[string]int64{}
	_, err := list(ctx, n.engine, func(row scanner) (none struct{}, err error) {
		var name string
		var incarnation int64
		err = row.Scan((*text)(&name), &incarnation)
		living[name] = incarnation
		return none, err
	}, livingNodes, lapse.Milliseconds())
	if err != nil {
		return nil, fmt.Errorf("read the nodes that live: %w", err)
	}
	return living, nil
}

// why tells what an incarnation that may not beat has lost.
func (n nodes) why(ctx context.Context, name string, incarnation int64) error {
	newer := 0
	if err := n.get(ctx, n.write, newerNodes, []any{escape(name), incarnation}, &newer); err != nil {
		return err
	}
	if newer > 0 {
		return ErrNameTaken
	}
	return ErrLeaseLost
}

func (n nodes) Sweep(ctx context.Context, name string, incarnation int64, lapse time.Duration) (int, error) {
	total := 0
	_, err := n.exec(ctx, fenceNodes, escape(name), incarnation, escape(name), lapse.Milliseconds())
	for after := int64(minIncarnation); err == nil; {
		var next sql.NullInt64
		if err = n.get(ctx, n.write, nextOpen, []any{after}, &next); err != nil || !next.Valid {
			break
		}
		after = next.Int64
		if after == incarnation {
			continue
		}
		var closed int
		closed, err = n.closeRecords(ctx, name, after)
		total += closed
	}
	if err == nil {
		_, err = n.exec(ctx, forgetNodes)
	}
	if err != nil {
		return total, fmt.Errorf("close the records of dead nodes: %w", err)
	}
	return total, nil
}

// holdLease returns ErrLeaseLost when the incarnation was swept; if not, it is not until the transaction ends.
func (e *engine) holdLease(ctx context.Context, tx *sql.Tx, incarnation int64) error {
	err := tx.QueryRowContext(ctx, e.sql(holdNode), incarnation).Scan(&incarnation)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("incarnation %d: %w", incarnation, ErrLeaseLost)
	}
	return err
}

// minIncarnation is below every incarnation.
const minIncarnation = -1 << 63

// closeRecords closes the open records of an incarnation that is dead, its leases when they are overdue, and none of one that lives.
func (n nodes) closeRecords(ctx context.Context, sweeper string, incarnation int64) (total int, err error) {
	var (
		owner          string
		lastSeen, dead int64
		reason         = api.EndNodeLost
	)
	err = n.get(ctx, n.write, selectNode, []any{incarnation}, (*text)(&owner), &lastSeen, &dead)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		// Written late, after the sweep that closed the rest: nobody can say when that node was seen last.
	case err != nil:
		return 0, err
	case dead == 0:
		return 0, nil
	case owner == sweeper:
		reason = api.EndServerStopped
	}
	total, err = n.closeAll(ctx, closeOpen, lastSeen, lastSeen, string(reason), incarnation, incarnation, sweepBatch)
	if err != nil {
		return total, err
	}
	leases, err := n.closeAll(ctx, closeLeases, lastSeen, lastSeen, string(api.EndLeaseExpired), incarnation,
		incarnation, lastSeen,
		api.LeaseMargin.Milliseconds(), sweepBatch)
	return total + leases, err
}

// closeAll repeats a statement that closes at most sweepBatch records until it finds fewer.
func (n nodes) closeAll(ctx context.Context, query string, args ...any) (total int, err error) {
	for {
		rows, err := n.exec(ctx, query, args...)
		total += rows
		if err != nil || rows < sweepBatch {
			return total, err
		}
	}
}

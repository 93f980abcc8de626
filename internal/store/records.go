package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/rollcallhq/rollcall/api"
)

const (
	recordColumns = `application, id, organization, server_id, incarnation, created_at, ip, client_id, login, license, authorized,
		token_expires_at, name, hostname, user_agent, client_info, last_active_at, ended_at, end_reason, ended_by, end_text,
		owner_epoch, lease_seconds, reporter, lease`
	// The WHERE is what makes an end final: an ended row is left as it is, whatever comes later and in whatever order; and what
	// makes an adoption final: an owner from before it changes nothing any more, unless somebody asked it to end the session, and was
	// told that it has ended. Only what a sweep has closed for an owner that it took for dead is that owner's again, under its next
	// incarnation.
	insertRecord   = `INSERT INTO sessions (` + recordColumns + `) `
	onRecordExists = ` ON CONFLICT (application, id) DO UPDATE SET organization = excluded.organization, server_id = excluded.server_id,
			incarnation = excluded.incarnation, created_at = excluded.created_at, ip = excluded.ip, client_id = excluded.client_id,
			login = excluded.login, license = excluded.license, authorized = excluded.authorized,
			token_expires_at = excluded.token_expires_at, name = excluded.name, hostname = excluded.hostname,
			user_agent = excluded.user_agent, client_info = excluded.client_info, last_active_at = excluded.last_active_at,
			ended_at = excluded.ended_at, end_reason = excluded.end_reason, ended_by = excluded.ended_by, end_text = excluded.end_text,
			owner_epoch = excluded.owner_epoch, lease_seconds = excluded.lease_seconds, reporter = excluded.reporter,
			lease = excluded.lease
		WHERE (sessions.ended_at = 0 OR sessions.incarnation < excluded.incarnation
				AND sessions.end_reason IN ('` + string(api.EndNodeLost) + `', '` + string(api.EndServerStopped) + `'))
			AND (sessions.owner_epoch <= excluded.owner_epoch OR excluded.end_reason IN ('` + string(api.EndDisconnected) + `', '` +
		string(api.EndRevoked) + `', '` + string(api.EndClientClosed) + `', '` + string(api.EndApplicationPaused) + `', '` +
		string(api.EndApplicationArchived) + `'))`

	recordsByID = `SELECT ` + recordColumns + ` FROM sessions WHERE application = ? AND id IN {ids}`
	// One statement, so that all counts are of the same state. The first walks the index alone; subtracting looks up the few rows
	// that are about to be deleted (an application's records are all of one organization) and the few ids. ended_at >= ? in the
	// first count, and NOT IN, would read every ended row.
	countEnded = `SELECT (SELECT count(*) FROM sessions WHERE application = ? AND ended_at <> 0) -
		(SELECT count(*) FROM sessions WHERE organization = (SELECT organization FROM sessions WHERE application = ? ORDER BY id LIMIT 1)
			AND ended_at <> 0 AND ended_at < ? AND application = ?) -
		(SELECT count(*) FROM sessions WHERE application = ? AND id IN {ids} AND ended_at <> 0 AND ended_at >= ?)`
	expireRecords = `DELETE FROM sessions WHERE (application, id) IN (SELECT application, id FROM sessions
		WHERE organization = ? AND ended_at <> 0 AND ended_at < ? ORDER BY ended_at LIMIT ?)`
)

// records implements Records.
type records struct{ *engine }

func (r records) Write(ctx context.Context, batch []Record, denials []Denial, audits ...Audit) error {
	if len(batch) == 0 && len(denials) == 0 && len(audits) == 0 {
		return nil
	}
	err := r.update(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := r.writeBatch(ctx, tx, batch, denials); err != nil {
			return err
		}
		return r.appendAudit(ctx, tx, audits)
	})
	switch {
	case err == nil:
		return nil
	case r.dialect.refused(err):
		return fmt.Errorf("write %d records: %w: %w", len(batch), ErrRefused, err)
	default:
		return fmt.Errorf("write %d records: %w", len(batch), err)
	}
}

// writeBatch takes rows in the order nodes, sessions, version, applications, as everything does that locks more than one of these.
func (r records) writeBatch(ctx context.Context, tx *sql.Tx, batch []Record, denials []Denial) error {
	if len(batch) > 0 {
		if err := r.hold(ctx, tx, batch); err != nil {
			return err
		}
		if err := r.bulk.records(ctx, tx, batch); err != nil {
			return err
		}
	}
	if len(denials) > 0 {
		var version, now int64
		if err := tx.QueryRowContext(ctx, r.sql(raiseVersion)).Scan(&version, &now); err != nil {
			return err
		}
		if err := r.bulk.denials(ctx, tx, denials, version); err != nil {
			return err
		}
	}
	if len(batch) == 0 {
		return nil
	}
	newest := map[api.ApplicationID]api.Millis{}
	for i := range batch {
		newest[batch[i].Application] = max(newest[batch[i].Application], batch[i].CreatedAt)
	}
	return r.bulk.connections(ctx, tx, newest)
}

// hold returns ErrLeaseLost when an owner of the records was swept; if not, none of them is until the transaction ends.
func (r records) hold(ctx context.Context, tx *sql.Tx, batch []Record) error {
	held := map[int64]bool{}
	for i := range batch {
		if incarnation := batch[i].Incarnation; !held[incarnation] {
			if err := r.holdLease(ctx, tx, incarnation); err != nil {
				return err
			}
			held[incarnation] = true
		}
	}
	return nil
}

// recordValues returns the values of recordColumns; those of one column are of one type in every row.
func recordValues(rec *Record) ([]any, error) {
	var info []byte // an empty one is none
	if len(rec.ClientInfo) > 0 {
		info = rec.ClientInfo
	}
	owner, seconds, reporter, lease, err := rec.Lease.columns()
	return []any{
		rec.Application.String(), rec.ID.String(), rec.Organization.String(), escape(rec.ServerID), rec.Incarnation,
		int64(rec.CreatedAt), escape(rec.IP), escape(rec.ClientID), escape(rec.Login), escape(rec.License), rec.Authorized,
		int64(rec.TokenExpiresAt), escape(rec.Name), escape(rec.Hostname), escape(rec.UserAgent), info, int64(rec.LastActiveAt),
		int64(rec.EndedAt), escape(rec.EndReason), escape(rec.EndedBy), escape(rec.EndText), owner, seconds, reporter, lease,
	}, err
}

func (r records) Get(ctx context.Context, app api.ApplicationID, ids []api.SessionID) (map[api.SessionID]Record, error) {
	found := make(map[api.SessionID]Record, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	all, err := list(ctx, r.engine, scanRecord, recordsByID, app.String(), idList(ids))
	if err != nil {
		return found, fmt.Errorf("read records: %w", err)
	}
	for _, rec := range all {
		found[rec.ID] = rec
	}
	return found, nil
}

func (r records) CountEnded(ctx context.Context, app api.ApplicationID, since api.Millis,
	but ...api.SessionID) (n int, err error) {
	id := app.String()
	err = r.get(ctx, r.read, countEnded, []any{id, id, int64(since), id, id, idList(but), int64(since)}, &n)
	if err != nil {
		return 0, fmt.Errorf("count ended records: %w", err)
	}
	return n, nil
}

func (r records) Expire(ctx context.Context, org api.OrganizationID, endedBefore api.Millis, limit int) (int, error) {
	n, err := r.exec(ctx, expireRecords, org.String(), int64(endedBefore), limit)
	if err != nil {
		return 0, fmt.Errorf("delete old records: %w", err)
	}
	return n, nil
}

func scanRecord(row scanner) (r Record, err error) {
	var info []byte
	var owner int64
	var seconds int
	var reporter, lease string
	err = row.Scan(&r.Application, &r.ID, &r.Organization, (*text)(&r.ServerID), &r.Incarnation, &r.CreatedAt, (*text)(&r.IP),
		(*text)(&r.ClientID), (*text)(&r.Login), (*text)(&r.License), &r.Authorized, &r.TokenExpiresAt, (*text)(&r.Name),
		(*text)(&r.Hostname), (*text)(&r.UserAgent), &info, &r.LastActiveAt, &r.EndedAt, (*text)(&r.EndReason), (*text)(&r.EndedBy),
		(*text)(&r.EndText), &owner, &seconds, (*text)(&reporter), &lease)
	r.ClientInfo = json.RawMessage(info)
	if err == nil {
		r.Lease, err = readLease(r.Application, owner, seconds, reporter, lease)
	}
	return r, err
}

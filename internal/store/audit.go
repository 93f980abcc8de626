package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/rollcallhq/rollcall/api"
)

// Audit is the record of a management change, of an organization. Once written it stays as it is until retention deletes it; only a
// Count that was not known yet is filled in, by writing the record again. Absent texts are nil or "".
type Audit struct {
	Organization api.OrganizationID
	api.AuditRecord
}

// NewAuditID returns a time-ordered id.
func NewAuditID() api.AuditID { return api.AuditID(uuid.Must(uuid.NewV7())) }

// Position returns the record's place in lists.
func (a *Audit) Position() AuditPosition { return AuditPosition{api.Millis(a.Time), a.ID} }

// AuditPosition is a place in the order of audit records: newest first, then by id, descending.
type AuditPosition struct {
	At api.Millis
	ID api.AuditID
}

// compare returns a negative number when p comes before q in a list.
func (p AuditPosition) compare(q AuditPosition) int {
	return cmp.Or(cmp.Compare(q.At, p.At), q.ID.Compare(p.ID))
}

// AuditQuery asks for an organization's audit records.
type AuditQuery struct {
	Organization api.OrganizationID
	// Applications are those that the records are of; nil = any, and those of none as well. Empty = none.
	Applications []api.ApplicationID
	Actions      []api.AuditAction // nil = any
	From, Before api.Millis        // at or after, before; 0 = whenever
	After        *AuditPosition    // nil = from the newest
	Limit        int
}

// AuditLog reads audit records; Tx.Audit and Records.Write append them. There is no other way to change one.
type AuditLog interface {
	// List returns up to Limit records, newest first.
	List(ctx context.Context, q AuditQuery) ([]Audit, error)
	// Expire deletes up to limit records of the organization from before the time, and returns how many.
	Expire(ctx context.Context, org api.OrganizationID, before api.Millis, limit int) (int, error)
}

const (
	auditColumns = `id, organization, application, at, action, actor_type, actor, actor_name, ip, target, count, reason, details`
	insertAudit  = `INSERT INTO audit (` + auditColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET count = excluded.count WHERE audit.count IS NULL AND audit.organization = excluded.organization`

	// One statement an action, or an application: each is a range of an index, and their newest are merged.
	auditWindow = ` AND organization = ? AND at >= ? AND (at, id) < (?, ?) ORDER BY at DESC, id DESC LIMIT ?`
	auditOfAll  = `SELECT ` + auditColumns + ` FROM audit WHERE 1 = 1` + auditWindow
	auditByWhat = `SELECT ` + auditColumns + ` FROM audit {by action} WHERE action = ?` + auditWindow
	auditByApp  = `SELECT ` + auditColumns + ` FROM audit WHERE application = ? AND application <> '' AND action IN ({actions})` + auditWindow

	expireAudit = `DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE organization = ? AND at < ? ORDER BY at, id LIMIT ?)`
)

// audits implements AuditLog.
type audits struct{ *engine }

func (a audits) List(ctx context.Context, q AuditQuery) (all []Audit, err error) {
	if q.Limit <= 0 {
		return nil, nil
	}
	from := AuditPosition{At: cmp.Or(q.Before, forever)} // before which nothing of that very moment comes
	if q.After != nil && from.compare(*q.After) < 0 {
		from = *q.After
	}
	window := []any{q.Organization.String(), int64(q.From), int64(from.At), from.ID.String(), q.Limit}
	ask := func(query string, args ...any) {
		if err == nil {
			var some []Audit
			some, err = list(ctx, a.engine, scanAudit, query, slices.Concat(args, window)...)
			all = append(all, some...)
		}
	}
	switch {
	case q.Applications != nil:
		query := strings.Replace(auditByApp, "{actions}", quoted(q.Actions, api.AuditActions), 1)
		for _, app := range distinct(q.Applications) {
			ask(query, app.String())
		}
	case q.Actions != nil:
		for _, action := range distinct(q.Actions) {
			ask(auditByWhat, escape(action))
		}
	default:
		ask(auditOfAll)
	}
	if err != nil {
		return nil, fmt.Errorf("read audit records: %w", err)
	}
	slices.SortFunc(all, func(x, y Audit) int { return x.Position().compare(y.Position()) })
	return all[:min(len(all), q.Limit)], nil
}

// distinct returns the values once each.
func distinct[T comparable](values []T) (once []T) {
	for _, v := range values {
		if !slices.Contains(once, v) {
			once = append(once, v)
		}
	}
	return once
}

func (a audits) Expire(ctx context.Context, org api.OrganizationID, before api.Millis, limit int) (int, error) {
	n, err := a.exec(ctx, expireAudit, org.String(), int64(before), limit)
	if err != nil {
		return 0, fmt.Errorf("delete old audit records: %w", err)
	}
	return n, nil
}

// append writes audit records in a transaction.
func (e *engine) appendAudit(ctx context.Context, tx *sql.Tx, records []Audit) error {
	for i := range records {
		if _, err := tx.ExecContext(ctx, e.sql(insertAudit), auditValues(&records[i])...); err != nil {
			return err
		}
	}
	return nil
}

func auditValues(a *Audit) []any {
	application, count, details := "", sql.NullInt64{}, sql.NullString{}
	if a.ApplicationID != nil {
		application = a.ApplicationID.String()
	}
	if a.Count != nil {
		count = sql.NullInt64{Int64: int64(*a.Count), Valid: true}
	}
	if len(a.Details) > 0 {
		details = sql.NullString{String: escape(string(a.Details)), Valid: true}
	}
	return []any{a.ID.String(), a.Organization.String(), application, int64(a.Time), escape(a.Action), escape(a.Actor.Type),
		escape(a.Actor.PublicID), escape(a.Actor.Name), optional(a.IPAddress), optional(a.Target), count, optional(a.Reason), details}
}

// optional stores a text that may be absent.
func optional(s *string) string {
	if s == nil {
		return ""
	}
	return escape(*s)
}

func scanAudit(row scanner) (a Audit, err error) {
	var application string
	var ip, target, reason text
	var count sql.NullInt64
	var details sql.NullString
	err = row.Scan(&a.ID, &a.Organization, &application, (*int64)(&a.Time), (*text)(&a.Action), (*text)(&a.Actor.Type),
		(*text)(&a.Actor.PublicID), (*text)(&a.Actor.Name), &ip, &target, &count, &reason, &details)
	if err == nil && application != "" {
		a.ApplicationID = new(api.ApplicationID)
		err = a.ApplicationID.UnmarshalText([]byte(application))
	}
	for _, t := range []struct {
		to   **string
		from text
	}{{&a.IPAddress, ip}, {&a.Target, target}, {&a.Reason, reason}} {
		if t.from != "" {
			*t.to = new(string(t.from))
		}
	}
	if count.Valid {
		a.Count = new(int(count.Int64))
	}
	if details.Valid {
		a.Details = json.RawMessage(unescape(details.String))
	}
	return a, err
}

// Audit queues an audit record and waits until it is durable, as Commit does. A store that is away is not an error: the record waits
// in memory. ErrQueueFull when there is no room for it.
func (r *Recorder) Audit(ctx context.Context, a Audit) error {
	it, err := r.queue.putAudit(a, true)
	if err != nil {
		return err
	}
	return r.wait(ctx, it)
}

// ListAudit is AuditLog.List: of what is written.
func (r *Recorder) ListAudit(ctx context.Context, q AuditQuery) ([]Audit, error) {
	return r.cfg.Audits.List(ctx, q)
}

// AuditLater queues an audit record behind what ended, and does not wait: Flush does. It is never refused, as End is not.
func (r *Recorder) AuditLater(a Audit) {
	if _, err := r.queue.putAudit(a, false); err != nil {
		r.cfg.Log.Error("an audit record was lost", "action", a.Action, "actor", a.Actor.PublicID, "err", err)
	}
}

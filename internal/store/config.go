package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

const (
	selectVersion = `SELECT value FROM counters WHERE name = 'version'`
	// raiseVersion comes first in every transaction that writes configuration: its row lock serializes them in every engine, so
	// that versions become visible in their order and a poll by version misses none.
	raiseVersion = `UPDATE counters SET value = value + 1 WHERE name = 'version' RETURNING value, {now}`

	organizationColumns = `id, name, plan_name, plan_max_authorized, plan_live_overview, plan_history_retention_ns,
		created_at, version`
	selectOrganization = `SELECT ` + organizationColumns + ` FROM organizations WHERE id = ?`
	organizationsSince = `SELECT ` + organizationColumns + ` FROM organizations WHERE version > ? ORDER BY version, id`
	upsertOrganization = `INSERT INTO organizations (` + organizationColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, plan_name = excluded.plan_name,
			plan_max_authorized = excluded.plan_max_authorized, plan_live_overview = excluded.plan_live_overview,
			plan_history_retention_ns = excluded.plan_history_retention_ns, created_at = excluded.created_at, version = excluded.version`

	applicationColumns = `id, organization, number, name, state, publishable_key, idle_after_ns, allowed_origins, strict_revocation,
		hs256_secret, jwks_url, issuer, audience, epoch, revoked_at, revoked_by, revoked_reason, state_by,
		last_connection, created_at, version`
	selectApplication = `SELECT ` + applicationColumns + ` FROM applications WHERE id = ?`
	applicationsSince = `SELECT ` + applicationColumns + ` FROM applications WHERE version > ? ORDER BY version, id`
	// An application never moves to another organization: that id is taken (G8).
	upsertApplication = `INSERT INTO applications (` + applicationColumns + `)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)
		ON CONFLICT (id) DO UPDATE SET number = excluded.number, name = excluded.name, state = excluded.state,
			publishable_key = excluded.publishable_key, idle_after_ns = excluded.idle_after_ns,
			allowed_origins = excluded.allowed_origins, strict_revocation = excluded.strict_revocation,
			hs256_secret = excluded.hs256_secret, jwks_url = excluded.jwks_url, issuer = excluded.issuer, audience = excluded.audience,
			epoch = excluded.epoch, revoked_at = excluded.revoked_at, revoked_by = excluded.revoked_by,
			revoked_reason = excluded.revoked_reason, state_by = excluded.state_by, created_at = excluded.created_at,
			version = excluded.version
		WHERE applications.organization = excluded.organization`

	keyColumns = `public_id, organization, name, secret_hash, last_four, scopes, all_applications, applications, expires_at,
		revoked_at, last_used_at, last_used_ip, created_at, version`
	selectKey = `SELECT ` + keyColumns + ` FROM api_keys WHERE public_id = ?`
	keysSince = `SELECT ` + keyColumns + ` FROM api_keys WHERE version > ? ORDER BY version, public_id`
	upsertKey = `INSERT INTO api_keys (` + keyColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', ?, ?)
		ON CONFLICT (public_id) DO UPDATE SET name = excluded.name, secret_hash = excluded.secret_hash, last_four = excluded.last_four,
			scopes = excluded.scopes, all_applications = excluded.all_applications, applications = excluded.applications,
			expires_at = excluded.expires_at, revoked_at = excluded.revoked_at, created_at = excluded.created_at,
			version = excluded.version
		WHERE api_keys.organization = excluded.organization`
	touchKey = `UPDATE api_keys SET last_used_at = ?, last_used_ip = ? WHERE public_id = ? AND last_used_at < ?`

	denialsSince   = `SELECT application, token_id, expires_at FROM denials WHERE version > ? ORDER BY version, application, token_id`
	insertDenial   = `INSERT INTO denials (application, token_id, expires_at, version) `
	onDenialExists = ` ON CONFLICT (application, token_id) DO UPDATE SET version = excluded.version,
			expires_at = CASE WHEN excluded.expires_at > denials.expires_at THEN excluded.expires_at ELSE denials.expires_at END`
	purgeDenials = `DELETE FROM denials WHERE expires_at < ?`

	lastConnections = `SELECT id, last_connection FROM applications WHERE last_connection > 0`

	selectSecret = `SELECT value FROM secrets WHERE name = ?`
	insertSecret = `INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`
)

// config implements Config.
type config struct{ *engine }

func (c config) Version(ctx context.Context) (version int64, err error) {
	if err = c.get(ctx, c.read, selectVersion, nil, &version); err != nil {
		return 0, fmt.Errorf("read the configuration's version: %w", err)
	}
	return version, nil
}

func (c config) Since(ctx context.Context, version int64) (ch Changes, err error) {
	err = c.view(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, c.sql(selectVersion)).Scan(&ch.Version); err != nil {
			return err
		}
		if ch.Organizations, err = collect(ctx, c.engine, tx, scanOrganization, organizationsSince, version); err != nil {
			return err
		}
		if ch.Applications, err = collect(ctx, c.engine, tx, scanApplication, applicationsSince, version); err != nil {
			return err
		}
		if ch.Keys, err = collect(ctx, c.engine, tx, scanKey, keysSince, version); err != nil {
			return err
		}
		ch.Denials, err = collect(ctx, c.engine, tx, scanDenial, denialsSince, version)
		return err
	})
	if err != nil {
		return Changes{}, fmt.Errorf("read the configuration: %w", err)
	}
	return ch, nil
}

func (c config) Edit(ctx context.Context, fn func(Tx) error) error {
	var fromFn error
	err := c.update(ctx, func(ctx context.Context, tx *sql.Tx) error {
		t := &configTx{ctx: ctx, e: c.engine, tx: tx}
		if err := tx.QueryRowContext(ctx, c.sql(raiseVersion)).Scan(&t.version, &t.now); err != nil {
			return err
		}
		if fromFn = fn(t); fromFn == nil {
			fromFn = t.failed
		}
		return fromFn
	})
	if fromFn != nil {
		return fromFn
	}
	if err != nil {
		return fmt.Errorf("change the configuration: %w", err)
	}
	return nil
}

func (c config) TouchKeys(ctx context.Context, uses []KeyUse) error {
	err := c.update(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, u := range uses {
			if _, err := tx.ExecContext(ctx, c.sql(touchKey), int64(u.At), escape(u.IP), escape(u.PublicID), int64(u.At)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write last uses of keys: %w", err)
	}
	return nil
}

func (c config) Secret(ctx context.Context, name string, fresh []byte) (secret []byte, err error) {
	if len(fresh) == 0 {
		return nil, errors.New("a fresh secret must not be empty")
	}
	err = c.update(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, c.sql(insertSecret), escape(name), fresh); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, c.sql(selectSecret), escape(name)).Scan(&secret)
	})
	if err != nil {
		return nil, fmt.Errorf("read the server secret %s: %w", name, err)
	}
	return secret, nil
}

func (c config) Deny(ctx context.Context, denials []Denial) error {
	return records(c).Write(ctx, nil, denials)
}

func (c config) Connections(ctx context.Context, seen map[api.ApplicationID]api.Millis) (map[api.ApplicationID]api.Millis, error) {
	all := map[api.ApplicationID]api.Millis{}
	var err error
	if len(seen) > 0 {
		err = c.update(ctx, func(ctx context.Context, tx *sql.Tx) error { return c.bulk.connections(ctx, tx, seen) })
	}
	if err == nil {
		_, err = list(ctx, c.engine, func(row scanner) (none struct{}, err error) {
			var id api.ApplicationID
			var at api.Millis
			err = row.Scan(&id, &at)
			all[id] = at
			return none, err
		}, lastConnections)
	}
	if err != nil {
		return nil, fmt.Errorf("last connections of applications: %w", err)
	}
	return all, nil
}

func (c config) Purge(ctx context.Context, now api.Millis) error {
	if _, err := c.exec(ctx, purgeDenials, int64(now)); err != nil {
		return fmt.Errorf("purge expired denials: %w", err)
	}
	return nil
}

// configTx implements Tx.
type configTx struct {
	ctx     context.Context
	e       *engine
	tx      *sql.Tx
	version int64
	now     int64
	failed  error // the first error; after it nothing may be kept, for PostgreSQL has aborted the transaction
}

func (t *configTx) Now() api.Millis { return api.Millis(t.now) }

func (t *configTx) Organization(id api.OrganizationID) (*Organization, error) {
	return one(t, scanOrganization, selectOrganization, id.String())
}

func (t *configTx) Application(id api.ApplicationID) (*Application, error) {
	return one(t, scanApplication, selectApplication, id.String())
}

func (t *configTx) Key(publicID string) (*Key, error) {
	return one(t, scanKey, selectKey, escape(publicID))
}

func (t *configTx) PutOrganization(o Organization) error {
	var limit sql.NullInt64
	if o.Plan.MaxAuthorizedSessions != nil {
		limit = sql.NullInt64{Int64: int64(*o.Plan.MaxAuthorizedSessions), Valid: true}
	}
	return t.put("organizations.id", upsertOrganization, o.ID.String(), escape(o.Name), escape(o.Plan.Name), limit,
		o.Plan.LiveSessionsOverview, int64(o.Plan.HistoryRetention), int64(o.CreatedAt), t.version)
}

func (t *configTx) PutApplication(a Application) error {
	origins, err := toJSON(a.AllowedOrigins)
	if err != nil {
		return t.fail(err)
	}
	return t.put("applications.id", upsertApplication, a.ID.String(), a.Organization.String(), escape(a.Number), escape(a.Name),
		escape(a.State), escape(a.PublishableKey), int64(a.IdleAfter), origins, a.StrictRevocation, escape(a.HS256Secret),
		escape(a.JWKSURL), escape(a.Issuer), escape(a.Audience), int64(a.Epoch), int64(a.RevokedAt), escape(a.RevokedBy),
		escape(a.RevokedReason), escape(a.StateBy), int64(a.CreatedAt), t.version)
}

func (t *configTx) PutKey(k Key) error {
	scopes, err := toJSON(k.Scopes)
	if err != nil {
		return t.fail(err)
	}
	apps, err := toJSON(k.Applications)
	if err != nil {
		return t.fail(err)
	}
	return t.put("api_keys.public_id", upsertKey, escape(k.PublicID), k.Organization.String(), escape(k.Name), k.SecretHash[:],
		escape(k.LastFour), scopes, k.AllApplications, apps, int64(k.ExpiresAt), int64(k.RevokedAt), int64(k.CreatedAt), t.version)
}

func (t *configTx) Audit(a Audit) error {
	a.Time = api.Timestamp(t.now)
	if err := t.e.appendAudit(t.ctx, t.tx, []Audit{a}); err != nil {
		return t.fail(fmt.Errorf("write an audit record: %w", err))
	}
	return nil
}

// put runs an upsert. A row that is left as it was belongs to another organization, so that id is taken.
func (t *configTx) put(id, query string, args ...any) error {
	res, err := t.tx.ExecContext(t.ctx, t.e.sql(query), args...)
	if err != nil {
		if what, ok := t.e.dialect.conflict(err); ok {
			return t.fail(conflict(what))
		}
		return t.fail(fmt.Errorf("write the configuration: %w", err))
	}
	n, err := res.RowsAffected()
	if err != nil {
		return t.fail(fmt.Errorf("write the configuration: %w", err))
	}
	if n == 0 {
		return t.fail(conflict(id))
	}
	return nil
}

func (t *configTx) fail(err error) error {
	if t.failed == nil {
		t.failed = err
	}
	return err
}

// conflict names the field in the product's words: "applications.publishable_key" is "application publishable key".
func conflict(column string) error {
	table, field, _ := strings.Cut(column, ".")
	table = strings.TrimSuffix(strings.ReplaceAll(table, "_", " "), "s")
	return fmt.Errorf("%s %s: %w", table, strings.ReplaceAll(field, "_", " "), ErrConflict)
}

// one returns the row of a query, or nil.
func one[T any](t *configTx, scan func(scanner) (T, error), query string, args ...any) (*T, error) {
	v, err := scan(t.tx.QueryRowContext(t.ctx, t.e.sql(query), args...))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, t.fail(fmt.Errorf("read the configuration: %w", err))
	}
	return &v, nil
}

func scanOrganization(row scanner) (o Organization, err error) {
	var limit sql.NullInt64
	err = row.Scan(&o.ID, (*text)(&o.Name), (*text)(&o.Plan.Name), &limit, &o.Plan.LiveSessionsOverview,
		(*int64)(&o.Plan.HistoryRetention), &o.CreatedAt, &o.Version)
	if limit.Valid {
		n := int(limit.Int64)
		o.Plan.MaxAuthorizedSessions = &n
	}
	return o, err
}

func scanApplication(row scanner) (a Application, err error) {
	var epoch, idle int64
	err = row.Scan(&a.ID, &a.Organization, (*text)(&a.Number), (*text)(&a.Name), (*text)(&a.State), (*text)(&a.PublishableKey),
		&idle, jsonColumn[[]string]{&a.AllowedOrigins}, &a.StrictRevocation, (*text)(&a.HS256Secret), (*text)(&a.JWKSURL),
		(*text)(&a.Issuer), (*text)(&a.Audience), &epoch, &a.RevokedAt, (*text)(&a.RevokedBy), (*text)(&a.RevokedReason),
		(*text)(&a.StateBy), &a.LastConnection, &a.CreatedAt, &a.Version)
	a.Epoch, a.IdleAfter = uint64(epoch), time.Duration(idle)
	return a, err
}

func scanKey(row scanner) (k Key, err error) {
	var hash []byte
	err = row.Scan((*text)(&k.PublicID), &k.Organization, (*text)(&k.Name), &hash, (*text)(&k.LastFour),
		jsonColumn[[]api.Scope]{&k.Scopes}, &k.AllApplications, jsonColumn[[]api.ApplicationID]{&k.Applications},
		&k.ExpiresAt, &k.RevokedAt, &k.LastUsedAt, (*text)(&k.LastUsedIP), &k.CreatedAt, &k.Version)
	copy(k.SecretHash[:], hash)
	return k, err
}

func scanDenial(row scanner) (d Denial, err error) {
	err = row.Scan(&d.Application, (*text)(&d.TokenID), &d.ExpiresAt)
	return d, err
}

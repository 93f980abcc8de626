package tenant

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Actor is who makes a change: an API key's public id, or Admin.
type Actor string

// Admin is the holder of the admin token.
const Admin Actor = "admin"

// edit is a write transaction that keeps only what differs: a write that changes nothing raises no version.
type edit struct {
	store.Tx
	origin        Origin
	organizations []store.Organization // put, as are the next two
	applications  []store.Application
	keys          []store.Key
}

var errUnchanged = errors.New("nothing has changed")

func (e *edit) putOrganization(old *store.Organization, row store.Organization) error {
	if old != nil && sameOrganization(*old, row) {
		return nil
	}
	e.organizations = append(e.organizations, row)
	if err := e.PutOrganization(row); err != nil {
		return err
	}
	return e.auditOrganization(old, &row)
}

func (e *edit) putApplication(old *store.Application, row store.Application) error {
	if old != nil && sameApplication(*old, row) {
		return nil
	}
	e.applications = append(e.applications, row)
	if err := e.PutApplication(row); err != nil {
		return err
	}
	return e.auditApplication(old, &row)
}

func (e *edit) putKey(old *store.Key, row store.Key) error {
	if old != nil && sameKey(*old, row) {
		return nil
	}
	e.keys = append(e.keys, row)
	if err := e.PutKey(row); err != nil {
		return err
	}
	return e.auditKey(old, &row)
}

func (e *edit) changed() bool { return len(e.organizations)+len(e.applications)+len(e.keys) > 0 }

// write runs fn in one transaction, and returns when what it changed is in memory and was told. A write that has begun is not
// abandoned when its caller leaves. fn may be called again, and must not depend on an earlier call. Its refusals, and
// store.ErrConflict, come back as they are; trouble with the database is unavailable, and then nothing has changed, unless the
// message says otherwise.
func (d *Directory) write(ctx context.Context, fn func(*edit) error) error {
	if err := ctx.Err(); err != nil {
		return unavailable("nothing has changed", err)
	}
	begun := context.WithoutCancel(ctx)
	ctx, cancel := context.WithTimeout(begun, writeTimeout)
	defer cancel()
	var e *edit
	err := d.cfg.Store.Edit(ctx, func(tx store.Tx) error {
		e = &edit{Tx: tx, origin: originOf(begun)}
		if err := fn(e); err != nil {
			return err
		}
		if !e.changed() {
			return errUnchanged
		}
		return nil
	})
	switch {
	case err == nil || errors.Is(err, errUnchanged):
	case refused(err):
		return err
	case errors.Is(err, store.ErrConflict):
		_ = d.refresh(ctx) // so that memory can say what is taken
		return err
	case !d.landed(begun, e):
		return unavailable("nothing has changed", err)
	}
	if err := d.readBack(ctx); err != nil {
		return unavailable("the change was stored and takes effect when the database answers", err)
	}
	ctx, cancel = context.WithTimeout(begun, tellTimeout)
	defer cancel()
	if err := d.deliver(ctx); err != nil {
		return unavailable("the change was stored and is taking effect", err)
	}
	return nil
}

// refused tells whether err is a decision of ours, not trouble with the database.
func refused(err error) bool {
	var told *api.Error
	var wrong *problem
	var misplaced *fault
	return errors.As(err, &told) || errors.As(err, &wrong) || errors.As(err, &misplaced)
}

// readBack takes a committed change into memory, trying again while there is time.
func (d *Directory) readBack(ctx context.Context) error {
	for {
		err := d.refresh(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// landed tells whether a transaction whose commit failed is there all the same: the connection may break between the commit and
// its answer.
func (d *Directory) landed(ctx context.Context, e *edit) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if e == nil || !e.changed() || d.refresh(ctx) != nil {
		return false
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, row := range e.organizations {
		if now := d.mem.organizations[row.ID]; now == nil || !sameOrganization(*now, row) {
			return false
		}
	}
	for _, row := range e.applications {
		if now := d.mem.applications[row.ID]; now == nil || !sameApplication(*now, row) {
			return false
		}
	}
	for _, row := range e.keys {
		if now := d.mem.keys[row.PublicID]; now == nil || !sameKey(*now, row) {
			return false
		}
	}
	return true
}

func unavailable(outcome string, cause error) error {
	told := api.Errorf(api.CodeUnavailable, "the database does not answer: %s", outcome)
	told.RetryAfter = time.Second
	return fmt.Errorf("%w (%w)", told, cause)
}

// The same functions compare what Put methods write.

func sameOrganization(a, b store.Organization) bool {
	a.Version, b.Version = 0, 0
	return reflect.DeepEqual(a, b)
}

func sameApplication(a, b store.Application) bool {
	a.Version, b.Version = 0, 0
	a.LastConnection, b.LastConnection = 0, 0
	a.AllowedOrigins, b.AllowedOrigins = append([]string{}, a.AllowedOrigins...), append([]string{}, b.AllowedOrigins...)
	return reflect.DeepEqual(a, b)
}

func sameKey(a, b store.Key) bool {
	a.Version, b.Version = 0, 0
	a.LastUsedAt, b.LastUsedAt = 0, 0
	a.LastUsedIP, b.LastUsedIP = "", ""
	a.Scopes, b.Scopes = append([]api.Scope{}, a.Scopes...), append([]api.Scope{}, b.Scopes...)
	a.Applications = append([]api.ApplicationID{}, a.Applications...)
	b.Applications = append([]api.ApplicationID{}, b.Applications...)
	return reflect.DeepEqual(a, b)
}

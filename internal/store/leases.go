package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/rollcallhq/rollcall/api"
)

// Lease is what a record has of a session that is held by requests and not by a connection: all that another node, or the next life
// of this one, must know to adopt it. It is not to be written to once the record was handed over.
type Lease struct {
	Seconds  int    // how long it holds without a sign of life; 0 is not a lease
	Reporter string // who reports the session on its client's behalf; "" = the client holds it itself
	// OwnerEpoch counts those who owned it before: each adoption raises it by one.
	OwnerEpoch int64
	// Epoch is the application's under which the session came in.
	Epoch uint64
	CID   string // the token's claim, "" when it has none
	Named bool   // Record.Name was given by the client
	// FoundSince is when what searches look at (license, client id) was changed last; 0 = never.
	FoundSince api.Millis
	Tokens     []Denial // every unexpired token that was presented, as it would be denied; all of the record's application
}

const (
	adoptLease = `UPDATE sessions SET owner_epoch = owner_epoch + 1, incarnation = ?
		WHERE application = ? AND id = ? AND owner_epoch = ? AND ended_at = 0 AND lease_seconds <> 0 RETURNING ` + recordColumns
	findLease = `SELECT application FROM sessions WHERE id = ? AND lease_seconds <> 0 AND reporter = '' LIMIT 1`
)

func (r records) Adopt(ctx context.Context, incarnation int64, leases []Record) (adopted []Record, err error) {
	err = r.update(ctx, func(ctx context.Context, tx *sql.Tx) error {
		adopted = nil
		if err := r.holdLease(ctx, tx, incarnation); err != nil {
			return err
		}
		for i := range leases {
			rec, err := scanRecord(tx.QueryRowContext(ctx, r.sql(adoptLease), incarnation, leases[i].Application.String(),
				leases[i].ID.String(), leases[i].Lease.OwnerEpoch))
			switch {
			case errors.Is(err, sql.ErrNoRows):
			case err != nil:
				return err
			default:
				adopted = append(adopted, rec)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("adopt %d leases: %w", len(leases), err)
	}
	return adopted, nil
}

func (r records) FindLease(ctx context.Context, id api.SessionID) (app api.ApplicationID, err error) {
	err = r.get(ctx, r.read, findLease, []any{id.String()}, &app)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return app, fmt.Errorf("find a lease: %w", err)
	}
	return app, nil
}

// leaseState is the column lease.
type leaseState struct {
	Epoch  uint64                `json:"epoch"`
	CID    string                `json:"cid,omitempty"`
	Named  bool                  `json:"named,omitempty"`
	Found  api.Millis            `json:"found,omitempty"`
	Tokens map[string]api.Millis `json:"tokens,omitempty"` // until when
}

// columns returns the values of owner_epoch, lease_seconds, reporter and lease; l may be nil.
func (l *Lease) columns() (owner, seconds int64, reporter, state string, err error) {
	if l == nil {
		return 0, 0, "", "", nil
	}
	s := leaseState{Epoch: l.Epoch, CID: escape(l.CID), Named: l.Named, Found: l.FoundSince, Tokens: map[string]api.Millis{}}
	for _, t := range l.Tokens {
		s.Tokens[escape(t.TokenID)] = t.ExpiresAt
	}
	state, err = toJSON(s)
	return l.OwnerEpoch, int64(l.Seconds), escape(l.Reporter), state, err
}

// readLease undoes columns.
func readLease(app api.ApplicationID, owner int64, seconds int, reporter, state string) (*Lease, error) {
	if seconds == 0 {
		return nil, nil
	}
	var s leaseState
	if err := json.Unmarshal([]byte(state), &s); err != nil {
		return nil, fmt.Errorf("read a lease: %w", err)
	}
	l := &Lease{Seconds: seconds, Reporter: reporter, OwnerEpoch: owner, Epoch: s.Epoch, CID: unescape(s.CID), Named: s.Named,
		FoundSince: s.Found}
	for id, until := range s.Tokens {
		l.Tokens = append(l.Tokens, Denial{Application: app, TokenID: unescape(id), ExpiresAt: until})
	}
	return l, nil
}

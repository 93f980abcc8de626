package main

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// synthetic makes the sessions of measurements at sizes that no process can hold sockets for. The n-th session is always the same
// but for its times, so that the parts of a run agree on what is there without telling each other.
type synthetic struct {
	org  api.OrganizationID
	app  api.ApplicationID
	base api.Millis // when the first one came
	node string     // that opened them; "" = bench
	skip int        // how many of the sessions before are another source's
}

const (
	syntheticSeed  = 0x726f6c6c63616c6c
	syntheticEvery = 86 * time.Millisecond // a million sessions came within a day
	syntheticGrain = 100                   // milliseconds: some came at the same time
)

// newSynthetic returns the source whose first rows all came before now.
func newSynthetic(org api.OrganizationID, app api.ApplicationID, rows int, now api.Millis) synthetic {
	return synthetic{org: org, app: app, base: now.Add(-time.Duration(rows) * syntheticEvery)}
}

// row returns the n-th session: license of 17 characters, address of 13, client id of 12, login of 20.
func (s synthetic) row(n int) registry.Row {
	return s.rowAt(n, (s.base.Add(time.Duration(n)*syntheticEvery))/syntheticGrain*syntheticGrain)
}

// rowAt is row with another time.
func (s synthetic) rowAt(n int, at api.Millis) registry.Row {
	rng := rand.New(rand.NewPCG(syntheticSeed, uint64(s.skip+n)))
	id := syntheticID(rng, at)
	one := func(list []string) string { return list[rng.IntN(len(list))] }
	login := one(firstNames[:8]) + "." + one(lastNames[:8]) // those of ASCII
	return registry.Row{
		Organization: s.org, Application: s.app, Session: id, ServerID: api.NewServerID(cmp.Or(s.node, "bench"), id), CreatedAt: at,
		License: fmt.Sprintf("%s-%06X-%06X", one([]string{"PRO", "PRO", "EDU", "ENT", "OEM"}), rng.IntN(1<<24), rng.IntN(1<<24)),
		IP: fmt.Sprintf("%s.%d.%d.%d", one([]string{"10", "17", "31", "46", "62", "77", "80", "91"}),
			100+rng.IntN(156), 10+rng.IntN(90), 100+rng.IntN(156)),
		ClientID:   fmt.Sprintf("client-%05x", rng.IntN(1<<20)),
		Login:      fmt.Sprintf("%.8s%04d@acme.io", login, rng.IntN(10000)),
		Authorized: rng.IntN(100) < 85,
	}
}

// syntheticID is a version 7 id (RFC 9562, section 5.7) of the time, with bits of rng.
func syntheticID(rng *rand.Rand, at api.Millis) api.SessionID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(at)<<16|rng.Uint64N(1<<12)|7<<12)
	binary.BigEndian.PutUint64(id[8:], rng.Uint64()>>2|1<<63)
	return api.SessionID(id)
}

// fill inserts the first rows of the source.
func (s synthetic) fill(rows *registry.Registry, n int) error {
	for i := range n {
		if err := rows.Insert(s.row(i), registry.Unlimited); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	return nil
}

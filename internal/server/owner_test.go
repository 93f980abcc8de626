package server

import (
	"context"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/cluster"
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// TestRevokeTellsWhetherItIsWhole: a node that lives by its lease and has not said that it applied a revocation makes it partial; one
// that has died does not, nor does being alone (G4).
func TestRevokeTellsWhetherItIsWhole(t *testing.T) {
	db, err := store.Open(t.Context(), "sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tenants, err := tenant.New(t.Context(), tenant.Config{Store: db.Config()})
	if err != nil {
		t.Fatal(err)
	}
	org, err := tenants.CreateOrganization(t.Context(), tenant.OrganizationInput{Name: new("Acme")})
	if err != nil {
		t.Fatal(err)
	}
	created, err := tenants.CreateApplication(t.Context(), org.ID, tenant.ApplicationInput{Name: new("App")})
	if err != nil {
		t.Fatal(err)
	}
	app := created.ID
	rows := registry.New(registry.Config{Node: "srv-01"})
	g := gateway.New(gateway.Config{Node: "srv-01", Registry: rows, Tenants: tenants,
		Records: store.NewRecorder(store.RecorderConfig{Records: db.Records()})})
	tenants.OnApplication(g.Apply)

	alone := owner{g, tenants, nil}
	if _, whole, err := alone.Revoke(t.Context(), app, tenant.Admin, ""); err != nil || !whole {
		t.Errorf("alone: %v, %v", whole, err)
	}
	node, err := cluster.New(cluster.Config{Node: "srv-01", Incarnation: 1, Registry: rows, Bus: new(cluster.Memory).Bus(), Owner: obedient{owner: alone}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- node.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	joined := owner{g, tenants, node}
	for name, tt := range map[string]struct {
		leases map[string]int64
		whole  bool
	}{
		"nobody else":      {nil, true},
		"itself":           {map[string]int64{"srv-01": 1}, true},
		"one that is mute": {map[string]int64{"srv-01": 1, "srv-02": 2}, false},
		"it has died":      {map[string]int64{"srv-01": 1}, true},
	} {
		node.Expect(tt.leases)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		_, whole, err := joined.Revoke(ctx, app, tenant.Admin, "")
		cancel()
		if err != nil || whole != tt.whole {
			t.Errorf("%s: %v, %v", name, whole, err)
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/server"
)

// nodes are the servers of the measurement, each with what asks it.
type nodes struct {
	servers []*benchServer
	asks    []*bench
	partial []chan struct{} // of each, holds one: an answer said that nodes are missing

	tenant   benchTenant
	database string
	secret   string
	addrs    []string // where they listen for each other
}

// startNodes starts a node an order and waits until each has the rows of all. What it returns is to be stopped even with an error.
func (b *bench) startNodes(ctx context.Context, database string, orders []serverOrder, errs io.Writer) (*nodes, error) {
	all := &nodes{tenant: newBenchTenant(), database: database, secret: secret(32)}
	for range orders {
		if err := all.place(ctx, b); err != nil {
			return all, err
		}
	}
	failed := make([]error, len(orders))
	var starting sync.WaitGroup
	for i, order := range orders {
		starting.Go(func() { failed[i] = all.start(ctx, i, order, errs) })
	}
	starting.Wait()
	if err := errors.Join(failed...); err != nil {
		return all, err
	}
	if err := all.whole(ctx); err != nil {
		return all, err
	}
	var warming sync.WaitGroup
	for i, one := range all.asks {
		warming.Go(func() { _, failed[i] = one.warm(ctx) })
	}
	warming.Wait()
	if err := errors.Join(failed...); err != nil {
		return all, err
	}
	return all, all.listing(ctx, ordered(orders))
}

// place makes room for one more node.
func (a *nodes) place(ctx context.Context, b *bench) error {
	addrs, err := freeAddresses(ctx, 1)
	if err != nil {
		return err
	}
	one := *b
	a.asks, a.partial = append(a.asks, &one), append(a.partial, make(chan struct{}, 1))
	a.servers, a.addrs = append(a.servers, nil), append(a.addrs, addrs[0])
	return nil
}

func ordered(orders []serverOrder) (rows int) {
	for _, o := range orders {
		rows += o.Rows
	}
	return rows
}

// start starts the i-th node.
func (a *nodes) start(ctx context.Context, i int, order serverOrder, errs io.Writer) (err error) {
	order.Node, order.Database = nodeName(i), a.database
	order.Cluster = server.ClusterConfig{Listen: a.addrs[i], Peers: strings.Join(a.addrs, ","), Secret: a.secret}
	if a.servers[i], err = startServerOf(ctx, a.tenant, order, errs); err != nil {
		return err
	}
	return a.reach(ctx, i)
}

func nodeName(i int) string { return "srv-0" + strconv.Itoa(i+1) }

// shareOf is the i-th part of a number that is divided into so many.
func shareOf(number, parts, i int) int { return (i+1)*number/parts - i*number/parts }

// freeAddresses finds loopback addresses where nobody listens.
func freeAddresses(ctx context.Context, n int) (addrs []string, err error) {
	var lc net.ListenConfig
	for range n {
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // all at the end, so that they differ
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

func (a *nodes) stop() {
	var stopping sync.WaitGroup
	for _, srv := range a.servers {
		if srv != nil {
			stopping.Go(srv.stop)
		}
	}
	stopping.Wait()
}

// reach prepares to ask the i-th node, which listens elsewhere after each start.
func (a *nodes) reach(ctx context.Context, i int) (err error) {
	b := a.asks[i]
	b.target = a.servers[i].target
	if err := b.reach(ctx); err != nil {
		return err
	}
	b.m, err = client.NewManage(client.ManageConfig{URL: b.target.URL, Key: b.target.Key, OnPartial: func(string) {
		select {
		case a.partial[i] <- struct{}{}:
		default:
		}
	}})
	return err
}

// across is a bench whose sessions are of the first node, and whose operator is at the last.
func (a *nodes) across() *bench {
	b := *a.asks[len(a.asks)-1]
	b.dial = a.asks[0].dial
	return &b
}

// whole waits until every node has the rows of every other.
func (a *nodes) whole(ctx context.Context) error {
	return eventually(ctx, "not every node sees the others", func(ctx context.Context) (bool, error) {
		for _, b := range a.asks {
			sums, err := b.metrics(ctx)
			if err != nil || sums["rollcall_cluster_live_peers"] != float64(len(a.asks)-1) || sums["rollcall_cluster_missing_nodes"] > 0 {
				return false, err
			}
		}
		return true, nil
	})
}

// await waits until the i-th node lists so many sessions, and says that it knows them all.
func (a *nodes) await(ctx context.Context, i, want int) error {
	listed := 0
	err := eventually(ctx, fmt.Sprintf("%s does not list %d sessions", nodeName(i), want), func(ctx context.Context) (done bool, err error) {
		var partial bool
		listed, partial, err = a.listed(ctx, i)
		return listed == want && !partial, err
	})
	if err != nil {
		return fmt.Errorf("%w, but %d", err, listed)
	}
	return nil
}

// listed returns how many sessions the i-th node lists, and whether it says that nodes are missing.
func (a *nodes) listed(ctx context.Context, i int) (total int, partial bool, err error) {
	select {
	case <-a.partial[i]:
	default:
	}
	list, err := a.asks[i].m.Live(ctx, client.Query{Application: a.asks[i].target.Application, PageSize: 10})
	if err != nil {
		return 0, false, err
	}
	return list.Total, len(a.partial[i]) > 0, nil
}

// eventually asks every 5 ms until the answer is yes, for clusterPatience.
func eventually(ctx context.Context, otherwise string, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, clusterPatience, errors.New(otherwise))
	defer cancel()
	for {
		if yes, err := done(ctx); yes || err != nil && ctx.Err() == nil {
			return err
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

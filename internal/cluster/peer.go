package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/internal/registry"
)

// Bounds of what is kept for a peer that sends faster than it can be followed, or whose messages come out of order. What does not
// fit is dropped, which leaves a gap, which is pulled.
const (
	inboxBytes   = 32 << 20
	earlyBatches = 4096
	earlyChanges = 200_000
)

// indexPatience is how long the rows of one peer wait to be indexed for the rosters of others, one of which may never come.
const indexPatience = 10 * time.Second

// peer is another node, as this one sees it: an inbox that the bus fills, and a goroutine that follows the peer's log.
type peer struct {
	node *Node
	name string
	wake chan struct{} // has a token when the inbox may have something

	mu      sync.Mutex
	inbox   [][]byte
	bytes   int       // of the inbox
	newest  int64     // the newest incarnation that was heard
	heardAt time.Time // when the newest incarnation was heard last: on arrival, so that no work here looks like a silence there
	state   PeerState
	version int64
	at      position      // the newest incarnation, and up to where its log is followed
	moved   chan struct{} // closed when state or at changes; nil when nobody waits

	progress // the goroutine's own
}

// progress is how far a peer's log was followed. at.sequence counts for nothing before based: until then it is not known where to begin.
type progress struct {
	told     uint64             // the highest sequence that was heard of
	early    map[uint64]message // batches after a gap
	changes  int                // in early, or in what it had since it was empty
	gapSince time.Time          // zero = there is no gap
	shown    bool               // the registry may have rows of the peer
	dropAt   time.Time          // when rows of an earlier incarnation go, if the pull is not over by then
	lastTick time.Time
	excused  time.Time // a silence counts from then on at the earliest

	unindexed time.Time // since when there are rows of a swap that are not indexed; zero = there are none

	// While the roster is pulled; pages is nil else.
	cancel   context.CancelFunc
	pages    chan *page
	roster   *registry.Roster
	based    bool
	complete bool   // the last page is here
	goal     uint64 // then: what the pages have is in the batches up to this one
	required int64  // the version that the peer must have applied
	pulls    sync.WaitGroup
}

func newPeer(n *Node, name string) *peer {
	return &peer{node: n, name: name, wake: make(chan struct{}, 1), state: PeerDead, heardAt: time.Now(),
		progress: progress{early: map[uint64]message{}}}
}

// push puts a message into the inbox.
func (p *peer) push(h header, msg []byte, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.incarnation < p.newest || h.incarnation == p.at.incarnation && p.state == PeerLeft {
		return
	}
	p.newest, p.heardAt = h.incarnation, now
	if p.bytes+len(msg) > inboxBytes {
		p.node.metrics.overflowed.Inc()
		return
	}
	p.inbox = append(p.inbox, msg)
	p.bytes += len(msg)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *peer) take() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	inbox := p.inbox
	p.inbox, p.bytes = nil, 0
	return inbox
}

func (p *peer) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.inbox) > 0
}

func (p *peer) describe(now time.Time) Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Peer{Name: p.name, Incarnation: p.at.incarnation, State: p.state, Version: p.version, Silent: now.Sub(p.heardAt)}
}

// move changes what others may know, and tells those who wait.
func (p *peer) move(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// await returns true when the peer's log was followed up to the position, or the peer is gone; false when ctx ends before.
func (p *peer) await(ctx context.Context, at position) bool {
	for {
		p.mu.Lock()
		if p.state == PeerDead || p.state == PeerLeft || p.at.incarnation > at.incarnation ||
			p.state == PeerLive && p.at.incarnation == at.incarnation && p.at.sequence >= at.sequence {
			p.mu.Unlock()
			return true
		}
		if p.moved == nil {
			p.moved = make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}

// run follows the peer's log until ctx ends or the peer is forgotten.
func (p *peer) run(ctx context.Context) {
	defer p.pulls.Wait()
	defer p.stopPull()
	tick := time.NewTicker(min(p.node.timing.Beat/4, p.node.timing.Gap))
	defer tick.Stop()
	p.lastTick = time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
			for _, msg := range p.take() {
				p.hear(ctx, msg)
			}
		case page := <-p.pages:
			p.addPage(page)
		case <-tick.C:
			if p.watch(ctx, time.Now()) && p.node.forget(p) {
				return
			}
		}
	}
}

// hear follows one message.
func (p *peer) hear(ctx context.Context, msg []byte) {
	m, err := parseMessage(msg)
	if err != nil {
		p.node.metrics.malformed.Inc()
		return
	}
	switch {
	case m.incarnation < p.at.incarnation || m.incarnation == p.at.incarnation && p.state == PeerLeft:
		return
	case m.incarnation > p.at.incarnation:
		p.begin(m.incarnation)
	}
	if m.kind == kindGoodbye {
		p.end(PeerLeft)
		return
	}
	if p.state == PeerDead {
		p.seen(ctx)
	}
	p.told = max(p.told, m.sequence)
	if m.kind == kindHeartbeat {
		p.mu.Lock()
		p.version = m.version
		p.mu.Unlock()
		if m.hello {
			p.node.sayHello(false)
		}
	} else if !p.known() || m.sequence > p.at.sequence {
		if p.changes += len(m.changes); p.changes > earlyChanges || len(p.early) >= earlyBatches {
			p.forgetEarly()
		}
		p.early[m.sequence] = m
	}
	p.follow()
}

func (p *peer) forgetEarly() { p.early, p.changes = map[uint64]message{}, 0 }

// known tells whether it is known where in the log this node is.
func (p *peer) known() bool { return p.pages == nil || p.based }

// begin turns to a new incarnation. The rows of the one before stay until those of the new one are here, but not for long: they may
// be ghosts.
func (p *peer) begin(incarnation int64) {
	p.stopPull()
	p.told, p.gapSince = 0, time.Time{}
	p.forgetEarly()
	p.dropAt = time.Now().Add(p.node.timing.Dead)
	p.move(func() { p.at, p.state = position{incarnation: incarnation}, PeerDead })
}

// seen is a peer that was not there, or not heard, before. What this node knew of the configuration by now it must have applied
// before its rows are seen (G4).
func (p *peer) seen(ctx context.Context) {
	p.node.log.Info("a node joined", "node", p.name, "incarnation", p.at.incarnation)
	p.required = p.node.cfg.Version()
	p.move(func() { p.state = PeerPulling })
	p.node.sayHello(false)
	p.startPull(ctx)
}

// follow makes the changes of the batches that are next, and notes whether there is a gap.
func (p *peer) follow() {
	if !p.known() {
		return
	}
	at := p.at.sequence
	for {
		m, there := p.early[at+1]
		if !there {
			break
		}
		delete(p.early, at+1)
		at++
		p.node.metrics.received.Add(float64(len(m.changes)))
		if p.roster != nil {
			p.roster.Follow(m.changes)
		} else {
			p.lose(p.node.cfg.Registry.Follow(p.name, m.changes))
		}
	}
	switch {
	case at >= p.told:
		p.gapSince = time.Time{}
	case p.gapSince.IsZero() || at > p.at.sequence:
		p.gapSince = time.Now()
	}
	if at > p.at.sequence {
		p.move(func() { p.at.sequence = at })
	}
	if len(p.early) == 0 {
		p.changes = 0
	}
	if p.complete && at >= p.goal {
		p.swap()
	}
}

func (p *peer) lose(rows []registry.Row) {
	if len(rows) > 0 {
		p.node.log.Info("sessions were adopted", "node", p.name, "sessions", len(rows))
		p.node.cfg.Lost(rows)
	}
}

// swap shows the roster that was pulled.
func (p *peer) swap() {
	roster := p.roster
	p.stopPull()
	p.shown, p.dropAt, p.required = true, time.Time{}, 0
	p.lose(p.node.cfg.Registry.Swap(roster))
	p.move(func() { p.state = PeerLive })
	p.unindexed = time.Now()
	p.index(p.unindexed)
}

// index has the rows that a swap brought indexed, which they need not be to be seen: once the rosters of the other nodes are here as
// well, for those are waited for.
func (p *peer) index(now time.Time) {
	if p.unindexed.IsZero() || p.node.pulling() && now.Sub(p.unindexed) < indexPatience {
		return
	}
	p.unindexed = time.Time{}
	p.node.cfg.Registry.BuildIndexes()
}

// watch looks after silence and gaps, and returns true when the peer may be forgotten.
func (p *peer) watch(ctx context.Context, now time.Time) (forget bool) {
	timing := &p.node.timing
	if now.Sub(p.lastTick) > timing.Dead/3 || p.node.behind(now) {
		p.excused = now // it was this process that stood still
	}
	p.lastTick = now
	p.index(now)
	p.mu.Lock()
	heardAt := p.heardAt
	if p.excused.After(heardAt) {
		heardAt = p.excused
	}
	p.mu.Unlock()
	silent := now.Sub(heardAt)
	switch {
	case p.state == PeerDead || p.state == PeerLeft:
		return silent > timing.Forget
	case silent >= timing.Dead:
		p.end(PeerDead)
		return false
	case p.shown && p.state == PeerPulling && !p.dropAt.IsZero() && now.After(p.dropAt):
		p.drop()
	}
	if !p.gapSince.IsZero() && now.Sub(p.gapSince) >= timing.Gap {
		p.node.metrics.gaps.Inc()
		p.move(func() { p.state = PeerPulling })
		p.startPull(ctx)
	}
	return false
}

// end is a peer that is not there any more.
func (p *peer) end(as PeerState) {
	p.node.log.Info("a node is gone", "node", p.name, "incarnation", p.at.incarnation, "how", as)
	p.stopPull()
	p.drop()
	p.told, p.gapSince = 0, time.Time{}
	p.forgetEarly()
	p.move(func() { p.state = as })
	if as == PeerDead {
		p.node.metrics.deaths.Inc()
	}
}

func (p *peer) drop() {
	p.shown, p.dropAt = false, time.Time{}
	p.node.cfg.Registry.Drop(p.name)
}

// startPull begins to pull the peer's roster, anew when it is being pulled.
func (p *peer) startPull(ctx context.Context) {
	p.stopPull()
	ctx, p.cancel = context.WithCancel(ctx)
	p.pages, p.roster = make(chan *page), registry.NewRoster(p.name)
	p.node.metrics.pulls.Inc()
	incarnation, required, pages := p.at.incarnation, p.required, p.pages
	p.pulls.Go(func() { p.pull(ctx, incarnation, required, pages) })
}

func (p *peer) stopPull() {
	if p.cancel != nil {
		p.cancel()
	}
	p.cancel, p.pages, p.roster, p.based, p.complete = nil, nil, nil, false, false
	p.gapSince = time.Time{}
}

// addPage takes a page of the snapshot.
func (p *peer) addPage(page *page) {
	if !p.based {
		p.based = true
		for sequence := range p.early {
			if sequence <= page.sequence {
				delete(p.early, sequence)
			}
		}
		p.told = max(p.told, page.sequence)
		p.move(func() { p.at.sequence = page.sequence })
	}
	p.roster.Add(page.rows)
	if !page.more {
		p.complete, p.goal = true, page.to
		p.told = max(p.told, page.to)
	}
	p.follow()
}

// pull asks for one page after the other. The next is asked for when the one before was taken: that is the flow control.
func (p *peer) pull(ctx context.Context, incarnation, required int64, pages chan<- *page) {
	var after registry.RosterPosition
	for first, wait := true, time.Duration(0); ; {
		page, err := p.ask(ctx, incarnation, after)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil || page.incarnation != incarnation || first && page.version < required:
			wait = min(max(2*wait, 20*time.Millisecond), p.node.timing.Pull)
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case pages <- page:
		}
		if !page.more {
			return
		}
		first, wait, after = false, 0, page.next
	}
}

func (p *peer) ask(ctx context.Context, incarnation int64, after registry.RosterPosition) (*page, error) {
	ctx, cancel := context.WithTimeout(ctx, p.node.timing.Pull)
	defer cancel()
	answer, err := p.node.cfg.Bus.Request(ctx, p.name, appendPosition(appendRequest(nil, kindSnapshot, incarnation), after))
	if err != nil {
		return nil, err
	}
	return parsePage(answer)
}

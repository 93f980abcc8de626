//go:build unix

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rollcallhq/rollcall/api"
)

// The times within which properties hold, with what a busy machine adds.
const (
	rowsGone   = 5 * time.Second  // G5: the rows of a dead node
	nodeLost   = 13 * time.Second // its records: the lease in SQL, a sweep, and one more
	caughtUp   = 2 * time.Second  // G4: a revocation that a node had missed; 1 s
	convergent = 20 * time.Second // everything else, after everything is back
)

// row is what is recorded of a session.
type row struct {
	id, serverID, reason string
	app, host            string
	ended                int64
}

// records reads all of them past the nodes.
func (w *world) records() (map[string]row, error) {
	ctx, cancel := context.WithTimeout(context.Background(), operators)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.postgres.URL(w.database))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT id::text, server_id, coalesce(end_reason, ''), application::text, ended_at, hostname FROM sessions`)
	if err != nil {
		return nil, err
	}
	all := map[string]row{}
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.id, &r.serverID, &r.reason, &r.app, &r.ended, &r.host); err != nil {
			return nil, err
		}
		if _, twice := all[r.id]; twice {
			w.violated("one-record", "%s has two", r.id)
		}
		all[r.id] = r
	}
	return all, rows.Err()
}

// listed returns the ids of the sessions that a node lists, and why that is not the whole truth.
func (w *world) listed(n *node, app api.ApplicationID) (ids map[string]bool, why string) {
	a, body := w.call(n, http.MethodGet, sessions(app, "?status=active&limit=1000"), patience)
	var list api.SessionList
	if a.status != http.StatusOK || json.Unmarshal(body, &list) != nil {
		return nil, fmt.Sprintf("%s lists nothing: %d %s", n.Node, a.status, body)
	}
	ids = map[string]bool{}
	for i := range list.Items {
		if host := list.Items[i].Hostname; host == nil || !w.isOrphan(*host) {
			ids[list.Items[i].ID.String()] = true
		}
	}
	if a.partial != "" {
		why = fmt.Sprintf("the list of %s is partial: %s", n.Node, a.partial)
	}
	return ids, why
}

// settle waits, while nobody begins anything, until all properties of a state hold, and then checks those of the history.
func (w *world) settle(after string) {
	w.gate.Lock()
	defer w.gate.Unlock()
	begun := time.Now()
	asked := time.Time{} // the leases: one that nobody has asked for since its node died is in no list
	for {
		why := ""
		if time.Since(asked) > 2*time.Second {
			if why = w.settleLeases(); why == "" {
				asked = time.Now()
			}
		}
		if why == "" {
			why = w.unsettled()
		}
		if why == "" {
			break
		}
		if time.Since(begun) > convergent {
			w.violated("converges", "%s after %s: %s", convergent, after, why)
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.say("settled %s after %s", time.Since(begun).Round(time.Millisecond), after)
	w.checkEnds()
	w.checkRevocations()
	w.checkDisconnects()
	w.checkRecords()
}

// unsettled returns the first property of a state that does not hold.
func (w *world) unsettled() string {
	for _, app := range apps {
		for _, n := range w.nodes {
			ids, why := w.listed(n, app)
			if why != "" {
				return why
			}
			believed := w.believed(app)
			for id := range believed {
				if !ids[id] {
					return fmt.Sprintf("believed-is-listed: %s is not listed by %s", id, n.Node)
				}
			}
			for id := range ids {
				if believed[id] == nil {
					return fmt.Sprintf("listed-is-believed: %s is listed by %s", id, n.Node)
				}
			}
		}
	}
	same := map[string]string{} // path → the view of all nodes
	for _, s := range w.streams {
		a, body := w.call(s.node, http.MethodGet, s.path(), patience)
		var list api.LiveList
		if a.status != http.StatusOK || json.Unmarshal(body, &list) != nil {
			return fmt.Sprintf("%s at %s: %d %s", s.path(), s.node.Node, a.status, body)
		}
		want, _ := json.Marshal(list.View)
		page, open := s.shows()
		if got, _ := json.Marshal(page); !open || string(got) != string(want) {
			return fmt.Sprintf("page-exact: %s at %s: open %v\n%s\n%s", s.path(), s.node.Node, open, got, want)
		}
		if first, ok := same[s.path()]; ok && first != string(want) {
			return fmt.Sprintf("same-everywhere: %s at %s\n%s\n%s", s.path(), s.node.Node, want, first)
		}
		same[s.path()] = string(want)
	}
	records, err := w.records()
	if err != nil {
		return "records: " + err.Error()
	}
	for _, app := range apps {
		believed := w.believed(app)
		for id, l := range believed {
			if r, ok := records[id]; !ok || r.ended != 0 {
				return fmt.Sprintf("connected-is-open: the record of %s, opened at %s: %+v", id, l.node.Node, r)
			}
		}
		for id, r := range records {
			if r.app == app.String() && r.ended == 0 && believed[id] == nil && !w.isOrphan(r.host) {
				return fmt.Sprintf("open-is-connected: the record of %s: %+v", id, r)
			}
		}
	}
	for _, n := range w.nodes {
		if why := w.notReady(n); why != "" {
			return why
		}
	}
	return ""
}

func (w *world) notReady(n *node) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n.mu.Lock()
	ops := n.ops
	n.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/readyz", nil)
	if err != nil {
		return err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	var ready struct {
		Status  string
		Reasons []string
	}
	want := "ready"
	if n.Clock != 0 {
		want = "degraded"
	}
	err = json.NewDecoder(resp.Body).Decode(&ready)
	others := slices.DeleteFunc(ready.Reasons, func(reason string) bool { return n.Clock != 0 && strings.HasPrefix(reason, "clock: ") })
	if err != nil || ready.Status != want || len(others) > 0 {
		return fmt.Sprintf("ready: %s is %+v", n.Node, ready)
	}
	return ""
}

// checkEnds: a session ends for a reason that the history has, and its client is told (G3, G9).
func (w *world) checkEnds() {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := map[*life]bool{}
	for _, d := range w.disconnects {
		asked[d.life] = true
	}
	for _, l := range w.lives[w.checked:] {
		if l.ended.IsZero() || !l.left.IsZero() {
			continue
		}
		revoked := slices.ContainsFunc(w.revocations, func(r *revocation) bool { return r.app == l.app && r.asked.Before(l.ended) })
		if l.lease {
			wanted := map[api.EndReason]bool{api.EndDisconnected: asked[l], api.EndRevoked: revoked, api.EndClientClosed: l.how != ""}
			if !wanted[l.reason] {
				w.violateLocked("told-and-for-a-reason", "%s of %s ended as %s", l.id, l.node.Node, l.reason)
			}
			continue
		}
		var killed, drained bool
		for _, t := range l.node.during(l.ended.Add(-time.Second), l.ended) {
			killed, drained = killed || t.killed, drained || t.drained
		}
		told := l.last.Type == api.TypeDisconnect && int(l.last.Code) == l.code
		switch {
		case killed && l.code == -1:
		case told && l.last.Code == api.CloseDisconnected && asked[l]:
		case told && l.last.Code == api.CloseRevoked && revoked:
		case told && l.last.Code == api.CloseGoingAway && drained:
		default:
			w.violateLocked("told-and-for-a-reason", "%s of %s ended with %d after %+v", l.id, l.node.Node, l.code, l.last)
		}
	}
}

// checkRevocations: no revoked token is connected (G4).
func (w *world) checkRevocations() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, r := range w.revocations {
		if r.status != http.StatusOK {
			continue
		}
		seen, until := 0, r.answered.Add(caughtUp) // what the next one ends is not of this one's count
		if i+1 < len(w.revocations) && w.revocations[i+1].asked.Before(until) {
			until = w.revocations[i+1].asked
		}
		for _, l := range w.lives {
			if l.app != r.app {
				continue
			}
			over := l.over()
			// What an earlier one ended late, at a node that could not hear of it, is of that one's count: whatever came in there until
			// the node had heard of it came in under the epoch from before.
			earlier := slices.ContainsFunc(w.revocations[:i], func(r *revocation) bool {
				heard := w.heardBy(r, l)
				if heard.After(r.answered) {
					heard = heard.Add(caughtUp)
				}
				return r.status != http.StatusServiceUnavailable && l.opened.Before(heard)
			})
			if !earlier && l.code == int(api.CloseRevoked) && over.After(r.asked) && l.opened.Before(r.answered) && over.Before(until) {
				seen++
			}
			// A token of the same second as the call is for the next call to end.
			if !l.minted.Before(r.asked.Truncate(time.Second)) {
				continue
			}
			deadline := w.heardBy(r, l)
			if l.opened.After(deadline.Add(caughtUp)) {
				w.violateLocked("revoked-token-opens-nothing", "%s was opened %s after the answer, at %s", l.id, l.opened.Sub(r.answered), l.node.Node)
			}
			if l.lease { // its client knows of the end when it asks next
				if l.beaten.After(deadline.Add(caughtUp)) {
					w.violateLocked("revoked-is-not-connected", "%s of %s beat %s after the answer (%s)", l.id, l.node.Node, l.beaten.Sub(r.answered), r.answer)
				}
				continue
			}
			if end := over; end.IsZero() && time.Since(deadline) > caughtUp || end.After(deadline.Add(caughtUp)) && l.opened.Before(deadline) {
				w.violateLocked("revoked-is-not-connected", "%s of %s was over %s after the answer (%s)", l.id, l.node.Node, end.Sub(r.answered), r.answer)
			}
		}
		if r.partial == "" && seen > r.count {
			w.violateLocked("revocation-counts", "disconnectedCount is %d, %d clients were told: %s", r.count, seen, r.answer)
		}
	}
}

// heardBy returns when the session's node has heard of the revocation at the latest: at its answer, or, a node that could not, when it
// could again. Any node may hold a lease.
func (w *world) heardBy(r *revocation, l *life) time.Time {
	heard := r.answered
	if !l.lease {
		return r.heardAt(l.node)
	}
	for _, n := range w.nodes {
		heard = later(heard, r.heardAt(n))
	}
	return heard
}

func (r *revocation) heardAt(n *node) time.Time {
	heard := r.answered
	for _, t := range n.during(r.asked.Add(-time.Second), r.answered) {
		switch {
		case !t.deaf:
		case t.to.IsZero():
			heard = time.Now()
		default:
			heard = later(heard, t.to)
		}
	}
	return heard
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// checkDisconnects: what was answered to be disconnected is (G3).
func (w *world) checkDisconnects() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.disconnects {
		over := d.life.over()
		if d.life.lease {
			over = later(d.life.beaten, d.asked) // an end is known when it is asked for
			if d.partial != "" {                 // another node may hold it too, and looks at the record now and then
				over = over.Add(-2 * caughtUp)
			}
		}
		if d.status == http.StatusOK && d.count == 1 && (over.IsZero() && time.Since(d.answered) > caughtUp || over.After(d.answered.Add(caughtUp))) {
			w.violateLocked("disconnected-is-not-connected", "%s of %s: %s", d.life.id, d.life.node.Node, d.answer)
		}
	}
}

// checkRecords: no acknowledged session is lost, and each has one end (G6).
func (w *world) checkRecords() {
	records, err := w.records()
	if err != nil {
		w.violated("records", "they cannot be read: %v", err)
		return
	}
	servers := map[string]string{}
	for _, r := range records {
		if other, ok := servers[r.serverID]; ok {
			w.violated("one-record", "%s and %s are %s", r.id, other, r.serverID)
		}
		servers[r.serverID] = r.id
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	acknowledged := map[*life]bool{}
	for _, d := range w.disconnects {
		if d.status == http.StatusOK && d.count == 1 && d.partial == "" {
			acknowledged[d.life] = true
		}
	}
	for _, l := range w.lives {
		r, ok := records[l.id]
		switch {
		case !ok:
			w.violateLocked("acknowledged-is-recorded", "%s of %s has no record", l.id, l.node.Node)
			continue
		case r.serverID != l.serverID:
			w.violateLocked("acknowledged-is-recorded", "%s is %s in its record", l.serverID, r.serverID)
		}
		if was, seen := w.ends[l.id]; seen && was != r.reason {
			w.violateLocked("one-end", "%s of %s ended as %q, and now as %q", l.id, l.node.Node, was, r.reason)
		}
		if l.connected() {
			continue
		}
		w.ends[l.id] = r.reason
		want := w.wanted(l)
		if l.lease && l.left.IsZero() {
			want = []api.EndReason{l.reason}
		}
		if acknowledged[l] {
			want = []api.EndReason{api.EndDisconnected}
		}
		if !slices.Contains(want, api.EndReason(r.reason)) {
			w.violateLocked("one-end", "%s of %s ended with %d, left with %q, and is recorded as %q, not as one of %q", l.id, l.node.Node, l.code, l.how,
				r.reason, want)
		}
	}
	w.checked = len(w.lives) // those that are connected are looked at again by their own end
	for i, l := range w.lives {
		if l.connected() {
			w.checked = i
			break
		}
	}
}

// wanted returns how a session may be recorded that ended as its client knows.
func (w *world) wanted(l *life) (want []api.EndReason) {
	over := l.over()
	for _, t := range l.node.during(over.Add(-2*time.Second), over.Add(2*time.Second)) {
		if t.killed { // before the record of another end was written
			want = append(want, api.EndNodeLost, api.EndServerStopped)
		}
		if t.drained {
			want = append(want, api.EndNodeDraining)
		}
	}
	switch {
	case l.code == int(api.CloseDisconnected):
		want = append(want, api.EndDisconnected)
	case l.code == int(api.CloseRevoked):
		want = append(want, api.EndRevoked)
	case l.code == int(api.CloseGoingAway):
		want = append(want, api.EndNodeDraining)
	case !l.left.IsZero(): // an operator may have been first, and the client gone before it was told
		want = append(want, api.EndRevoked, api.EndDisconnected, api.EndConnectionLost)
		if l.how == "bye" || l.lease {
			want = append(want, api.EndClientClosed)
		}
		for _, t := range l.node.during(over, time.Now()) { // it was not heard while the node stood still
			if t.killed {
				want = append(want, api.EndNodeLost, api.EndServerStopped)
			}
		}
	}
	return want
}

// watchDeath measures how long the rows and the records of a node outlast it.
func (w *world) watchDeath(n *node, at time.Time, dead map[string]*life, restarted bool) {
	left, where := len(dead), ""
	for left > 0 && time.Since(at) < rowsGone+time.Second {
		left = 0
		for _, other := range w.nodes {
			if _, ok := other.at(); !ok || other == n {
				continue
			}
			for _, app := range apps {
				ids, _ := w.listed(other, app)
				for id := range dead {
					if ids[id] {
						left, where = left+1, other.Node
					}
				}
			}
		}
		for _, s := range w.streams {
			if page, open := s.shows(); open && s.node != n {
				for i := range page.Items {
					if _, id, _ := strings.Cut(string(page.Items[i].ServerID), ":"); dead[id] != nil {
						left, where = left+1, s.node.Node+" "+s.path()
					}
				}
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	took := time.Since(at)
	w.say("%s: %d rows gone after %s", n.Node, len(dead), took.Round(time.Millisecond))
	if left > 0 || took > rowsGone {
		w.violated("dead-rows-go", "%d of %d rows of %s are there after %s, at %s", left, len(dead), n.Node, took, where)
	}
	if restarted {
		return
	}
	for {
		records, err := w.records()
		open := 0
		for id := range dead {
			if r := records[id]; r.ended == 0 {
				open++
			} else if r.reason != string(api.EndNodeLost) && r.reason != string(api.EndDisconnected) && r.reason != string(api.EndRevoked) {
				w.violated("dead-records-close", "%s of %s is recorded as %q", id, n.Node, r.reason)
				delete(dead, id)
			}
		}
		took = time.Since(at)
		if err == nil && open == 0 {
			break
		}
		if took > nodeLost {
			w.violated("dead-records-close", "%d of %d records of %s are open after %s, %v", open, len(dead), n.Node, took, err)
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.say("%s: %d records closed after %s", n.Node, len(dead), took.Round(time.Millisecond))
}

// of returns the sessions of a node whose clients believe that they are connected.
func (w *world) of(n *node) map[string]*life {
	all := map[string]*life{}
	for _, app := range apps {
		maps.Copy(all, w.believed(app))
	}
	maps.DeleteFunc(all, func(_ string, l *life) bool { return l.node != n || l.lease })
	return all
}

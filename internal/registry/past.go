package registry

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"unsafe"

	"github.com/rollcallhq/rollcall/api"
)

// A row that searches find by other texts than before remembers those, so that who has looked at a search can act on exactly what
// matched then (Matching). Few rows ever change so, and the others pay nothing: the past stands behind the entry's texts.

// hasPast marks an entry that has one, beside the categories in folded.
const hasPast Categories = 1 << 7

// maxPast is how many versions a row remembers. Of the oldest of as many only the time is known.
const maxPast = 16

// version is what searches found a row by until a moment.
type version struct {
	until api.Millis // when it had become something else
	texts []string   // folded, in the order of categories; none = not known, which no search finds
}

// pastSize is the length of the length before a past.
const pastSize = 2

// appendPast writes versions, the newest first. Of those that do not fit into 64 KiB the texts are forgotten.
func appendPast(b []byte, past []version) []byte {
	start := len(b)
	b = append(b, make([]byte, pastSize)...)
	b = append(b, byte(len(past)))
	for i, v := range past {
		b = binary.AppendVarint(b, int64(v.until))
		size := 0
		for _, text := range v.texts {
			size += binary.MaxVarintLen16 + len(text)
		}
		if len(b)-start+size+(len(past)-i)*(binary.MaxVarintLen64+1) > math.MaxUint16 {
			v.texts = nil
		}
		b = append(b, byte(len(v.texts)))
		for _, text := range v.texts {
			b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
	}
	binary.LittleEndian.PutUint16(b[start:], uint16(len(b)-start-pastSize))
	return b
}

// past returns the versions of a row before what it is now, the newest first. They share the entry's memory.
func (e *entry) past() []version {
	if e.folded&hasPast == 0 {
		return nil
	}
	at := unsafe.Add(unsafe.Pointer(e), entrySize+uintptr(e.ends[texts-1])) //nolint:gosec // newEntry put the past there
	size := binary.LittleEndian.Uint16(unsafe.Slice((*byte)(at), pastSize)) //nolint:gosec // and its length before it
	b := unsafe.Slice((*byte)(unsafe.Add(at, pastSize)), int(size))         //nolint:gosec // of this length
	past := make([]version, b[0])
	b = b[1:]
	for i := range past {
		until, n := binary.Varint(b)
		past[i] = version{until: api.Millis(until), texts: make([]string, b[n])}
		b = b[n+1:]
		for j := range past[i].texts {
			size, n := binary.Uvarint(b)
			past[i].texts[j] = unsafe.String(unsafe.SliceData(b[n:]), int(size)) //nolint:gosec // read here, and written no more
			b = b[n+int(size):]
		}
	}
	return past
}

// pastOf returns the past of a row that takes old's place now: old's, and what old was when searches find the row by other texts.
func (e *entry) pastOf(old *entry, now api.Millis) []version {
	past := old.past()
	if e.foundLike(old) {
		return past
	}
	v := version{until: now, texts: make([]string, len(categories))}
	if len(past) > 0 {
		v.until = max(now, past[0].until) // a clock may be set back
	}
	for i := range categories {
		v.texts[i] = string(old.appendFolded(nil, i))
	}
	if past = slices.Insert(past, 0, v); len(past) > maxPast {
		past = past[:maxPast]
		past[maxPast-1].texts = nil
	}
	return past
}

// matchedAt tells whether the query found a row, which it finds now, at the end of a millisecond. The query is normalized.
func (e *entry) matchedAt(q *Query, at api.Millis) bool {
	if e.created > at {
		return false
	}
	if q.Search == "" {
		return true
	}
	var then *version
	past := e.past()
	for i := range past {
		if past[i].until <= at {
			break
		}
		then = &past[i]
	}
	if then == nil {
		return true
	}
	for i, text := range then.texts {
		if q.Categories&categories[i] != 0 && strings.Contains(text, q.Search) {
			return true
		}
	}
	return false
}

// Matching returns which rows of this node, and how many of all nodes, match the query's search now and matched it at the end of the
// millisecond at, whatever they were between. Rows of other nodes are counted as if their texts had always been what they are now:
// their owners know. An application that was never set has none.
func (r *Registry) Matching(query Query, at api.Millis) (own []api.ServerID, all int) {
	query = query.normalized()
	a := r.lock(query.Application)
	if a == nil {
		return nil, 0
	}
	o := a.organization
	o.unlock()
	if o.id != query.Organization {
		return nil, 0
	}
	o.walking.Lock()
	defer o.walking.Unlock()
	o.lock()
	s := a.searchLocked(&run{query: &query, count: -1})
	if s.few == nil {
		s.all = s.all.Copy()
	}
	o.unlock()
	take := func(e *entry) {
		if e.matchedAt(&query, at) {
			all++
			if e.owner == ownNode {
				own = append(own, e.serverID())
			}
		}
	}
	if s.few != nil {
		for _, e := range s.few {
			if s.exact || s.decides(e) {
				take(e)
			}
		}
		return own, all
	}
	s.all.Scan(func(p place) bool {
		if s.matches(p) {
			take(p.entry)
		}
		return true
	})
	return own, all
}

// CreatedSince returns how many rows an application has, and how many of them were created at or after each of the times.
func (r *Registry) CreatedSince(app api.ApplicationID, times []api.Millis) (live int, since []int) {
	since = make([]int, len(times))
	_, all := r.copyOrder(app)
	if all == nil {
		return 0, since
	}
	for i, t := range times {
		since[i] = rankAfter(all, api.Position{CreatedAt: t})
	}
	return all.Len(), since
}

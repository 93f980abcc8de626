package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// The wire format is described in docs/adr/0003-rosters-between-nodes.md.
const wireVersion = 1

// The kinds of messages.
const (
	kindBatch     = 'B'
	kindHeartbeat = 'H'
	kindGoodbye   = 'G'
	kindSnapshot  = 'S'
	kindCommand   = 'C'
)

// The kinds of changes on the wire, in the low bits of a change's first byte.
const (
	wireApplication = 0
	wireSet         = 1
	wireGone        = 2
	wireActive      = 3
	wireKind        = 3
)

// The flags of a set, in the rest of that byte.
const (
	flagAuthorized = 4
	flagClientIsID = 8
	flagNodeIsMine = 16
	flagRollcall   = 32
	flagForeign    = 64
	flagExpires    = 128
)

// errWire is of a message that does not have the form.
var errWire = errors.New("malformed message")

// header begins every message to all nodes.
type header struct {
	kind        byte
	node        string
	incarnation int64
	sequence    uint64
}

// message is a message to all nodes.
type message struct {
	header
	changes []registry.RowChange // of a batch

	version int64 // of a heartbeat: of the configuration that the node has applied
	hello   bool  // of a heartbeat: asks for those of the others
}

// page is a page of a snapshot.
type page struct {
	header         // sequence is that from which the page was read
	to      uint64 // what the page has is in the batches up to this one
	version int64
	more    bool
	next    registry.RosterPosition
	rows    []registry.RowChange
}

func appendText[S ~string](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendHeader(b []byte, h header) []byte {
	b = append(b, wireVersion, h.kind)
	b = appendText(b, h.node)
	b = binary.AppendUvarint(b, uint64(h.incarnation))
	return binary.AppendUvarint(b, h.sequence)
}

func appendHeartbeat(b []byte, h header, version int64, hello bool) []byte {
	b = appendHeader(b, h)
	return appendFlag(binary.AppendUvarint(b, uint64(version)), hello)
}

func appendPosition(b []byte, p registry.RosterPosition) []byte {
	b = append(b, p.Application[:]...)
	b = binary.AppendUvarint(b, uint64(p.After.CreatedAt))
	return appendText(b, p.After.ServerID)
}

// encodePage encodes a page with as many of the rows as it has room for. The rest, and p.next, come with the next one.
func encodePage(p *page, rows []registry.RowChange) []byte {
	changes, n := appendChanges(nil, p.node, rows, pageBytes)
	more, next, to := p.more, p.next, p.to
	if n < len(rows) {
		last := &rows[n-1].Row
		more, to = true, p.sequence
		next = registry.RosterPosition{Application: last.Application,
			After: api.Position{CreatedAt: last.CreatedAt, ServerID: last.ServerID}}
	}
	b := appendHeader(nil, p.header)
	b = binary.AppendUvarint(b, to)
	b = binary.AppendUvarint(b, uint64(p.version))
	b = appendFlag(b, more)
	b = appendPosition(b, next)
	return append(b, changes...)
}

func appendFlag(b []byte, flag bool) []byte {
	if flag {
		return append(b, 1)
	}
	return append(b, 0)
}

// appendChanges appends changes until b is longer than size, one at least, and returns how many.
func appendChanges(b []byte, node string, changes []registry.RowChange, size int) ([]byte, int) {
	var app api.ApplicationID
	for i := range changes {
		if i > 0 && len(b) >= size {
			return b, i
		}
		c := &changes[i]
		row := &c.Row
		if i == 0 || row.Application != app {
			app = row.Application
			b = append(b, wireApplication)
			b = append(b, row.Organization[:]...)
			b = append(b, app[:]...)
		}
		switch c.Kind {
		case registry.RowSet:
			b = appendSet(b, node, c)
		case registry.RowGone:
			b = append(b, wireGone)
			b = append(b, row.Session[:]...)
		case registry.RowActive:
			b = append(b, wireActive)
			b = append(b, row.Session[:]...)
			b = binary.AppendUvarint(b, uint64(row.LastActiveAt))
		}
	}
	return b, len(changes)
}

func appendSet(b []byte, node string, c *registry.RowChange) []byte {
	row := &c.Row
	at := len(b)
	flags := byte(wireSet)
	b = append(b, 0)
	b = append(b, row.Session[:]...)
	b = binary.AppendUvarint(b, uint64(row.CreatedAt))
	b = binary.AppendUvarint(b, c.Epoch)
	b = binary.AppendUvarint(b, uint64(row.OwnerEpoch))
	if row.TokenExpiresAt != 0 {
		flags |= flagExpires
		b = binary.AppendUvarint(b, uint64(row.TokenExpiresAt-row.CreatedAt)) // modulo 2⁶⁴, as all that is subtracted here
	}
	b = binary.AppendUvarint(b, uint64(max(row.LastActiveAt, row.CreatedAt)-row.CreatedAt))
	if row.Authorized {
		flags |= flagAuthorized
	}
	credential := row.Credential.Epoch
	switch row.Credential.Kind {
	case registry.CredentialRollcall:
		flags |= flagRollcall
	case registry.CredentialForeign:
		flags, credential = flags|flagForeign, uint64(row.Credential.IssuedAt)
	case registry.CredentialNone:
	}
	b = binary.AppendUvarint(b, credential)
	session := row.ServerID[max(len(row.ServerID)-idLength, 0):]
	if owner := row.ServerID[:max(len(row.ServerID)-idLength-1, 0)]; string(owner) == node {
		flags |= flagNodeIsMine
	} else {
		b = appendText(b, owner)
	}
	b = appendText(b, row.IP)
	if row.ClientID == string(session) {
		flags |= flagClientIsID
	} else {
		b = appendText(b, row.ClientID)
	}
	b = appendText(b, row.Login)
	b = appendText(b, row.License)
	b[at] = flags
	return b
}

// idLength is the length of a session id in text.
const idLength = 36

// reader takes a message apart. After the first mistake all that it reads is zero.
type reader struct {
	b      []byte // what is left
	all    string // the message once more; texts are parts of it, which costs one copy and not one a text
	failed bool
}

func newReader(b []byte) reader { return reader{b: b, all: string(b)} }

func (r *reader) fail() { r.b, r.failed = nil, true }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) flag() bool {
	c := r.byte()
	if c > 1 {
		r.fail()
	}
	return c == 1
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bytes returns the next n bytes, which share the message's memory.
func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) text() string {
	n := r.uvarint()
	at := len(r.all) - len(r.b)
	if r.bytes(n) == nil {
		return ""
	}
	return r.all[at : at+int(n)]
}

func readID[T any](r *reader) (id api.ID[T]) {
	copy(id[:], r.bytes(uint64(len(id))))
	return id
}

func (r *reader) header() header {
	if r.byte() != wireVersion {
		r.fail()
	}
	h := header{kind: r.byte(), node: r.text(), incarnation: int64(r.uvarint()), sequence: r.uvarint()}
	if h.node == "" || h.incarnation < 0 {
		r.fail()
	}
	return h
}

func (r *reader) position() registry.RosterPosition {
	return registry.RosterPosition{Application: readID[api.Application](r), After: api.Position{
		CreatedAt: api.Millis(r.uvarint()), ServerID: api.ServerID(r.text()),
	}}
}

// changes reads the rest of the message.
func (r *reader) changes(node string) []registry.RowChange {
	// Few changes take less than 20 bytes; what is allocated is bounded by what was received.
	changes := make([]registry.RowChange, 0, len(r.b)/64+1)
	var at registry.Row
	for len(r.b) > 0 {
		first := r.byte()
		if first&wireKind != wireSet && first&^wireKind != 0 {
			r.fail()
		}
		if first == wireApplication {
			at.Organization, at.Application = readID[api.Organization](r), readID[api.Application](r)
			continue
		}
		if at.Application.IsZero() {
			r.fail()
		}
		changes = append(changes, registry.RowChange{Row: at})
		c := &changes[len(changes)-1]
		c.Row.Session = readID[api.Session](r)
		switch first & wireKind {
		case wireSet:
			r.set(c, first, node)
		case wireGone:
			c.Kind = registry.RowGone
		case wireActive:
			c.Kind = registry.RowActive
			c.Row.LastActiveAt = api.Millis(r.uvarint())
		}
	}
	return changes
}

func (r *reader) set(c *registry.RowChange, flags byte, node string) {
	c.Kind = registry.RowSet
	row := &c.Row
	row.CreatedAt = api.Millis(r.uvarint())
	c.Epoch = r.uvarint()
	row.OwnerEpoch = uint32(min(r.uvarint(), math.MaxUint32))
	if flags&flagExpires != 0 {
		row.TokenExpiresAt = row.CreatedAt + api.Millis(r.uvarint())
	}
	row.LastActiveAt = max(row.CreatedAt, row.CreatedAt+api.Millis(r.uvarint()))
	row.Authorized = flags&flagAuthorized != 0
	credential := r.uvarint()
	switch flags & (flagRollcall | flagForeign) {
	case flagRollcall:
		row.Credential = registry.Credential{Kind: registry.CredentialRollcall, Epoch: credential}
	case flagForeign:
		row.Credential = registry.Credential{Kind: registry.CredentialForeign, IssuedAt: api.Millis(credential)}
	case flagRollcall | flagForeign:
		r.fail()
	default:
		row.Credential.Epoch = credential
	}
	if flags&flagNodeIsMine == 0 {
		if node = r.text(); node == "" {
			r.fail()
		}
	}
	row.ServerID = api.NewServerID(node, row.Session)
	row.IP = r.text()
	if flags&flagClientIsID != 0 {
		row.ClientID = string(row.ServerID[len(row.ServerID)-idLength:])
	} else {
		row.ClientID = r.text()
	}
	row.Login, row.License = r.text(), r.text()
}

// parseMessage reads a message to all nodes.
func parseMessage(b []byte) (m message, err error) {
	r := newReader(b)
	m.header = r.header()
	switch m.kind {
	case kindBatch:
		m.changes = r.changes(m.node)
	case kindHeartbeat:
		m.version, m.hello = int64(r.uvarint()), r.flag()
	case kindGoodbye:
	default:
		r.fail()
	}
	if r.failed || len(r.b) > 0 {
		return message{}, fmt.Errorf("message to all nodes: %w", errWire)
	}
	return m, nil
}

// parsePage reads a page of a snapshot.
func parsePage(b []byte) (*page, error) {
	r := newReader(b)
	p := &page{header: r.header(), to: r.uvarint(), version: int64(r.uvarint()), more: r.flag(), next: r.position()}
	if p.kind != kindSnapshot || p.to < p.sequence {
		r.fail()
	}
	p.rows = r.changes(p.node)
	if r.failed {
		return nil, fmt.Errorf("page of a snapshot: %w", errWire)
	}
	return p, nil
}

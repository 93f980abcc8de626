package registry

import (
	"cmp"
	"encoding/hex"
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/rollcallhq/rollcall/api"
)

// entry is a row as the registry keeps it: one piece of memory without pointers, with the texts behind the fields, so that a
// million of them are a million objects that the garbage collector need not look into. It is immutable but for active, so that
// scans read it without the lock; an update puts another entry in its place. What the application knows is not repeated here.
type entry struct {
	session    api.SessionID
	epoch      uint32 // under which the session came in
	adopted    uint32 // Row.OwnerEpoch
	credential uint64 // Epoch or IssuedAt, as kind says
	expires    api.Millis
	active     atomic.Int64 // in place of Row.LastActiveAt; written under the organization's lock
	created    api.Millis   // here and below is what searches look at, together for the processor's cache
	kind       CredentialKind
	authorized bool
	named      bool          // the client has an id of its own; most go by their session's, which is not kept twice
	folded     Categories    // those whose texts are as searches look at them; and hasPast
	owner      owner         // who holds the session; not always the node of its server id
	ends       [texts]uint16 // where each text ends, behind the fields
}

// The texts of an entry: first those that searches look at, in the order of categories.
const (
	textLicense = iota
	textIP
	textClient
	textLogin
	textNode
	texts
)

const entrySize = unsafe.Sizeof(entry{})

// newEntry packs a row whose server id is well formed, with its past.
func newEntry(row *Row, epoch uint64, past []version) (*entry, error) {
	session := row.Session.String()
	text := [texts]string{
		textLicense: row.License,
		textIP:      row.IP,
		textClient:  row.ClientID,
		textLogin:   row.Login,
		textNode:    string(row.ServerID[:len(row.ServerID)-len(session)-1]),
	}
	named := row.ClientID != session
	if !named {
		text[textClient] = ""
	}
	size := 0
	for _, s := range text {
		size += len(s)
	}
	if size > math.MaxUint16 {
		return nil, ErrTooLong
	}
	var behindTexts []byte
	if len(past) > 0 {
		behindTexts = appendPast(nil, past)
	}
	memory := make([]uint64, (int(entrySize)+size+len(behindTexts)+7)/8) // words, for the alignment of the fields
	e := (*entry)(unsafe.Pointer(unsafe.SliceData(memory)))              //nolint:gosec // memory is longer than an entry, and has no pointers
	e.session, e.created, e.expires = row.Session, row.CreatedAt, row.TokenExpiresAt
	e.epoch, e.adopted = uint32(min(epoch, math.MaxUint32)), row.OwnerEpoch
	e.active.Store(int64(cmp.Or(row.LastActiveAt, row.CreatedAt)))
	e.kind, e.credential = row.Credential.Kind, row.Credential.pack()
	e.authorized, e.named = row.Authorized, named
	behind := unsafe.Slice((*byte)(unsafe.Pointer(e)), 8*len(memory))[entrySize:] //nolint:gosec // the bytes of memory
	end := 0
	for i, s := range text {
		end += copy(behind[end:], s)
		e.ends[i] = uint16(end)
	}
	if copy(behind[end:], behindTexts) > 0 {
		e.folded = hasPast
	}
	var room [64]byte
	for i, category := range categories {
		if string(appendFold(room[:0], text[i])) == text[i] {
			e.folded |= category
		}
	}
	return e, nil
}

// text returns one of the entry's texts. It shares the entry's memory.
func (e *entry) text(i int) string {
	start, end := 0, int(e.ends[i])
	if i > 0 {
		start = int(e.ends[i-1])
	}
	if start == end {
		return "" // a pointer behind the last text would be one into other memory
	}
	first := unsafe.Add(unsafe.Pointer(e), int(entrySize)+start) //nolint:gosec // newEntry put the texts there
	return unsafe.String((*byte)(first), end-start)              //nolint:gosec // and nobody writes to them
}

func (e *entry) serverID() api.ServerID { return api.NewServerID(e.text(textNode), e.session) }

// appendFolded appends what searches in categories[i] look at.
func (e *entry) appendFolded(b []byte, i int) []byte {
	if i == textClient && !e.named {
		return appendID(b, e.session)
	}
	return appendFold(b, e.text(i))
}

// appendID is String without the string.
func appendID(b []byte, id api.SessionID) []byte {
	for i, part := range [...][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}

// value returns the row as it is now.
func (a *application) value(e *entry) Row {
	shown := show([]*entry{e})[0]
	return Row{
		Organization:   a.organization.id,
		Application:    a.id,
		Session:        e.session,
		ServerID:       shown.ServerID,
		CreatedAt:      e.created,
		IP:             shown.IPAddress,
		ClientID:       shown.ClientID,
		Login:          e.text(textLogin),
		License:        e.text(textLicense),
		Authorized:     e.authorized,
		TokenExpiresAt: e.expires,
		LastActiveAt:   api.Millis(e.active.Load()),
		Credential:     unpack(e.kind, e.credential),
		OwnerEpoch:     e.adopted,
	}
}

// before is the list order: newest first, then by server id, descending and bytewise (page 2).
func (e *entry) before(other *entry) bool {
	switch {
	case e.created != other.created:
		return e.created > other.created
	case e.text(textNode) != other.text(textNode):
		return e.serverID() > other.serverID() // which is not the order of the nodes: a colon comes after the digits
	}
	return e.session.Compare(other.session) > 0
}

// show returns rows as lists and streams show them. They share the entries' memory.
func show(entries []*entry) []api.Row {
	rows := make([]api.Row, len(entries))
	optional := make([]string, 0, 2*len(entries))
	point := func(s string) *string {
		if s == "" {
			return nil
		}
		optional = append(optional, s)
		return &optional[len(optional)-1]
	}
	for i, e := range entries {
		id := e.serverID()
		client := e.text(textClient)
		if !e.named {
			client = string(id[len(e.text(textNode))+1:])
		}
		rows[i] = api.Row{
			ServerID:  id,
			IPAddress: e.text(textIP),
			CreatedAt: e.created,
			ClientID:  client,
			Login:     point(e.text(textLogin)),
			License:   point(e.text(textLicense)),
		}
	}
	return rows
}

// showsLike tells whether show returns the same for both.
func (e *entry) showsLike(other *entry) bool {
	if e == other {
		return true
	}
	for i := range texts {
		if e.text(i) != other.text(i) {
			return false
		}
	}
	return e.session == other.session && e.created == other.created && e.named == other.named
}

// foundLike tells whether searches find both alike.
func (e *entry) foundLike(other *entry) bool {
	for i := range categories {
		if e.text(i) != other.text(i) {
			return false
		}
	}
	return e.named == other.named // and of the same session
}

func (e *entry) derived(now api.Millis, idleAfter time.Duration) api.DerivedStatus {
	return derived(e.expires, api.Millis(e.active.Load()), now, idleAfter)
}

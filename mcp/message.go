package mcp

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/input"
)

// Names of the protocol: JSON-RPC methods, and the keys of params._meta (specification 2026-07-28, basic, "_meta").
const (
	methodInitialize    = "initialize"
	methodPing          = "ping"
	methodDiscover      = "server/discover"
	metaProtocolVersion = "io.modelcontextprotocol/protocolVersion"
	metaClientInfo      = "io.modelcontextprotocol/clientInfo"
)

// message is what is read of the body of a POST: one JSON-RPC message, or a batch of them (2025-03-26 alone has batches).
type message struct {
	whole      bool
	isRPC      bool // it is JSON-RPC, as far as it was seen
	active     bool // it has something other than pings and their answers
	initialize bool
	discover   bool
	modern     bool            // it names its protocol version itself
	version    string          // that one
	id         json.RawMessage // of the last request; a string or a number, else nil
	clientInfo json.RawMessage // as it was written; nil when there is none
}

// readMessage reads the beginning of a body; whole tells whether that is all of it. What is cut short or is not JSON is read as far as
// it goes.
func readMessage(head []byte, whole bool) message {
	m := message{whole: whole}
	dec := json.NewDecoder(bytes.NewReader(head))
	switch tok, err := dec.Token(); {
	case err != nil:
	case tok == json.Delim('{'):
		_ = m.readOne(dec)
	case tok == json.Delim('['):
		for dec.More() {
			if tok, err := dec.Token(); err != nil || tok != json.Delim('{') || m.readOne(dec) != nil {
				break
			}
		}
	}
	return m
}

var errShape = errors.New("not of the expected shape")

// readOne reads a JSON-RPC object whose brace has been read.
func (m *message) readOne(dec *json.Decoder) error {
	var version, method string
	pong := false
	err := members(dec, func(name string) error {
		switch name {
		case "jsonrpc":
			return text(dec, &version)
		case "method":
			return text(dec, &method)
		case "id":
			return requestID(dec, &m.id)
		case "params":
			return m.readParams(dec)
		case "result":
			var result json.RawMessage
			err := dec.Decode(&result)
			pong = isEmptyObject(result)
			return err
		default:
			return skip(dec)
		}
	})
	if version == "2.0" || err != nil && !m.whole && method != "" { // some clients write the version last
		m.isRPC = true
		m.initialize = m.initialize || method == methodInitialize
		m.discover = m.discover || method == methodDiscover
		m.active = m.active || method != methodPing && !pong
	}
	return err
}

func (m *message) readParams(dec *json.Decoder) error {
	return object(dec, func(name string) error {
		switch name {
		case "clientInfo":
			if m.modern {
				return skip(dec)
			}
			return clientInfo(dec, &m.clientInfo)
		case "_meta":
			return object(dec, func(name string) error {
				switch name {
				case metaProtocolVersion:
					m.modern = true
					return text(dec, &m.version)
				case metaClientInfo:
					return clientInfo(dec, &m.clientInfo)
				default:
					return skip(dec)
				}
			})
		default:
			return skip(dec)
		}
	})
}

// object reads the members of the value that comes, when it is an object; another value is skipped.
func object(dec *json.Decoder, member func(name string) error) error {
	tok, err := dec.Token()
	switch {
	case err != nil:
		return err
	case tok == json.Delim('{'):
		return members(dec, member)
	case tok == json.Delim('['):
		return errShape
	default:
		return nil
	}
}

// members reads the members of an object whose brace has been read; member reads each value.
func members(dec *json.Decoder, member func(name string) error) error {
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := tok.(string) // the decoder takes no other names
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

func skip(dec *json.Decoder) error {
	var raw json.RawMessage
	return dec.Decode(&raw)
}

// text reads a string; another value leaves to as it was.
func text(dec *json.Decoder, to *string) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	if raw[0] == '"' {
		return json.Unmarshal(raw, to)
	}
	return nil
}

func clientInfo(dec *json.Decoder, to *json.RawMessage) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	if raw[0] == '{' {
		*to = bytes.Clone(raw)
	}
	return nil
}

// discovered tells whether the answer to server/discover begins so that the client goes on with the version that it asked with. What
// comes in more than one piece is taken for a no; the client's next request opens its session.
func (m *message) discovered(begin []byte) bool {
	_, rest, found := bytes.Cut(begin, []byte(`"supportedVersions"`))
	versions, _, complete := bytes.Cut(rest, []byte("]"))
	return found && complete && m.version != "" && bytes.Contains(versions, []byte(`"`+m.version+`"`))
}

// maxRequestID bounds the ids that are repeated in an answer.
const maxRequestID = 256

func requestID(dec *json.Decoder, to *json.RawMessage) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	*to = nil
	if c := raw[0]; len(raw) <= maxRequestID && (c == '"' || c == '-' || '0' <= c && c <= '9') {
		*to = bytes.Clone(raw)
	}
	return nil
}

func isEmptyObject(raw json.RawMessage) bool {
	return len(raw) >= 2 && raw[0] == '{' && len(bytes.TrimSpace(raw[1:len(raw)-1])) == 0
}

// implementation is what is read of clientInfo (schema 2026-07-28, Implementation). Hostname is none of the protocol's.
type implementation struct {
	Name       string `json:"name,omitempty"`
	Title      string `json:"title,omitempty"`
	Version    string `json:"version,omitempty"`
	WebsiteURL string `json:"websiteUrl,omitempty"`
	Hostname   string `json:"hostname,omitempty"`
}

// readImplementation reads the strings of clientInfo. A member of another type is as good as missing.
func readImplementation(info json.RawMessage) (im implementation) {
	var fields map[string]json.RawMessage
	if len(info) == 0 || json.Unmarshal(info, &fields) != nil {
		return im
	}
	for name, to := range map[string]*string{"name": &im.Name, "title": &im.Title, "version": &im.Version, "websiteUrl": &im.WebsiteURL,
		"hostname": &im.Hostname} {
		_ = json.Unmarshal(fields[name], to)
	}
	return im
}

// shownInfo returns clientInfo as Rollcall takes it: as it was written if it can be, else what matters of it.
func shownInfo(info json.RawMessage) json.RawMessage {
	if len(info) == 0 {
		return nil
	}
	if out, ok := acceptable(info); ok {
		return out
	}
	im := readImplementation(info)
	for _, s := range []*string{&im.Name, &im.Title, &im.Version, &im.WebsiteURL, &im.Hostname} {
		*s = clip(*s)
	}
	short, err := json.Marshal(im)
	if err != nil {
		return nil
	}
	out, _ := acceptable(short)
	return out
}

// acceptable tells whether the server takes it as clientInfo, and returns what is sent.
func acceptable(info json.RawMessage) (json.RawMessage, bool) {
	sent, err := json.Marshal(info) // as client.Manage.Report writes it
	if err != nil || len(sent) > api.MaxClientInfo {
		return nil, false
	}
	o, err := input.ParseBody([]byte(`{"clientInfo":` + string(sent) + `}`))
	if err != nil || o.ClientInfo("clientInfo") == nil {
		return nil, false
	}
	return info, true
}

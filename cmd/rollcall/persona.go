package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// persona is who a demo client pretends to be.
type persona struct {
	ClientID, Login, License, Hostname, UserAgent, Address string

	ClientInfo json.RawMessage
	Authorized bool // comes with a token
	SignsIn    bool // comes without one, and may get one later
	Idle       bool // never does anything
	Vanishes   bool // goes without a word
}

var (
	firstNames = []string{"alice", "bob", "carol", "dmitri", "elena", "farid", "grace", "hiro", "ines", "john", "kofi", "lena", "maria",
		"noah", "olga", "priya", "quentin", "rosa", "søren", "tomás", "uma", "victor", "wei", "ximena", "yusuf", "zoë"}
	lastNames = []string{"andersson", "brown", "chen", "diaz", "evans", "fischer", "garcia", "haddad", "ito", "jensen", "kim", "lopez",
		"müller", "novak", "okafor", "patel", "rossi", "silva", "tanaka", "weber"}
	domains  = []string{"example.com", "example.org", "acme.example", "studio.example"}
	machines = []string{"mbp-14", "desktop", "thinkpad", "workstation", "ci-runner", "studio", "laptop", "render-node"}
	agents   = []string{
		"DesktopClient/4.2.1 (macOS 15.1)", "DesktopClient/4.2.1 (Windows 11)", "DesktopClient/4.1.0 (Ubuntu 24.04)",
		"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/141.0", "agent-runtime/0.9.3 (linux)",
	}
	mcpClients = []string{"vscode", "cursor", "inspector", "zed", "agent-runner", "notebook"}
	documents  = []string{"quarterly report", "floor plan", "invoice run", "landing page", "model v3", "season 2 cut", "Übersicht", "レポート"}
)

func one(list []string) string { return list[rand.IntN(len(list))] }

// digits returns n characters of a-f and 0-9, upper case.
func digits(n int) string {
	return strings.ToUpper(fmt.Sprintf("%0*x", n, rand.Uint64N(1<<(4*n))))
}

func newPersona() persona {
	first, last := one(firstNames), one(lastNames)
	p := persona{
		ClientID: "client-" + strings.ToLower(digits(6)),
		Login:    fmt.Sprintf("%s.%s@%s", first, last, one(domains)),
		License:  fmt.Sprintf("%s-%s-%s", one([]string{"PRO", "TEAM", "EDU", "TRIAL"}), digits(6), digits(6)),
		Hostname: first + "-" + one(machines),
		// Addresses for documentation (RFC 5737, RFC 3849): they are nobody's.
		Address:    fmt.Sprintf("%s%d", one([]string{"203.0.113.", "198.51.100.", "192.0.2.", "2001:db8::"}), 1+rand.IntN(254)),
		UserAgent:  one(agents),
		Authorized: rand.IntN(100) < 85,
		Idle:       rand.IntN(100) < 30,
		Vanishes:   rand.IntN(100) < 10,
	}
	if !p.Authorized {
		p.SignsIn = rand.IntN(2) == 0
	}
	if rand.IntN(5) == 0 {
		p.License = "" // an account without a license
	}
	if rand.IntN(3) == 0 { // an agent that speaks MCP
		p.UserAgent = fmt.Sprintf("%s/1.%d.%d", one(mcpClients), rand.IntN(20), rand.IntN(10))
		p.ClientInfo = fmt.Appendf(nil, `{"name":%q,"version":"1.%d.0","capabilities":{"roots":{"listChanged":true},"sampling":{}}}`,
			one(mcpClients), rand.IntN(20))
	}
	return p
}

// document is what the client works on now.
func (p persona) document() string {
	name, _, _ := strings.Cut(p.Login, ".")
	return name + ": " + one(documents)
}

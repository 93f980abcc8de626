// Package cluster joins nodes: membership, the rosters of the other nodes, and commands between nodes. It owns the bus and which
// peer is believed to live; the rows themselves are the registry's.
//
// It promises: once the bus heals, every registry holds exactly the rows that each living node owns, after any loss, duplication,
// reordering or delay of messages; a peer's rows come, and change after a gap, in one step (registry.Swap), and only from a
// snapshot that was pulled whole and brought up to date; what an earlier incarnation says is never heard. A peer that is silent
// for Timing.Dead, or says goodbye, loses its rows as one event (G5); a silence during which this process itself stood still does
// not count. A peer that was away is seen again only after it has applied the configuration that this node had (G4). When a
// command has been answered, what it changed at its owner is in this node's registry. Every call ends within its context or
// Timing.Command; Missing names the nodes whose rows are not, or not all, here. Nothing is durable, nothing is ordered between
// two nodes, and memory for a peer that sends faster than it can be followed is bounded: what does not fit is pulled again.
//
// A Bus carries the messages: NATS, a NATS server within the process, or memory (package clustertest holds all to one contract).
// All methods are safe for concurrent use.
package cluster

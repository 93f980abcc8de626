// Package chaos holds tests alone: what becomes of a cluster, and of those who use it, when nodes are killed, stand still, or are cut
// off from each other and from PostgreSQL. Nodes are processes of their own; clients and operators are at every one of them over
// real sockets, and never stop; what each of them was told is kept as a history, and a checker states the guarantees as named
// properties of that history.
//
// It promises of the cluster: after every failure all of the properties hold, those that have a time within it. A seed decides
// what fails, when and for how long; ROLLCALL_CHAOS_SEED repeats one, and ROLLCALL_CHAOS_SEEDS runs many in a row. How the
// threads of the processes interleave is not repeated.
package chaos

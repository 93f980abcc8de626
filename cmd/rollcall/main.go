// Command rollcall is the server, the operator's command line and the benchmark of Rollcall in one binary; page 6 of the
// specification is its contract. Each subcommand is a file; cli.go has what they share: flags, exit codes, the one line on
// stderr.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

package pgserver

import "syscall"

// endWithParent has the process end when this one is killed.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }

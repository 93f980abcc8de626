package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// meter measures the processor time of a process from outside. Where the system has no /proc, everything is 0.
type meter struct {
	pid    int
	start  time.Time
	used   time.Duration
	waited time.Duration
	stolen time.Duration
	err    error
}

func (b *bench) startMeter() *meter {
	m := &meter{pid: b.target.PID, start: time.Now(), stolen: stolenTime()}
	m.used, m.waited, m.err = processorTime(m.pid)
	return m
}

// cores returns how many cores the process kept busy since the start, and for how many it waited while others had them.
func (m *meter) cores() (used, waited float64, err error) {
	u, w, err := processorTime(m.pid)
	seconds := time.Since(m.start).Seconds()
	return (u - m.used).Seconds() / seconds, max(0, (w-m.waited).Seconds()/seconds), errors.Join(m.err, err)
}

// stolenCores returns how many of the machine's cores its host has given to others since the start.
func (m *meter) stolenCores() float64 {
	return (stolenTime() - m.stolen).Seconds() / time.Since(m.start).Seconds()
}

// stolenTime returns for how long the processors of this virtual machine were ready to run and the host ran something else, since the
// start (proc_stat(5)); 0 where the system does not tell.
func stolenTime() time.Duration {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	all, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(all) // cpu user nice system idle iowait irq softirq steal …
	if len(fields) < 9 {
		return 0
	}
	ticks, _ := strconv.ParseInt(fields[8], 10, 64) // 0 says that it is not known
	return time.Duration(ticks) * clockTick
}

// clockTick is the unit of processor times in /proc: USER_HZ, which is 100 on every architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// processorTime returns what a process has used, user and system (proc_pid_stat(5)), and how long its threads were ready and
// waited for a processor, where the kernel counts that (sched-stats in its documentation).
func processorTime(pid int) (used, waited time.Duration, err error) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	data, err := os.ReadFile(filepath.Join(proc, "stat"))
	if os.IsNotExist(err) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the name may have spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("%s/stat has %d fields", proc, len(fields))
	}
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		used += time.Duration(ticks) * clockTick
	}
	threads, _ := filepath.Glob(filepath.Join(proc, "task", "*", "schedstat")) // the pattern is well-formed
	for _, thread := range threads {
		var ran, queued int64
		if data, err := os.ReadFile(thread); err == nil { // it may have ended
			_, _ = fmt.Sscan(string(data), &ran, &queued) // 0 when the kernel does not count
		}
		waited += time.Duration(queued)
	}
	return used, waited, nil
}

package websock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Poller waits for any number of parked connections with one goroutine, and holds none of a connection's descriptors. It is an
// epoll instance, edge-triggered (epoll(7)): after an event a connection is to be read until it has nothing more. Safe for
// concurrent use.
type Poller struct {
	file *os.File // of the epoll instance: Go's own poller waits for it, so that waiting takes no thread
	wait syscall.RawConn

	mu     sync.Mutex
	closed bool
	parked []*Parked // by descriptor; nil where none is parked
}

// NewPoller returns a poller, which does nothing before Run; errors.ErrUnsupported on systems that have no epoll.
func NewPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create an epoll instance: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make the epoll instance pollable: %w", err)
	}
	p := &Poller{file: os.NewFile(uintptr(fd), "epoll")}
	if p.wait, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("make the epoll instance pollable: %w", err)
	}
	return p, nil
}

// Close ends Run. Connections that are parked stay open, and nobody is woken for them any more.
func (p *Poller) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	return p.file.Close()
}

func (p *Poller) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// Run wakes the connections that the kernel reports, until Close.
func (p *Poller) Run() error {
	events := make([]unix.EpollEvent, 256)
	var ready []*Parked
	for {
		n := 0
		var werr error
		err := p.wait.Read(func(fd uintptr) bool {
			n, werr = unix.EpollWait(int(fd), events, 0)
			return n > 0 || werr != nil && !errors.Is(werr, unix.EINTR)
		})
		if p.isClosed() {
			return nil
		}
		if err = errors.Join(err, werr); err != nil {
			return fmt.Errorf("wait for parked connections: %w", err)
		}
		ready = p.reported(ready[:0], events[:max(n, 0)])
		for _, c := range ready {
			c.owner.Wake()
		}
		clear(ready)
	}
}

// reported appends the connections of the events. A descriptor that was closed and opened again since the kernel reported it wakes
// the wrong connection, which then finds nothing to read.
func (p *Poller) reported(to []*Parked, events []unix.EpollEvent) []*Parked {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range events {
		if fd := int(events[i].Fd); fd < len(p.parked) && p.parked[fd] != nil {
			to = append(to, p.parked[fd])
		}
	}
	return to
}

// Park moves a connection out of Go's network poller and into this one; owner is woken when there is something for the driver to
// do. The connection must be at rest: nothing is being received or sent. It fails with errors.ErrUnsupported for what is no plain
// TCP connection, which then goes on as it was; after any other error it is closed.
func (p *Poller) Park(conn *Conn, owner Waker) (*Parked, error) {
	tcp, ok := conn.conn.(*net.TCPConn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	fd, err := duplicate(tcp)
	_ = tcp.Close() // this descriptor of two; the connection lives on in the other
	if err != nil {
		return nil, fmt.Errorf("park a connection: %w", err)
	}
	c := &Parked{poller: p, owner: owner, fd: fd, max: conn.parser.max, pending: conn.pending}
	if err := p.add(c); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("park a connection: %w", err)
	}
	return c, nil
}

func duplicate(tcp *net.TCPConn) (fd int, err error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return 0, cerr
	}
	return fd, err
}

func (p *Poller) add(c *Parked) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	for c.fd >= len(p.parked) {
		p.parked = append(p.parked, make([]*Parked, max(64, len(p.parked)))...)
	}
	p.parked[c.fd] = c
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(c.fd)}
	var err error
	if cerr := p.control(func(epoll int) { err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, c.fd, &event) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		p.parked[c.fd] = nil
	}
	return err
}

// remove must come before the descriptor is closed; that takes it out of the epoll instance, for no other descriptor refers to the
// connection (epoll(7), Q6).
func (p *Poller) remove(c *Parked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parked[c.fd] = nil
}

func (p *Poller) control(do func(epoll int)) error {
	return p.wait.Control(func(fd uintptr) { do(int(fd)) })
}

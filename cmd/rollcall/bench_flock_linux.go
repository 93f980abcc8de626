package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/rollcallhq/rollcall/api"
)

// flock is thousands of clients in one thread, so that a storm is a load on the server and not on the processors that it shares with
// its clients: with a goroutine each they take two and a half times as much. Not safe for concurrent use.
type flock struct {
	epoll   int // edge-triggered (epoll(7))
	server  unix.SockaddrInet4
	request []byte // the opening handshake
	birds   []bird
	byFD    []int // of birds, by descriptor
	// heard is told once after every dial of bird i: nil when it has its welcome, else why not, and then it is gone.
	heard func(i int, err error)

	events []unix.EpollEvent
	buf    []byte
}

// bird is one client.
type bird struct {
	hello []byte // as a frame
	fd    int    // -1 = none
	state birdState
	since time.Time // of the dial
	rest  []byte    // what has come of a message that is not whole
}

type birdState string

const (
	birdGone     birdState = ""
	birdDials    birdState = "dials"
	birdUpgrades birdState = "waits for the answer to its handshake"
	birdGreets   birdState = "waits for its welcome"
	birdHeld     birdState = "is welcome"
)

func newFlock(base string, hellos [][]byte) (*flock, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	at, err := netip.ParseAddrPort(u.Host)
	if err != nil || !at.Addr().Is4() {
		return nil, fmt.Errorf("%s is no IPv4 address with a port", u.Host)
	}
	f := &flock{
		server: unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()},
		// The key is RFC 6455's example: nobody between these clients and the server has answers to confuse.
		request: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", api.ConnectPath, u.Host, api.Subprotocol),
		birds: make([]bird, len(hellos)), events: make([]unix.EpollEvent, 256), buf: make([]byte, 32<<10),
	}
	for i, hello := range hellos {
		f.birds[i] = bird{hello: clientFrame(ws.OpText, hello), fd: -1}
	}
	f.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return f, err
}

// dial has bird i, which must be gone, connect.
func (f *flock) dial(i int) {
	b := &f.birds[i]
	b.since, b.state, b.rest = time.Now(), birdDials, nil
	if err := f.connect(i); err != nil {
		f.lose(i, err)
	}
}

func (f *flock) connect(i int) (err error) {
	b := &f.birds[i]
	if b.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	for b.fd >= len(f.byFD) {
		f.byFD = append(f.byFD, make([]int, 1024)...)
	}
	f.byFD[b.fd] = i
	// The port is chosen at connect, where it only has to be free for this server (ip(7)).
	if err := unix.SetsockoptInt(b.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	if err := unix.Bind(b.fd, &unix.SockaddrInet4{Addr: sourceAddress(i)}); err != nil {
		return err
	}
	if err := unix.Connect(b.fd, &f.server); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	return unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, b.fd,
		&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(b.fd)})
}

// cut closes bird i's connection, without a word to anybody.
func (f *flock) cut(i int) {
	b := &f.birds[i]
	if b.fd >= 0 {
		_ = unix.Close(b.fd) // gone is gone
	}
	b.fd, b.state = -1, birdGone
}

func (f *flock) lose(i int, err error) {
	held := f.birds[i].state == birdHeld
	if f.cut(i); !held {
		f.heard(i, err)
	}
}

// close ends the flock.
func (f *flock) close() {
	for i := range f.birds {
		f.cut(i)
	}
	_ = unix.Close(f.epoll)
}

// turn waits for something to happen, at most for so long, and handles it.
func (f *flock) turn(wait time.Duration) error {
	n, err := unix.EpollWait(f.epoll, f.events, int(wait.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for clients: %w", err)
	}
	for _, e := range f.events[:n] {
		i := f.byFD[e.Fd]
		if f.birds[i].fd != int(e.Fd) {
			continue // it was closed for an earlier event
		}
		if err := f.act(&f.birds[i], e.Events); err != nil {
			f.lose(i, err)
		}
	}
	return nil
}

// late loses the birds that have waited for longer than wireTimeout.
func (f *flock) late(now time.Time) {
	for i := range f.birds {
		if b := &f.birds[i]; b.state != birdGone && b.state != birdHeld && now.Sub(b.since) > wireTimeout {
			f.lose(i, fmt.Errorf("no answer within %s: it %s", wireTimeout, b.state))
		}
	}
}

// act sends and reads what there is.
func (f *flock) act(b *bird, events uint32) error {
	if b.state == birdDials && events&unix.EPOLLOUT != 0 {
		b.state = birdUpgrades
		if err := b.send(f.request); err != nil {
			return err
		}
	}
	const over = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	if events&(unix.EPOLLIN|over) == 0 {
		return nil
	}
	for {
		n, err := unix.Read(b.fd, f.buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil:
			return err
		case n == 0:
			return errClosed
		}
		if err := b.take(f, append(b.rest, f.buf[:n]...)); err != nil {
			return err
		}
		if n < len(f.buf) && events&over == 0 {
			return nil // what comes now is another event
		}
	}
}

// send writes to a socket that has room for whatever a client has to say.
func (b *bird) send(data []byte) error {
	n, err := unix.Write(b.fd, data)
	if err == nil && n < len(data) {
		err = fmt.Errorf("the server has not read %d bytes", len(data)-n)
	}
	return err
}

// take handles messages and keeps what is not whole.
func (b *bird) take(f *flock, data []byte) error {
	if b.state == birdUpgrades {
		head, rest, whole := bytes.Cut(data, []byte("\r\n\r\n"))
		if !whole {
			b.rest = data
			return nil
		}
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
			if refused := readRefusal(bytes.NewReader(data)); refused != nil {
				return refused
			}
			return fmt.Errorf("the handshake was answered with %.80q", head)
		}
		if err := b.send(b.hello); err != nil {
			return err
		}
		b.state, data = birdGreets, rest
	}
	for {
		op, payload, n := frameAt(data)
		if n > len(data) {
			b.rest = bytes.Clone(data)
			return nil
		}
		if data = data[n:]; op == ws.OpClose {
			return errClosed
		}
		if op == ws.OpPing {
			if err := b.send(clientFrame(ws.OpPong, payload)); err != nil {
				return err
			}
		}
		if refused := refusalIn(payload); refused != nil {
			return refused
		}
		if b.state == birdGreets && isWelcome(payload) {
			b.state = birdHeld
			f.heard(f.byFD[b.fd], nil)
		}
	}
}

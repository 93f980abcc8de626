//go:build !linux

package websock

import (
	"errors"

	"github.com/rollcallhq/rollcall/api"
)

// Poller is not there on this system: connections keep their goroutines.
type Poller struct{}

// NewPoller returns errors.ErrUnsupported.
func NewPoller() (*Poller, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (p *Poller) Close() error { return nil }

// Run returns at once.
func (p *Poller) Run() error { return nil }

// Park returns errors.ErrUnsupported.
func (p *Poller) Park(*Conn, Waker) (*Parked, error) { return nil, errors.ErrUnsupported }

// Parked is never made on this system.
type Parked struct{}

// Receive is never called.
func (c *Parked) Receive([]byte) (Message, error) { return Message{}, errors.ErrUnsupported }

// Keep is never called.
func (c *Parked) Keep() {}

// Send is never called.
func (c *Parked) Send([]byte) error { return errors.ErrUnsupported }

// BeginClose is never called.
func (c *Parked) BeginClose([]byte, api.CloseCode, string) bool { return false }

// Close is never called.
func (c *Parked) Close() error { return nil }

// Discard is never called.
func (c *Parked) Discard([]byte) bool { return true }

// Release is never called.
func (c *Parked) Release() {}

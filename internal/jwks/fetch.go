package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

const (
	fetchTimeout = 5 * time.Second // of everything: name, connection, headers, body
	maxHeaders   = 32 << 10
)

// What a fetch can fail with, besides what a set can.
var (
	errTooLarge = fmt.Errorf("the answer is larger than %d bytes", maxBytes)
	errStatus   = errors.New("the answer must be a 200; redirects are not followed")
	errAddress  = errors.New("the address is not one that an issuer may have")
)

// fetch gets the set at an address.
func fetch(ctx context.Context, transport http.RoundTripper, address string) (set, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, bare(err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", "rollcall")
	client := http.Client{
		Transport: transport,
		// A redirect would lead past the address that was configured, and past what was checked of it.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, bare(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: it is %d", errStatus, resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBytes+1))
	if err != nil {
		return nil, bare(err)
	}
	if len(text) > maxBytes {
		return nil, errTooLarge
	}
	return parse(text)
}

// bare takes the address off an error: its query may be a secret.
func bare(err error) error {
	if told := (*url.Error)(nil); errors.As(err, &told) {
		return told.Err
	}
	return err
}

// shown is an address as it may be logged.
func shown(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an address that is no URL"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// transport keeps no connections: issuers are asked every few minutes. The address is judged after the name was resolved, so that
// no name leads around it.
type transport struct{ plain, secure *http.Transport }

func newTransport() transport {
	with := func(control func(string, string, syscall.RawConn) error) *http.Transport {
		return &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Control: control}).DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true, // so that the bound of the answer is one of what was sent
			MaxResponseHeaderBytes: maxHeaders,
		}
	}
	return transport{plain: with(checkPlain), secure: with(checkSecure)}
}

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "https" {
		return t.secure.RoundTrip(req)
	}
	return t.plain.RoundTrip(req)
}

// checkSecure refuses the addresses that no issuer has: link-local ones are where clouds keep their machines' credentials.
func checkSecure(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := at.Addr().Unmap(); ip.IsLoopback() || ip.IsPrivate() || ip.IsGlobalUnicast() {
		return nil
	}
	return errAddress
}

// checkPlain allows keys to travel unprotected only where nobody from outside is on the way.
func checkPlain(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := at.Addr().Unmap(); ip.IsLoopback() || ip.IsPrivate() {
		return nil
	}
	return fmt.Errorf("%w: http is for loopback and private networks, use https", errAddress)
}

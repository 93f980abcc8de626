package api

import (
	"fmt"
	"strings"
	"time"
)

// Millis is a time in Unix milliseconds, the precision of everything that Rollcall keeps. Zero means "not set". In JSON it is a
// number, as the Live Sessions document has its times.
type Millis int64

// MillisOf converts t; the zero time gives zero.
func MillisOf(t time.Time) Millis {
	if t.IsZero() {
		return 0
	}
	return Millis(t.UnixMilli())
}

// Time converts back, in UTC; zero gives the zero time.
func (m Millis) Time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(m)).UTC()
}

// Add returns m moved by d, which is truncated to milliseconds.
func (m Millis) Add(d time.Duration) Millis { return m + Millis(d.Milliseconds()) }

// Timestamp returns m for the wire of the Sessions dialect; nil when m is zero, so that an unknown time is left out.
func (m Millis) Timestamp() *Timestamp {
	if m == 0 {
		return nil
	}
	t := Timestamp(m)
	return &t
}

// Timestamp is a Millis that is written as the Sessions document writes times: ISO 8601, UTC, with milliseconds.
type Timestamp Millis

// TimestampLayout is the one form in which a Timestamp is written.
const TimestampLayout = "2006-01-02T15:04:05.000Z"

// String returns the wire form.
func (t Timestamp) String() string { return time.UnixMilli(int64(t)).UTC().Format(TimestampLayout) }

// MarshalText writes the wire form.
func (t Timestamp) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads any RFC 3339 time, with or without a fraction, in any zone.
func (t *Timestamp) UnmarshalText(text []byte) error {
	v, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("%q is not an ISO 8601 time such as 2026-01-31T15:04:05Z", clip(string(text)))
	}
	*t = Timestamp(v.UnixMilli())
	return nil
}

// Duration is a time.Duration that is written as Go writes durations ("5m", "720h").
type Duration time.Duration

// String returns the Go form without the zeros at its end: 5m, where Go writes 5m0s.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if short, ok := strings.CutSuffix(s, "m0s"); ok {
		s = short + "m"
	}
	if short, ok := strings.CutSuffix(s, "h0m"); ok {
		s = short + "h"
	}
	return s
}

// MarshalText is String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the Go form.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 90s, 5m or 720h", clip(string(text)))
	}
	*d = Duration(v)
	return nil
}

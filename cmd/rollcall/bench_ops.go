package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// opsClient asks the ops listener. A connection of its own for every request leaves none behind that would be counted.
var opsClient = &http.Client{Timeout: wireTimeout, Transport: &http.Transport{DisableKeepAlives: true}}

// ops gets a page of the server's ops listener.
func (b *bench) ops(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.target.Ops+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := opsClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s answered %s", path, resp.Status)
	}
	return resp.Body, nil
}

// metricSums are the values of /metrics by name, those with different labels added up; and by the name with its labels.
type metricSums map[string]float64

func (b *bench) metrics(ctx context.Context) (metricSums, error) {
	body, err := b.ops(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return readMetrics(body)
}

// readMetrics reads the text format of Prometheus, without timestamps.
func readMetrics(from io.Reader) (metricSums, error) {
	sums := metricSums{}
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q has no value", line)
		}
		name, _, labelled := strings.Cut(line[:at], "{")
		sums[name] += v
		if labelled {
			sums[line[:at]] += v
		}
	}
	return sums, lines.Err()
}

// collect makes the server collect its garbage.
func (b *bench) collect(ctx context.Context) error {
	for range 2 { // what the first collection found unreachable is swept
		body, err := b.ops(ctx, "/debug/pprof/heap?gc=1")
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, body)
		body.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// ready tells whether the server takes sessions, as /readyz says.
func (b *bench) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	body, err := b.ops(ctx, "/readyz")
	if err != nil {
		return false
	}
	body.Close()
	return true
}

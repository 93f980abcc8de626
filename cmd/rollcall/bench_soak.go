package main

import (
	"context"
	"errors"
	"io"
)

type soakResult struct {
	Lives int
	Hours float64
}

func (r *soakResult) failure() error  { return nil }
func (r *soakResult) verdict() string { return "" }
func (b *bench) soak(ctx context.Context, errs io.Writer) (*soakResult, error) {
	return nil, errors.New("todo")
}

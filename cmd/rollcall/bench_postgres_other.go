//go:build !unix

package main

import (
	"context"
	"fmt"
)

func openPostgresRival(context.Context, synthetic, int, progress) (*rival, func(), error) {
	return nil, nil, fmt.Errorf("%w: on this system it is not started", errNotHere)
}

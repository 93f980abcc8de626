package main

import "context"

const systemSQLite, systemPostgres = "sqlite", "postgresql"

func (b *bench) compare(context.Context, *stdio, int, *sizeResult, map[string]int) error { return nil }
func drawCharts(string, *benchResult) error                                              { return nil }
func (c benchCmd) redraw() error                                                         { return nil }

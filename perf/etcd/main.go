// Command etcd-load puts small values into an etcd cluster in a closed loop, through etcd's own client, and writes what it
// saw in the form of kraft-perf's JSON, so that one summary can hold both.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"kraft/seen"
)

func main() {
	load := Load{}
	endpoints := flag.String("endpoints", "http://127.0.0.1:2379", "members, with commas between them; the leader is loaded")
	flag.IntVar(&load.Clients, "clients", 1, "puts in flight, each by a goroutine of its own")
	flag.IntVar(&load.Connections, "connections", 1, "gRPC connections that the clients share")
	flag.IntVar(&load.ValueBytes, "value-bytes", 256, "size of each value")
	flag.IntVar(&load.Keys, "keys", 100_000, "different keys, written in turn")
	flag.Float64Var(&load.WarmupSeconds, "warmup", 1, "seconds before anything is measured")
	flag.Float64Var(&load.DurationSeconds, "duration", 10, "seconds to measure")
	hgrm := flag.String("hgrm", "", "write the percentile distribution here, in us")
	flag.Parse()
	load.Endpoints = strings.Split(*endpoints, ",")
	if err := run(load, *hgrm); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	}
}

func run(load Load, hgrm string) error {
	if err := load.check(); err != nil {
		return err
	}
	puts, clientCpuSeconds, err := load.drive()
	if err != nil {
		return err
	}
	if err := puts.WriteDistribution(hgrm); err != nil {
		return err
	}
	return seen.Print(load.result(puts, clientCpuSeconds))
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"kraft/seen"
)

const (
	dialTimeout = 5 * time.Second
	putTimeout  = 30 * time.Second
)

// Load is what is to be done.
type Load struct {
	Endpoints       []string `json:"endpoints"`
	Leader          string   `json:"leader"`
	Clients         int      `json:"clients"`
	Connections     int      `json:"connections"`
	ValueBytes      int      `json:"value_bytes"`
	Keys            int      `json:"keys"`
	WarmupSeconds   float64  `json:"warmup_seconds"`
	DurationSeconds float64  `json:"duration_seconds"`
}

func (load *Load) check() error {
	if load.Clients < 1 || load.Connections < 1 || load.Keys < 1 || load.ValueBytes < 0 {
		return errors.New("--clients, --connections and --keys need at least 1, --value-bytes at least 0")
	}
	if load.DurationSeconds <= 0 || load.WarmupSeconds < 0 {
		return errors.New("--duration needs a positive number of seconds, --warmup one that is not negative")
	}
	return nil
}

func connect(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: dialTimeout})
}

// findLeader asks each member who it is and whom it follows.
func findLeader(endpoints []string) (string, error) {
	client, err := connect(endpoints...)
	if err != nil {
		return "", err
	}
	defer client.Close()
	why := errors.New("no member was asked")
	for _, endpoint := range endpoints {
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
		status, err := client.Status(ctx, endpoint)
		cancel()
		switch {
		case err != nil:
			why = err
		case status.Leader == status.Header.MemberId:
			return endpoint, nil
		default:
			why = errors.New("no member calls itself leader")
		}
	}
	return "", why
}

// drive runs until the end of the duration, and tells what was seen and this process's CPU time while it was measured. Each
// client has one put in flight, so that clients are the closed loop's size.
func (load *Load) drive() (*seen.Seen, float64, error) {
	leader, err := findLeader(load.Endpoints)
	if err != nil {
		return nil, 0, err
	}
	load.Leader = leader
	clients := make([]*clientv3.Client, min(load.Connections, load.Clients))
	for i := range clients {
		if clients[i], err = connect(leader); err != nil {
			return nil, 0, err
		}
		defer clients[i].Close()
	}
	measureFrom := time.Now().Add(seen.Seconds(load.WarmupSeconds))
	end := measureFrom.Add(seen.Seconds(load.DurationSeconds))
	each := make([]*seen.Seen, load.Clients)
	var group sync.WaitGroup
	for i := range each {
		each[i] = seen.New()
		group.Add(1)
		go func() {
			defer group.Done()
			load.putUntil(clients[i%len(clients)], i, measureFrom, end, each[i])
		}()
	}
	time.Sleep(time.Until(measureFrom))
	cpu := seen.CpuSeconds()
	group.Wait()
	total := seen.New()
	for _, puts := range each {
		total.Merge(puts)
	}
	total.Finish()
	return total, seen.CpuSeconds() - cpu, nil
}

func (load *Load) putUntil(client *clientv3.Client, index int, measureFrom, end time.Time, puts *seen.Seen) {
	value := strings.Repeat("v", load.ValueBytes)
	for key := index; ; key += load.Clients {
		began := time.Now()
		if began.After(end) {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), putTimeout)
		_, err := client.Put(ctx, fmt.Sprintf("%08d", key%load.Keys), value)
		cancel()
		// As in kraft-perf: what was begun while measured counts, also if it was answered after the end.
		if began.Before(measureFrom) {
			continue
		}
		if err != nil {
			puts.Errors[err.Error()]++
			continue
		}
		puts.Add(time.Since(began))
	}
}

// result has the keys of kraft-perf's JSON.
func (load *Load) result(seen *seen.Seen, clientCpuSeconds float64) map[string]any {
	puts := len(seen.LatenciesNs)
	perSecond := float64(puts) / load.DurationSeconds
	return map[string]any{
		"load": load, "seconds": load.DurationSeconds, "batches": puts, "records": puts, "records_per_second": perSecond,
		"bytes": puts * load.ValueBytes, "bytes_per_second": perSecond * float64(load.ValueBytes),
		"latency_unit": "us", "latency": map[string]any{"latency": seen.Percentiles()},
		"errors": seen.Errors, "client_cpu_seconds": clientCpuSeconds,
	}
}

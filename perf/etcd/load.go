package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
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

// drive runs until the end of the duration. Each client has one put in flight, so that clients are the closed loop's size.
func (load *Load) drive() (*Seen, error) {
	leader, err := findLeader(load.Endpoints)
	if err != nil {
		return nil, err
	}
	load.Leader = leader
	clients := make([]*clientv3.Client, min(load.Connections, load.Clients))
	for i := range clients {
		if clients[i], err = connect(leader); err != nil {
			return nil, err
		}
		defer clients[i].Close()
	}
	measureFrom := time.Now().Add(seconds(load.WarmupSeconds))
	end := measureFrom.Add(seconds(load.DurationSeconds))
	each := make([]*Seen, load.Clients)
	var group sync.WaitGroup
	for i := range each {
		each[i] = newSeen()
		group.Add(1)
		go func() {
			defer group.Done()
			load.putUntil(clients[i%len(clients)], i, measureFrom, end, each[i])
		}()
	}
	time.Sleep(time.Until(measureFrom))
	cpu := cpuSeconds()
	group.Wait()
	total := newSeen()
	for _, seen := range each {
		total.merge(seen)
	}
	total.finish(cpuSeconds() - cpu)
	return total, nil
}

func (load *Load) putUntil(client *clientv3.Client, index int, measureFrom, end time.Time, seen *Seen) {
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
			seen.errors[err.Error()]++
			continue
		}
		seen.latenciesNs = append(seen.latenciesNs, time.Since(began).Nanoseconds())
	}
}

func seconds(value float64) time.Duration { return time.Duration(value * float64(time.Second)) }

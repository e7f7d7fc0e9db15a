package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"kraft/seen"
)

// A hundred consumers ask for little ahead: one record is on its way at a time.
const endToEndPullMessages = 100

// EndToEnd has one record on its way at a time, to consumers that wait for it.
type EndToEnd struct {
	Consumers       int     `json:"consumers"`
	RecordBytes     int     `json:"record_bytes"`
	PauseMs         float64 `json:"pause_ms"`
	WarmupSeconds   float64 `json:"warmup_seconds"`
	DurationSeconds float64 `json:"duration_seconds"`

	acknowledged, first, last *seen.Seen
}

func (load *EndToEnd) flags(set *flag.FlagSet) {
	set.IntVar(&load.Consumers, "consumers", 1, "connections with a consumer each")
	set.IntVar(&load.RecordBytes, "record-size", 256, "bytes of each record")
	set.Float64Var(&load.PauseMs, "pause-ms", 1, "from when the last one has a record until the next one is sent")
	set.Float64Var(&load.WarmupSeconds, "warmup", 1, "seconds before anything is measured")
	set.Float64Var(&load.DurationSeconds, "duration", 10, "seconds to measure")
}

func (load *EndToEnd) run(cluster Cluster) (bool, error) {
	if load.Consumers < 1 || load.RecordBytes < 1 || load.PauseMs < 0 || load.WarmupSeconds < 0 || load.DurationSeconds <= 0 {
		return false, errors.New("--consumers and --record-size need at least 1, --duration more than 0; nothing is negative")
	}
	admin, err := cluster.admin()
	if err != nil {
		return false, err
	}
	defer admin.close()
	arrivals := newArrivals(load.Consumers)
	for range load.Consumers {
		consumer, connection, err := admin.consumer(jetstream.DeliverNewPolicy, 0)
		if err != nil {
			return false, err
		}
		defer connection.Close()
		reading, err := consumer.Consume(func(jetstream.Msg) { arrivals.add(time.Now()) }, jetstream.PullMaxMessages(endToEndPullMessages))
		if err != nil {
			return false, err
		}
		defer reading.Stop()
		if err := connection.FlushTimeout(dialTimeout); err != nil {
			return false, err
		}
	}
	leader, err := admin.leader()
	if err != nil {
		return false, err
	}
	if err := load.drive(leader, cluster.stream, arrivals); err != nil {
		return false, err
	}
	return len(load.last.LatenciesNs) > 0, seen.Print(load.result())
}

// drive sends one record after the other until the end.
func (load *EndToEnd) drive(leader, subject string, arrivals *Arrivals) error {
	connection, err := connect(leader)
	if err != nil {
		return err
	}
	defer connection.Close()
	answered := make(chan *nats.Msg, 1)
	inbox := nats.NewInbox()
	acknowledged := make(chan time.Time, 1)
	if _, err := connection.Subscribe(inbox, func(message *nats.Msg) { acknowledged <- time.Now(); answered <- message }); err != nil {
		return err
	}
	payload := make([]byte, load.RecordBytes)
	if _, err := rand.Read(payload); err != nil {
		return err
	}
	load.acknowledged, load.first, load.last = seen.New(), seen.New(), seen.New()
	measureFrom := time.Now().Add(seen.Seconds(load.WarmupSeconds))
	end := measureFrom.Add(seen.Seconds(load.DurationSeconds))
	for {
		began := time.Now()
		if began.After(end) {
			return nil
		}
		arrivals.forget()
		if err := connection.PublishRequest(subject, inbox, payload); err != nil {
			return err
		}
		timeout := time.After(requestTimeout)
		var acknowledgedAt time.Time
		select {
		case acknowledgedAt = <-acknowledged:
		case <-timeout:
			return fmt.Errorf("a record was not acknowledged within %s", requestTimeout)
		}
		if refused := refusal(<-answered); refused != "" {
			return errors.New(refused)
		}
		select {
		case <-arrivals.all:
		case <-timeout:
			return fmt.Errorf("a record was with %d of %d consumers after %s", arrivals.count(), load.Consumers, requestTimeout)
		}
		if !began.Before(measureFrom) {
			load.acknowledged.Add(acknowledgedAt.Sub(began))
			load.first.Add(arrivals.first.Sub(began))
			load.last.Add(arrivals.last.Sub(began))
		}
		time.Sleep(time.Duration(load.PauseMs * float64(time.Millisecond)))
	}
}

// Arrivals counts the consumers that have the record which is on its way.
type Arrivals struct {
	mutex       sync.Mutex
	consumers   int
	have        int
	first, last time.Time
	all         chan struct{}
}

func newArrivals(consumers int) *Arrivals {
	return &Arrivals{consumers: consumers, all: make(chan struct{}, 1)}
}

func (arrivals *Arrivals) forget() {
	arrivals.mutex.Lock()
	defer arrivals.mutex.Unlock()
	arrivals.have = 0
}

func (arrivals *Arrivals) add(now time.Time) {
	arrivals.mutex.Lock()
	defer arrivals.mutex.Unlock()
	arrivals.have++
	if arrivals.have == 1 {
		arrivals.first = now
	}
	if arrivals.have == arrivals.consumers {
		arrivals.last = now
		arrivals.all <- struct{}{}
	}
}

func (arrivals *Arrivals) count() int {
	arrivals.mutex.Lock()
	defer arrivals.mutex.Unlock()
	return arrivals.have
}

func (load *EndToEnd) result() map[string]any {
	stages := map[string]any{}
	for name, stage := range map[string]*seen.Seen{"acknowledged": load.acknowledged, "first": load.first, "last": load.last} {
		stage.Finish()
		stages[name] = stage.Percentiles()
	}
	return map[string]any{
		"what": "end-to-end", "load": load, "consumers": load.Consumers, "record_bytes": load.RecordBytes, "pause_ms": load.PauseMs,
		"seconds": load.DurationSeconds, "records": len(load.last.LatenciesNs), "latency_unit": "us", "latency": stages,
	}
}

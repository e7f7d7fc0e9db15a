package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"kraft/seen"
)

// A short run begins when everybody is connected, and a moment later, so that nobody is late.
const startDelay = 20 * time.Millisecond

// Load is what is to be written. A batch of one record is published and acknowledged by itself; a larger one is an atomic batch
// of JetStream, which has one acknowledgement.
type Load struct {
	Clients         int     `json:"clients"`
	InFlight        int     `json:"in_flight"`
	RecordsPerBatch int     `json:"records_per_batch"`
	RecordBytes     int     `json:"record_bytes"`
	Rate            float64 `json:"rate"`
	WarmupSeconds   float64 `json:"warmup_seconds"`
	DurationSeconds float64 `json:"duration_seconds"`
	NumRecords      int64   `json:"num_records"`
	Leader          string  `json:"leader"`

	hgrm    string
	subject string
	// When it begins, when it is measured from, and when nothing more is begun (zero: when all are sent).
	start, measureFrom, end time.Time
	// Batches that may still be begun, of those that count.
	left atomic.Int64
	// Done by every batch that is answered.
	underWay sync.WaitGroup
}

func (load *Load) flags(set *flag.FlagSet) {
	set.IntVar(&load.Clients, "clients", 1, "connections")
	set.IntVar(&load.InFlight, "in-flight", 1, "batches under way on each connection")
	set.IntVar(&load.RecordsPerBatch, "records-per-batch", 1, "records of an atomic batch; 1 is a publish by itself")
	set.IntVar(&load.RecordBytes, "record-size", 256, "bytes of each record")
	set.Float64Var(&load.Rate, "rate", 0, "open loop: records/s of all connections, due whatever the server does; 0 is the closed loop")
	set.Float64Var(&load.WarmupSeconds, "warmup", 0, "seconds before anything is measured")
	set.Float64Var(&load.DurationSeconds, "duration", 0, "seconds to measure (10, if there is no --num-records)")
	set.Int64Var(&load.NumRecords, "num-records", 0, "records to measure, in whole batches; with --duration at most so long")
	set.StringVar(&load.hgrm, "hgrm", "", "write the percentile distribution here, in us")
}

func (load *Load) check() error {
	if load.Clients < 1 || load.InFlight < 1 || load.RecordsPerBatch < 1 || load.RecordBytes < 1 {
		return errors.New("--clients, --in-flight, --records-per-batch and --record-size need at least 1")
	}
	if load.DurationSeconds < 0 || load.WarmupSeconds < 0 || load.Rate < 0 || load.NumRecords < 0 {
		return errors.New("--duration, --warmup, --rate and --num-records are not negative")
	}
	if load.DurationSeconds == 0 && load.NumRecords == 0 {
		load.DurationSeconds = 10
	}
	return nil
}

func (load *Load) run(cluster Cluster) (bool, error) {
	if err := load.check(); err != nil {
		return false, err
	}
	admin, err := cluster.admin()
	if err != nil {
		return false, err
	}
	defer admin.close()
	if load.Leader, err = admin.leader(); err != nil {
		return false, err
	}
	load.subject = cluster.stream
	publishers, err := load.connectAll()
	if err != nil {
		return false, err
	}
	seconds, cpu := load.drive(publishers)
	written := load.collect(publishers, seconds)
	written.clientCpuSeconds = cpu
	if err := written.all.WriteDistribution(load.hgrm); err != nil {
		return false, err
	}
	return written.unanswered == 0 && written.failed == 0 && len(written.all.LatenciesNs) > 0, seen.Print(written.result(load))
}

func (load *Load) connectAll() ([]*Publisher, error) {
	payload := make([]byte, load.RecordBytes)
	if _, err := rand.Read(payload); err != nil {
		return nil, err
	}
	publishers := make([]*Publisher, load.Clients)
	for index := range publishers {
		connection, err := connect(load.Leader)
		if err != nil {
			return nil, err
		}
		publishers[index] = &Publisher{load: load, index: index, connection: connection, payload: payload, seen: seen.New(),
			began: make([]time.Time, load.InFlight), inbox: nats.NewInbox()}
		if err := publishers[index].listen(); err != nil {
			return nil, err
		}
	}
	return publishers, nil
}

// drive returns once all is answered, or was not within the time for it: seconds measured, and this process's CPU time meanwhile.
func (load *Load) drive(publishers []*Publisher) (float64, float64) {
	load.start = time.Now().Add(startDelay)
	load.measureFrom = load.start.Add(seen.Seconds(load.WarmupSeconds))
	if load.DurationSeconds > 0 {
		load.end = load.measureFrom.Add(seen.Seconds(load.DurationSeconds))
	}
	batches := (load.NumRecords + int64(load.RecordsPerBatch) - 1) / int64(load.RecordsPerBatch)
	load.left.Store(batches)
	time.Sleep(time.Until(load.start))
	for _, publisher := range publishers {
		// One more for whoever begins them, so that nobody is thought to be done before.
		load.underWay.Add(1)
		go publisher.begin()
	}
	time.Sleep(time.Until(load.measureFrom))
	cpu := seen.CpuSeconds()
	done := make(chan struct{})
	go func() { load.underWay.Wait(); close(done) }()
	load.waitFor(done)
	return time.Since(load.measureFrom).Seconds(), seen.CpuSeconds() - cpu
}

// waitFor waits for what is under way at the end, but not for ever. Without an end, for as long as something is answered at all.
func (load *Load) waitFor(done chan struct{}) {
	if !load.end.IsZero() {
		select {
		case <-done:
		case <-time.After(time.Until(load.end) + requestTimeout):
		}
		return
	}
	for before := int64(-1); ; {
		select {
		case <-done:
			return
		case <-time.After(requestTimeout):
			if left := load.left.Load(); left == before {
				return
			} else {
				before = left
			}
		}
	}
}

// mayBegin is asked before each batch; `at` is when it begins, or when it is due. The count is of those that are measured.
func (load *Load) mayBegin(at time.Time) bool {
	if !load.end.IsZero() && at.After(load.end) {
		return false
	}
	return load.NumRecords == 0 || at.Before(load.measureFrom) || load.left.Add(-1) >= 0
}

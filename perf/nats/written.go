package main

import (
	"kraft/seen"
	"math"
)

// Written is what all publishers have seen.
type Written struct {
	all              *seen.Seen
	seconds          float64
	unanswered       int
	failed           int
	eachSecond       []int
	fewest, most     int
	clientCpuSeconds float64
}

// collect takes `elapsed` for what had no end but its count, or came to it early.
func (load *Load) collect(publishers []*Publisher, elapsed float64) *Written {
	written := &Written{all: seen.New(), seconds: elapsed, fewest: math.MaxInt}
	for _, publisher := range publishers {
		// Late answers are still being noted.
		publisher.mutex.Lock()
		written.all.Merge(publisher.seen)
		written.unanswered += publisher.underWay
		written.failed += publisher.failed
		written.fewest = min(written.fewest, len(publisher.seen.LatenciesNs))
		written.most = max(written.most, len(publisher.seen.LatenciesNs))
		for second, batches := range publisher.eachSecond {
			if second == len(written.eachSecond) {
				written.eachSecond = append(written.eachSecond, 0)
			}
			written.eachSecond[second] += batches
		}
		publisher.mutex.Unlock()
		publisher.connection.Close()
	}
	if load.DurationSeconds > 0 {
		written.seconds = min(elapsed, load.DurationSeconds)
	}
	written.all.Finish()
	return written
}

// result has the keys of kraft-perf's JSON.
func (written *Written) result(load *Load) map[string]any {
	batches := len(written.all.LatenciesNs)
	records := batches * load.RecordsPerBatch
	bytes := records * load.RecordBytes
	perSecond := func(count int) float64 { return float64(count) / written.seconds }
	recordsEachSecond := make([]int, len(written.eachSecond))
	for second, batches := range written.eachSecond {
		recordsEachSecond[second] = batches * load.RecordsPerBatch
	}
	return map[string]any{
		"load": load, "seconds": written.seconds, "batches": batches, "records": records, "bytes": bytes,
		"batches_per_second": perSecond(batches), "records_per_second": perSecond(records), "bytes_per_second": perSecond(bytes),
		"latency_unit": "us", "latency": map[string]any{"latency": written.all.Percentiles()},
		"errors": written.all.Errors, "failed_records": written.failed * load.RecordsPerBatch,
		"unanswered_batches": written.unanswered, "batches_of_each": map[string]int{"fewest": written.fewest, "most": written.most},
		"client_cpu_seconds": written.clientCpuSeconds, "records_each_second": recordsEachSecond,
	}
}

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"
)

const nsPerUs = 1000.0

// Seen is what clients saw. Latencies are kept one by one: percentiles are exact.
type Seen struct {
	latenciesNs      []int64
	errors           map[string]int
	clientCpuSeconds float64
}

func newSeen() *Seen { return &Seen{errors: map[string]int{}} }

func (seen *Seen) merge(other *Seen) {
	seen.latenciesNs = append(seen.latenciesNs, other.latenciesNs...)
	for what, count := range other.errors {
		seen.errors[what] += count
	}
}

func (seen *Seen) finish(clientCpuSeconds float64) {
	slices.Sort(seen.latenciesNs)
	seen.clientCpuSeconds = clientCpuSeconds
}

// us is the smallest latency that the given share of all puts does not exceed.
func (seen *Seen) us(quantile float64) float64 {
	count := len(seen.latenciesNs)
	if count == 0 {
		return 0
	}
	at := int(math.Ceil(quantile*float64(count))) - 1
	return float64(seen.latenciesNs[min(max(at, 0), count-1)]) / nsPerUs
}

func (seen *Seen) meanUs() float64 {
	sum := 0.0
	for _, ns := range seen.latenciesNs {
		sum += float64(ns)
	}
	return sum / nsPerUs / math.Max(float64(len(seen.latenciesNs)), 1)
}

// result has the keys of kraft-perf's JSON.
func (seen *Seen) result(load Load) map[string]any {
	puts := len(seen.latenciesNs)
	perSecond := float64(puts) / load.DurationSeconds
	percentiles := map[string]any{"count": puts, "mean": seen.meanUs(), "min": seen.us(0), "max": seen.us(1)}
	for _, quantile := range []float64{0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999} {
		percentiles[fmt.Sprintf("p%.6g", quantile*100)] = seen.us(quantile)
	}
	return map[string]any{
		"load": load, "seconds": load.DurationSeconds, "batches": puts, "records": puts, "records_per_second": perSecond,
		"bytes": puts * load.ValueBytes, "bytes_per_second": perSecond * float64(load.ValueBytes),
		"latency_unit": "us", "latency": map[string]any{"latency": percentiles},
		"errors": seen.errors, "client_cpu_seconds": seen.clientCpuSeconds,
	}
}

// distribution is the text that HdrHistogram's plotters read: each halving of the rest in five steps.
func (seen *Seen) distribution() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")
	count := float64(len(seen.latenciesNs))
	for half := 0; math.Exp2(float64(half)) <= count; half++ {
		for step := range 5 {
			quantile := 1 - math.Exp2(-float64(half))*(1-float64(step)/10)
			fmt.Fprintf(&text, "%12.3f %2.12f %10.0f %14.2f\n", seen.us(quantile), quantile, math.Ceil(quantile*count), 1/(1-quantile))
		}
	}
	fmt.Fprintf(&text, "%12.3f %2.12f %10.0f\n", seen.us(1), 1.0, count)
	return text.String()
}

// cpuSeconds is the user and system time of this process.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	of := func(time syscall.Timeval) float64 { return float64(time.Sec) + float64(time.Usec)/1e6 }
	return of(usage.Utime) + of(usage.Stime)
}

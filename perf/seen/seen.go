// Package seen is what the load clients of perf/compare's peers saw, and how they tell it: in the form of kraft-perf's JSON, so
// that one summary can hold all.
package seen

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

const nsPerUs = 1000.0

// Seen is what clients saw. Latencies are kept one by one: percentiles are exact.
type Seen struct {
	LatenciesNs []int64
	Errors      map[string]int
}

func New() *Seen { return &Seen{Errors: map[string]int{}} }

func (seen *Seen) Add(latency time.Duration) {
	seen.LatenciesNs = append(seen.LatenciesNs, latency.Nanoseconds())
}

func (seen *Seen) Merge(other *Seen) {
	seen.LatenciesNs = append(seen.LatenciesNs, other.LatenciesNs...)
	for what, count := range other.Errors {
		seen.Errors[what] += count
	}
}

// Finish comes before any figure is asked for.
func (seen *Seen) Finish() { slices.Sort(seen.LatenciesNs) }

// us is the smallest latency that the given share of all does not exceed.
func (seen *Seen) us(quantile float64) float64 {
	count := len(seen.LatenciesNs)
	if count == 0 {
		return 0
	}
	at := int(math.Ceil(quantile*float64(count))) - 1
	return float64(seen.LatenciesNs[min(max(at, 0), count-1)]) / nsPerUs
}

func (seen *Seen) meanUs() float64 {
	sum := 0.0
	for _, ns := range seen.LatenciesNs {
		sum += float64(ns)
	}
	return sum / nsPerUs / math.Max(float64(len(seen.LatenciesNs)), 1)
}

// Percentiles has the keys of one latency in kraft-perf's JSON, in us.
func (seen *Seen) Percentiles() map[string]any {
	percentiles := map[string]any{"count": len(seen.LatenciesNs), "mean": seen.meanUs(), "min": seen.us(0), "max": seen.us(1)}
	for _, quantile := range []float64{0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999} {
		percentiles[fmt.Sprintf("p%.6g", quantile*100)] = seen.us(quantile)
	}
	return percentiles
}

// Distribution is the text that HdrHistogram's plotters read: each halving of the rest in five steps.
func (seen *Seen) Distribution() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")
	count := float64(len(seen.LatenciesNs))
	for half := 0; math.Exp2(float64(half)) <= count; half++ {
		for step := range 5 {
			quantile := 1 - math.Exp2(-float64(half))*(1-float64(step)/10)
			fmt.Fprintf(&text, "%12.3f %2.12f %10.0f %14.2f\n", seen.us(quantile), quantile, math.Ceil(quantile*count), 1/(1-quantile))
		}
	}
	fmt.Fprintf(&text, "%12.3f %2.12f %10.0f\n", seen.us(1), 1.0, count)
	return text.String()
}

// WriteDistribution does nothing without a path.
func (seen *Seen) WriteDistribution(path string) error {
	if path == "" {
		return nil
	}
	return os.WriteFile(path, []byte(seen.Distribution()), 0o644)
}

// Print writes a result to stdout.
func Print(result map[string]any) error {
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(result)
}

// CpuSeconds is the user and system time of this process.
func CpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	of := func(time syscall.Timeval) float64 { return float64(time.Sec) + float64(time.Usec)/1e6 }
	return of(usage.Utime) + of(usage.Stime)
}

// Seconds is for flags.
func Seconds(value float64) time.Duration { return time.Duration(value * float64(time.Second)) }

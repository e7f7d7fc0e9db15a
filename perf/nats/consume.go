package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"kraft/seen"
)

// A consumer that nobody pulls from is forgotten after so long.
const inactiveThreshold = time.Minute

// Whoever reads is told how long each so many bytes took.
const pieceBytes = 1 << 20

// Consume reads the stream with one consumer or many, each at a place and on a connection of its own.
type Consume struct {
	Clients      int    `json:"clients"`
	From         uint64 `json:"from"`
	Step         uint64 `json:"step"`
	NumRecords   uint64 `json:"num_records"`
	PullMessages int    `json:"pull_messages"`
}

func (consume *Consume) flags(set *flag.FlagSet) {
	set.IntVar(&consume.Clients, "clients", 1, "consumers")
	set.Uint64Var(&consume.From, "from", 0, "records before the first one that the first consumer reads")
	set.Uint64Var(&consume.Step, "step", 0, "each next consumer begins so many records further on")
	set.Uint64Var(&consume.NumRecords, "num-records", 0, "records that each reads (all that there are when it begins)")
	set.IntVar(&consume.PullMessages, "pull-messages", 500, "records that a consumer asks for ahead of what it has")
}

func (consume *Consume) run(cluster Cluster) (bool, error) {
	if consume.Clients < 1 || consume.PullMessages < 1 {
		return false, errors.New("--clients and --pull-messages need at least 1")
	}
	admin, err := cluster.admin()
	if err != nil {
		return false, err
	}
	defer admin.close()
	info, err := admin.info()
	if err != nil {
		return false, err
	}
	readers := make([]*Reader, consume.Clients)
	for index := range readers {
		from := consume.From + uint64(index)*consume.Step
		if from >= info.State.LastSeq {
			return false, fmt.Errorf("there is nothing to read after %d records: there are %d", from, info.State.LastSeq)
		}
		reader := &Reader{want: info.State.LastSeq - from, seen: seen.New(), done: make(chan struct{})}
		if consume.NumRecords > 0 {
			reader.want = min(reader.want, consume.NumRecords)
		}
		if reader.consumer, reader.connection, err = admin.consumer(jetstream.DeliverByStartSequencePolicy, from+1); err != nil {
			return false, err
		}
		defer reader.connection.Close()
		readers[index] = reader
	}
	cpu := seen.CpuSeconds()
	began := time.Now()
	if err := consume.readAll(readers); err != nil {
		return false, err
	}
	return true, seen.Print(consume.result(readers, began, seen.CpuSeconds()-cpu))
}

// consumer is one without acknowledgements and in memory, as the client's ordered consumer is, with a connection to the server
// that serves it: any of the three.
func (admin *Admin) consumer(policy jetstream.DeliverPolicy, sequence uint64) (jetstream.Consumer, *nats.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	created, err := admin.js.CreateConsumer(ctx, admin.stream, jetstream.ConsumerConfig{
		DeliverPolicy: policy, OptStartSeq: sequence, AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1,
		InactiveThreshold: inactiveThreshold,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("a consumer: %w", err)
	}
	info := created.CachedInfo()
	connection, err := admin.near(info.Cluster)
	if err != nil {
		return nil, nil, fmt.Errorf("consumer %s: %w", info.Name, err)
	}
	js, err := jetstream.New(connection)
	if err != nil {
		return nil, nil, err
	}
	consumer, err := js.Consumer(ctx, admin.stream, info.Name)
	return consumer, connection, err
}

// Reader is one consumer that reads so many records.
type Reader struct {
	consumer   jetstream.Consumer
	connection *nats.Conn
	want       uint64
	records    atomic.Uint64
	bytes      uint64
	piece      time.Time
	ended      time.Time
	failure    error
	seen       *seen.Seen
	done       chan struct{}
	once       sync.Once
}

func (consume *Consume) readAll(readers []*Reader) error {
	for _, reader := range readers {
		reader.piece = time.Now()
		failed := jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { reader.end(err) })
		reading, err := reader.consumer.Consume(reader.take, jetstream.PullMaxMessages(consume.PullMessages),
			jetstream.StopAfter(int(reader.want)), failed)
		if err != nil {
			return err
		}
		defer reading.Stop()
	}
	for _, reader := range readers {
		if err := reader.wait(); err != nil {
			return err
		}
	}
	return nil
}

// take is called by the one goroutine of its connection's subscription.
func (reader *Reader) take(message jetstream.Msg) {
	records := reader.records.Add(1)
	before := reader.bytes / pieceBytes
	reader.bytes += uint64(len(message.Data()))
	if reader.bytes/pieceBytes > before || records == reader.want {
		now := time.Now()
		reader.seen.Add(now.Sub(reader.piece))
		reader.piece = now
	}
	if records == reader.want {
		reader.end(reader.check(message))
	}
}

// check sees that nothing was left out: what is delivered has a number of its own.
func (reader *Reader) check(last jetstream.Msg) error {
	metadata, err := last.Metadata()
	if err == nil && metadata.Sequence.Consumer != reader.want {
		err = fmt.Errorf("the last record read is number %d of its consumer, and not %d", metadata.Sequence.Consumer, reader.want)
	}
	return err
}

func (reader *Reader) end(err error) {
	reader.once.Do(func() {
		reader.failure, reader.ended = err, time.Now()
		close(reader.done)
	})
}

func (reader *Reader) wait() error {
	for before := uint64(0); ; {
		select {
		case <-reader.done:
			return reader.failure
		case <-time.After(requestTimeout):
			records := reader.records.Load()
			if records == before {
				return fmt.Errorf("nothing came for %s after %d of %d records", requestTimeout, records, reader.want)
			}
			before = records
		}
	}
}

func (consume *Consume) result(readers []*Reader, began time.Time, clientCpuSeconds float64) map[string]any {
	all := seen.New()
	var records, bytes uint64
	ended := began
	for _, reader := range readers {
		all.Merge(reader.seen)
		records += reader.want
		bytes += reader.bytes
		if reader.ended.After(ended) {
			ended = reader.ended
		}
	}
	all.Finish()
	seconds := ended.Sub(began).Seconds()
	return map[string]any{
		"what": "consume", "load": consume, "seconds": seconds, "records": records, "bytes": bytes,
		"records_per_second": float64(records) / seconds, "bytes_per_second": float64(bytes) / seconds,
		"latency_unit": "us", "latency": map[string]any{"latency": all.Percentiles()}, "client_cpu_seconds": clientCpuSeconds,
	}
}

// franz-go.
package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type franz struct {
	topic string
	seeds kgo.Opt
}

func newClient(at target) client { return franz{at.topic, kgo.SeedBrokers(at.bootstrap...)} }

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func (f franz) produce(records []record, compression string, idempotent bool, pace time.Duration, told func(int64)) error {
	options := []kgo.Opt{f.seeds, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5 * time.Millisecond),
		kgo.ProducerBatchCompression(codecs[compression]), kgo.RecordDeliveryTimeout(60 * time.Second)}
	if !idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	c, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer c.Close()
	type answer struct {
		offset int64
		err    error
	}
	answers := make(chan answer, len(records))
	for _, r := range records {
		sent := &kgo.Record{Topic: f.topic, Key: r.key, Value: r.value}
		for _, h := range r.headers {
			sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: h.name, Value: h.value})
		}
		c.Produce(context.Background(), sent, func(r *kgo.Record, err error) { answers <- answer{r.Offset, err} })
		time.Sleep(pace)
		for pace > 0 && len(answers) > 0 {
			a := <-answers
			if a.err != nil {
				return a.err
			}
			told(a.offset)
			records = records[1:]
		}
	}
	for range records {
		a := <-answers
		if a.err != nil {
			return a.err
		}
		told(a.offset)
	}
	return nil
}

func (f franz) consume(start position, ready func(), read func(record) bool) error {
	if start.committed {
		return absent("franz-go asks for committed offsets only in a group that it has joined")
	}
	offset := kgo.NewOffset().At(start.offset)
	switch {
	case start.beginning:
		offset = kgo.NewOffset().AtStart()
	case start.end:
		offset = kgo.NewOffset().AtEnd()
	case !start.at.IsZero():
		offset = kgo.NewOffset().AfterMilli(start.at.UnixMilli())
	}
	c, err := kgo.NewClient(f.seeds, kgo.FetchMaxWait(100*time.Millisecond), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{f.topic: {0: offset}}))
	if err != nil {
		return err
	}
	defer c.Close()
	// The end is looked up by the first fetch, which is under way after this poll.
	first, cancel := context.WithTimeout(context.Background(), time.Second)
	fetches := c.PollFetches(first)
	cancel()
	ready()
	for {
		for _, e := range fetches.Errors() {
			if e.Err != context.DeadlineExceeded {
				return e.Err
			}
		}
		for _, r := range fetches.Records() {
			got := record{key: r.Key, value: r.Value, offset: r.Offset, timestamp: r.Timestamp}
			for _, h := range r.Headers {
				got.headers = append(got.headers, header{h.Key, h.Value})
			}
			if !read(got) {
				return nil
			}
		}
		fetches = c.PollFetches(context.Background())
	}
}

func (f franz) group() error {
	c, err := kgo.NewClient(f.seeds, kgo.ConsumeTopics(f.topic), kgo.ConsumerGroup("no-such-group"))
	if err != nil {
		return err
	}
	defer c.Close()
	limit, cancel := withinLimit()
	defer cancel()
	for _, e := range c.PollFetches(limit).Errors() {
		if e.Err == context.DeadlineExceeded {
			return errHang
		}
		return e.Err
	}
	return nil
}

// ask gives a client for one question.
func (f franz) ask(ask func(context.Context, *kgo.Client) error, more ...kgo.Opt) error {
	c, err := kgo.NewClient(append(more, f.seeds)...)
	if err != nil {
		return err
	}
	defer c.Close()
	limit, cancel := withinLimit()
	defer cancel()
	return ask(limit, c)
}

func (f franz) topics() (names []string, err error) {
	err = f.ask(func(limit context.Context, c *kgo.Client) error {
		// No list of topics: all of them.
		answer, err := kmsg.NewPtrMetadataRequest().RequestWith(limit, c)
		if err != nil {
			return err
		}
		for _, topic := range answer.Topics {
			names = append(names, *topic.Topic)
		}
		return nil
	})
	return names, err
}

func (f franz) commit() error {
	return f.ask(func(limit context.Context, c *kgo.Client) error {
		request := kmsg.NewPtrOffsetCommitRequest()
		request.Group = "no-such-group"
		topic, partition := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
		partition.Offset = 1
		topic.Topic, topic.Partitions = f.topic, append(topic.Partitions, partition)
		request.Topics = append(request.Topics, topic)
		answer, err := request.RequestWith(limit, c)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(answer.Topics[0].Partitions[0].ErrorCode)
	})
}

func (f franz) transaction() error {
	return f.ask(func(limit context.Context, c *kgo.Client) error {
		if err := c.BeginTransaction(); err != nil {
			return err
		}
		return c.ProduceSync(limit, &kgo.Record{Topic: f.topic, Value: []byte("never")}).FirstErr()
	}, kgo.TransactionalID("no-such-transaction"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
}

func (f franz) create() error {
	c, err := kgo.NewClient(f.seeds)
	if err != nil {
		return err
	}
	defer c.Close()
	request := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "new-topic", 1, 1
	request.Topics = append(request.Topics, topic)
	limit, cancel := withinLimit()
	defer cancel()
	answer, err := request.RequestWith(limit, c)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(answer.Topics[0].ErrorCode)
}

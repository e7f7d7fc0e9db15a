// IBM's sarama.
package main

import (
	"time"

	"github.com/IBM/sarama"
)

type saramaClient struct{ target }

func newClient(at target) client { return saramaClient{at} }

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

func (s saramaClient) config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Consumer.Return.Errors = true
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	config.Metadata.Retry.Max, config.Metadata.Retry.Backoff = 40, 250*time.Millisecond
	return config
}

func (s saramaClient) produce(records []record, compression string, idempotent bool, pace time.Duration, told func(int64)) error {
	config := s.config()
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Compression = codecs[compression]
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.MaxMessageBytes = 1 << 20
	config.Producer.Flush.Frequency = 5 * time.Millisecond
	config.Producer.Retry.Max, config.Producer.Retry.Backoff = 100, 100*time.Millisecond
	if idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	producer, err := sarama.NewAsyncProducer(s.bootstrap, config)
	if err != nil {
		return err
	}
	defer producer.AsyncClose()
	offsets, done, next := make(map[int]int64), 0, 0
	take := func(m *sarama.ProducerMessage) {
		offsets[m.Metadata.(int)] = m.Offset
		for offset, known := offsets[next]; known; offset, known = offsets[next] {
			told(offset)
			next++
		}
		done++
	}
	pending := make([]*sarama.ProducerMessage, len(records))
	for n, r := range records {
		m := &sarama.ProducerMessage{Topic: s.topic, Metadata: n}
		// A nil slice in the interface would be an empty key or value.
		if r.key != nil {
			m.Key = sarama.ByteEncoder(r.key)
		}
		if r.value != nil {
			m.Value = sarama.ByteEncoder(r.value)
		}
		for _, h := range r.headers {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.name), Value: h.value})
		}
		pending[n] = m
	}
	for done < len(records) {
		input, first := producer.Input(), (*sarama.ProducerMessage)(nil)
		if len(pending) > 0 {
			first = pending[0]
		} else {
			input = nil
		}
		select {
		case input <- first:
			pending = pending[1:]
			time.Sleep(pace)
		case m := <-producer.Successes():
			take(m)
		case e := <-producer.Errors():
			return e.Err
		}
	}
	return nil
}

func (s saramaClient) consume(start position, ready func(), read func(record) bool) error {
	if start.committed {
		return absent("sarama asks for committed offsets only in a group that it has joined")
	}
	c, err := sarama.NewClient(s.bootstrap, s.config())
	if err != nil {
		return err
	}
	defer c.Close()
	offset := start.offset
	switch {
	case start.beginning:
		offset = sarama.OffsetOldest
	case start.end:
		offset = sarama.OffsetNewest
	case !start.at.IsZero():
		if offset, err = c.GetOffset(s.topic, 0, start.at.UnixMilli()); err != nil {
			return err
		}
	}
	consumer, err := sarama.NewConsumerFromClient(c)
	if err != nil {
		return err
	}
	partition, err := consumer.ConsumePartition(s.topic, 0, offset)
	if err != nil {
		return err
	}
	defer partition.AsyncClose()
	ready()
	limit := time.After(90 * time.Second)
	for {
		select {
		case m := <-partition.Messages():
			got := record{key: m.Key, value: m.Value, offset: m.Offset, timestamp: m.Timestamp}
			for _, h := range m.Headers {
				got.headers = append(got.headers, header{string(h.Key), h.Value})
			}
			if !read(got) {
				return nil
			}
		case <-partition.Errors():
			// The consumer goes on by itself: it asks for the leader again.
		case <-limit:
			return errHang
		}
	}
}

type nobody struct{}

func (nobody) Setup(sarama.ConsumerGroupSession) error                                   { return nil }
func (nobody) Cleanup(sarama.ConsumerGroupSession) error                                 { return nil }
func (nobody) ConsumeClaim(sarama.ConsumerGroupSession, sarama.ConsumerGroupClaim) error { return nil }

func (s saramaClient) group() error {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	group, err := sarama.NewConsumerGroup(s.bootstrap, "no-such-group", config)
	if err != nil {
		return err
	}
	defer group.Close()
	limit, cancel := withinLimit()
	defer cancel()
	return group.Consume(limit, []string{s.topic}, nobody{})
}

func (s saramaClient) topics() ([]string, error) {
	c, err := sarama.NewClient(s.bootstrap, s.config())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Topics()
}

func (s saramaClient) commit() error {
	config := s.config()
	config.Consumer.Offsets.Retry.Max = 1
	c, err := sarama.NewClient(s.bootstrap, config)
	if err != nil {
		return err
	}
	defer c.Close()
	manager, err := sarama.NewOffsetManagerFromClient("no-such-group", c)
	if err != nil {
		return err
	}
	partition, err := manager.ManagePartition(s.topic, 0)
	if err != nil {
		return err
	}
	partition.MarkOffset(1, "")
	manager.Commit()
	select {
	case told := <-partition.Errors():
		return told.Err
	case <-time.After(refusalMax):
		return errHang
	}
}

func (s saramaClient) transaction() error {
	config := s.config()
	config.Producer.Idempotent, config.Producer.RequiredAcks = true, sarama.WaitForAll
	config.Producer.Transaction.ID = "no-such-transaction"
	config.Producer.Transaction.Retry.Max, config.Net.MaxOpenRequests = 3, 1
	producer, err := sarama.NewAsyncProducer(s.bootstrap, config)
	if err != nil {
		return err
	}
	producer.AsyncClose()
	return nil
}

func (s saramaClient) create() error {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin(s.bootstrap, config)
	if err != nil {
		return err
	}
	defer admin.Close()
	return admin.CreateTopic("new-topic", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false)
}

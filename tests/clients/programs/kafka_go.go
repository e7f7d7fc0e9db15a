// Segment's kafka-go.
package main

import (
	"context"
	"time"

	"github.com/segmentio/kafka-go"
)

type segment struct{ target }

func newClient(at target) client { return segment{at} }

var codecs = map[string]kafka.Compression{
	"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
}

func (s segment) produce(records []record, compression string, idempotent bool, pace time.Duration, told func(int64)) error {
	if idempotent {
		return absent("kafka-go has no idempotent producer")
	}
	writer := &kafka.Writer{Addr: kafka.TCP(s.bootstrap...), Topic: s.topic, RequiredAcks: kafka.RequireAll,
		BatchTimeout: 5 * time.Millisecond, BatchSize: 1000, BatchBytes: 1 << 20, Compression: codecs[compression],
		MaxAttempts: 100, WriteBackoffMin: 50 * time.Millisecond, WriteBackoffMax: 250 * time.Millisecond}
	defer writer.Close()
	messages := []kafka.Message{}
	for _, r := range records {
		m := kafka.Message{Key: r.key, Value: r.value}
		for _, h := range r.headers {
			m.Headers = append(m.Headers, kafka.Header{Key: h.name, Value: h.value})
		}
		messages = append(messages, m)
	}
	step := len(messages)
	if pace > 0 {
		step = 1
	}
	for len(messages) > 0 {
		if err := writer.WriteMessages(context.Background(), messages[:step]...); err != nil {
			return err
		}
		for range step {
			told(-1)
		}
		messages = messages[step:]
		time.Sleep(pace)
	}
	return nil
}

func (s segment) consume(start position, ready func(), read func(record) bool) error {
	if start.committed {
		return absent("kafka-go asks for committed offsets only in a group that it has joined")
	}
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: s.bootstrap, Topic: s.topic, Partition: 0, MaxBytes: 4 << 20,
		MaxWait: 100 * time.Millisecond, ReadBackoffMax: 250 * time.Millisecond, MaxAttempts: 100})
	defer reader.Close()
	var err error
	switch {
	case start.beginning:
		err = reader.SetOffset(kafka.FirstOffset)
	case start.end:
		err = s.seekEnd(reader)
	case !start.at.IsZero():
		err = reader.SetOffsetAt(context.Background(), start.at)
	default:
		err = reader.SetOffset(start.offset)
	}
	if err != nil {
		return err
	}
	ready()
	for {
		m, err := reader.ReadMessage(context.Background())
		if err != nil {
			return err
		}
		got := record{key: m.Key, value: m.Value, offset: m.Offset, timestamp: m.Time}
		for _, h := range m.Headers {
			got.headers = append(got.headers, header{h.Key, h.Value})
		}
		if !read(got) {
			return nil
		}
	}
}

// seekEnd asks for the end itself: the reader would look for it only with its first read, when there is more.
func (s segment) seekEnd(reader *kafka.Reader) error {
	leader, err := kafka.DialLeader(context.Background(), "tcp", s.bootstrap[0], s.topic, 0)
	if err != nil {
		return err
	}
	defer leader.Close()
	end, err := leader.ReadLastOffset()
	if err != nil {
		return err
	}
	return reader.SetOffset(end)
}

func (s segment) group() error {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: "no-such-group", Brokers: s.bootstrap, Topics: []string{s.topic}})
	if err != nil {
		return err
	}
	defer group.Close()
	limit, cancel := withinLimit()
	defer cancel()
	_, err = group.Next(limit)
	return err
}

func (s segment) client() *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(s.bootstrap...), Timeout: refusalMax}
}

func (s segment) topics() ([]string, error) {
	answer, err := s.client().Metadata(context.Background(), &kafka.MetadataRequest{})
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, topic := range answer.Topics {
		names = append(names, topic.Name)
	}
	return names, nil
}

func (s segment) commit() error {
	limit, cancel := withinLimit()
	defer cancel()
	answer, err := s.client().OffsetCommit(limit, &kafka.OffsetCommitRequest{GroupID: "no-such-group", GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{s.topic: {{Partition: 0, Offset: 1}}}})
	if err != nil {
		return err
	}
	return answer.Topics[s.topic][0].Error
}

func (s segment) transaction() error {
	limit, cancel := withinLimit()
	defer cancel()
	answer, err := s.client().InitProducerID(limit, &kafka.InitProducerIDRequest{TransactionalID: "no-such-transaction", TransactionTimeoutMs: 10000})
	if err != nil {
		return err
	}
	return answer.Error
}

func (s segment) create() error {
	c := s.client()
	answer, err := c.CreateTopics(context.Background(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: "new-topic", NumPartitions: 1, ReplicationFactor: 1}}})
	if err != nil {
		return err
	}
	return answer.Errors["new-topic"]
}

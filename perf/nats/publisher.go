package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"kraft/seen"
)

// The headers of an atomic batch: its records have a number each, and the last of them commits all.
const (
	batchID       = "Nats-Batch-Id"
	batchSequence = "Nats-Batch-Sequence"
	batchCommit   = "Nats-Batch-Commit"
)

// What was refused is not sent again at once: that would only keep the server from whatever it lacks.
const pauseAfterError = 10 * time.Millisecond

// Publisher is one connection. Each batch asks for its acknowledgement at a subject that ends with the batch's number: of a
// closed loop that of its place among those in flight, of an open loop that in the schedule.
type Publisher struct {
	load       *Load
	index      int
	connection *nats.Conn
	inbox      string
	payload    []byte

	// Whoever begins batches and whoever hears of their answers are goroutines of their own.
	mutex      sync.Mutex
	began      []time.Time
	sent       int
	underWay   int
	failed     int
	lastAnswer time.Time
	seen       *seen.Seen
	// Batches of each second since the start, those of the warm-up too.
	eachSecond []int
}

func (publisher *Publisher) listen() error {
	_, err := publisher.connection.Subscribe(publisher.inbox+".*", publisher.answered)
	if err != nil {
		return err
	}
	return publisher.connection.FlushTimeout(dialTimeout)
}

func (publisher *Publisher) begin() {
	defer publisher.load.underWay.Done()
	if publisher.load.Rate > 0 {
		publisher.keepSchedule()
		return
	}
	for place := range publisher.load.InFlight {
		publisher.publishNext(place)
	}
}

// due is when an open loop's batch should be sent; the connections take turns.
func (publisher *Publisher) due(number int) time.Time {
	load := publisher.load
	turn := float64(number*load.Clients + publisher.index)
	return load.start.Add(seen.Seconds(turn * float64(load.RecordsPerBatch) / load.Rate))
}

func (publisher *Publisher) keepSchedule() {
	for number := 0; ; number++ {
		due := publisher.due(number)
		if !publisher.load.mayBegin(due) {
			return
		}
		time.Sleep(time.Until(due))
		publisher.publish(number)
	}
}

// publishNext is the closed loop's: in a place that is free.
func (publisher *Publisher) publishNext(place int) {
	now := time.Now()
	if !publisher.load.mayBegin(now) {
		return
	}
	publisher.mutex.Lock()
	publisher.began[place] = now
	publisher.mutex.Unlock()
	publisher.publish(place)
}

func (publisher *Publisher) publish(number int) {
	load := publisher.load
	load.underWay.Add(1)
	publisher.mutex.Lock()
	publisher.sent++
	publisher.underWay++
	batch := publisher.sent
	publisher.mutex.Unlock()
	reply := publisher.inbox + "." + strconv.Itoa(number)
	var err error
	if load.RecordsPerBatch == 1 {
		err = publisher.connection.PublishRequest(load.subject, reply, publisher.payload)
	} else {
		err = publisher.publishBatch(reply, fmt.Sprintf("%s-%d", publisher.inbox[len(nats.InboxPrefix):], batch))
	}
	if err != nil {
		publisher.done(number, time.Now(), err.Error())
	}
}

func (publisher *Publisher) publishBatch(reply, id string) error {
	load := publisher.load
	for sequence := 1; sequence <= load.RecordsPerBatch; sequence++ {
		message := nats.Msg{Subject: load.subject, Data: publisher.payload,
			Header: nats.Header{batchID: {id}, batchSequence: {strconv.Itoa(sequence)}}}
		if sequence == load.RecordsPerBatch {
			message.Reply = reply
			message.Header[batchCommit] = []string{"1"}
		}
		if err := publisher.connection.PublishMsg(&message); err != nil {
			return err
		}
	}
	return nil
}

// answered is called by the client's one goroutine for this connection's acknowledgements.
func (publisher *Publisher) answered(message *nats.Msg) {
	now := time.Now()
	number, err := strconv.Atoi(message.Subject[len(publisher.inbox)+1:])
	if err != nil {
		return
	}
	publisher.done(number, now, refusal(message))
}

func (publisher *Publisher) done(number int, now time.Time, refused string) {
	isOpen := publisher.load.Rate > 0
	publisher.note(number, now, refused)
	if !isOpen && refused == "" {
		publisher.publishNext(number)
	} else if !isOpen && publisher.connection.IsConnected() {
		publisher.load.underWay.Add(1)
		time.AfterFunc(pauseAfterError, func() {
			publisher.publishNext(number)
			publisher.load.underWay.Done()
		})
	}
	publisher.load.underWay.Done()
}

func (publisher *Publisher) note(number int, now time.Time, refused string) {
	publisher.mutex.Lock()
	defer publisher.mutex.Unlock()
	load := publisher.load
	publisher.underWay--
	publisher.lastAnswer = now
	var began time.Time
	if load.Rate > 0 {
		began = publisher.due(number)
	} else {
		began = publisher.began[number]
	}
	isMeasured := !began.Before(load.measureFrom)
	if refused != "" {
		publisher.seen.Errors[refused]++
		if isMeasured {
			publisher.failed++
		}
		return
	}
	second := int(now.Sub(load.start) / time.Second)
	for len(publisher.eachSecond) <= second {
		publisher.eachSecond = append(publisher.eachSecond, 0)
	}
	publisher.eachSecond[second]++
	// As in kraft-perf: what was begun while measured counts, also if it was answered after the end.
	if isMeasured {
		publisher.seen.Add(now.Sub(began))
	}
}

// refusal is empty for a record that was stored.
func refusal(message *nats.Msg) string {
	if status := message.Header.Get("Status"); status != "" {
		return "status " + status + " " + message.Header.Get("Description")
	}
	var answer struct {
		Sequence uint64 `json:"seq"`
		Error    *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(message.Data, &answer); err != nil {
		return "an acknowledgement that is no JSON: " + err.Error()
	}
	switch {
	case answer.Error != nil:
		return answer.Error.Description
	case answer.Sequence == 0:
		return "an acknowledgement without a sequence"
	}
	return ""
}

// The contract of tests/clients/README.md for a client in Go: a program beside this file has
//
//	func newClient(at target) client
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// target is where a client connects to, and the topic that it uses.
type target struct {
	bootstrap []string
	topic     string
}

type header struct {
	name  string
	value []byte
}

type record struct {
	key, value []byte
	headers    []header
	offset     int64
	timestamp  time.Time
}

type client interface {
	// produce tells the offset of each record in its order, -1 where the client tells none.
	produce(records []record, compression string, idempotent bool, pace time.Duration, told func(int64)) error
	// consume calls ready once it stands at start, and then read with each record until that says to stop.
	consume(start position, ready func(), read func(record) (more bool)) error
	topics() ([]string, error)
	// What the client says.
	group() error
	commit() error
	transaction() error
	create() error
}

// Where to begin: at the beginning, at the end, where the group has committed, at a time, or else at an offset.
type position struct {
	beginning, end, committed bool
	at             time.Time
	offset         int64
}

// absent says why the client has no such thing.
type absent string

func (a absent) Error() string { return string(a) }

const refusalMax = 20 * time.Second

// withinLimit gives group and create the time in which they must hear a refusal.
func withinLimit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), refusalMax)
}

// errHang is what group and create say when the client said nothing for so long.
var errHang = errors.New("nothing was said within 20 s")

func say(words ...any) { fmt.Fprintln(os.Stdout, words...) }

func word(data []byte) string {
	if data == nil {
		return "-"
	}
	return "x" + hex.EncodeToString(data)
}

func data(word string) []byte {
	if word == "-" {
		return nil
	}
	bytes, err := hex.DecodeString(word[1:])
	if err != nil {
		panic(err)
	}
	return bytes
}

func headerWords(headers []header) string {
	words := []string{}
	for _, h := range headers {
		words = append(words, word([]byte(h.name))+"="+word(h.value))
	}
	if len(words) == 0 {
		return "."
	}
	return strings.Join(words, ",")
}

func readRecords(path string) []record {
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	records := []record{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		r := record{key: data(fields[0]), value: data(fields[1])}
		if fields[2] != "." {
			for _, pair := range strings.Split(fields[2], ",") {
				name, value, _ := strings.Cut(pair, "=")
				r.headers = append(r.headers, header{string(data(name)), data(value)})
			}
		}
		records = append(records, r)
	}
	return records
}

func positionOf(word string) position {
	switch {
	case word == "beginning":
		return position{beginning: true}
	case word == "end":
		return position{end: true}
	case word == "committed":
		return position{committed: true}
	}
	number, err := strconv.ParseInt(strings.TrimPrefix(word, "@"), 10, 64)
	if err != nil {
		panic(err)
	}
	if word[0] == '@' {
		return position{at: time.UnixMilli(number)}
	}
	return position{offset: number}
}

func serve(c client, words []string) error {
	switch words[0] {
	case "produce":
		pace, err := strconv.Atoi(words[3])
		if err != nil {
			return err
		}
		tell := func(offset int64) {
			if offset < 0 {
				say("offset", "-")
			} else {
				say("offset", offset)
			}
		}
		return c.produce(readRecords(words[4]), words[1], words[2] == "true", time.Duration(pace)*time.Millisecond, tell)
	case "consume":
		return c.consume(positionOf(words[1]), func() { say("ready") }, func(r record) bool {
			key := word(r.key)
			say("record", r.offset, r.timestamp.UnixMilli(), key, word(r.value), headerWords(r.headers))
			return key != words[2]
		})
	case "topics":
		names, err := c.topics()
		for _, name := range names {
			say("topic", name)
		}
		return err
	case "group":
		return c.group()
	case "commit":
		return c.commit()
	case "transaction":
		return c.transaction()
	case "create":
		return c.create()
	}
	return fmt.Errorf("unknown command %q", words[0])
}

func main() {
	c := newClient(target{strings.Split(os.Args[1], ","), os.Args[2]})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		err := serve(c, strings.Fields(lines.Text()))
		var why absent
		if errors.As(err, &why) {
			say("absent", why)
		} else if err != nil {
			say("error", strings.ReplaceAll(err.Error(), "\n", " "))
		}
		say("done")
	}
}

// Command nats-load is kraft-perf for a NATS JetStream cluster, through NATS's own client: the flags that perf/compare gives
// have the same names and mean the same, and the JSON is of the same form, so that one summary can hold both.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

const usage = `usage: nats-load [FLAG...]              write records, and measure until each is acknowledged
       nats-load consume [FLAG...]      read the stream
       nats-load end-to-end [FLAG...]   one record at a time, until consumers have it
       nats-load create [FLAG...]       make the stream, and wait until it has a leader and followers
-h after any of them shows its flags.
`

// incomplete is the exit code where not all was acknowledged; the figures are printed all the same.
const incomplete = 2

// work is what one of the words does: it prints JSON, and tells whether all was acknowledged.
type work interface {
	flags(set *flag.FlagSet)
	run(cluster Cluster) (bool, error)
}

func main() {
	word, arguments := "load", os.Args[1:]
	if len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-") {
		word, arguments = arguments[0], arguments[1:]
	}
	chosen, ok := map[string]work{"load": &Load{}, "consume": &Consume{}, "end-to-end": &EndToEnd{}, "create": &Create{}}[word]
	if !ok {
		fmt.Fprintf(os.Stderr, "error: %s is none of its words.\n%s", word, usage)
		os.Exit(1)
	}
	isComplete, err := run(chosen, arguments)
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	case !isComplete:
		os.Exit(incomplete)
	}
}

func run(chosen work, arguments []string) (bool, error) {
	set := flag.NewFlagSet("nats-load", flag.ExitOnError)
	servers := set.String("bootstrap-server", "127.0.0.1:4222", "servers, with commas between them; the leader of the stream is loaded")
	stream := set.String("topic", "log", "the stream, and its subject")
	json := set.String("json", "-", "where the result goes: - is stdout, and there is nothing else")
	chosen.flags(set)
	if err := set.Parse(arguments); err != nil {
		return false, err
	}
	if set.NArg() > 0 {
		return false, fmt.Errorf("%s: there are only flags here", set.Arg(0))
	}
	if *json != "-" {
		return false, fmt.Errorf("--json %s: give -, which is stdout", *json)
	}
	return chosen.run(Cluster{servers: strings.Split(*servers, ","), stream: *stream})
}

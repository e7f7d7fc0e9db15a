"""The contract of tests/clients/README.md for a client in Python: a program passes its class to serve().

The class is made with (bootstrap, topic) and has

    produce(records, compression, idempotent, pace_s)   yields an offset, or None where the client tells none
    consume(start, ready)                               calls ready() once it stands, then yields (offset, ms, record)
    topics()                                            returns the names of all topics
    group()  commit()  transaction()  create()          raise what the client says

where a record is (key, value, [(name, value)...]) in bytes, and start is "beginning", "end", "committed", "@MILLISECONDS" or an offset.
What the client does not offer raises Absent.
"""

import sys
import traceback


class Absent(Exception):
    """The client has no such thing; the text says why."""


def word(data):
    return "-" if data is None else "x" + data.hex()


def data(word):
    return None if word == "-" else bytes.fromhex(word[1:])


def header_words(headers):
    return ",".join(f"{word(name)}={word(value)}" for name, value in headers) or "."


def headers(words):
    return [] if words == "." else [tuple(data(part) for part in pair.split("=")) for pair in words.split(",")]


def read_records(path):
    with open(path, encoding="ascii") as lines:
        fields = [line.split() for line in lines]
    return [(data(key), data(value), headers(rest)) for key, value, rest in fields]


def say(*words):
    print(*words, flush=True)


def _produce(client, compression, idempotent, pace_ms, path):
    for offset in client.produce(read_records(path), compression, idempotent == "true", int(pace_ms) / 1000):
        say("offset", "-" if offset is None else offset)


def _consume(client, start, last_key):
    for offset, timestamp, (key, value, named) in client.consume(start, lambda: say("ready")):
        say("record", offset, timestamp, word(key), word(value), header_words(named))
        if word(key) == last_key:
            return


def _topics(client):
    for name in client.topics():
        say("topic", name)


def serve(make):
    client = make(*sys.argv[1:3])
    commands = {"produce": _produce, "consume": _consume,
                "topics": _topics, "group": lambda client: client.group(), "commit": lambda client: client.commit(),
                "transaction": lambda client: client.transaction(), "create": lambda client: client.create()}
    for line in sys.stdin:
        name, *arguments = line.split()
        try:
            commands[name](client, *arguments)
        except Absent as why:
            say("absent", why)
        except Exception as error:
            traceback.print_exc()
            say("error", f"{type(error).__name__}: {error}".replace("\n", " "))
        say("done")

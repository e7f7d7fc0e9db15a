"""Kafka's own command-line tools and kcat, run as a user runs them."""

import json
import subprocess
from dataclasses import dataclass, field

from cluster import PATIENCE_S, REPOSITORY, TOPIC, die_with_parent

TOOL_SECONDS_MAX = 120


@dataclass
class Output:
    command: list
    code: int
    out: str
    err: str

    def check(self):
        assert self.code == 0, f"exit code {self.code}: {' '.join(self.command)}\n{self.err[-3000:]}\n{self.out[-3000:]}"
        return self


def run(*command, input=None, timeout_s=TOOL_SECONDS_MAX, env=None):
    command = [str(part) for part in command]
    done = subprocess.run(command, cwd=REPOSITORY, text=True, errors="replace", capture_output=True, timeout=timeout_s, env=env,
                          **({"input": input} if input is not None else {"stdin": subprocess.DEVNULL}))
    return Output(command, done.returncode, done.stdout, done.stderr)


def start(*command, out, err):
    """A tool in the background, its output in the open files out and err."""
    return subprocess.Popen([str(part) for part in command], cwd=REPOSITORY, stdin=subprocess.DEVNULL,
                            stdout=out, stderr=err, preexec_fn=die_with_parent)


def tool(name, *arguments, **options):
    return run(f"bin/{name}.sh", *arguments, **options)


@dataclass
class Verified:
    """What a VerifiableProducer printed: value → offset of what was acknowledged, and the values that failed."""
    acked: dict = field(default_factory=dict)
    failed: list = field(default_factory=list)
    sent: int = 0
    acked_count: int = 0

    @staticmethod
    def parse(text):
        result = Verified()
        for line in text.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            name = event.get("name")
            if name == "producer_send_success":
                assert event["topic"] == TOPIC and event["partition"] == 0
                assert event["value"] not in result.acked, f"acknowledged twice: {event}"
                result.acked[event["value"]] = event["offset"]
            elif name == "producer_send_error":
                result.failed.append(event["value"])
            elif name == "tool_data":
                result.sent, result.acked_count = event["sent"], event["acked"]
        return result


def verifiable_producer(bootstrap, count, *more, throughput=-1):
    return tool("kafka-verifiable-producer", "--bootstrap-server", bootstrap, "--topic", TOPIC,
                "--max-messages", count, "--throughput", throughput, *more)


def produce_verified(bootstrap, count, *more):
    """Produces `count` values and checks that each was acknowledged at an offset of its own."""
    verified = Verified.parse(verifiable_producer(bootstrap, count, *more).check().out)
    assert (verified.sent, verified.acked_count, verified.failed) == (count, count, [])
    assert len(set(verified.acked.values())) == count
    return verified


def console_read(bootstrap, *arguments, timeout_ms=PATIENCE_S * 1000):
    """[(offset, value)], by kafka-console-consumer on partition 0."""
    output = tool("kafka-console-consumer", "--bootstrap-server", bootstrap, "--topic", TOPIC, "--partition", 0,
                  "--timeout-ms", timeout_ms, "--formatter-property", "print.offset=true", *arguments)
    records = []
    for line in output.out.split("\n")[:-1]:
        head, _, value = line.partition("\t")
        assert head.startswith("Offset:"), f"unexpected line {line!r}\n{output.err[-2000:]}"
        records.append((int(head.removeprefix("Offset:")), value))
    return records


def kcat_read(bootstrap, *arguments, end=True):
    """[(offset, value)] by kcat, from the beginning to the end of the log unless told otherwise."""
    output = run("kcat", "-b", bootstrap, "-C", "-t", TOPIC, "-p", 0, *(["-e"] if end else []), "-q",
                 "-f", "%o %s\n", *(arguments or ["-o", "beginning"])).check()
    return [(int(offset), value) for offset, _, value in (line.partition(" ") for line in output.out.split("\n")[:-1])]

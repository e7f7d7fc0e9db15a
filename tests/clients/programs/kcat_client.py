"""kcat, as Debian has it: a command for each set of records, since -H and -Z hold for all that one command sends."""

import itertools
import json
import subprocess
import time

import session

MESSAGE_END, KEY_END = b"\xff\xfemessage\xfe\xff", b"\xff\xfekey\xfe\xff"


class Client:
    def __init__(self, bootstrap, topic):
        self.kcat = ["kcat", "-b", bootstrap, "-X", "reconnect.backoff.ms=50", "-X", "reconnect.backoff.max.ms=500"]
        self.topic = topic

    def produce(self, records, compression, idempotent, pace_s):
        for headers, group in itertools.groupby(records, key=lambda record: record[2]):
            for kind, alike in itertools.groupby(group, key=self.kind):
                yield from self.send(list(alike), kind, headers, compression, idempotent, pace_s)

    @staticmethod
    def kind(record):
        """Whether there is a key, whether a value; in one command all are alike."""
        key, value, headers = record
        if key == b"":
            raise session.Absent("kcat sends an empty key as none")
        if any(value is None or not value.isascii() for _, value in headers):
            raise session.Absent("kcat takes headers as words of its command line")
        return key is not None, value is not None

    def send(self, records, kind, headers, compression, idempotent, pace_s):
        has_key, has_value = kind
        command = [*self.kcat, "-P", "-t", self.topic, "-p", "0", "-z", compression, "-D", "\\xff\\xfemessage\\xfe\\xff",
                   "-X", f"enable.idempotence={str(idempotent).lower()}", "-X", "acks=all", "-X", "linger.ms=5",
                   "-X", "message.max.bytes=2097152"]
        if has_key:
            command += ["-K", "\\xff\\xfekey\\xfe\\xff"]
        if not has_value:
            command.append("-Z")
        for name, value in headers:
            command += ["-H", name.decode() if value is None else f"{name.decode()}={value.decode()}"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        try:
            for key, value, _ in records:
                process.stdin.write((key + KEY_END if has_key else b"") + (value or b"") + MESSAGE_END)
                process.stdin.flush()
                if pace_s:
                    time.sleep(pace_s)
                    yield None
            process.stdin.close()
            if process.wait(60):
                raise RuntimeError(f"exit code {process.returncode}")
        finally:
            process.kill()
        if not pace_s:
            yield from [None] * len(records)

    def consume(self, start, ready):
        offset = f"s@{start[1:]}" if start.startswith("@") else start
        more = []
        if start == "committed":
            # `stored`: what the group has committed.
            offset, more = "stored", ["-X", "group.id=no-such-group", "-X", "auto.offset.reset=earliest"]
        process = subprocess.Popen([*self.kcat, *more, "-C", "-t", self.topic, "-p", "0", "-o", offset, "-u", "-q",
                                    "-X", "fetch.wait.max.ms=100", "-f", "%o %T %K %S %h\\n%k%s"], stdout=subprocess.PIPE)
        try:
            ready()
            while True:
                line = process.stdout.readline().decode().rstrip("\n")
                if not line:
                    raise RuntimeError(f"kcat ended: {process.wait(10)}")
                offset, timestamp, key_length, length, headers = line.split(" ", 4)
                yield int(offset), int(timestamp), (self.take(process, key_length), self.take(process, length), self.headers(headers))
        finally:
            process.kill()
            process.wait()

    @staticmethod
    def take(process, length):
        return None if int(length) < 0 else process.stdout.read(int(length))

    @staticmethod
    def headers(text):
        pairs = [pair.partition("=") for pair in text.split(",")] if text else []
        return [(name.encode(), None if value == "NULL" else value.encode()) for name, _, value in pairs]

    def group(self):
        done = subprocess.run([*self.kcat, "-G", "no-such-group", self.topic, "-e"], capture_output=True, text=True, timeout=20)
        said = [line for line in done.stderr.splitlines() if "ERROR" in line] or [done.stderr.strip()]
        raise RuntimeError(f"exit code {done.returncode}: {said[0]}")

    def topics(self):
        done = subprocess.run([*self.kcat, "-L", "-J"], capture_output=True, text=True, timeout=20, check=True)
        return [topic["topic"] for topic in json.loads(done.stdout)["topics"]]

    def commit(self):
        raise session.Absent("kcat commits only in a group that it has joined")

    def transaction(self):
        raise session.Absent("kcat has no transactions")

    def create(self):
        raise session.Absent("kcat creates no topics")


session.serve(Client)

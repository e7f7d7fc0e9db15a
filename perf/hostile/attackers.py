"""Who attacks: each a function of the port that gives a Crowd. What it sends is built when it is called."""

import itertools
import socket
import struct
import time

from . import frames
from .crowd import A_BYTE, NOTHING, Crowd, asking, once
from .frames import MIB, TOPIC

# Of one request below 500 KiB; a node takes 50,000.
MANY_NAMES = 49_000
COLD_BYTES = 55 * MIB
HALF_BYTES, HALF_SECONDS = 600 << 10, 2
PARK_MS = 300_000
INVENTED, INVENTED_EACH = 10_000, 100
FIRST_INVENTED = 10_000_000


def crowd_of(port, count, *plans, **more):
    """So many connections, which do each of the plans in turn."""
    return Crowd(port, [itertools.repeat(plan) for plan, _ in zip(itertools.cycle(plans), range(count))], **more)


def call(port, frame):
    """One answer, read by somebody who waits for it."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as s, s.makefile("rb") as answers:
        s.sendall(frame)
        head = answers.read(4)
        return frames.answer(head + answers.read(struct.unpack(">i", head)[0]))


def large_metadata(port):
    """300 connections ask for 49,000 names (480 KB) each time, and read the answers"""
    return crowd_of(port, 300, asking(frames.metadata(frames.names(MANY_NAMES))))


def small_heavy(port):
    """300 connections with 64 requests under way, each below 8 KiB, for several hundred names"""
    return crowd_of(port, 300, asking(frames.metadata(frames.names(750)), 64), asking(frames.describe_configs(frames.names(500)), 64))


def cheap_pipelines(port):
    """20 connections with 64 requests under way that cost next to nothing"""
    return crowd_of(port, 20, asking(frames.api_versions(), 64), asking(frames.metadata(None), 64))


def cold_16(port):
    """4 connections with 16 Fetches of 55 MiB each from the beginning, whose answers nobody reads"""
    return crowd_of(port, 4, asking(frames.fetch(0, COLD_BYTES), 16, takes=NOTHING))


def cold_64(port):
    """the same with 64 Fetches each"""
    return crowd_of(port, 4, asking(frames.fetch(0, COLD_BYTES), 64, takes=NOTHING))


def half_frames(port):
    """500 connections with 600 KiB of a request of 1 MiB and nothing after it; after two seconds they leave, and come again"""
    return crowd_of(port, 500, once(struct.pack(">i", MIB) + bytes(HALF_BYTES), takes=NOTHING, seconds=HALF_SECONDS))


def connection_flood(port):
    """300 idle connections, and 20 that connect, ask once and close, again and again"""
    flood = crowd_of(port, 20, once(frames.api_versions(), answers=1), varies_source=True)
    flood.add([itertools.repeat(once(b""))] * 300)
    return flood


def invented_producers(port):
    """10,000 producer ids that nobody gave out, 100 on each connection, again and again"""
    ids = range(FIRST_INVENTED, FIRST_INVENTED + INVENTED)
    batches = [frames.produce_first_of(producer_id) for producer_id in ids]
    blocks = [b"".join(batches[at:at + INVENTED_EACH]) for at in range(0, INVENTED, INVENTED_EACH)]
    plans = itertools.cycle([once(block, answers=INVENTED_EACH) for block in blocks])
    return Crowd(port, [plans] * 20, varies_source=True)


def parked_fetches(port):
    """200 connections with 40 Fetches each that wait for 1 GiB"""
    end = frames.offset_in(call(port, frames.list_offsets(-1, 1)))
    return crowd_of(port, 200, asking(frames.fetch(end, COLD_BYTES, min_bytes=1 << 30, max_wait_ms=PARK_MS), 40))


def offsets_by_time(port):
    """100 connections ask for the offsets at a time of 40,000 partitions each time"""
    a_minute_ago_ms = int(time.time() * 1000) - 60_000
    return crowd_of(port, 100, asking(frames.list_offsets(a_minute_ago_ms, 40_000)))


def repeated_configs(port):
    """20 connections ask in 4 MiB for the settings of one topic, named over and over"""
    each = len(frames.describe_configs([TOPIC] * 2)) - len(frames.describe_configs([TOPIC]))
    return crowd_of(port, 20, asking(frames.describe_configs([TOPIC] * (4 * MIB // each))))


def slow_readers(port):
    """50 connections ask for large answers, four at a time, and take a byte of them each half second"""
    return crowd_of(port, 50, asking(frames.fetch(0, COLD_BYTES), 4, takes=A_BYTE),
                    asking(frames.metadata(frames.names(MANY_NAMES)), 4, takes=A_BYTE))


ATTACKERS = {function.__name__.replace("_", "-"): function for function in (
    large_metadata, small_heavy, cheap_pipelines, cold_16, cold_64, half_frames, connection_flood, invented_producers,
    parked_fetches, offsets_by_time, repeated_configs, slow_readers)}
# They ask for what is no longer in memory.
NEED_A_LOG = {"cold-16", "cold-64", "slow-readers"}

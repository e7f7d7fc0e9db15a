"""kill -9 of the leader, until the next record is acknowledged."""

import json
import pathlib
import signal
import time

from .processes import Process, note, wait_until
from .systems import READY_SECONDS_MAX

# Long enough for a closed loop to be at its pace, or for a node that came back to have caught up.
SETTLE_SECONDS = 2
NS_PER_MS = 1_000_000
# kraft-perf writes down the times without an acknowledgement from 50 ms on.
NS_PER_S = 1_000_000_000


def failover(run, system, work):
    """A client in a closed loop sees it; the TestRaftServer, which takes no client, says it in its log."""
    kill_all = killed_by_log if hasattr(system, "own_lines") else killed_under_load
    value = kill_all(run, system, work)
    note(f"{system.name}, kill -9 of the leader to the next acknowledged record: "
         + ", ".join(f"{ms:.0f} ms" for ms in value["ms"]))
    return run.save(system, work, value)


def kill_leader(system):
    """(the node, when): a leader that is asked for and killed in the same moment."""
    leader = wait_until("a leader", system.leader, READY_SECONDS_MAX)
    return leader, system.processes[leader].kill()


def wait_for_another(system, killed):
    rest = [n for n in system.processes if n != killed]
    survivors = [system.processes[n] for n in rest]
    return wait_until("a new leader", lambda: system.leader(rest), READY_SECONDS_MAX, survivors)


def killed_under_load(run, system, work):
    out = pathlib.Path(run.data) / f"{system.name}-{work}.json"
    command = [run.binary("kraft-perf"), "--bootstrap-server", system.bootstrap, "--topic", system.topic, "--json", out,
               "--warmup", 0, "--duration", 3600, "--idempotent"]
    client = Process("failover client", command, run.logs / f"{system.name}-{work}-client-{run.round}.log")
    kills = []
    try:
        time.sleep(SETTLE_SECONDS)
        for _ in range(run.lengths.kills):
            leader, killed_ns = kill_leader(system)
            kills.append(killed_ns)
            wait_for_another(system, leader)
            time.sleep(SETTLE_SECONDS)
            system.start_again(leader)
            # So that the returned node has caught up and a majority does not hang on it.
            time.sleep(SETTLE_SECONDS)
    finally:
        client.stop(signal.SIGINT)
    value = json.loads(out.read_text())
    times = [ms_to_next_ack(value["pauses"], killed_ns) for killed_ns in kills]
    return {"ms": times, "errors": value["errors"], "retries": value["retries"], "failed_records": value["failed_records"]}


def ms_to_next_ack(pauses, killed_ns):
    """0 if the client saw no pause worth noting (50 ms)."""
    after = [pause for pause in pauses if pause["next_ack_unix_ns"] > killed_ns]
    if not after or after[0]["last_ack_unix_ns"] > killed_ns + NS_PER_S:
        return 0.0
    return (after[0]["next_ack_unix_ns"] - killed_ns) / NS_PER_MS


def killed_by_log(run, system, work):
    """Until the new leader's first commit, which is its own leader-change record: earlier than a client would see."""
    times = []
    for _ in range(run.lengths.kills):
        time.sleep(SETTLE_SECONDS)
        leader, killed_ns = kill_leader(system)
        killed_ms = killed_ns // NS_PER_MS
        wait_for_another(system, leader)
        times.append(min(ms for ms in system.commits_of_new_leaders().values() if ms >= killed_ms) - killed_ms)
        system.start_again(leader)
        time.sleep(SETTLE_SECONDS)
    return {"ms": times}

"""What voters have promised, and that nobody but themselves moved it: true on a busy machine too, where they hold elections
of their own."""

import itertools
import json
import re
import time

from cluster import wait_for


def promises(nodes):
    """What a voter may not change without a reason: its epoch, and all that its quorum-state says."""
    return [(node.status()["epoch"], (node.partition_dir / "quorum-state").read_bytes()) for node in nodes]


def epoch_of(promised):
    return max(max(epoch, json.loads(state)["leaderEpoch"]) for epoch, state in promised)


def settled_promises(nodes):
    """The same, once all have the same leader on disk, and that they have caught up with it: /ready does not wait for the file."""
    def settled():
        promised = promises(nodes)
        states = [json.loads(state) for _, state in promised]
        said = {(epoch, state["leaderEpoch"], state["leaderId"]) for (epoch, _), state in zip(promised, states)}
        (epoch, epoch_on_disk, leader_id), *others = said
        has_settled = epoch == epoch_on_disk and leader_id >= 0 and all(state.get("caughtUp", True) for state in states)
        return promised if not others and has_settled else None
    return wait_for("all to have their leader on disk", settled)


def check_moved_by_themselves(voters, before):
    """Each epoch since is one in which one of them stood; without any the promises are the same to the byte."""
    now = promises(voters)
    old, new = epoch_of(before), epoch_of(now)
    if new == old:
        assert now == before

    def all_their_own():
        stood = {int(epoch) for node in voters for epoch in re.findall(r"standing in epoch (\d+) ", node.stderr())}
        return set(range(old + 1, new + 1)) <= stood
    wait_for(f"epochs {old + 1} to {new} to be those in which these voters stood, not a stranger's", all_their_own)


def check_told_seldom(node, line, apart_s=10):
    """However often it has cause to, the node says so once in so many seconds; half of them are enough here, as the time of a line is
    taken a little later than the decision, and on a busy machine not a little."""
    told = [time.mktime(time.strptime(at, "%Y-%m-%d %H:%M:%S")) + int(ms) / 1000
            for at, ms in re.findall(rf"^\[(\S+ \S+),(\d+)\] .*{line}", node.stderr(), re.M)]
    assert all(later - earlier > apart_s / 2 for earlier, later in itertools.pairwise(told)), told

"""A log's first leader needs every voter's word, and nothing that a node knew to be committed is cut: not by empty voters that
elect each other, not after a restart."""

import shutil

import pytest

import kafka_tools
import raw
from cluster import wait_for

# Longer than two elections of the longest timeout, on a busy machine too.
WAITING_S = 60
EXIT_CORRUPT = 65


def produce(node, count, name):
    """One record at a time, each acknowledged by a majority: {offset: value}."""
    acked = {}
    with raw.Connection(node.port) as connection:
        for i in range(count):
            value = f"{name}-{i}"
            answer = connection.produce(raw.batch(value.encode()))
            assert answer.error == raw.NONE, answer.error
            acked[answer.offset] = value
    return acked


def check_kept(cluster, acked):
    read = dict(kafka_tools.kcat_read(cluster.bootstrap))
    lost = {offset: value for offset, value in acked.items() if read.get(offset) != value}
    assert not lost, f"{len(lost)} of {len(acked)} acknowledged records are not where they were"


def wait_for_waiting(*nodes):
    """Until one of these empty nodes has said for whom it waits."""
    said = lambda: any("kraft.first.leader=majority begins without them" in node.stderr() for node in nodes)
    wait_for("a line that names the missing voters and the key", said, WAITING_S)


def one_voter_with_records(cluster, count=60):
    """Node 1 alone, with this many acknowledged records, stopped; then its voters are those of the cluster."""
    node = cluster[1]
    of_three = node.properties["quorum.voters"]
    node.properties["quorum.voters"] = of_three.split(",")[0]
    node.write_config()
    node.start().wait_ready()
    acked = produce(node, count, "alone")
    assert node.stop() == 0
    node.properties["quorum.voters"] = of_three
    node.write_config()
    return acked


@pytest.mark.parametrize("order", [(1, 2, 3), (2, 3, 1), (3, 1, 2), "together"], ids=str)
def test_one_voter_becomes_one_of_three(clusters, order):
    cluster = clusters(3, start=False)
    acked = one_voter_with_records(cluster)
    if order == "together":
        for node in cluster:
            node.start()
    else:
        first, second, last = (cluster[n] for n in order)
        first.start()
        second.start()
        empty = [node for node in (first, second) if node.node_id != 1]
        if len(empty) == 2:
            wait_for_waiting(*empty)
        assert cluster.leader_now() is None
        last.start()
    cluster.leader(WAITING_S)
    cluster.wait_caught_up(WAITING_S)
    check_kept(cluster, acked)
    acked |= produce(cluster.leader(), 5, "three")
    check_kept(cluster, acked)
    assert all("cutting my log" not in node.stderr() for node in cluster)


def test_volumes_of_two_that_are_mounted_too_late(clusters):
    """Two start with empty directories, elect nobody, and are filled by the third; then they get their own again."""
    cluster = clusters(3)
    acked = produce(cluster.leader(), 40, "before")
    cluster.wait_caught_up()
    for node in cluster:
        assert node.stop() == 0
    for node in (cluster[1], cluster[2]):
        node.data_dir.rename(node.directory / "volume")
        node.data_dir.mkdir()
        node.start()
    wait_for_waiting(cluster[1], cluster[2])
    assert cluster.leader_now() is None
    cluster[3].start()
    assert cluster.leader(WAITING_S) is cluster[3], "only it has the log"
    cluster.wait_caught_up(WAITING_S)
    check_kept(cluster, acked)
    for node in cluster:
        assert node.stop() == 0
    for node in (cluster[1], cluster[2]):
        shutil.rmtree(node.data_dir)
        (node.directory / "volume").rename(node.data_dir)
    for node in cluster:
        node.start()
    cluster.leader(WAITING_S)
    check_kept(cluster, acked)


def begin_anew(cluster, empty, is_done):
    """These nodes, with empty directories, until a leader of theirs has an epoch that will do; whatever the votes were."""
    for _ in range(5):
        for node in empty:
            node.end()
            shutil.rmtree(node.data_dir, ignore_errors=True)
            node.data_dir.mkdir()
            node.start()
        cluster.leader(WAITING_S)
        while not is_done(cluster.epoch()) and cluster.epoch() < 10:
            cluster.leader().stop()
            next(node for node in empty if not node.is_running()).start()
            cluster.leader(WAITING_S)
        if is_done(cluster.epoch()):
            return
    pytest.fail("no leader with such an epoch was elected")


@pytest.mark.parametrize("case", ["the same epoch", "a later epoch"])
def test_a_node_stops_rather_than_cut_what_it_knew_to_be_committed(clusters, case):
    """The key lifts the rule, and two empty voters elect each other: the third, which led, stops, and its log is as it was. In a
    later epoch it would be told to cut; in the epoch that it led itself it would one day mix two logs."""
    cluster = clusters(3, overrides={"kraft.first.leader": "majority"})
    acked = produce(cluster.leader(), 40, "before")
    cluster.wait_caught_up()
    full, old_epoch = cluster.leader(), cluster.epoch()
    empty = [node for node in cluster if node is not full]
    # The last one to stop has nobody to hand over to: it knows itself as the leader of its epoch.
    for node in empty:
        node.end()
        node.data_dir.rename(node.directory / "volume")
    assert full.stop() == 0
    before = [(file.name, file.read_bytes()) for file in full.segments()]
    is_same = case == "the same epoch"
    begin_anew(cluster, empty, lambda epoch: epoch == old_epoch if is_same else epoch > old_epoch)
    full.start()
    assert full.wait_exit(WAITING_S) == EXIT_CORRUPT
    what, *parts = (
        ("stopping before two logs are mixed", f"node {full.node_id} was elected in epoch {old_epoch}")
        if is_same
        else ("stopping before anything is cut", "which leads epoch")
    )
    line = next(line for line in full.stderr().splitlines() if what in line)
    for part in (*parts, "y log ends at ", "is committed up to", "a volume that was not mounted"):
        assert part in line, line
    after = [(file.name, file.read_bytes()[:len(kept)]) for file, (_, kept) in zip(full.segments(), before)]
    assert after == before
    # The same at the next start: nothing is forgotten.
    assert full.start().wait_exit(WAITING_S) == EXIT_CORRUPT
    for node in empty:
        node.end()
        shutil.rmtree(node.data_dir)
        (node.directory / "volume").rename(node.data_dir)
    for node in cluster:
        node.start()
    cluster.leader(WAITING_S)
    cluster.wait_caught_up(WAITING_S)
    check_kept(cluster, acked)

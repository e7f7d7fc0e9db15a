"""The leader is killed five times under load: every acknowledged value is read back at the offset that was told."""

import time

import kafka_tools
from cluster import PATIENCE_S, TOPIC, wait_for

KILLS = 5


def test_nothing_acknowledged_is_lost_over_five_kills_of_the_leader(clusters, scratch):
    cluster = clusters(3)
    out_file, err_file = scratch / "producer.out", scratch / "producer.err"
    with out_file.open("wb") as out, err_file.open("wb") as err:
        # VerifiableProducer never retries: sends may fail while there is no leader, and none may be told wrongly.
        producer = kafka_tools.start("bin/kafka-verifiable-producer.sh", "--bootstrap-server", cluster.bootstrap,
                                     "--topic", TOPIC, "--throughput", 2000, out=out, err=err)

    def acknowledged():
        return out_file.read_bytes().count(b"producer_send_success")

    def wait_more(count):
        target = acknowledged() + count
        wait_for(f"{count} more acknowledgements", lambda: acknowledged() >= target, every_s=0.1)

    gaps = []
    try:
        wait_more(1000)
        for _ in range(KILLS):
            leader = cluster.leader()
            leader.kill()
            killed = time.monotonic()
            wait_more(1)
            gaps.append(time.monotonic() - killed)
            wait_more(500)
            leader.start().wait_ready()
            wait_more(500)
    finally:
        producer.terminate()
        producer.wait(PATIENCE_S)

    verified = kafka_tools.Verified.parse(out_file.read_text())
    cluster.wait_caught_up()
    read = kafka_tools.kcat_read(cluster.bootstrap)
    at = dict(read)
    assert len(at) == len(read), "an offset was read twice"
    wrong = [(value, offset, at.get(offset)) for value, offset in verified.acked.items() if at.get(offset) != value]
    assert not wrong, f"{len(wrong)} of {len(verified.acked)} acknowledged values are not at their offsets: {wrong[:5]}"
    assert len(verified.acked) >= 1000 * (KILLS + 1)
    # Each value at most once: what is never retried cannot be there twice.
    values = [value for _, value in read]
    assert len(values) == len(set(values))
    print(f"{len(verified.acked)} acknowledged, {len(verified.failed)} failed, "
          f"first acknowledgement after a kill: {', '.join(f'{gap:.2f} s' for gap in gaps)}")

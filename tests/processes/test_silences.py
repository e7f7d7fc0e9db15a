"""A leader that falls silent is replaced after one fetch timeout, not after two and an election timeout."""

import silences
from cluster import KAFKAS_TIMEOUTS, wait_for

# Two fetch timeouts and a half, on a machine that is busy with other things. What was: 5 to 6 s in a third of cases.
SILENCE_S_MAX = 5.0


def test_three_silent_leaders(clusters):
    cluster = clusters(3, overrides=KAFKAS_TIMEOUTS)
    found = silences.measure(cluster, 3, 60)
    print(f"without a leader for {found}")
    if found[-1] >= SILENCE_S_MAX:
        # Once it may have been the machine; what was would show again, in one of six.
        found = silences.measure(cluster, 6, 60)
        print(f"and again for {found}")
    assert found[-1] < SILENCE_S_MAX
    wait_for("one who missed a leader", lambda: any("within the fetch timeout" in node.stderr() for node in cluster))

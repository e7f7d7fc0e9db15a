"""Rows of the clients' matrix (tests/clients/) that need no toolchain of their own: one test for each client."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "clients"))

import clients  # noqa: E402
import scenario  # noqa: E402


@pytest.mark.parametrize("name", ["kafka-java-4.4", "kafka-java-4.3", "kcat", "confluent-kafka", "kafka-python"])
def test_client(name, clusters, scratch):
    client = next(client for client in clients.CLIENTS if client.name == name)
    reference = clients.REFERENCE.install(clients.REFERENCE)
    rows = list(scenario.run(client, client.install(client), reference, clusters, scratch))
    assert [row.capability for row in rows] == scenario.CAPABILITIES
    failed = [f"{row.capability}: {row.remark}" for row in rows if row.result == scenario.FAILED]
    assert not failed, "\n".join(failed)
    # What is not offered is known: a program that offered nothing would pass too.
    assert sum(row.result == scenario.OK for row in rows) >= len(rows) - 5

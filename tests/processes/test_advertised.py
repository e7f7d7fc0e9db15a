"""Clients that reach the nodes by other addresses than the nodes reach each other: advertised.listeners, behind a forwarder."""

import socket
import threading

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

import raw
from cluster import PATIENCE_S, TOPIC, free_port, wait_for


class Forwarder:
    """A port on 127.0.0.2 that leads to a node's, as NAT or a container's port mapping does."""

    HOST = "127.0.0.2"

    def __init__(self, to_port):
        self.to_port = to_port
        self.listener = socket.create_server((self.HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                node = socket.create_connection(("localhost", self.to_port), timeout=5)
            except OSError:
                if self.listener.fileno() < 0:
                    return
                client.close()
                continue
            node.settimeout(None)
            for source, target in ((client, node), (node, client)):
                threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    @staticmethod
    def _copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def end(self):
        self.listener.close()


@pytest.fixture
def outside(clusters):
    """Three nodes that advertise what their forwarders listen on; the voters' entries and the listeners are localhost's."""
    cluster = clusters(3, start=False)
    forwarders = {node.node_id: Forwarder(node.port) for node in cluster}
    for node in cluster:
        advertise(node, forwarders[node.node_id])
    cluster.start()
    yield cluster, forwarders
    for forwarder in forwarders.values():
        forwarder.end()


def advertise(node, forwarder):
    node.properties["advertised.listeners"] = f"PLAINTEXT://{forwarder.HOST}:{forwarder.port}"
    node.write_config()


def told_brokers(port):
    """(host, port) by node id, as this node's Metadata has them."""
    with raw.Connection(port) as connection:
        reader = connection.call(raw.request(raw.METADATA, 1, b"\xff\xff\xff\xff"))
        brokers = {}
        for _ in range(reader.number("i")):
            node_id, host, at = reader.number("i"), reader.string(), reader.number("i")
            reader.string()
            brokers[node_id] = (host, at)
        return brokers


def test_each_node_tells_what_each_advertises(outside):
    cluster, forwarders = outside
    wanted = {n: (forwarder.HOST, forwarder.port) for n, forwarder in forwarders.items()}
    for node in cluster:
        wait_for(f"node {node.node_id} to know where clients find the others", lambda: told_brokers(node.port) == wanted)
    # DescribeCluster, by way of an unmodified client that is given one address.
    some = forwarders[1]
    admin = AdminClient({"bootstrap.servers": f"{some.HOST}:{some.port}"})
    described = admin.describe_cluster(request_timeout=PATIENCE_S).result()
    assert {node.id: (node.host, node.port) for node in described.nodes} == wanted


def test_a_client_outside_writes_and_reads_across_a_leader_change(outside):
    cluster, forwarders = outside
    bootstrap = ",".join(f"{forwarder.HOST}:{forwarder.port}" for forwarder in forwarders.values())
    told = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True})

    def send(count):
        wanted = len(told) + count
        for n in range(count):
            producer.produce(TOPIC, b"%d" % n, partition=0, on_delivery=lambda error, message: told.append(error or message.offset()))
        assert producer.flush(PATIENCE_S) == 0 and len(told) == wanted

    send(20)
    leader = cluster.leader()
    leader.kill()
    send(20)
    assert all(isinstance(one, int) for one in told), told
    leader.start()
    cluster.wait_ready()
    # Who came back is told by its own address again, also by those that knew it before.
    wanted = {n: (forwarder.HOST, forwarder.port) for n, forwarder in forwarders.items()}
    for node in cluster:
        wait_for(f"node {node.node_id} to know of all", lambda: told_brokers(node.port) == wanted)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "outside", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(TOPIC, 0)])
    read = []

    def next_one():
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            read.append(message.offset())
        return len(read) >= len(told)

    wait_for("all records to be read", next_one)
    assert read == sorted(told)
    consumer.close()


def test_a_node_that_comes_back_with_another_address_is_told_by_that(outside):
    cluster, forwarders = outside
    moved = cluster.followers()[0]
    other = Forwarder(moved.port)
    try:
        assert moved.stop() == 0
        advertise(moved, other)
        moved.start().wait_ready()
        for node in cluster:
            wait_for(f"node {node.node_id} to know where node {moved.node_id} is now",
                     lambda: told_brokers(node.port).get(moved.node_id) == (other.HOST, other.port))
    finally:
        other.end()


def test_a_voter_that_has_not_been_heard_is_told_by_its_entry(clusters):
    cluster = clusters(3, start=False)
    for n in (1, 2):
        cluster[n].properties["advertised.listeners"] = f"PLAINTEXT://127.0.0.2:{free_port()}"
        # Two of three begin a log without the third.
        cluster[n].properties["kraft.first.leader"] = "majority"
        cluster[n].write_config()
        cluster[n].start()
    cluster.wait_ready()
    wanted = {n: ("127.0.0.2", int(cluster[n].properties["advertised.listeners"].rsplit(":", 1)[1])) for n in (1, 2)}
    wanted[3] = ("localhost", cluster[3].port)
    for n in (1, 2):
        wait_for(f"node {n} to know of the other", lambda: told_brokers(cluster[n].port) == wanted)

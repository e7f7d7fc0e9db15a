"""Where a node listens, and how it finds the others: both families, wildcards, and names with several addresses."""

import re
import socket
import subprocess

import pytest

import kafka_tools
import raw
from cluster import TOPIC, wait_for


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


def answers(host, port):
    with socket.create_connection((host, port), timeout=10) as s:
        s.sendall(raw.api_versions(0))
        return len(s.recv(4)) == 4


def sockets_of(port):
    shown = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    return [line.split()[3] for line in shown.splitlines()]


@needs_ipv6
@pytest.mark.parametrize("listener", ["PLAINTEXT://:{port}", "PLAINTEXT://[::]:{port}"])
def test_a_wildcard_listens_on_both_families_with_one_socket(clusters, listener):
    cluster = clusters(1, start=False)
    node = cluster[1]
    node.properties["listeners"] = listener.format(port=node.port)
    node.write_config()
    node.start().wait_ready()
    assert answers("127.0.0.1", node.port) and answers("::1", node.port)
    assert len(sockets_of(node.port)) == 1, sockets_of(node.port)
    # A stranger is called by his own address.
    with socket.create_connection(("127.0.0.1", node.port)) as s:
        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
        name = f"127.0.0.1:{s.getsockname()[1]}"
        wait_for("the line about it", lambda: "HTTP" in node.stderr())
        assert "::ffff:" not in node.stderr(), f"{name}: {node.stderr()[-500:]}"
    kafka_tools.produce_verified(f"localhost:{node.port}", 10)


@needs_ipv6
def test_a_wildcard_shares_its_port_with_nobody(clusters, scratch):
    cluster = clusters(1, start=False)
    node = cluster[1]
    node.properties["listeners"] = f"PLAINTEXT://:{node.port}"
    node.write_config()
    with socket.create_server(("127.0.0.1", node.port)):
        node.start()
        assert node.wait_exit() == 1
        assert re.search(rf"listeners=:{node.port}: port {node.port} is in use", node.stderr()), node.stderr()
    node.start().wait_ready()
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0")):
        with socket.socket(family) as s, pytest.raises(OSError):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((address, node.port))
            s.listen()


def test_where_there_is_no_ipv6_a_wildcard_is_ipv4(clusters):
    """seccomp-free: a socket of the family is refused where the kernel is told to have none, as in a namespace without it."""
    made = subprocess.run(["unshare", "-n", "sh", "-c", "sysctl -q net.ipv6.conf.all.disable_ipv6=1 && ip link set lo up"],
                          capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no network namespaces here: {made.stderr}")
    node = clusters(1, start=False)[1]
    node.properties["listeners"] = f"PLAINTEXT://:{node.port}"
    node.write_config()
    script = 'sysctl -q net.ipv6.conf.all.disable_ipv6=1; ip link set lo up; exec "$@"'
    node.start(under=["unshare", "-n", "sh", "-c", script, "sh"])
    wait_for("the start", lambda: "ready: listening on" in node.stderr() or not node.is_running())
    assert node.is_running(), node.stderr()
    inside = ["nsenter", "-t", str(node.pid), "-n", "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{node.port}"]
    assert subprocess.run(inside, capture_output=True).returncode == 0
    assert node.stop() == 0


@needs_ipv6
def test_three_nodes_on_ipv6_alone(clusters):
    cluster = clusters(3, start=False)
    for node in cluster:
        for key in ("listeners", "quorum.voters"):
            node.properties[key] = node.properties[key].replace("localhost", "[::1]")
        node.write_config()
    cluster.start()
    leader = cluster.leader()
    assert f"@[::1]:{leader.port}" in leader.stderr(), "voters are shown as they are written"
    produced = subprocess.run(["kcat", "-b", f"[::1]:{leader.port}", "-P", "-t", TOPIC, "-p", "0"], input=b"by kcat\n",
                              capture_output=True, timeout=60)
    assert produced.returncode == 0, produced.stderr
    follower = cluster.followers()[0]
    assert [value for _, value in kafka_tools.kcat_read(f"[::1]:{follower.port}")] == ["by kcat"]


# -------------------------------------------------------------------------------- names with several addresses

class Names:
    """/etc/hosts of a namespace of its own: `unshare -m` gives each node one."""

    def __init__(self, scratch, entries):
        self.file = scratch / "hosts"
        self.file.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in entries))

    def under(self):
        return ["unshare", "-m", "sh", "-c", f'mount --bind "{self.file}" /etc/hosts && exec "$@"', "sh"]


def can_bind_hosts():
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


needs_names = pytest.mark.skipif(not can_bind_hosts(), reason="names of one's own need a mount namespace (root)")


class Silent:
    """An address that takes nothing: its backlog is full, so that a connection attempt is never answered."""

    def __init__(self, address, port):
        self.socket = socket.socket()
        self.socket.bind((address, port))
        self.socket.listen(0)
        self.taken = []
        for _ in range(4):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex((address, port))
            self.taken.append(s)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in (*self.taken, self.socket):
            s.close()


@needs_names
def test_a_voter_is_found_behind_the_dead_addresses_of_its_name(clusters, scratch):
    """Each node has a name with three addresses, of which it listens on the last: one refuses, one is silent."""
    cluster = clusters(3, start=False)
    ports = {node.node_id: node.port for node in cluster}
    entries = [(f"node{n}", address) for n in ports for address in (f"127.0.1.{n}", f"127.0.2.{n}", f"127.0.3.{n}")]
    names = Names(scratch, entries)
    voters = ",".join(f"{n}@node{n}:{port}" for n, port in ports.items())
    silent = [Silent(f"127.0.2.{n}", port) for n, port in ports.items()]
    try:
        for node in cluster:
            node.properties["listeners"] = f"PLAINTEXT://127.0.3.{node.node_id}:{node.port}"
            node.properties["quorum.voters"] = voters
            node.write_config()
            node.start(under=names.under())
        leader = cluster.leader(timeout_s=90)
        with socket.create_connection((f"127.0.3.{leader.node_id}", leader.port)) as s:
            s.sendall(raw.produce(raw.batch(b"x")))
            assert s.recv(4)
        wait_for("all nodes to know that it is committed",
                 lambda: all((status := node.status_now()) and (status["high_watermark"] or 0) >= 2 for node in cluster), 60)
    finally:
        for one in silent:
            one.__exit__()


@needs_names
def test_a_listener_takes_all_addresses_of_its_name(clusters, scratch):
    node = clusters(1, start=False)[1]
    names = Names(scratch, [("here", "127.0.5.1"), ("here", "127.0.5.2"), ("here", "192.0.2.7")])
    node.properties["listeners"] = f"PLAINTEXT://here:{node.port}"
    node.properties["quorum.voters"] = f"1@here:{node.port}"
    node.write_config()
    node.start(under=names.under()).wait_ready()
    assert answers("127.0.5.1", node.port) and answers("127.0.5.2", node.port)
    with pytest.raises(OSError):
        answers("127.0.0.1", node.port)

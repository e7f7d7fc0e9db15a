"""NATS JetStream, three servers, built with a load client from the Go module in perf/nats, which pins both."""

from . import go_modules
from .processes import http_get, run as run_command, said, wait_until
from .systems import READY_SECONDS_MAX, System, Unavailable

SERVERS = (1, 2, 3)
STREAM = "log"
CLIENT, SERVER = "nats-load", "nats-server"
PACKAGES = {".": CLIENT, "github.com/nats-io/nats-server/v2": SERVER}


class Nats(System):
    """One stream with three replicas in files. `is_always`: what is acknowledged is on the disk of two of them."""

    topic = STREAM

    def __init__(self, run, name, is_always):
        super().__init__(run, name)
        self.is_always = is_always

    def client(self):
        return self.run.nats / CLIENT

    def address(self, n, of=0):
        return f"127.0.0.1:{self.port(n, of)}"

    @property
    def bootstrap(self):
        return ",".join(self.address(n) for n in SERVERS)

    def configuration(self, n):
        """All else is the server's default."""
        routes = ", ".join(f"nats-route://{self.address(id, of=2)}" for id in SERVERS)
        sync = ["  sync_interval: always"] if self.is_always else []
        return "\n".join([
            f"server_name: n{n}", f"listen: {self.address(n)}", f"http: {self.address(n, of=1)}",
            "jetstream {", f'  store_dir: "{self.directory / f"n{n}"}"', *sync, "}",
            "cluster {", "  name: compare", f"  listen: {self.address(n, of=2)}", f"  routes: [{routes}]", "}", ""])

    def start(self):
        if not self.run.nats:
            raise Unavailable(self.run.nats_missing)
        for n in SERVERS:
            path = self.directory / f"n{n}.conf"
            path.write_text(self.configuration(n))
            self.spawn(n, [self.run.nats / SERVER, "--config", path])
        is_healthy = lambda: all(http_get(self.port(n, of=1), "/healthz") is not None for n in SERVERS)
        wait_until("NATS to be healthy", is_healthy, READY_SECONDS_MAX, self.processes.values())
        run_command([self.client(), "create", "--bootstrap-server", self.bootstrap, "--topic", self.topic])

    def configure(self, out):
        for n in SERVERS:
            (out / f"{self.name}-{n}.conf").write_text(self.run.without_paths(self.configuration(n)))


def find_nats(root, seconds_max=go_modules.BUILD_SECONDS_MAX):
    return go_modules.find(root, "nats", "NATS", PACKAGES, seconds_max)


def version(directory):
    return said([directory / SERVER, "--version"])

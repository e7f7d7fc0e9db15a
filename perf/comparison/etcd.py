"""etcd, three members, built with its own client from the Go module in perf/etcd, which pins both."""

from . import go_modules
from .processes import http_get, said, wait_until
from .systems import READY_SECONDS_MAX, System, Unavailable

MEMBERS = (1, 2, 3)
# Its default of 2 GB would end a long run; the data of all clients is far below it.
QUOTA_BYTES = 8 << 30
CLIENT = "etcd-load"
SERVER = "server"
PACKAGES = {".": CLIENT, "go.etcd.io/etcd/server/v3": SERVER}


class Etcd(System):
    def endpoint(self, n):
        return f"http://127.0.0.1:{self.port(n, of=2)}"

    def peer(self, n):
        return f"http://127.0.0.1:{self.port(n, of=3)}"

    @property
    def bootstrap(self):
        return ",".join(self.endpoint(n) for n in MEMBERS)

    def command(self, n):
        members = ",".join(f"m{id}={self.peer(id)}" for id in MEMBERS)
        return [self.run.etcd / SERVER, "--name", f"m{n}", "--data-dir", self.directory / f"m{n}",
                "--listen-client-urls", self.endpoint(n), "--advertise-client-urls", self.endpoint(n),
                "--listen-peer-urls", self.peer(n), "--initial-advertise-peer-urls", self.peer(n),
                "--initial-cluster", members, "--initial-cluster-state", "new", "--log-level", "warn",
                "--quota-backend-bytes", QUOTA_BYTES]

    def start(self):
        if not self.run.etcd:
            raise Unavailable(self.run.etcd_missing)
        for n in MEMBERS:
            self.spawn(n, self.command(n))
        is_healthy = lambda: all('"health":"true"' in (http_get(self.port(n, of=2), "/health") or "") for n in MEMBERS)
        wait_until("etcd to be healthy", is_healthy, READY_SECONDS_MAX, self.processes.values())

    def configure(self, out):
        for n in MEMBERS:
            text = self.run.without_paths(" ".join(str(part) for part in self.command(n)))
            (out / f"{self.name}-{n}.command").write_text(text + "\n")


def find_etcd(root):
    return go_modules.find(root, "etcd", "etcd", PACKAGES)


def version(directory):
    return said([directory / SERVER, "--version"]).partition("\n")[0]

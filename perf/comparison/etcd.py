"""etcd, three members, built with its own client from the Go module in perf/etcd, which pins both."""

import shutil

from .processes import Failed, http_get, run as run_command, said, step, wait_until
from .systems import READY_SECONDS_MAX, System, Unavailable

MEMBERS = (1, 2, 3)
# Its default of 2 GB would end a long run; the data of all clients is far below it.
QUOTA_BYTES = 8 << 30
BUILD_SECONDS_MAX = 1800
CLIENT = "etcd-load"
SERVER = "server"


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
    """(directory of the programs, None), or (None, why not). Built once; Go fetches what go.sum names."""
    directory = root / "build" / "etcd"
    module = root / "perf" / "etcd"
    sources = [*module.glob("*.go"), module / "go.mod"]
    programs = [directory / SERVER, directory / CLIENT]
    if all(program.exists() for program in programs):
        if min(p.stat().st_mtime for p in programs) > max(s.stat().st_mtime for s in sources):
            return directory, None
    if not shutil.which("go"):
        return None, "there is no Go (1.26 or newer) to build it and its client with"
    step("Building etcd and its client")
    directory.mkdir(parents=True, exist_ok=True)
    try:
        run_command(["go", "build", "-C", module, "-trimpath", "-o", f"{directory}/", ".", "go.etcd.io/etcd/server/v3"],
                    seconds_max=BUILD_SECONDS_MAX)
    except Failed as e:
        return None, f"its Go module cannot be built: {str(e).splitlines()[-1]}"
    return directory, None


def version(directory):
    return said([directory / SERVER, "--version"]).partition("\n")[0]

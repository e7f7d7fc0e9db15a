"""Debian's Prometheus beside a quorum: scrapes it, answers expressions, checks rules. Never a service."""

import http.client
import json
import os
import subprocess
import urllib.parse

from cluster import PATIENCE_S, REPOSITORY, die_with_parent, free_port, wait_for


def programs():
    """The directory of prometheus and promtool."""
    fetched = subprocess.run([str(REPOSITORY / "bin" / "fetch-prometheus.sh")], stdout=subprocess.PIPE, text=True, timeout=600)
    assert fetched.returncode == 0, "bin/fetch-prometheus.sh failed"
    return fetched.stdout.strip().splitlines()[-1]


def promtool(*arguments):
    return subprocess.run([os.path.join(programs(), "promtool"), *map(str, arguments)], text=True, timeout=300,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Prometheus:
    """One server with a data directory of its own. `jobs`: for each job the labels and the scraped nodes, by label value."""

    def __init__(self, directory, jobs, rules=()):
        self.port = free_port()
        configuration = {
            # A scrape that fails makes all of a node's series end: a busy machine gets as long as there is.
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"},
            "rule_files": [str(rule) for rule in rules],
            "scrape_configs": [
                {"job_name": name, "static_configs": [{"targets": [target], "labels": labels} for target, labels in targets]}
                for name, targets in jobs.items()],
        }
        # JSON is YAML.
        file = directory / "prometheus.yml"
        file.write_text(json.dumps(configuration))
        self.log = directory / "prometheus.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [os.path.join(programs(), "prometheus"), f"--config.file={file}", f"--storage.tsdb.path={directory / 'tsdb'}",
                 f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)

    def __enter__(self):
        wait_for("Prometheus to be ready", self._is_ready, 4 * PATIENCE_S, 0.1)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def _get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return None, ""
        finally:
            connection.close()

    def _is_ready(self):
        assert self.process.poll() is None, self.log.read_text()
        return self._get("/-/ready")[0] == 200

    def query(self, expression):
        """[(labels, value)] of an instant vector."""
        status, body = self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        assert status == 200, f"{expression}: {body}"
        return [(line["metric"], float(line["value"][1])) for line in json.loads(body)["data"]["result"]]

    def rules(self):
        groups = json.loads(self._get("/api/v1/rules")[1])["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

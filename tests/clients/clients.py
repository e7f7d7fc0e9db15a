"""The clients of the matrix: one line each, and how the packages of its language are installed, once, into build/clients."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).resolve().parent / "programs"
INSTALLED = REPOSITORY / "build" / "clients"
# librdkafka's C code is the longest of all builds.
INSTALL_SECONDS_MAX = 1500


@dataclass
class Client:
    name: str
    version: str
    # install(client) returns the command to which the bootstrap servers and the topic are added.
    install: Callable
    program: str
    # Capability → why the client itself cannot do it: such a row must fail, and says so once it does not.
    faults: dict = field(default_factory=dict)

    @property
    def directory(self):
        return INSTALLED / self.name


def run(*command, cwd=REPOSITORY, env=None):
    command = [str(part) for part in command]
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", timeout=INSTALL_SECONDS_MAX, env={**os.environ, **(env or {})})
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {' '.join(command)}\n{done.stdout[-3000:]}")
    return done.stdout


def needs(command, where):
    if not shutil.which(command):
        raise RuntimeError(f"{command} is missing: {where}")


@contextlib.contextmanager
def directory_of(client, recipe, *sources):
    """The client's directory, and whether it has to be filled: it holds no finished installation of this recipe."""
    wanted = hashlib.sha256(recipe.encode() + b"".join((PROGRAMS / source).read_bytes() for source in sources)).hexdigest()
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with open(INSTALLED / f".{client.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mark = client.directory / ".complete"
        if mark.exists() and mark.read_text() == wanted:
            yield client.directory, False
            return
        shutil.rmtree(client.directory, ignore_errors=True)
        client.directory.mkdir()
        yield client.directory, True
        for source in sources:
            shutil.copy(PROGRAMS / source, client.directory)
        mark.write_text(wanted)


def debian(package):
    def install(client):
        needs(package, f"apt-get install {package}")
        return [sys.executable, str(PROGRAMS / client.program)]
    return install


def pip(package, *more):
    def install(client):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            if importlib.metadata.version(package) == client.version and not more:
                return [sys.executable, str(PROGRAMS / client.program)]
        recipe = [f"{package}=={client.version}", *more]
        with directory_of(client, " ".join(recipe)) as (directory, is_new):
            if is_new:
                run(sys.executable, "-m", "venv", directory)
                run(directory / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *recipe)
        return [str(directory / "bin/python"), str(PROGRAMS / client.program)]
    return install


def maven(client):
    """Kafka's own jars, and one program compiled against them."""
    needs("javac", "apt-get install default-jdk-headless (17 or newer)")
    tools = REPOSITORY / "build" / "kafka-libs"
    is_there = (tools / ".complete").exists() and (tools / f"kafka-clients-{client.version}.jar").exists()
    with directory_of(client, f"{client.version} {is_there}", client.program, "pom.xml") as (directory, is_new):
        libs = tools if is_there else directory / "libs"
        if is_new:
            if not is_there:
                needs("mvn", "apt-get install maven")
                run("mvn", "--batch-mode", "--no-transfer-progress", "--strict-checksums", "--file", PROGRAMS / "pom.xml",
                    f"-Dkafka.version={client.version}", "dependency:copy-dependencies", f"-DoutputDirectory={libs}")
            run("javac", "-cp", f"{libs}/*", "-d", directory, PROGRAMS / client.program)
    return ["java", "-Xmx256M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{directory}:{libs}/*", Path(client.program).stem]


def go(module):
    def install(client):
        needs("go", "Go 1.24 or newer")
        with directory_of(client, f"{module}@v{client.version}", client.program, "session.go") as (directory, is_new):
            if is_new:
                for source in (client.program, "session.go"):
                    shutil.copy(PROGRAMS / source, directory)
                run("go", "mod", "init", "client", cwd=directory)
                run("go", "get", f"{module}@v{client.version}", cwd=directory)
                run("go", "mod", "tidy", cwd=directory)
                run("go", "build", "-o", "client", ".", cwd=directory)
        return [str(directory / "client")]
    return install


def npm(*packages):
    def install(client):
        needs("npm", "apt-get install npm")
        with directory_of(client, " ".join((client.version, *packages)), client.program) as (directory, is_new):
            if is_new:
                run("npm", "install", "--no-audit", "--no-fund", "--prefix", directory, *packages, cwd=directory)
        return ["node", str(directory / client.program)]
    return install


def cargo(client):
    """Both Rust clients are built by one cargo project with a lock file of its own; cargo knows what is new."""
    needs("cargo", "see https://rustup.rs")
    run("cargo", "build", "--release", "--locked", "--bin", client.program, cwd=PROGRAMS / "rust",
        env={"CARGO_TARGET_DIR": str(INSTALLED / "rust")})
    return [str(INSTALLED / "rust" / "release" / client.program)]


CONTROL_AS_DATA = dict.fromkeys(("beginning", "read across it"), "kafka-go gives control records out as data")
CONTROL_UNREADABLE = dict.fromkeys(
    ("beginning", "read across it"),
    "rskafka cannot decode a control batch, and each leader's epoch begins with one: it reads from behind it")

CLIENTS = [
    Client("kafka-java-4.4", "4.4.0", maven, "JavaClient.java"),
    Client("kafka-java-4.3", "4.3.0", maven, "JavaClient.java"),
    Client("kafka-java-3.9", "3.9.0", maven, "JavaClient.java"),
    Client("kafka-java-2.8", "2.8.0", maven, "JavaClient.java"),
    Client("kafka-java-2.1", "2.1.0", maven, "JavaClient.java",
           faults={"transaction": "kafka-java-2.1 shows the error's name alone, and looks for a coordinator as librdkafka does"}),
    Client("kcat", "1.7.1", debian("kcat"), "kcat_client.py"),
    Client("confluent-kafka", "2.16.1", pip("confluent-kafka"), "confluent_kafka_client.py"),
    Client("kafka-python", "3.0.12", pip("kafka-python", "lz4==4.4.5", "python-snappy==0.7.3", "zstandard==0.25.0"),
           "kafka_python_client.py", faults={"odd headers": "kafka-python takes no header without a value"}),
    Client("aiokafka", "0.14.0", pip("aiokafka", "cramjam==2.11.0"), "aiokafka_client.py"),
    Client("franz-go", "1.22.2", go("github.com/twmb/franz-go"), "franz_go.go"),
    Client("sarama", "1.61.1", go("github.com/IBM/sarama"), "sarama.go"),
    Client("kafka-go", "0.4.51", go("github.com/segmentio/kafka-go"), "kafka_go.go",
           faults=CONTROL_AS_DATA),
    Client("kafkajs", "2.2.4", npm("kafkajs@2.2.4", "kafkajs-snappy@1.1.0", "kafkajs-lz4@1.2.1", "@mongodb-js/zstd@1.2.2"),
           "kafkajs_client.js", faults={"odd headers": "kafkajs has no header without a value"}),
    Client("rskafka", "0.6.0", cargo, "rskafka", faults=CONTROL_UNREADABLE),
    Client("rdkafka", "0.39.0", cargo, "rdkafka"),
]
# Reads what the others have produced: it tells nothing from empty, and names every header.
REFERENCE = next(client for client in CLIENTS if client.name == "confluent-kafka")

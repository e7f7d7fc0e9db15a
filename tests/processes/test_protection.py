"""Keys that promise protection which is not here refuse the start, each with a sentence; what asks for nothing is fine."""

import re

import pytest

from cluster import REPOSITORY
from test_configuration import check_refused, properties, run_server

DEFAULTS = dict(line.split("=", 1) for line in (REPOSITORY / "src/config/protecting_keys.txt").read_text().splitlines()
                if line and not line.startswith("#"))

# As people write them.
REFUSED = {
    "an authorizer": ("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "authorization"),
    "super users": ("super.users=User:admin", "authorization"),
    "a keystore": ("ssl.keystore.location=/etc/kafka/keystore.jks", "TLS"),
    "client certificates": ("ssl.client.auth=required", "TLS"),
    "TLS among brokers": ("security.inter.broker.protocol=SSL", "TLS"),
    "SASL among brokers": ("sasl.mechanism.inter.broker.protocol=SCRAM-SHA-256", "authenticates nobody"),
    "SASL": ("sasl.enabled.mechanisms=PLAIN", "authenticates nobody"),
    "SASL of a listener": ("listener.name.plaintext.plain.sasl.jaas.config=Login required;", "authenticates nobody"),
    "tokens": ("delegation.token.secret.key=abc", "authenticates nobody"),
    "connections of an address": ("max.connections.per.ip=10", "max.connections"),
    "connections of some addresses": ("max.connections.per.ip.overrides=127.0.0.1:5", "max.connections"),
    "a rate of connections": ("max.connection.creation.rate=10", "max.connections"),
    "connections of a listener": ("listener.name.plaintext.max.connections=10", "max.connections"),
    "a quota's callback": ("client.quota.callback.class=com.example.Quota", "quotas"),
    "quotas of old": ("quota.producer.default=1048576", "quotas"),
    "windows of quotas": ("quota.window.num=31", "quotas"),
    "encrypted passwords": ("password.encoder.secret=abc", "passwords"),
    "more copies than a majority": ("min.insync.replicas=2", "1 of 1 voters"),
    "a listener that is mapped": ("listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT", "SASL_PLAINTEXT"),
}


@pytest.mark.parametrize("line, word", REFUSED.values(), ids=REFUSED.keys())
def test_a_promise_that_is_not_kept_refuses_the_start(scratch, line, word):
    config = properties(scratch)
    with config.open("a") as file:
        file.write(line + "\n")
    key = line.split("=")[0]
    check_refused([config], rf"server\.properties:6: {re.escape(key)}\b.*{word}")
    assert not (scratch / "data").exists()


def test_environment_and_overrides_promise_as_much(scratch):
    config = properties(scratch)
    check_refused([config], r"KAFKA_AUTHORIZER_CLASS_NAME: authorizer\.class\.name=A:", env={"KAFKA_AUTHORIZER_CLASS_NAME": "A"})
    check_refused([config, "--override", "ssl.client.auth=required"], r"--override: ssl\.client\.auth=required:")


def test_all_of_them_are_told_at_once_and_no_secret_is(scratch):
    config = properties(scratch)
    with config.open("a") as file:
        file.writelines(f"{key}=hunter2\n" for key in DEFAULTS)
    done = run_server(config)
    assert done.returncode == 1
    for key in DEFAULTS:
        assert re.search(rf"^error: \S+server\.properties:\d+: {re.escape(key)}\b", done.stderr, re.M), key
        if re.search("password|secret|passphrase|jaas", key):
            assert f"{key}=hunter2" not in done.stderr


@pytest.mark.parametrize("value", ["default", "empty"])
def test_what_asks_for_nothing_is_fine(scratch, value):
    config = properties(scratch)
    with config.open("a") as file:
        file.writelines(f"{key}={default if value == 'default' else ''}\n" for key, default in DEFAULTS.items())
    done = run_server(config, "--print-config")
    assert done.returncode == 0, done.stderr

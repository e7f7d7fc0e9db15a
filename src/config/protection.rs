//! Keys that promise protection which this server does not give: encryption, authentication, authorization, quotas and limits
//! per client. To start without it would leave a port open that its owner believes closed, so they refuse the start.
//!
//! A value that asks for nothing is fine: an empty one, or Kafka's own default, as many files spell it out.

/// `key=default`, one a line; `#` begins a comment.
const PROTECTING_KEYS: &str = include_str!("protecting_keys.txt");

/// What such a key asks for, and that it is not here: half a sentence, and what to do.
struct Promise {
    prefixes: &'static [&'static str],
    is_broken: &'static str,
}

const PROMISES: &[Promise] = &[
    Promise {
        prefixes: &["ssl.", "security."],
        is_broken: "this asks for encrypted connections, and this server has no TLS yet: whoever reaches the port can read, \
                    write and vote. Remove the key, and keep the port on a trusted network.",
    },
    Promise {
        prefixes: &[
            "sasl.",
            "delegation.token.",
            "connections.max.reauth.ms",
            "connection.failed.authentication.",
        ],
        is_broken: "this asks for clients to be authenticated, and this server authenticates nobody yet: whoever reaches the \
                    port can read, write and vote. Remove the key, and keep the port on a trusted network.",
    },
    Promise {
        prefixes: &["authorizer.", "super.users", "allow.everyone.", "principal.builder."],
        is_broken: "this asks for access to be controlled, and this server has no authorization yet: whoever reaches the port \
                    may do everything. Remove the key, and keep the port on a trusted network.",
    },
    Promise {
        prefixes: &["password.encoder."],
        is_broken: "this asks for passwords to be kept encrypted, and this server keeps none. Remove the key.",
    },
    Promise {
        prefixes: &[
            "quota.",
            "client.quota.",
            "controller.quota.",
            "replication.quota.",
            "alter.log.dirs.replication.quota.",
        ],
        is_broken: "this asks for quotas, and this server holds no client back. Remove the key, and bound clients elsewhere.",
    },
    Promise {
        prefixes: &["max.connections.per.ip", "max.connection.creation.rate"],
        is_broken: "this asks for a limit for each address or for new connections, and this server only has max.connections, for \
                    all together. Remove the key, and bound clients elsewhere, for example in a firewall.",
    },
];

/// Of one listener: Kafka has this limit for each, this server for all of the node.
const CONNECTIONS_OF_LISTENER: &str = "this asks for a limit of one listener, and this server has one listener: set max.connections \
                                       instead.";

fn defaults() -> impl Iterator<Item = (&'static str, &'static str)> {
    PROTECTING_KEYS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='))
}

/// All that are known by name.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    defaults().map(|(key, _)| key)
}

/// The promise that this setting makes and this server would break; `None` where it asks for nothing.
pub(super) fn broken_promise(key: &str, value: &str) -> Option<&'static str> {
    let asks = |default: &str| !value.is_empty() && !is_same(value, default);
    let (of_listener, key) = match key.strip_prefix("listener.name.").and_then(|rest| rest.split_once('.')) {
        Some((_, key)) => (true, key),
        None => (false, key),
    };
    if of_listener && key == "max.connections" {
        return asks("2147483647").then_some(CONNECTIONS_OF_LISTENER);
    }
    // Settings of one SASL mechanism begin with its name: listener.name.x.scram-sha-256.sasl.jaas.config.
    let key = key.split_once(".sasl.").map_or(key, |_| "sasl.");
    let is_meant = |promise: &&Promise| promise.prefixes.iter().any(|prefix| key.starts_with(prefix));
    let promise = PROMISES.iter().find(is_meant)?;
    let default = defaults().find(|(known, _)| *known == key).map_or("", |(_, default)| default);
    asks(default).then_some(promise.is_broken)
}

/// Kafka takes names in any case and lists with spaces; no value of these keys differs from its default by these alone.
fn is_same(value: &str, default: &str) -> bool {
    let plain = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    plain(value).eq_ignore_ascii_case(&plain(default))
}

/// Whether the value must not be printed.
pub(super) fn is_secret(key: &str) -> bool {
    let words = [
        "password",
        "secret",
        "passphrase",
        "jaas",
        "keystore.key",
        "keystore.certificate",
        "master.key",
        "truststore.certificates",
    ];
    words.iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_of_the_list_breaks_a_promise_unless_it_asks_for_nothing() {
        assert!(keys().count() > 100);
        for (key, default) in defaults() {
            assert!(broken_promise(key, "something else").is_some(), "{key}");
            assert_eq!(broken_promise(key, ""), None, "{key}");
            assert_eq!(broken_promise(key, default), None, "{key}");
            assert!(
                broken_promise(&format!("listener.name.internal.{key}"), "something else").is_some(),
                "{key}"
            );
            assert_eq!(broken_promise(&format!("listener.name.internal.{key}"), default), None, "{key}");
        }
    }

    #[test]
    fn what_is_not_in_the_list_is_known_by_its_kind() {
        for (key, value) in [
            ("ssl.something.new", "x"),
            ("sasl.something.new", "x"),
            ("authorizer.something.new", "x"),
            ("delegation.token.new", "x"),
            ("listener.name.external.scram-sha-256.sasl.jaas.config", "x"),
            ("listener.name.external.max.connections", "10"),
            ("listener.name.external.max.connection.creation.rate", "10"),
        ] {
            assert!(broken_promise(key, value).is_some(), "{key}");
            assert_eq!(broken_promise(key, ""), None, "{key}");
        }
        for key in [
            "num.io.threads",
            "listener.name.x.num.network.threads",
            "log.retention.ms",
            "zookeeper.ssl.client.enable",
        ] {
            assert_eq!(broken_promise(key, "1"), None, "{key}");
        }
    }

    #[test]
    fn defaults_may_be_written_in_other_ways() {
        for (key, value) in [
            ("ssl.enabled.protocols", "TLSv1.2, TLSv1.3"),
            ("security.inter.broker.protocol", "plaintext"),
            ("ssl.client.auth", "none"),
            ("sasl.enabled.mechanisms", "GSSAPI"),
            ("max.connections.per.ip", "2147483647"),
        ] {
            assert_eq!(broken_promise(key, value), None, "{key}={value}");
        }
    }

    #[test]
    fn secrets_are_known() {
        let secrets = [
            "ssl.keystore.password",
            "sasl.jaas.config",
            "listener.name.x.ssl.key.password",
            "ssl.keystore.key",
        ];
        assert!(secrets.iter().all(|key| is_secret(key)));
        assert!(!is_secret("ssl.client.auth") && !is_secret("ssl.keystore.location"));
    }
}

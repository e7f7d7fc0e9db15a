use super::*;
use crate::types::{Endpoint, HostMemory};

const SEED: &str = "\
    broker.id=1\n\
    listeners=PLAINTEXT://localhost:9092\n\
    quorum.voters=1@localhost:9092,2@localhost:9093,3@localhost:9094\n\
    log.dirs=/tmp/raft-logs-1\n\
    zookeeper.connect=localhost:2181\n";

fn settings(file: &str) -> Settings {
    let mut settings = Settings::new();
    settings.read_properties("node.properties", file.as_bytes()).unwrap();
    settings
}

/// The seed's file with lines appended: repeated keys replace earlier ones.
fn seed_with(lines: &str) -> Settings {
    settings(&format!("{SEED}{lines}\n"))
}

fn load_ok(settings: &Settings) -> Loaded {
    load(settings).unwrap_or_else(|refused| panic!("{:?}", refused.errors))
}

fn only_error(settings: &Settings) -> String {
    let errors = load(settings).expect_err("must be refused").errors;
    assert_eq!(errors.len(), 1, "{errors:?}");
    let line = errors[0].to_string();
    assert!(!line.contains('\n'), "one line: {line}");
    line
}

fn notes(settings: &Settings) -> Vec<String> {
    load_ok(settings).notes.into_iter().map(|n| n.text).collect()
}

fn endpoint(host: &str, port: u16) -> Endpoint {
    Endpoint { host: host.to_string(), port }
}

#[test]
fn the_cache_of_readers_is_a_part_of_what_the_host_has_where_that_is_wanted() {
    let host = Some(HostMemory { total_bytes: 4 << 30, available_bytes: 2 << 30 });
    let cache = |text: &str| {
        let limits = load_ok(&seed_with(text)).config.limits;
        (limits.clone().on_host(host).read_cache_bytes_max, limits.on_host(None).read_cache_bytes_max)
    };
    assert_eq!(cache(""), (64 << 20, 64 << 20));
    assert_eq!(cache("kraft.read.cache.bytes=-1"), (512 << 20, 64 << 20));
    assert_eq!(cache("kraft.read.cache.bytes=0"), (0, 0));
    assert_eq!(cache("kraft.read.cache.bytes=5000000"), (5_000_000, 5_000_000));
}

#[test]
fn who_refuses_produce_early_hears_of_it_before() {
    let thresholds = |text: &str| {
        let limits = load_ok(&seed_with(text)).config.limits;
        (limits.disk_free_bytes_warn >> 20, limits.disk_free_bytes_min >> 20)
    };
    assert_eq!(thresholds(""), (1024, 64));
    assert_eq!(thresholds("kraft.disk.free.min.bytes=10737418240"), (20_480, 10_240));
    assert_eq!(thresholds("kraft.disk.free.warn.bytes=67108864"), (64, 64));
}

#[test]
fn what_is_written_is_kept_for_the_first_reader_where_the_cache_has_a_part_of_the_host() {
    let copies_unread = |text: &str| load_ok(&seed_with(text)).config.limits.copies_unread;
    assert!(!copies_unread(""));
    assert!(copies_unread("kraft.read.cache.bytes=-1"));
    assert!(!copies_unread("kraft.read.cache.bytes=-1\nkraft.read.cache.written=readers"));
    assert!(copies_unread("kraft.read.cache.written=always"));
}

#[test]
fn seed_file_with_defaults() {
    let loaded = load_ok(&settings(SEED));
    let config = &loaded.config;
    assert_eq!(config.node_id, NodeId(1));
    assert_eq!(config.voters.len(), 3);
    assert_eq!(config.voters[2], Voter { id: NodeId(3), endpoint: endpoint("localhost", 9094) });
    assert_eq!(
        (config.listener_name.as_str(), &config.listener),
        ("PLAINTEXT", &endpoint("localhost", 9092))
    );
    assert_eq!(config.advertised, endpoint("localhost", 9092));
    assert_eq!(config.log_dir, PathBuf::from("/tmp/raft-logs-1"));
    assert_eq!((config.election_timeout_ms, config.fetch_timeout_ms), (1000, 2000));
    assert_eq!(
        (config.election_backoff_max_ms, config.request_timeout_ms, config.retry_backoff_ms),
        (1000, 2000, 20)
    );
    assert_eq!(
        (config.cluster_id.as_str(), config.topic_name.as_str()),
        ("AAAAAAAAAAAAAAAAAAAAAA", "__cluster_metadata")
    );
    assert_eq!((config.topic_id, config.directory_id), (Uuid::METADATA_TOPIC_ID, None));
    assert_eq!((config.http_listener.as_ref(), config.cpus.as_ref(), config.wait), (None, None, Wait::Sleep));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(
        loaded.notes.into_iter().map(|n| (n.warning, n.text)).collect::<Vec<_>>(),
        [(
            false,
            "Ignored zookeeper.connect=localhost:2181 (node.properties:5): this node needs no ZooKeeper."
                .to_string()
        )]
    );
}

#[test]
fn default_limits_are_those_of_kafka_where_it_has_them() {
    let limits = Limits::default();
    assert_eq!(limits.message_bytes_max, 1_048_588);
    assert_eq!(limits.request_bytes_max, 104_857_600);
    assert_eq!(limits.segment_bytes_max, 1_073_741_824);
    assert_eq!(limits.fetch_response_bytes_max, 57_671_680);
    assert_eq!((limits.timestamp_before_max_ms, limits.timestamp_after_max_ms), (i64::MAX, 3_600_000));
    assert!(limits.connection_output_bytes_max > limits.fetch_response_bytes_max);
}

#[test]
fn here_document_appended_to_the_file_counts() {
    // As the README of 2020 appends it: leading spaces, keys repeated.
    let appended =
        "    broker.id=2\n    listeners=PLAINTEXT://localhost:9093\n    log.dirs=/tmp/raft-logs-2\n";
    let config = load_ok(&seed_with(appended)).config;
    assert_eq!((config.node_id, config.listener), (NodeId(2), endpoint("localhost", 9093)));
    assert_eq!(config.log_dir, PathBuf::from("/tmp/raft-logs-2"));
}

#[test]
fn todays_dialect_gives_the_same() {
    let file = "process.roles=controller\nnode.id=1\nlisteners=CONTROLLER://:9092\ncontroller.listener.names=CONTROLLER\n\
        controller.quorum.voters=1@localhost:9092,2@localhost:9093,3@localhost:9094\nmetadata.log.dir=/a\nlog.dirs=/b,/c\n\
        controller.quorum.election.timeout.ms=500\ncontroller.quorum.fetch.timeout.ms=600\nlog.segment.bytes=2000000\n";
    let config = load_ok(&settings(file)).config;
    assert_eq!((config.listener_name.as_str(), &config.listener), ("CONTROLLER", &endpoint("", 9092)));
    assert_eq!((config.election_timeout_ms, config.fetch_timeout_ms), (500, 600));
    assert_eq!((config.log_dir, config.limits.segment_bytes_max), (PathBuf::from("/a"), 2_000_000));
}

#[test]
fn seed_times_are_the_same_keys() {
    let config = load_ok(&seed_with(
        "quorum.election.timeout.ms=1\nquorum.fetch.timeout.ms=2\nquorum.election.backoff.max.ms=3\n\
         quorum.request.timeout.ms=4\nquorum.retry.backoff.ms=5",
    ))
    .config;
    let times = [config.election_timeout_ms, config.fetch_timeout_ms, config.election_backoff_max_ms];
    assert_eq!((times, config.request_timeout_ms, config.retry_backoff_ms), ([1, 2, 3], 4, 5));
}

#[test]
fn properties_syntax_is_javas() {
    let file = "# comment\n! comment\nnode.id : 3\ncontroller.quorum.voters 3@localhost:9092,\\\n   4@h:1\n\
        listeners=PLAINTEXT\\://localhost\\:9092  \nlog.dirs=/tmp/\\u00fc-ü\n";
    let config = load_ok(&settings(file)).config;
    assert_eq!((config.node_id, config.voters.len()), (NodeId(3), 2));
    assert_eq!(config.log_dir, PathBuf::from("/tmp/ü-ü"));
    let mut latin1 = Settings::new();
    latin1.read_properties("f", b"log.dirs=/tmp/\xfc").unwrap();
    assert_eq!(latin1.get("log.dirs").unwrap().value, "/tmp/ü");
    // A file of nothing else (found by fuzzing): a key without a value, and no panic.
    Settings::new().read_properties("f", b"\xfe").unwrap();
    let error = Settings::new().read_properties("f", b"a=1\nb=\\u12").unwrap_err();
    assert!(error.0.starts_with("f:2: not in the syntax"), "{error}");
}

#[test]
fn flag_stands_above_override_above_environment_above_file() {
    let mut all = settings(SEED);
    let voters_and = |id: i32, s: &Settings| assert_eq!(load_ok(s).config.node_id, NodeId(id));
    voters_and(1, &all);
    all.read_environment([("KAFKA_BROKER_ID".to_string(), "2".to_string())].into_iter());
    voters_and(2, &all);
    // The other dialect from a stronger source is no conflict.
    all.read_override("node.id=3").unwrap();
    voters_and(3, &all);
    all.set("broker.id", "1", Origin::File { path: "later.properties".to_string(), line: 1 });
    voters_and(3, &all);
    all.set("kraft.cpus", "4", Origin::Override);
    all.set("kraft.cpus", "5-6,1", Origin::Flag { name: "--cpus" });
    all.set("kraft.cpus", "7", Origin::Override);
    assert_eq!(load_ok(&all).config.cpus, Some(vec![5, 6, 1]));
}

#[test]
fn environment_is_mapped_as_in_kafkas_image() {
    let mut settings = Settings::new();
    let variables = [
        ("KAFKA_NODE_ID", "7"),
        ("KAFKA_A__B___C_D", "x"),
        ("KAFKA_HEAP_OPTS", "-Xmx1G"),
        ("KAFKA_OPTS", "-D"),
        ("KAFKA_JVM_PERFORMANCE_OPTS", "-X"),
        ("KAFKA_LOG4J_OPTS", "-D"),
        ("KAFKA_", "x"),
        ("PATH", "/bin"),
    ];
    settings.read_environment(variables.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    let found: Vec<(&str, &str)> = settings.iter().map(|s| (s.key.as_str(), s.value.as_str())).collect();
    assert_eq!(found, [("a_b-c.d", "x"), ("node.id", "7")]);
}

/// Rows: lines appended to the seed's file (or replacing it where they begin with '!'), and what the one line must hold.
const BAD: &[(&str, &[&str])] = &[
    ("!quorum.voters=1@h:1\nlog.dirs=/a", &["node.id: this key is missing", "Add for example node.id=1"]),
    ("!broker.id=1\nlog.dirs=/a", &["controller.quorum.voters: this key is missing", "1@localhost:9092"]),
    ("!broker.id=1\nquorum.voters=1@h:1", &["log.dirs: this key is missing", "log.dirs=/var/lib/kraft"]),
    (
        "!node.id=1\nlog.dirs=/a\ncontroller.quorum.bootstrap.servers=h:1",
        &["controller.quorum.voters", "bootstrap.servers alone is not supported"],
    ),
    ("broker.id=x", &["node.properties:6: broker.id=x: ", "from 0 to 2147483647"]),
    ("broker.id=-1", &["node.properties:6: broker.id=-1: "]),
    (
        "broker.id=7",
        &["node.properties:6: broker.id=7: this node is not among the voters", "node.properties:3"],
    ),
    ("node.id=2", &["node.properties:6: node.id=2: node.properties:1 says broker.id=1", "Remove one"]),
    (
        "quorum.voters=1@a:1,1@b:2",
        &["node.properties:6: quorum.voters=1@a:1,1@b:2: voter 1 stands there twice", "a:1", "b:2"],
    ),
    ("quorum.voters=1@a:1,2@a:1", &["voters 1 and 2 have the same endpoint a:1"]),
    (
        "quorum.voters=1@localhost:99999",
        &["the port '99999' is not a number from 1 to 65535", "Write id@host:port"],
    ),
    ("quorum.voters=1@localhost:0", &["the port 0"]),
    ("quorum.voters=1@localhost", &["'localhost' has no port"]),
    ("quorum.voters=localhost:1", &["'localhost:1' is not a voter"]),
    ("quorum.voters=one@localhost:1", &["the voter id 'one'"]),
    ("quorum.voters=1@0.0.0.0:1", &["voter 1 has no address that the others can reach"]),
    ("quorum.voters=1@:1", &["voter 1 has no address that the others can reach"]),
    ("quorum.voters=1@ho st:1", &["'ho st' is not a host name"]),
    ("quorum.voters=,", &["there is no voter"]),
    (
        "listeners=localhost:9092",
        &["node.properties:6: listeners=localhost:9092: ", "not a listener URL", "PLAINTEXT://"],
    ),
    ("listeners=PLAINTEXT://localhost:port", &["the port 'port'"]),
    ("listeners=PLAINTEXT://localhost:70000", &["the port '70000'"]),
    ("listeners=PLAINTEXT://localhost:9092/x", &["has a path"]),
    ("listeners=PLAINTEXT://[::g]:9092", &["'::g' is not an IPv6 address"]),
    ("listeners=PLAIN TEXT://localhost:9092", &["'PLAIN TEXT' is not a listener name"]),
    ("listeners=", &["there is no listener"]),
    ("listeners=PLAINTEXT://:9092,CONTROLLER://:9093", &["one listener is supported", "these are 2"]),
    ("listeners=SSL://localhost:9092", &["only PLAINTEXT is supported"]),
    (
        "listener.security.protocol.map=PLAINTEXT:SASL_SSL",
        &["listener.security.protocol.map=", "asks for SASL_SSL"],
    ),
    (
        "controller.listener.names=CONTROLLER",
        &["controller.listener.names=CONTROLLER: the listener is PLAINTEXT"],
    ),
    ("advertised.listeners=PLAINTEXT://0.0.0.0:9092", &["clients cannot reach this address"]),
    ("advertised.listeners=SSL://h:1", &["there is no listener of this name", "Write PLAINTEXT://h:1"]),
    ("advertised.listeners=PLAINTEXT://h", &["advertised.listeners=PLAINTEXT://h: 'h' has no port"]),
    ("process.roles=leader", &["process.roles=leader: the roles are broker and controller"]),
    (
        "log.dirs=/a,/b",
        &["node.properties:6: log.dirs=/a,/b: one directory is supported, and these are 2. Keep one"],
    ),
    ("log.dirs=", &["log.dirs=: this is not a directory"]),
    (
        "quorum.fetch.timeout.ms=2s",
        &["node.properties:6: quorum.fetch.timeout.ms=2s: ", "whole number from 1 to 3600000"],
    ),
    ("quorum.election.timeout.ms=0", &["from 1 to 3600000"]),
    ("message.max.bytes=-1", &["message.max.bytes=-1: this must be a whole number from 1024 to 2147483647."]),
    ("message.max.bytes=99999999999999999999999", &["from 1024 to 2147483647"]),
    (
        "socket.request.max.bytes=100000",
        &[
            "message.max.bytes: 1048588 and 1024 bytes around it are more than socket.request.max.bytes=100000",
        ],
    ),
    ("kraft.connection.output.max.bytes=50000000", &["not more than fetch.max.bytes=57671680"]),
    ("kraft.write.buffer.bytes=2000000", &["2000000 is not a multiple of 4096"]),
    ("kraft.disk.free.warn.bytes=1000000", &["67108864 is more than kraft.disk.free.warn.bytes=1000000"]),
    ("kraft.cpus=0,0", &["kraft.cpus=0,0: this must be a list of cores"]),
    ("kraft.cpus=0-99999", &["kraft.cpus=0-99999"]),
    ("kraft.cpus=-1", &["kraft.cpus=-1"]),
    ("kraft.wait=nap", &["kraft.wait=nap: this must be sleep or spin."]),
    ("kraft.first.leader=any", &["kraft.first.leader=any: this must be all", "or majority"]),
    ("kraft.log.doubt=no", &["kraft.log.doubt=no: this must be wait", "or vote"]),
    (
        "kraft.read.cache.written=never",
        &["kraft.read.cache.written=never: this must be readers", "or always"],
    ),
    ("kraft.log.check=all", &["kraft.log.check=all: this must be tail", "or whole"]),
    ("kraft.index.interval.bytes=1", &["kraft.index.interval.bytes=1: "]),
    ("kraft.http.listener=9192", &["'9192' has no port", "127.0.0.1:9192"]),
    ("kraft.http.listener=:9192", &["this has no host"]),
    ("kraft.topic.name=a b", &["kraft.topic.name=a b: a topic name has"]),
    ("kraft.topic.name=..", &["a topic name has"]),
    ("kraft.topic.id=1", &["kraft.topic.id=1: this must be a uuid"]),
    ("kraft.directory.id=AAAAAAAAAAAAAAAAAAAAAA", &["must be a uuid"]),
    ("kraft.cluster.id=", &["kraft.cluster.id=: this must be 1 to 255"]),
    ("log.dirs=a\\nb,c", &["log.dirs=a\\nb,c: one directory"]),
];

#[test]
fn bad_input_gets_one_line_with_place_key_value_and_advice() {
    for (lines, parts) in BAD {
        let settings = match lines.strip_prefix('!') {
            Some(whole) => settings(whole),
            None => seed_with(lines),
        };
        let line = only_error(&settings);
        for part in *parts {
            assert!(line.contains(part), "'{part}' is not in: {line}");
        }
    }
}

#[test]
fn all_errors_are_told_at_once() {
    let refused = load(&settings("log.dirs=/a,/b\nkraft.wait=x\nnode.idd=1\n")).unwrap_err();
    let keys: Vec<&str> = refused.errors.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(keys, ["node.id", "controller.quorum.voters", "log.dirs", "kraft.wait"]);
    assert!(refused.notes.iter().any(|n| n.text.contains("Did you mean node.id?")), "{:?}", refused.notes);
}

#[test]
fn places_name_overrides_and_variables() {
    let mut bad = settings(SEED);
    bad.read_override(" kraft.wait = nap").unwrap();
    assert!(only_error(&bad).starts_with("--override: kraft.wait=nap: "));
    let mut bad = settings(SEED);
    bad.read_environment([("KAFKA_KRAFT_WAIT".to_string(), "nap".to_string())].into_iter());
    assert!(only_error(&bad).starts_with("KAFKA_KRAFT_WAIT: kraft.wait=nap: "));
    for argument in ["node.id", "=1", ""] {
        assert!(Settings::new().read_override(argument).unwrap_err().0.contains("not key=value"));
    }
}

#[test]
fn unknown_key_is_a_warning_with_the_nearest() {
    let loaded = load_ok(&seed_with("lisetners=x\nquorum.voter=1@h:1\nmy.own.key=1"));
    let warnings: Vec<String> = loaded.notes.into_iter().filter(|n| n.warning).map(|n| n.text).collect();
    assert_eq!(
        warnings,
        [
            "node.properties:6: the key lisetners is unknown. Did you mean listeners?",
            "node.properties:8: the key my.own.key is unknown. It is ignored.",
            "node.properties:7: the key quorum.voter is unknown. Did you mean quorum.voters?",
        ]
    );
}

#[test]
fn keys_of_other_kafka_servers_make_one_line() {
    let notes = notes(&seed_with(
        "num.io.threads=8\nlog.retention.check.interval.ms=300000\nquorum.append.linger.ms=25",
    ));
    assert_eq!(
        notes[1..],
        [
            "Ignored quorum.append.linger.ms=25 (node.properties:8): appends do not linger, the flush under way is the timer."
                .to_string(),
            "Accepted keys of Kafka that mean nothing here: log.retention.check.interval.ms, num.io.threads.".to_string(),
        ]
    );
}

#[test]
fn keys_that_promise_protection_refuse_the_start_and_tell_no_secret() {
    let refused = load(&seed_with(
        "authorizer.class.name=A\nssl.keystore.password=hunter2\nlistener.name.x.sasl.jaas.config=hunter3\nquota.producer.default=1",
    ))
    .unwrap_err();
    let lines: Vec<String> = refused.errors.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (line, part) in lines.iter().zip([
        "node.properties:6: authorizer.class.name=A: this asks for access to be controlled",
        "node.properties:8: listener.name.x.sasl.jaas.config: this asks for clients to be authenticated",
        "node.properties:9: quota.producer.default=1: this asks for quotas",
        "node.properties:7: ssl.keystore.password: this asks for encrypted connections",
    ]) {
        assert!(line.starts_with(part) && !line.contains("hunter"), "{line}");
    }
    load_ok(&seed_with(
        "authorizer.class.name=\nsecurity.inter.broker.protocol=PLAINTEXT\nssl.client.auth=none",
    ));
}

#[test]
fn in_sync_replicas_are_a_majority_at_most() {
    load_ok(&seed_with("min.insync.replicas=2"));
    for (value, why) in [("3", "2 of 3 voters"), ("many", "2 of 3 voters")] {
        let refused = load(&seed_with(&format!("min.insync.replicas={value}"))).unwrap_err();
        assert!(refused.errors[0].to_string().contains(why), "{:?}", refused.errors);
    }
}

#[test]
fn a_listener_among_nodes_is_not_quietly_plain() {
    let map = "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INTERNAL:SASL_SSL";
    let refused = load(&seed_with(&format!("{map}\ninter.broker.listener.name=INTERNAL"))).unwrap_err();
    assert!(
        refused.errors[0].to_string().contains("asks for SASL_SSL among the nodes"),
        "{:?}",
        refused.errors
    );
    load_ok(&seed_with(&format!("{map}\ninter.broker.listener.name=PLAINTEXT")));
}

#[test]
fn effective_values_name_their_origin() {
    let mut all = seed_with("kraft.wait=spin");
    all.read_override("max.connections=5").unwrap();
    let loaded = load_ok(&all);
    let of = |key: &str| loaded.effective.iter().find(|e| e.key == key).unwrap();
    let file = |line| Origin::File { path: "node.properties".to_string(), line };
    assert_eq!((of("node.id").value.as_str(), &of("node.id").origin), ("1", &file(1)));
    assert_eq!(of("node.id").written_as.as_deref(), Some("broker.id"));
    assert_eq!((of("kraft.wait").value.as_str(), &of("kraft.wait").origin), ("spin", &file(6)));
    assert_eq!(
        (of("max.connections").value.as_str(), &of("max.connections").origin),
        ("5", &Origin::Override)
    );
    assert_eq!(
        (of("message.max.bytes").value.as_str(), &of("message.max.bytes").origin),
        ("1048588", &Origin::Default)
    );
    let mut keys: Vec<&str> = loaded.effective.iter().map(|e| e.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), loaded.effective.len(), "each key once");
}

#[test]
fn ipv6_and_urls_are_understood() {
    let config = load_ok(&seed_with(
        "listeners=PLAINTEXT://[::1]:9092\nquorum.voters=1@http://[::1]:9092\nkraft.http.listener=http://127.0.0.1:0/",
    ))
    .config;
    assert_eq!((config.listener, config.voters.len()), (endpoint("::1", 9092), 1));
    assert_eq!(config.http_listener, Some(endpoint("127.0.0.1", 0)));
}

#[test]
fn surroundings_find_foreign_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let check = |lines: &str| -> Vec<String> {
        let loaded = load_ok(&seed_with(lines));
        check_surroundings(&loaded).into_iter().map(|e| e.to_string()).collect()
    };
    let good = format!("log.dirs={}/new/deep", dir.path().display());
    assert_eq!(check(&good), Vec::<String>::new());
    let foreign =
        check(&format!("{good}\nlisteners=PLAINTEXT://198.51.100.7:9092\nkraft.http.listener=203.0.113.9:1"));
    assert_eq!(foreign.len(), 2, "{foreign:?}");
    assert!(
        foreign[0].contains(
            "node.properties:7: listeners=PLAINTEXT://198.51.100.7:9092: 198.51.100.7 is no address"
        )
    );
    assert!(foreign[1].contains("kraft.http.listener=203.0.113.9:1"));
    assert_eq!(check(&format!("{good}\nlisteners=PLAINTEXT://:9092")), Vec::<String>::new());
}

#[test]
fn missing_file_is_one_clear_line() {
    let error = Settings::new().read_file(std::path::Path::new("/nowhere/node.properties")).unwrap_err();
    assert!(
        error.0.starts_with("/nowhere/node.properties: the configuration file cannot be read"),
        "{error}"
    );
    let error = Settings::new().read_file(std::path::Path::new("/")).unwrap_err();
    assert!(error.0.contains("must be a regular file"), "{error}");
}

#[test]
fn random_bytes_never_panic() {
    const ALPHABET: &[u8] = b"=:,@\\u0 \n#.[]-/19ab\xff\xc3";
    let mut seed = 1u64;
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..200)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ALPHABET[(seed >> 33) as usize % ALPHABET.len()]
            })
            .collect();
        let mut settings = settings(SEED);
        let _ = settings.read_properties("f", &bytes);
        for key in ["listeners", "quorum.voters", "kraft.cpus", "kraft.http.listener", "advertised.listeners"]
        {
            settings.set(key, &String::from_utf8_lossy(&bytes[..60]), Origin::Override);
        }
        let _ = load(&settings);
    }
}

#[test]
fn shipped_files_load_without_a_warning_and_both_dialects_agree() {
    let shipped = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
        let mut settings = Settings::new();
        settings.read_file(&path).unwrap();
        let loaded = load_ok(&settings);
        assert!(loaded.notes.iter().all(|n| !n.warning), "{name}: {:?}", loaded.notes);
        loaded.config
    };
    let one = shipped("raft.properties");
    assert_eq!((one.node_id, one.voters.len(), one.log_dir), (NodeId(0), 1, PathBuf::from("/tmp/raft-logs")));
    for n in 1..=3u16 {
        let seed = shipped(&format!("raft-quorum-{n}.properties"));
        assert_eq!((seed.node_id, seed.voters.len()), (NodeId(i32::from(n)), 3));
        assert_eq!(seed.listener, endpoint("localhost", 9091 + n));
        assert_eq!(seed.http_listener, Some(endpoint("127.0.0.1", 9191 + n)));
        let today = shipped(&format!("kraft-quorum-{n}.properties"));
        assert_eq!(format!("{seed:?}"), format!("{today:?}"));
    }
}

#[test]
fn of_several_keys_of_retention_the_first_counts_and_all_are_checked() {
    let retained = |text: &str| {
        let retention = load_ok(&seed_with(text)).config.retention;
        (retention.bytes, retention.ms)
    };
    assert_eq!(retained(""), (None, None), "nothing goes unless a key says so");
    assert_eq!(retained("log.retention.hours=2"), (None, Some(7_200_000)));
    assert_eq!(retained("log.retention.hours=2\nlog.retention.minutes=3"), (None, Some(180_000)));
    assert_eq!(retained("log.retention.hours=2\nlog.retention.ms=-1\nlog.retention.minutes=3"), (None, None));
    assert_eq!(retained("log.retention.bytes=7\nmetadata.max.retention.bytes=5"), (Some(5), None));
    assert_eq!(retained("log.retention.ms=7\nmetadata.max.retention.ms=5"), (None, Some(5)));
    for bad in
        ["log.retention.bytes=0", "log.retention.ms=-2", "metadata.max.retention.ms=0", "log.roll.ms=-1"]
    {
        let refused = load(&seed_with(&format!("log.retention.hours=5\n{bad}")));
        assert!(refused.is_err(), "{bad}");
    }
    let rolls = |text: &str| load_ok(&seed_with(text)).config.limits.segment_ms_max;
    assert_eq!(
        (rolls(""), rolls("log.roll.hours=1"), rolls("log.roll.hours=1\nlog.roll.ms=9")),
        (i64::MAX, 3_600_000, 9)
    );
}

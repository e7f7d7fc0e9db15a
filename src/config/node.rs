//! The keys of the node, its quorum, its listener and its placement.

use std::fmt::Display;
use std::path::PathBuf;

use super::endpoint::{self, ANY_HOST, Listener, PortZero, VOTERS_EXAMPLE};
use super::reader::Reader;
use super::settings::Setting;
use super::{Config, Limits, Retention, Voter, Wait};
use crate::types::*;

/// Kafka's `QuorumConfig` of 4.3.
const ELECTION_TIMEOUT_MS: u64 = 1000;
const FETCH_TIMEOUT_MS: u64 = 2000;
const ELECTION_BACKOFF_MAX_MS: u64 = 1000;
const REQUEST_TIMEOUT_MS: u64 = 2000;
const RETRY_BACKOFF_MS: u64 = 20;
/// Longest of all times of the quorum: an hour.
const QUORUM_MS_MAX: u64 = 3_600_000;
/// Kafka's `SocketServerConfigs.LISTENERS_DEFAULT`.
const LISTENERS: &str = "PLAINTEXT://:9092";
/// What Kafka's test server uses: `Uuid.ZERO_UUID`.
const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const TOPIC_NAME: &str = "__cluster_metadata";
/// Kafka's `Topic.MAX_NAME_LENGTH`.
const TOPIC_NAME_BYTES_MAX: usize = 249;
const CLUSTER_ID_BYTES_MAX: usize = 255;
/// More than any machine that this server was seen on; the server checks which of them exist.
const CPU_MAX: usize = 1023;
const VOTERS_MAX: usize = 31;
/// Kafka: `KafkaRaftClient.MAX_BATCH_SIZE_BYTES`.
const INTEROP_MESSAGE_BYTES_MAX: usize = 8 << 20;

/// All but the limits.
pub(super) struct Node {
    identity: Identity,
    quorum: Quorum,
    listener: Listener,
    advertised: Endpoint,
    log_dir: PathBuf,
    http_listener: Option<Endpoint>,
    cpus: Option<Vec<usize>>,
    wait: Wait,
    log_check: LogCheck,
    compressed_check: CompressedCheck,
    first_leader: FirstLeader,
    log_doubt: LogDoubt,
    timeouts: Timeouts,
}

struct Identity {
    directory_id: Option<Uuid>,
    cluster_id: String,
    topic_name: String,
    topic_id: Uuid,
    data_mode: DataMode,
}

struct Quorum {
    node_id: NodeId,
    voters: Vec<Voter>,
}

struct Timeouts {
    election_timeout_ms: u64,
    fetch_timeout_ms: u64,
    election_backoff_max_ms: u64,
    request_timeout_ms: u64,
    retry_backoff_ms: u64,
}

impl Node {
    pub(super) fn into_config(self, retention: Retention, limits: Limits) -> Config {
        Config {
            node_id: self.quorum.node_id,
            directory_id: self.identity.directory_id,
            cluster_id: self.identity.cluster_id,
            topic_name: self.identity.topic_name,
            topic_id: self.identity.topic_id,
            data_mode: self.identity.data_mode,
            voters: self.quorum.voters,
            listener_name: self.listener.name,
            listener: self.listener.endpoint,
            advertised: self.advertised,
            log_dir: self.log_dir,
            http_listener: self.http_listener,
            cpus: self.cpus,
            wait: self.wait,
            log_check: self.log_check,
            compressed_check: self.compressed_check,
            first_leader: self.first_leader,
            log_doubt: self.log_doubt,
            election_timeout_ms: self.timeouts.election_timeout_ms,
            fetch_timeout_ms: self.timeouts.fetch_timeout_ms,
            election_backoff_max_ms: self.timeouts.election_backoff_max_ms,
            request_timeout_ms: self.timeouts.request_timeout_ms,
            retry_backoff_ms: self.timeouts.retry_backoff_ms,
            retention,
            limits,
        }
    }
}

/// `None` only where the reader has an error. Everything is read all the same, so that all errors are told at once.
pub(super) fn read_node(r: &mut Reader) -> Option<Node> {
    read_ignored(r);
    let quorum = read_quorum(r);
    let listener = read_listener(r);
    let advertised = read_advertised(r, quorum.as_ref(), listener.as_ref());
    let log_dir = read_log_dir(r);
    let http_listener = r.optional("kraft.http.listener", parse_http_listener);
    let cpus = r.optional("kraft.cpus", parse_cpus).map(|cpus: Cpus| cpus.0);
    let setting = r.find("kraft.wait");
    let wait = r.value("kraft.wait", setting, Wait::Sleep, parse_wait);
    let setting = r.find("kraft.log.check");
    let log_check = r.value("kraft.log.check", setting, LogCheck::default(), parse_log_check);
    let setting = r.find("kraft.compressed.check");
    let compressed_check =
        r.value("kraft.compressed.check", setting, CompressedCheck::default(), parse_compressed_check);
    let timeouts = read_timeouts(r);
    let identity = read_identity(r);
    // Kafka's voters have no such rule.
    let usual = match identity.data_mode {
        DataMode::Native => FirstLeader::All,
        DataMode::Interop => FirstLeader::Majority,
    };
    let setting = r.find("kraft.first.leader");
    let first_leader = r.value("kraft.first.leader", setting, usual, parse_first_leader);
    let setting = r.find("kraft.log.doubt");
    let log_doubt = r.value("kraft.log.doubt", setting, LogDoubt::default(), parse_log_doubt);
    Some(Node {
        identity,
        quorum: quorum?,
        listener: listener?,
        advertised: advertised?,
        log_dir: log_dir?,
        http_listener,
        cpus,
        wait,
        log_check,
        compressed_check,
        first_leader,
        log_doubt,
        timeouts,
    })
}

/// Keys that are fine in a file and have no effect here, with the reason.
fn read_ignored(r: &mut Reader) {
    if let Some(setting) = r.find("zookeeper.connect") {
        let (value, origin) = (setting.value.escape_debug().to_string(), &setting.origin);
        r.note(format!("Ignored zookeeper.connect={value} ({origin}): this node needs no ZooKeeper."));
    }
    if let Some(setting) = r.find_either("controller.quorum.append.linger.ms", "quorum.append.linger.ms") {
        let (key, value, origin) = (&setting.key, setting.value.escape_debug().to_string(), &setting.origin);
        r.note(format!(
            "Ignored {key}={value} ({origin}): appends do not linger, the flush under way is the timer."
        ));
    }
}

fn read_quorum(r: &mut Reader) -> Option<Quorum> {
    let node_id = read_node_id(r);
    let is_broker_only = read_roles(r) == "broker";
    let setting = r.find_either("controller.quorum.voters", "quorum.voters");
    let bootstrap = r.find("controller.quorum.bootstrap.servers");
    let voters = match setting {
        Some(setting) => match endpoint::parse_voters(&setting.value) {
            Ok(voters) if voters.len() <= VOTERS_MAX => Some(voters),
            Ok(voters) => {
                r.refuse(setting, format!("{} voters are more than {VOTERS_MAX}.", voters.len()));
                None
            }
            Err(why) => {
                r.refuse(setting, why);
                None
            }
        },
        None => {
            let why = match bootstrap {
                Some(_) => {
                    "this key is missing, and a quorum found by controller.quorum.bootstrap.servers alone is not supported yet"
                }
                None => "this key is missing",
            };
            r.miss("controller.quorum.voters", format!("{why}. {VOTERS_EXAMPLE}"));
            None
        }
    };
    if let (Some(_), Some(bootstrap)) = (&voters, bootstrap) {
        r.note(format!(
            "Ignored {} ({}): controller.quorum.voters names the quorum.",
            bootstrap.key, bootstrap.origin
        ));
    }
    let (setting, (id_setting, node_id), voters) = (setting?, node_id?, voters?);
    r.effective("controller.quorum.voters", shown_voters(&voters), Some(setting));
    if !is_broker_only && !voters.iter().any(|v| v.id == node_id) {
        let why = format!(
            "this node is not among the voters {} ({}). Add it there or correct its id; to follow the log without a \
             vote, set process.roles=broker.",
            shown_voters(&voters),
            setting.origin
        );
        r.refuse(id_setting, why);
        return None;
    }
    check_in_sync(r, voters.len());
    Some(Quorum { node_id, voters })
}

/// A promise of Kafka's that a quorum keeps as far as its majority goes, and no farther.
fn check_in_sync(r: &mut Reader, voters: usize) {
    let Some(setting) = r.find("min.insync.replicas") else { return };
    let majority = voters / 2 + 1;
    match setting.value.parse::<usize>() {
        Ok(wanted) if wanted <= majority => {}
        _ => {
            let why = format!(
                "with acks=all a record is on the disks of a majority, {majority} of {voters} voters, and more cannot be asked \
                 for. Lower it, or have more voters."
            );
            r.refuse(setting, why);
        }
    }
}

fn read_node_id<'a>(r: &mut Reader<'a>) -> Option<(&'a Setting, NodeId)> {
    let Some(setting) = r.find_either("node.id", "broker.id") else {
        r.miss(
            "node.id",
            "this key is missing. Add for example node.id=1, an id among controller.quorum.voters.",
        );
        return None;
    };
    match setting.value.parse::<i32>() {
        Ok(id) if id >= 0 => {
            r.effective("node.id", id, Some(setting));
            Some((setting, NodeId(id)))
        }
        _ => {
            r.refuse(setting, format!("this must be a whole number from 0 to {}.", i32::MAX));
            None
        }
    }
}

/// Every voter is a controller in Kafka's words, and this server answers clients as a broker does: the key only says
/// that a node which is not among the voters is meant to be none, as a broker is in Kafka.
fn read_roles(r: &mut Reader) -> String {
    let setting = r.find("process.roles");
    r.value("process.roles", setting, "broker,controller".to_string(), |text| {
        let known = text.split(',').all(|role| matches!(role.trim(), "broker" | "controller"));
        let why = "the roles are broker and controller. Write for example process.roles=broker,controller.";
        if known { Ok(text.trim().to_string()) } else { Err(why.to_string()) }
    })
}

fn shown_voters(voters: &[Voter]) -> String {
    let entries: Vec<String> = voters.iter().map(|v| format!("{}@{}", v.id, v.endpoint)).collect();
    entries.join(",")
}

fn read_listener(r: &mut Reader) -> Option<Listener> {
    let setting = r.find("listeners");
    let text = setting.map_or(LISTENERS, |s| s.value.as_str());
    let controller_names = r.find("controller.listener.names");
    let protocols = r.find("listener.security.protocol.map");
    let parsed = endpoint::parse_listeners(text).and_then(the_only_listener);
    let listener = match (parsed, setting) {
        (Ok(listener), _) => listener,
        (Err(why), Some(setting)) => {
            r.refuse(setting, why);
            return None;
        }
        (Err(why), None) => {
            r.miss("listeners", why);
            return None;
        }
    };
    if let Some(names) = controller_names
        && !names.value.split(',').any(|name| name.trim().eq_ignore_ascii_case(&listener.name))
    {
        let why = format!(
            "the listener is {}, and voters use it too. Name it here or remove this key.",
            listener.name
        );
        r.refuse(names, why);
    }
    let protocol = security_protocol(&listener.name, protocols.map(|s| s.value.as_str()));
    if protocol != "PLAINTEXT" {
        let why = format!(
            "the listener {} asks for {protocol}, and only PLAINTEXT is supported yet.",
            listener.name
        );
        match protocols.or(setting) {
            Some(setting) => r.refuse(setting, why),
            None => r.miss("listeners", why),
        }
    }
    for key in ["inter.broker.listener.name", "control.plane.listener.name"] {
        let Some(named) = r.find(key) else { continue };
        let protocol =
            security_protocol(&named.value.to_ascii_uppercase(), protocols.map(|s| s.value.as_str()));
        if protocol != "PLAINTEXT" {
            let why =
                format!("this asks for {protocol} among the nodes, and only PLAINTEXT is supported yet.");
            r.refuse(named, why);
        }
    }
    r.effective("listeners", format!("{}://{}", listener.name, listener.endpoint), setting);
    Some(listener)
}

fn the_only_listener(mut listeners: Vec<Listener>) -> Result<Listener, String> {
    match listeners.len() {
        1 => Ok(listeners.remove(0)),
        0 => Err(format!("there is no listener. {}", endpoint::LISTENER_EXAMPLE)),
        n => Err(format!(
            "one listener is supported, for clients and voters alike, and these are {n}. Keep one of them."
        )),
    }
}

/// As in Kafka: by the map, else by the name itself. A name that is no protocol is PLAINTEXT.
fn security_protocol(listener_name: &str, map: Option<&str>) -> String {
    let mapped = map.and_then(|map| {
        let entries = map.split(',').filter_map(|entry| entry.split_once(':'));
        entries
            .into_iter()
            .find(|(name, _)| name.trim().eq_ignore_ascii_case(listener_name))
            .map(|(_, p)| p.trim())
    });
    match mapped {
        Some(protocol) => protocol.to_ascii_uppercase(),
        None if matches!(listener_name, "SSL" | "SASL_PLAINTEXT" | "SASL_SSL") => listener_name.to_string(),
        None => "PLAINTEXT".to_string(),
    }
}

fn read_advertised(r: &mut Reader, quorum: Option<&Quorum>, listener: Option<&Listener>) -> Option<Endpoint> {
    let key = "advertised.listeners";
    if let Some(setting) = r.find(key) {
        let advertised =
            endpoint::parse_listeners(&setting.value).and_then(the_only_listener).and_then(|a| {
                let reachable =
                    !a.endpoint.host.is_empty() && a.endpoint.host != ANY_HOST && a.endpoint.host != "::";
                match listener.filter(|listener| listener.name != a.name) {
                    Some(listener) => Err(format!(
                        "there is no listener of this name, clients would be told of something that is not here. Write \
                         {}://{}.",
                        listener.name, a.endpoint
                    )),
                    None if reachable => Ok(a),
                    None => Err("clients cannot reach this address. Write a host name or address.".to_string()),
                }
            });
        return match advertised {
            Ok(advertised) => {
                let shown = format!("{}://{}", advertised.name, advertised.endpoint);
                r.effective(key, shown, Some(setting));
                Some(advertised.endpoint)
            }
            Err(why) => {
                r.refuse(setting, why);
                None
            }
        };
    }
    let (quorum, listener) = (quorum?, listener?);
    let own = quorum.voters.iter().find(|v| v.id == quorum.node_id).map(|v| v.endpoint.clone());
    // An observer stands in no list: what it binds is what it is called.
    let bound = Some(listener.endpoint.clone())
        .filter(|e| !e.host.is_empty() && e.host != ANY_HOST && e.host != "::");
    let Some(endpoint) = own.or(bound) else {
        r.miss(
            key,
            "this key is missing, and a node that is no voter has no other address to be reached at.",
        );
        return None;
    };
    r.effective(key, format!("{}://{endpoint}", listener.name), None);
    Some(endpoint)
}

/// `metadata.log.dir`, as in Kafka, stands above `log.dirs`, and that above `log.dir`.
fn read_log_dir(r: &mut Reader) -> Option<PathBuf> {
    let (metadata, dirs, dir) = (r.find("metadata.log.dir"), r.find("log.dirs"), r.find("log.dir"));
    let Some(setting) = metadata.or(dirs).or(dir) else {
        r.miss(
            "log.dirs",
            "this key is missing. Add the directory for the log, for example log.dirs=/var/lib/kraft.",
        );
        return None;
    };
    let paths: Vec<&str> = setting.value.split(',').map(str::trim).filter(|path| !path.is_empty()).collect();
    match paths.as_slice() {
        [path] if !path.contains('\0') => {
            r.effective("log.dirs", path, Some(setting));
            Some(PathBuf::from(path))
        }
        [] | [_] => {
            r.refuse(setting, "this is not a directory. Write for example log.dirs=/var/lib/kraft.");
            None
        }
        _ => {
            let why = format!("one directory is supported, and these are {}. Keep one of them.", paths.len());
            r.refuse(setting, why);
            None
        }
    }
}

fn read_timeouts(r: &mut Reader) -> Timeouts {
    let mut time = |key, seed, default| {
        let setting = r.find_either(key, seed);
        r.number_of(key, setting, default, 1..=QUORUM_MS_MAX)
    };
    let election = ("controller.quorum.election.timeout.ms", "quorum.election.timeout.ms");
    let fetch = ("controller.quorum.fetch.timeout.ms", "quorum.fetch.timeout.ms");
    let backoff = ("controller.quorum.election.backoff.max.ms", "quorum.election.backoff.max.ms");
    let request = ("controller.quorum.request.timeout.ms", "quorum.request.timeout.ms");
    let retry = ("controller.quorum.retry.backoff.ms", "quorum.retry.backoff.ms");
    Timeouts {
        election_timeout_ms: time(election.0, election.1, ELECTION_TIMEOUT_MS),
        fetch_timeout_ms: time(fetch.0, fetch.1, FETCH_TIMEOUT_MS),
        election_backoff_max_ms: time(backoff.0, backoff.1, ELECTION_BACKOFF_MAX_MS),
        request_timeout_ms: time(request.0, request.1, REQUEST_TIMEOUT_MS),
        retry_backoff_ms: time(retry.0, retry.1, RETRY_BACKOFF_MS),
    }
}

fn read_identity(r: &mut Reader) -> Identity {
    let parse_uuid = |text: &str| {
        let uuid = Uuid::parse(text).filter(|uuid| !uuid.is_zero());
        uuid.ok_or_else(|| {
            "this must be a uuid in Kafka's form, 22 characters such as b8tRS7h4TJ2Vt43Dp85v2A.".to_string()
        })
    };
    let cluster_id = r.find("kraft.cluster.id");
    let topic_name = r.find("kraft.topic.name");
    let topic_id = r.find("kraft.topic.id");
    let data_mode = r.find("kraft.data.mode");
    Identity {
        directory_id: r.optional("kraft.directory.id", parse_uuid),
        cluster_id: r.value("kraft.cluster.id", cluster_id, CLUSTER_ID.to_string(), parse_cluster_id),
        topic_name: r.value("kraft.topic.name", topic_name, TOPIC_NAME.to_string(), parse_topic_name),
        topic_id: r.value("kraft.topic.id", topic_id, Uuid::METADATA_TOPIC_ID, parse_uuid),
        data_mode: r.value("kraft.data.mode", data_mode, DataMode::default(), parse_data_mode),
    }
}

fn parse_data_mode(text: &str) -> Result<DataMode, String> {
    match text {
        "native" => Ok(DataMode::Native),
        "interop" => Ok(DataMode::Interop),
        _ => Err("this must be native (batches as producers send them) or interop (only what Kafka's own voters can \
                  read)."
            .to_string()),
    }
}

/// Kafka's voters stop at a batch that is larger than they read.
pub(super) fn check_interop_limits(r: &mut Reader, node: Option<&Node>, limits: &Limits) {
    let is_interop = node.is_some_and(|node| node.identity.data_mode == DataMode::Interop);
    if is_interop && limits.message_bytes_max > INTEROP_MESSAGE_BYTES_MAX {
        let why = format!(
            "{} is more than the {INTEROP_MESSAGE_BYTES_MAX} that Kafka's voters read (kraft.data.mode=interop). Lower \
             it.",
            limits.message_bytes_max
        );
        r.miss("message.max.bytes", why);
    }
}

fn parse_cluster_id(text: &str) -> Result<String, String> {
    let fine =
        !text.is_empty() && text.len() <= CLUSTER_ID_BYTES_MAX && text.chars().all(|c| c.is_ascii_graphic());
    let why = format!(
        "this must be 1 to {CLUSTER_ID_BYTES_MAX} printable characters without spaces, usually a uuid."
    );
    if fine { Ok(text.to_string()) } else { Err(why) }
}

fn parse_topic_name(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let length = 1..=TOPIC_NAME_BYTES_MAX;
    let fine = length.contains(&text.len()) && text.chars().all(legal) && text != "." && text != "..";
    let why = format!(
        "a topic name has 1 to {TOPIC_NAME_BYTES_MAX} letters, digits, dots, underscores and hyphens."
    );
    if fine { Ok(text.to_string()) } else { Err(why) }
}

fn parse_http_listener(text: &str) -> Result<Endpoint, String> {
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let example = "Write for example 127.0.0.1:9192.";
    let endpoint =
        endpoint::parse_endpoint(address, PortZero::Allowed).map_err(|why| format!("{why}. {example}"))?;
    // Whoever reaches it can read it: all interfaces must be asked for by name.
    let unnamed = endpoint.host.is_empty();
    if unnamed { Err(format!("this has no host. {example}")) } else { Ok(endpoint) }
}

/// A list of cores that prints as it is written.
struct Cpus(Vec<usize>);

impl Display for Cpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&shown.join(","))
    }
}

/// `0,2-3`: each core once, in this order.
fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let wrong =
        || format!("this must be a list of cores from 0 to {CPU_MAX}, each once, such as 0,1 or 0,2-3.");
    let core = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n <= CPU_MAX).ok_or_else(wrong);
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (core(first)?, core(last)?),
            None => (core(part)?, core(part)?),
        };
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(wrong());
            }
            cpus.push(cpu);
        }
    }
    if cpus.is_empty() { Err(wrong()) } else { Ok(Cpus(cpus)) }
}

fn parse_compressed_check(text: &str) -> Result<CompressedCheck, String> {
    match text {
        "always" => Ok(CompressedCheck::Always),
        "off" => Ok(CompressedCheck::Off),
        _ => Err("it is neither always nor off.".to_string()),
    }
}

fn parse_log_check(text: &str) -> Result<LogCheck, String> {
    match text {
        "tail" => Ok(LogCheck::Tail),
        "whole" => Ok(LogCheck::Whole),
        _ => {
            Err("this must be tail (what no summary vouches for) or whole (every byte of the log)."
                .to_string())
        }
    }
}

fn parse_first_leader(text: &str) -> Result<FirstLeader, String> {
    match text {
        "all" => Ok(FirstLeader::All),
        "majority" => Ok(FirstLeader::Majority),
        _ => Err("this must be all (every voter says that its log is empty before a log gets its first leader) or \
                  majority (a voter that is away may have held a log)."
            .to_string()),
    }
}

fn parse_log_doubt(text: &str) -> Result<LogDoubt, String> {
    match text {
        "wait" => Ok(LogDoubt::Wait),
        "vote" => Ok(LogDoubt::Vote),
        _ => Err("this must be wait (a voter whose log is in doubt waits for a leader that the others elect) or vote (it \
                  helps to elect one by the votes of all; what nobody has any more is given up)."
            .to_string()),
    }
}

fn parse_wait(text: &str) -> Result<Wait, String> {
    match text {
        "sleep" => Ok(Wait::Sleep),
        "spin" => Ok(Wait::Spin),
        _ => Err("this must be sleep or spin.".to_string()),
    }
}

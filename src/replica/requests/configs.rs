//! DescribeConfigs: what tools ask about the topic and about this node.
//!
//! The file decides, but for the keys of the topic that an administrator may set (`alter_configs`): those are told as they are
//! committed, with what they override.

use super::{View, text};
use crate::protocol::{Response, messages as m};
use crate::types::*;
use m::describe_configs_request::DescribeConfigsResource;
use m::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};

/// Kafka: `ConfigResource.Type`.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// Kafka: `DescribeConfigsResponse.ConfigType`.
#[derive(Clone, Copy)]
enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

/// Kafka: `DescribeConfigsResponse.ConfigSource`.
#[derive(Clone, Copy)]
enum Source {
    /// Set for the topic, and kept in the log.
    DynamicTopic = 1,
    /// A key of the node's file, or its default there.
    StaticBroker = 4,
    /// Cannot be anything else here.
    Default = 5,
}

struct Entry {
    name: &'static str,
    value: String,
    config_type: ConfigType,
    source: Source,
    /// What counts where it is not set, by its name in the node's file.
    overrides: Option<Overridden>,
    read_only: bool,
    documentation: Option<&'static str>,
}

struct Overridden {
    name: &'static str,
    value: String,
    source: Source,
}

/// Shown by tools that ask for it.
const NOTHING_IS_DELETED: &str =
    "Kept in the log and shown. This version deletes no records yet, whatever it is set to.";

pub(crate) fn describe_configs(v: &View, request: &m::DescribeConfigsRequest, version: i16) -> Response {
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match entries(v, resource) {
            Ok(entries) => {
                let wanted = entries.into_iter().filter(|entry| is_wanted(resource, entry.name));
                result.with_configs(wanted.map(|entry| encoded(entry, request, version)).collect())
            }
            Err((error, why)) => result.with_error_code(error.0).with_error_message(Some(text(&why))),
        }
    });
    Response::DescribeConfigs(m::DescribeConfigsResponse::default().with_results(results.collect()))
}

/// No names, or an empty list of them, ask for all (Kafka: `ConfigHelper.describeConfigs`).
fn is_wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == name),
        _ => true,
    }
}

fn entries(v: &View, resource: &DescribeConfigsResource) -> Result<Vec<Entry>, (ErrorCode, String)> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC if name == v.topic_name => Ok(topic_entries(v)),
        TOPIC => Err((v.unknown_topic(name), format!("there is no topic {name:?} here"))),
        // The defaults of all brokers: none can be set.
        BROKER if name.is_empty() => Ok(vec![]),
        BROKER => match name.parse() {
            // "+1" and "01" are no names of node 1.
            Ok(id) if NodeId(id) == v.local && name == v.local.to_string() => Ok(broker_entries(v)),
            Ok(id) if NodeId(id) == v.local => {
                Err((ErrorCode::INVALID_REQUEST, format!("this node is written {id}")))
            }
            Ok(id) => Err((
                ErrorCode::INVALID_REQUEST,
                format!("this is node {}, and only node {id} knows its own configuration", v.local),
            )),
            Err(_) => {
                Err((ErrorCode::INVALID_REQUEST, format!("a broker's name is its node id, not {name:?}")))
            }
        },
        other => {
            Err((ErrorCode::INVALID_REQUEST, format!("resources of type {other} have no configuration here")))
        }
    }
}

fn configured(name: &'static str, value: impl ToString, config_type: ConfigType) -> Entry {
    entry(name, value, config_type, Source::StaticBroker)
}

fn fixed(name: &'static str, value: impl ToString, config_type: ConfigType) -> Entry {
    entry(name, value, config_type, Source::Default)
}

fn entry(name: &'static str, value: impl ToString, config_type: ConfigType, source: Source) -> Entry {
    let value = value.to_string();
    Entry { name, value, config_type, source, overrides: None, read_only: true, documentation: None }
}

/// A key that may be set for the topic; where it is not, this value of the node counts.
fn settable(v: &View, name: &'static str, of_node: Overridden) -> Entry {
    let overridden = of_node;
    let set = v.set.get(name);
    let source = if set.is_some() { Source::DynamicTopic } else { overridden.source };
    let value = set.unwrap_or(&overridden.value).clone();
    Entry {
        overrides: Some(overridden),
        read_only: !v.is_alterable,
        documentation: Some(NOTHING_IS_DELETED),
        ..entry(name, value, ConfigType::Long, source)
    }
}

/// What the node's file says of how much stays, whichever key says it.
fn of_file(name: &'static str, limit: Option<u64>, is_set: bool) -> Overridden {
    let value = limit.map_or("-1".to_string(), |limit| limit.to_string());
    let source = if is_set { Source::StaticBroker } else { Source::Default };
    Overridden { name, value, source }
}

fn retained_bytes(v: &View) -> Overridden {
    of_file("log.retention.bytes", v.retention.bytes, v.retention.is_bytes_set)
}

fn retained_ms(v: &View) -> Overridden {
    of_file("log.retention.ms", v.retention.ms, v.retention.is_ms_set)
}

fn of_broker(name: &'static str, of_file: Overridden) -> Entry {
    entry(name, of_file.value, ConfigType::Long, of_file.source)
}

/// Voters that must have a record before it is acknowledged.
fn majority(v: &View) -> usize {
    v.voters.len() / 2 + 1
}

fn topic_entries(v: &View) -> Vec<Entry> {
    use ConfigType::*;
    vec![
        fixed("cleanup.policy", "delete", List),
        fixed("compression.type", "producer", String),
        configured("max.message.bytes", v.limits.message_bytes_max, Int),
        configured("message.timestamp.after.max.ms", v.limits.timestamp_after_max_ms, Long),
        configured("message.timestamp.before.max.ms", v.limits.timestamp_before_max_ms, Long),
        fixed("message.timestamp.type", "CreateTime", String),
        fixed("min.insync.replicas", majority(v), Int),
        settable(v, "retention.bytes", retained_bytes(v)),
        settable(v, "retention.ms", retained_ms(v)),
        configured("segment.bytes", v.segment_bytes_max, Int),
        fixed("unclean.leader.election.enable", false, Boolean),
    ]
}

fn broker_entries(v: &View) -> Vec<Entry> {
    use ConfigType::*;
    vec![
        fixed("auto.create.topics.enable", false, Boolean),
        fixed("default.replication.factor", v.voters.len(), Int),
        configured("fetch.max.bytes", v.limits.fetch_response_bytes_max, Int),
        fixed("log.cleanup.policy", "delete", List),
        configured("log.message.timestamp.after.max.ms", v.limits.timestamp_after_max_ms, Long),
        configured("log.message.timestamp.before.max.ms", v.limits.timestamp_before_max_ms, Long),
        fixed("log.message.timestamp.type", "CreateTime", String),
        of_broker("log.retention.bytes", retained_bytes(v)),
        of_broker("log.retention.ms", retained_ms(v)),
        configured("log.segment.bytes", v.segment_bytes_max, Int),
        configured("max.connections", v.limits.connections_max, Int),
        configured("message.max.bytes", v.limits.message_bytes_max, Int),
        fixed("min.insync.replicas", majority(v), Int),
        configured("node.id", v.local, Int),
        fixed("num.partitions", 1, Int),
        configured("socket.request.max.bytes", v.limits.request_bytes_max, Int),
        fixed("unclean.leader.election.enable", false, Boolean),
    ]
}

fn encoded(entry: Entry, request: &m::DescribeConfigsRequest, version: i16) -> DescribeConfigsResourceResult {
    let synonyms = if request.include_synonyms { synonyms(&entry) } else { vec![] };
    let documentation = entry.documentation.filter(|_| request.include_documentation && version >= 3);
    let result = DescribeConfigsResourceResult::default()
        .with_name(m::StrBytes::from_static_str(entry.name))
        .with_value(Some(text(&entry.value)))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_documentation(documentation.map(m::StrBytes::from_static_str))
        .with_synonyms(synonyms);
    if version >= 3 { result.with_config_type(entry.config_type as i8) } else { result }
}

/// All that could count, what does first.
fn synonyms(entry: &Entry) -> Vec<DescribeConfigsSynonym> {
    let synonym = |name: &'static str, value: &str, source: Source| {
        DescribeConfigsSynonym::default()
            .with_name(m::StrBytes::from_static_str(name))
            .with_value(Some(text(value)))
            .with_source(source as i8)
    };
    let own = synonym(entry.name, &entry.value, entry.source);
    match &entry.overrides {
        None => vec![own],
        Some(o) if matches!(entry.source, Source::DynamicTopic) => {
            vec![own, synonym(o.name, &o.value, o.source)]
        }
        Some(o) => vec![synonym(o.name, &o.value, o.source)],
    }
}

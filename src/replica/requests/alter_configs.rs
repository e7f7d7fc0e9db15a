//! IncrementalAlterConfigs and AlterConfigs: what may be set, by whom it is asked, and what each resource is told.
//!
//! Judged at the node that was asked (Kafka: `ConfigAdminManager.preprocess`), in Kafka's order and with its codes; what is left of
//! the request then, changes of the one topic, is the leader's (Kafka: `ConfigurationControlManager`). A resource is altered as a
//! whole, or not at all.

use super::{is_topic_name, text};
use crate::protocol::{Response, messages as m};
use crate::types::*;
use m::incremental_alter_configs_request as incremental;
use m::incremental_alter_configs_response::AlterConfigsResourceResponse;
use std::collections::{BTreeMap, BTreeSet};

use super::configs::{BROKER, TOPIC};

/// The keys that mean something here, with the least that they may be set to, and whether 0 is none of it: -1 is no limit.
const TAKEN: [Taken; 2] = [
    Taken { name: "retention.bytes", is_zero_taken: false },
    Taken { name: "retention.ms", is_zero_taken: true },
];
const NO_LIMIT: i64 = -1;

struct Taken {
    name: &'static str,
    /// Of bytes none would be left of the log.
    is_zero_taken: bool,
}

/// Kafka: `AlterConfigOp.OpType`.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Refusal = (ErrorCode, String);

/// Whose request it is, as far as it matters here.
pub(crate) struct Asked<'a> {
    pub(crate) topic_name: &'a str,
    pub(crate) local: NodeId,
    pub(crate) data_mode: DataMode,
}

/// A request of either kind.
pub(crate) struct Alteration {
    resources: Vec<Resource>,
    pub(crate) validate_only: bool,
    is_incremental: bool,
}

struct Resource {
    resource_type: i8,
    name: m::StrBytes,
    changes: Vec<Change>,
}

/// One key of a resource: what is to become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    name: m::StrBytes,
    operation: i8,
    value: Option<m::StrBytes>,
}

impl From<m::IncrementalAlterConfigsRequest> for Alteration {
    fn from(request: m::IncrementalAlterConfigsRequest) -> Alteration {
        let change = |config: incremental::AlterableConfig| Change {
            name: config.name,
            operation: config.config_operation,
            value: config.value,
        };
        let resource = |resource: incremental::AlterConfigsResource| Resource {
            resource_type: resource.resource_type,
            name: resource.resource_name,
            changes: resource.configs.into_iter().map(change).collect(),
        };
        Alteration {
            resources: request.resources.into_iter().map(resource).collect(),
            validate_only: request.validate_only,
            is_incremental: true,
        }
    }
}

/// What it does not name of the topic goes back to its default. A node has nothing that could be taken back.
impl From<m::AlterConfigsRequest> for Alteration {
    fn from(request: m::AlterConfigsRequest) -> Alteration {
        let resource = |resource: m::alter_configs_request::AlterConfigsResource| {
            let named: BTreeSet<_> = resource.configs.iter().map(|config| config.name.to_string()).collect();
            let taken = if resource.resource_type == TOPIC { &TAKEN[..] } else { &[] };
            let others = taken.iter().filter(|taken| !named.contains(taken.name)).map(|taken| Change {
                name: m::StrBytes::from_static_str(taken.name),
                operation: DELETE,
                value: None,
            });
            let others: Vec<_> = others.collect();
            let set = resource.configs.into_iter().map(|config| Change {
                name: config.name,
                operation: SET,
                value: config.value,
            });
            Resource {
                resource_type: resource.resource_type,
                name: resource.resource_name,
                changes: set.chain(others).collect(),
            }
        };
        Alteration {
            resources: request.resources.into_iter().map(resource).collect(),
            validate_only: request.validate_only,
            is_incremental: false,
        }
    }
}

/// What each resource is told, but for the topic's if there is something for the leader to do.
#[derive(Debug)]
pub(crate) struct Judged {
    lines: Vec<AlterConfigsResourceResponse>,
    /// The topic's place among them, and what is to change.
    ours: Option<(usize, Vec<Change>)>,
    pub(crate) validate_only: bool,
    is_incremental: bool,
}

impl Alteration {
    pub(crate) fn judge(self, asked: &Asked) -> Judged {
        let mut seen = BTreeMap::new();
        for resource in &self.resources {
            *seen.entry((resource.resource_type, resource.name.to_string())).or_insert(0) += 1;
        }
        let mut judged = Judged {
            lines: Vec::with_capacity(self.resources.len()),
            ours: None,
            validate_only: self.validate_only,
            is_incremental: self.is_incremental,
        };
        for resource in self.resources {
            let is_repeated = seen[&(resource.resource_type, resource.name.to_string())] > 1;
            let outcome = match is_repeated {
                true => refusal(ErrorCode::INVALID_REQUEST, "Each resource must appear at most once."),
                false => check_resource(asked, &resource),
            };
            let (error, why) = outcome.err().unwrap_or((ErrorCode::NONE, String::new()));
            if error.is_none() && resource.resource_type == TOPIC && !resource.changes.is_empty() {
                judged.ours = Some((judged.lines.len(), resource.changes));
            }
            judged.lines.push(
                AlterConfigsResourceResponse::default()
                    .with_error_code(error.0)
                    .with_error_message((!error.is_none()).then(|| text(&why)))
                    .with_resource_type(resource.resource_type)
                    .with_resource_name(resource.name),
            );
        }
        judged
    }
}

fn refusal<T>(error: ErrorCode, why: impl Into<String>) -> Result<T, Refusal> {
    Err((error, why.into()))
}

fn check_resource(asked: &Asked, resource: &Resource) -> Result<(), Refusal> {
    let mut names = BTreeSet::new();
    if !resource.changes.iter().all(|change| names.insert(&*change.name)) {
        return refusal(ErrorCode::INVALID_REQUEST, "Error due to duplicate config keys");
    }
    let is_null = |change: &&Change| change.operation != DELETE && change.value.is_none();
    let nulls: Vec<&str> = resource.changes.iter().filter(is_null).map(|change| &*change.name).collect();
    if !nulls.is_empty() {
        let why = format!("Null value not supported for : {}", nulls.join(", "));
        return refusal(ErrorCode::INVALID_REQUEST, why);
    }
    if let Some(change) = resource.changes.iter().find(|change| !(SET..=SUBTRACT).contains(&change.operation))
    {
        return refusal(ErrorCode::INVALID_REQUEST, format!("Unknown operations type {}", change.operation));
    }
    match resource.resource_type {
        TOPIC => check_topic(asked, resource),
        BROKER => check_broker(asked, resource),
        other => refusal(ErrorCode::INVALID_REQUEST, format!("Unknown resource type {other}")),
    }
}

/// No key of a node is dynamic here. Kafka says the same of those that are not.
fn check_broker(asked: &Asked, resource: &Resource) -> Result<(), Refusal> {
    let name = resource.name.as_str();
    if !name.is_empty() {
        match name.parse() {
            Ok(id) if NodeId(id) == asked.local => {}
            Ok(id) => {
                let why =
                    format!("Unexpected broker id, expected {}, but received {}", asked.local, NodeId(id));
                return refusal(ErrorCode::INVALID_REQUEST, why);
            }
            Err(_) => {
                let why = format!("Node id must be an integer, but it is: {}", Shown(name));
                return refusal(ErrorCode::INVALID_REQUEST, why);
            }
        }
    }
    match resource.changes.first() {
        None => Ok(()),
        Some(change) => refusal(
            ErrorCode::INVALID_REQUEST,
            format!(
                "Cannot update these configs dynamically: {}. A node of this server has its configuration from its file, at its \
                 start",
                Shown(&change.name)
            ),
        ),
    }
}

fn check_topic(asked: &Asked, resource: &Resource) -> Result<(), Refusal> {
    let name = resource.name.as_str();
    if name.is_empty() {
        return refusal(ErrorCode::INVALID_REQUEST, "Default topic resources are not allowed.");
    }
    if !is_topic_name(name) {
        return refusal(ErrorCode::INVALID_TOPIC_EXCEPTION, "No topic can have this name.");
    }
    if name != asked.topic_name {
        let why = format!("The topic '{name}' does not exist.");
        return refusal(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, why);
    }
    if asked.data_mode == DataMode::Interop {
        let why = "Nothing can be set for the topic where kraft.data.mode=interop: it would be kept in the log, in a record that \
                   Kafka's own voters do not know. Each node has its configuration from its file";
        // Of UNSUPPORTED_VERSION kafka-configs makes a line of its own, that the cluster is too old.
        return refusal(ErrorCode::POLICY_VIOLATION, why);
    }
    resource.changes.iter().try_for_each(check_change)
}

fn check_change(change: &Change) -> Result<(), Refusal> {
    let name = Shown(&change.name);
    // What is not set can be taken back, as with Kafka.
    if change.operation == DELETE {
        return Ok(());
    }
    let Some(taken) = TAKEN.iter().find(|taken| taken.name == &*change.name) else {
        let names = TAKEN.map(|taken| taken.name).join(" and ");
        let why = format!("{name} cannot be set for the topic: this server takes {names}");
        return refusal(ErrorCode::INVALID_CONFIG, why);
    };
    if matches!(change.operation, APPEND | SUBTRACT) {
        let operation = if change.operation == APPEND { "APPEND" } else { "SUBTRACT" };
        let why = format!("Can't {operation} to key {name} because its type is not LIST.");
        return refusal(ErrorCode::INVALID_CONFIG, why);
    }
    let value = change.value.as_deref().unwrap_or_default();
    let what = match number(value) {
        None => "Not a number of type LONG".to_string(),
        Some(number) if number < NO_LIMIT => "Value must be at least -1".to_string(),
        Some(0) if !taken.is_zero_taken => "Value must be -1, for no limit, or above 0".to_string(),
        Some(_) => return Ok(()),
    };
    let why = format!("Invalid value {} for configuration {name}: {what}", Shown(value));
    refusal(ErrorCode::INVALID_CONFIG, why)
}

/// As Java reads a long.
fn number(value: &str) -> Option<i64> {
    value.trim().parse().ok()
}

impl Judged {
    /// Something is to change that only the leader can.
    pub(crate) fn is_for_leader(&self) -> bool {
        self.ours.is_some()
    }

    /// What is set once this is done, where that was set before. Values as Kafka shows them: numbers.
    pub(crate) fn apply(&self, set: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut set = set.clone();
        for change in self.ours.iter().flat_map(|(_, changes)| changes) {
            match change.value.as_deref().and_then(number).filter(|_| change.operation == SET) {
                Some(value) => _ = set.insert(change.name.to_string(), value.to_string()),
                None => _ = set.remove(&*change.name),
            }
        }
        set
    }

    /// What the leader is asked in its place.
    pub(crate) fn for_leader(&self) -> m::IncrementalAlterConfigsRequest {
        let resources = self.ours.iter().map(|(place, changes)| {
            let line = &self.lines[*place];
            let configs = changes.iter().map(|change| {
                incremental::AlterableConfig::default()
                    .with_name(change.name.clone())
                    .with_config_operation(change.operation)
                    .with_value(change.value.clone())
            });
            incremental::AlterConfigsResource::default()
                .with_resource_type(line.resource_type)
                .with_resource_name(line.resource_name.clone())
                .with_configs(configs.collect())
        });
        m::IncrementalAlterConfigsRequest::default()
            .with_resources(resources.collect())
            .with_validate_only(self.validate_only)
    }

    /// The topic is told this, in place of that it is done.
    pub(crate) fn refuse(&mut self, error: ErrorCode, why: Option<m::StrBytes>) {
        if let Some((place, _)) = self.ours {
            self.lines[place].error_code = error.0;
            self.lines[place].error_message = why;
        }
    }

    pub(crate) fn into_response(self) -> Response {
        if self.is_incremental {
            let response = m::IncrementalAlterConfigsResponse::default().with_responses(self.lines);
            return Response::IncrementalAlterConfigs(response);
        }
        let lines = self.lines.into_iter().map(|line| {
            m::alter_configs_response::AlterConfigsResourceResponse::default()
                .with_error_code(line.error_code)
                .with_error_message(line.error_message)
                .with_resource_type(line.resource_type)
                .with_resource_name(line.resource_name)
        });
        Response::AlterConfigs(m::AlterConfigsResponse::default().with_responses(lines.collect()))
    }
}

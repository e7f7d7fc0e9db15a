//! What we speak: the table of keys and versions, and the ApiVersions answer that tells it (KIP-35, KIP-511).

use super::messages as m;
use super::messages::api_versions_response::{ApiVersion, SupportedFeatureKey};
use super::messages::{ApiVersionsRequest, ApiVersionsResponse, StrBytes};
use crate::types::ErrorCode;

/// Kafka's api keys, of the requests that we serve.
pub(crate) mod key {
    pub(crate) const PRODUCE: i16 = 0;
    pub(crate) const FETCH: i16 = 1;
    pub(crate) const LIST_OFFSETS: i16 = 2;
    pub(crate) const METADATA: i16 = 3;
    pub(crate) const OFFSET_COMMIT: i16 = 8;
    pub(crate) const OFFSET_FETCH: i16 = 9;
    pub(crate) const FIND_COORDINATOR: i16 = 10;
    pub(crate) const JOIN_GROUP: i16 = 11;
    pub(crate) const HEARTBEAT: i16 = 12;
    pub(crate) const LEAVE_GROUP: i16 = 13;
    pub(crate) const SYNC_GROUP: i16 = 14;
    pub(crate) const DESCRIBE_GROUPS: i16 = 15;
    pub(crate) const LIST_GROUPS: i16 = 16;
    pub(crate) const API_VERSIONS: i16 = 18;
    pub(crate) const CREATE_TOPICS: i16 = 19;
    pub(crate) const DELETE_RECORDS: i16 = 21;
    pub(crate) const INIT_PRODUCER_ID: i16 = 22;
    pub(crate) const OFFSET_FOR_LEADER_EPOCH: i16 = 23;
    pub(crate) const DESCRIBE_CONFIGS: i16 = 32;
    pub(crate) const ALTER_CONFIGS: i16 = 33;
    pub(crate) const DESCRIBE_LOG_DIRS: i16 = 35;
    pub(crate) const DELETE_GROUPS: i16 = 42;
    pub(crate) const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
    pub(crate) const OFFSET_DELETE: i16 = 47;
    pub(crate) const VOTE: i16 = 52;
    pub(crate) const BEGIN_QUORUM_EPOCH: i16 = 53;
    pub(crate) const END_QUORUM_EPOCH: i16 = 54;
    pub(crate) const DESCRIBE_QUORUM: i16 = 55;
    pub(crate) const FETCH_SNAPSHOT: i16 = 59;
    pub(crate) const DESCRIBE_CLUSTER: i16 = 60;
    pub(crate) const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
    pub(crate) const CONSUMER_GROUP_DESCRIBE: i16 = 69;
    pub(crate) const DESCRIBE_TOPIC_PARTITIONS: i16 = 75;
    pub(crate) const UPDATE_RAFT_VOTER: i16 = 82;
}

/// Lowest version of Produce that is served, although all from 0 are advertised.
const PRODUCE_VERSION_MIN: i16 = 3;

const ADVERTISED: &[(i16, i16, i16)] = &[
    // From 0: librdkafka takes a higher minimum for a broker without Produce (KAFKA-18659). 0 to 2 are refused.
    (key::PRODUCE, 0, 13),
    (key::FETCH, 4, 18),
    (key::LIST_OFFSETS, 1, 11),
    (key::METADATA, 0, 13),
    // No groups stand behind what follows, but librdkafka sends no lz4 to a broker without FindCoordinator, and whoever is
    // told a coordinator goes on to ask it: librdkafka ends with a signal, or waits for ever, where it does not find the
    // request that it wants in this list.
    (key::OFFSET_COMMIT, 2, 9),
    (key::OFFSET_FETCH, 1, 9),
    (key::FIND_COORDINATOR, 0, 6),
    // Refused. Every client has these two versions.
    (key::JOIN_GROUP, 0, 1),
    (key::HEARTBEAT, 0, 4),
    (key::LEAVE_GROUP, 0, 5),
    (key::SYNC_GROUP, 0, 5),
    (key::DESCRIBE_GROUPS, 0, 6),
    (key::LIST_GROUPS, 0, 5),
    (key::API_VERSIONS, 0, 4),
    (key::CREATE_TOPICS, 2, 7),
    (key::INIT_PRODUCER_ID, 0, 5),
    (key::OFFSET_FOR_LEADER_EPOCH, 2, 4),
    (key::DESCRIBE_CONFIGS, 1, 4),
    (key::ALTER_CONFIGS, 0, 2),
    (key::DESCRIBE_LOG_DIRS, 1, 4),
    (key::DELETE_GROUPS, 0, 2),
    (key::INCREMENTAL_ALTER_CONFIGS, 0, 1),
    (key::OFFSET_DELETE, 0, 0),
    (key::VOTE, 0, 2),
    (key::BEGIN_QUORUM_EPOCH, 0, 1),
    (key::END_QUORUM_EPOCH, 0, 1),
    (key::DESCRIBE_QUORUM, 0, 2),
    (key::FETCH_SNAPSHOT, 0, 1),
    (key::DESCRIBE_CLUSTER, 0, 2),
    (key::CONSUMER_GROUP_HEARTBEAT, 0, 1),
    (key::CONSUMER_GROUP_DESCRIBE, 0, 1),
    (key::DESCRIBE_TOPIC_PARTITIONS, 0, 0),
    (key::UPDATE_RAFT_VOTER, 0, 0),
];

/// The ApiVersions table: (key, min, max) of all that is answered (Produce advertised from 0).
pub fn advertised() -> &'static [(i16, i16, i16)] {
    ADVERTISED
}

/// Lowest and highest version of a key that is really served.
pub(super) fn served(api_key: i16) -> Option<(i16, i16)> {
    let (_, min, max) = *ADVERTISED.iter().find(|(key, ..)| *key == api_key)?;
    Some(if api_key == key::PRODUCE { (PRODUCE_VERSION_MIN, max) } else { (min, max) })
}

/// The version whose schema the codec crate has: it stops at ListOffsets 10, and 11 has the same bytes (KIP-1023 gave
/// only a meaning to the timestamp -6).
pub(super) fn codec_version(api_key: i16, version: i16) -> i16 {
    if api_key == key::LIST_OFFSETS { version.min(10) } else { version }
}

/// The answer to ApiVersions of this version, whether we have that version or not.
pub fn api_versions_response(version: i16) -> ApiVersionsResponse {
    let is_served = served(key::API_VERSIONS).is_some_and(|(min, max)| (min..=max).contains(&version));
    if !is_served {
        // KIP-511: error 35, and of all keys only the range of ApiVersions itself, which the client then picks from.
        return m::ApiVersionsResponse::default()
            .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0)
            .with_api_keys(api_keys(|api_key| api_key == key::API_VERSIONS));
    }
    ApiVersionsResponse::default()
        .with_api_keys(api_keys(|_| true))
        .with_supported_features(supported_features(version))
}

fn api_keys(is_wanted: impl Fn(i16) -> bool) -> Vec<ApiVersion> {
    let wanted = ADVERTISED.iter().filter(|(api_key, ..)| is_wanted(*api_key));
    let encoded = wanted.map(|(api_key, min, max)| {
        ApiVersion::default().with_api_key(*api_key).with_min_version(*min).with_max_version(*max)
    });
    encoded.collect()
}

/// kraft.version 0 to 1. Clients below version 4 cannot read a feature whose minimum is 0 (KAFKA-17492).
fn supported_features(version: i16) -> Vec<SupportedFeatureKey> {
    if version < 4 {
        return Vec::new();
    }
    let name = StrBytes::from_static_str("kraft.version");
    vec![SupportedFeatureKey::default().with_name(name).with_min_version(0).with_max_version(1)]
}

/// Whether the client says who it is in the form that Kafka asks for; if not, it gets INVALID_REQUEST
/// (Kafka: `ApiVersionsRequest.isValid`).
pub fn client_software_is_valid(request: &ApiVersionsRequest, version: i16) -> bool {
    version < 3
        || (is_software_word(&request.client_software_name)
            && is_software_word(&request.client_software_version))
}

/// Letters and digits, with `-` and `.` between them.
fn is_software_word(word: &str) -> bool {
    let is_inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
    let is_outer = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = word.as_bytes();
    is_outer(bytes.first()) && is_outer(bytes.last()) && bytes.iter().all(|c| is_inner(*c))
}

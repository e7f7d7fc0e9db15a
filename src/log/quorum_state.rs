//! `quorum-state`: Kafka's JSON file of the election state, with three keys of our own.
//!
//! Read by recovery, written as a whole before anything is said that rests on it. Kafka's keys come first;
//! `caughtUp`, `inDoubt` where it is true, and `checksum` follow. Java looks its own keys up by name and never at others (`FileQuorumStateStore` finds
//! `data_version` beside the fields of `QuorumStateDataJsonConverter` the same way), so it reads our file, and what it
//! writes reads here: without `caughtUp`, which then is true.
//!
//! Written with `data_version` 1, which names the voted directory; Java takes that version under any kraft.version.

use crate::types::*;
use serde_json::{Map, Value};

const DATA_VERSION_MAX: i64 = 1;
/// Keys of Kafka's `QuorumStateData`, versions 0 and 1. A file with any other key was written here, and whole.
const KAFKA_KEYS: [&str; 8] = [
    "clusterId",
    "leaderId",
    "leaderEpoch",
    "votedId",
    "votedDirectoryId",
    "appliedOffset",
    "currentVoters",
    "data_version",
];

/// The file's exact bytes. Java reads one line: there is no more.
pub(super) fn encode(state: &QuorumState) -> Vec<u8> {
    let no_one = NodeId(-1);
    let body = format!(
        r#"{{"leaderId":{},"leaderEpoch":{},"votedId":{},"votedDirectoryId":"{}","data_version":1,"caughtUp":{}"#,
        state.leader.unwrap_or(no_one),
        state.epoch,
        state.voted.map_or(no_one, |key| key.id),
        state.voted.map_or(Uuid::ZERO, |key| key.directory_id),
        state.caught_up,
    );
    let body = if state.in_doubt { body + r#","inDoubt":true"# } else { body };
    format!(r#"{body},"checksum":"{:08x}"}}"#, crc32c::crc32c(body.as_bytes())).into_bytes()
}

/// The error says what is wrong with the file, in words.
pub(super) fn decode(file: &[u8]) -> Result<QuorumState, String> {
    let fields: Map<String, Value> =
        serde_json::from_slice(file).map_err(|e| format!("it is not a JSON object ({e})"))?;
    let version = number(&fields, "data_version")?;
    if !(0..=DATA_VERSION_MAX).contains(&version) {
        return Err(format!("its data_version is {version}; 0 and 1 are known"));
    }
    let voted_id = node_id(&fields, "votedId")?;
    let state = QuorumState {
        epoch: Epoch(within_i32(number(&fields, "leaderEpoch")?, 0, "leaderEpoch")?),
        leader: node_id(&fields, "leaderId")?,
        voted: match (voted_id, version) {
            (None, _) => None,
            (Some(id), 0) => Some(ReplicaKey { id, directory_id: Uuid::ZERO }),
            (Some(id), _) => Some(ReplicaKey { id, directory_id: directory_id(&fields)? }),
        },
        caught_up: fields.get("caughtUp").and_then(Value::as_bool).unwrap_or(true),
        in_doubt: fields.get("inDoubt").and_then(Value::as_bool).unwrap_or(false),
    };
    let ours = fields.keys().any(|key| !KAFKA_KEYS.contains(&key.as_str()));
    // Comparing the whole text catches each flipped bit, those of the keys' names too.
    if ours && encode(&state) != file {
        return Err("its checksum does not match its contents".to_string());
    }
    Ok(state)
}

fn number(fields: &Map<String, Value>, key: &str) -> Result<i64, String> {
    let value = fields.get(key).ok_or_else(|| format!("it has no {key}"))?;
    value.as_i64().ok_or_else(|| format!("its {key} is {value}, not a whole number"))
}

fn within_i32(value: i64, min: i32, key: &str) -> Result<i32, String> {
    let small = i32::try_from(value).ok().filter(|v| *v >= min);
    small.ok_or_else(|| format!("its {key} is {value}, which no node writes"))
}

fn node_id(fields: &Map<String, Value>, key: &str) -> Result<Option<NodeId>, String> {
    let id = within_i32(number(fields, key)?, -1, key)?;
    Ok((id >= 0).then_some(NodeId(id)))
}

fn directory_id(fields: &Map<String, Value>) -> Result<Uuid, String> {
    let text = fields.get("votedDirectoryId").and_then(Value::as_str);
    text.and_then(Uuid::parse).ok_or_else(|| "its votedDirectoryId is missing or not a uuid".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOTED: QuorumState = QuorumState {
        epoch: Epoch(5),
        leader: None,
        voted: Some(ReplicaKey { id: NodeId(2), directory_id: Uuid(77) }),
        caught_up: true,
        in_doubt: false,
    };

    #[test]
    fn states_read_back() {
        let led = QuorumState { epoch: Epoch(i32::MAX), leader: Some(NodeId(0)), ..VOTED };
        let doubted = QuorumState { in_doubt: true, ..VOTED };
        for state in [QuorumState::EMPTY, VOTED, led, QuorumState { caught_up: false, ..VOTED }, doubted] {
            assert_eq!(decode(&encode(&state)), Ok(state));
        }
    }

    #[test]
    fn java_finds_its_keys_in_our_file() {
        let fields: Map<String, Value> = serde_json::from_slice(&encode(&VOTED)).unwrap();
        assert_eq!(fields["data_version"], 1);
        assert_eq!((&fields["leaderId"], &fields["leaderEpoch"]), (&Value::from(-1), &Value::from(5)));
        assert_eq!(fields["votedId"], 2);
        assert_eq!(fields["votedDirectoryId"], "AAAAAAAAAAAAAAAAAAAATQ");
    }

    #[test]
    fn files_of_kafka_4_3_read() {
        let v0 = br#"{"clusterId":"","leaderId":1,"leaderEpoch":2,"votedId":1,"appliedOffset":0,"currentVoters":[{"voterId":1},{"voterId":2},{"voterId":3}],"data_version":0}"#;
        let state = decode(v0).unwrap();
        assert_eq!((state.epoch, state.leader, state.caught_up), (Epoch(2), Some(NodeId(1)), true));
        assert_eq!(state.voted, Some(ReplicaKey { id: NodeId(1), directory_id: Uuid::ZERO }));
        let v1 = br#"{"leaderId":1,"leaderEpoch":1,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}"#;
        assert_eq!(decode(v1).unwrap().voted, None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_our_file_is_noticed() {
        let file = encode(&QuorumState { in_doubt: true, ..VOTED });
        for bit in 0..file.len() * 8 {
            let mut rotten = file.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&rotten).is_err(), "bit {bit}: {}", String::from_utf8_lossy(&rotten));
        }
        for length in 0..file.len() {
            assert!(decode(&file[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn absurd_files_are_refused_in_words() {
        for (file, why) in [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("{}", "no data_version"),
            (r#"{"data_version":2}"#, "0 and 1 are known"),
            (r#"{"data_version":1,"votedId":-2}"#, "which no node writes"),
            (r#"{"data_version":1,"votedId":-1,"leaderEpoch":-1}"#, "leaderEpoch is -1"),
            (r#"{"data_version":1,"votedId":1,"leaderEpoch":1,"leaderId":-1}"#, "not a uuid"),
            (
                r#"{"data_version":1,"votedId":-1,"leaderEpoch":1,"leaderId":99999999999}"#,
                "leaderId is 99999999999",
            ),
        ] {
            let error = decode(file.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{file}: {error}");
        }
    }
}

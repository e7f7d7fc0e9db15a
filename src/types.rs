//! The words of the project as types: ids, offsets, epochs, error codes and time.
//!
//! Every module may import this one and it imports none. A log end offset, a flushed offset and a high
//! watermark are all positions in the log, and mixing them up is how data is lost: so each has a type of its own.

use std::fmt;

/// Id of a node (Kafka's `node.id`, once `broker.id`), >= 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub i32);

/// Leader epoch: one leader at most in each. Starts at 0 with no leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i32);

/// Position of a record in the log, counted in records from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// Offset that the next appended record gets, durable or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogEndOffset(pub Offset);

/// All records below it are durable on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlushedOffset(pub Offset);

/// All records below it are durable on a majority of the voters, and never change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HighWatermark(pub Offset);

/// An offset together with the epoch of the record before it (a log's end) or at it (a snapshot id).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetAndEpoch {
    // The epoch is compared first: that is the order in which Raft compares logs.
    /// Of that record; 0 where there is none.
    pub epoch: Epoch,
    /// Of the log's end, or of the snapshot's.
    pub offset: Offset,
}

/// First offset of an epoch in the log (a line of Kafka's `leader-epoch-checkpoint`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    pub(crate) epoch: Epoch,
    pub(crate) start_offset: Offset,
}

impl EpochStart {
    /// The epochs that have a record between these offsets. One that began before `start` begins there.
    pub(crate) fn within(
        epochs: &[EpochStart],
        start: Offset,
        end: Offset,
    ) -> impl Iterator<Item = EpochStart> {
        let ends = epochs.iter().skip(1).map(|next| next.start_offset).chain([end]);
        let has_record =
            move |(epoch, until): &(&EpochStart, Offset)| epoch.start_offset.max(start) < end.min(*until);
        epochs
            .iter()
            .zip(ends)
            .filter(has_record)
            .map(move |(epoch, _)| EpochStart { start_offset: epoch.start_offset.max(start), ..*epoch })
    }
}

/// A replica: its node id and the id of its directory (KIP-853). The directory id is zero where it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaKey {
    /// Its node.id.
    pub id: NodeId,
    /// Kafka's directory.id, KIP-853.
    pub directory_id: Uuid,
}

/// Upper bounds of the buckets of `LatencyBuckets` in ns: 10 us to 10 s in steps of 1, 2, 5.
const LATENCY_BUCKETS_NS: [u64; 19] = [
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// A histogram of few and fixed buckets, for what only a monitoring system reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LatencyBuckets {
    /// The last one has no bound.
    counts: [u64; LATENCY_BUCKETS_NS.len() + 1],
    sum_ns: u64,
}

impl LatencyBuckets {
    pub(crate) fn record(&mut self, ns: u64) {
        self.record_many(ns, 1);
    }

    pub(crate) fn record_many(&mut self, ns: u64, count: u64) {
        self.counts[LATENCY_BUCKETS_NS.partition_point(|bound| *bound < ns)] += count;
        self.sum_ns = self.sum_ns.saturating_add(ns.saturating_mul(count));
    }

    pub(crate) fn len(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// (upper bound in seconds, how many lie in this bucket); the last bound is infinite.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = LATENCY_BUCKETS_NS.iter().map(|ns| *ns as f64 / 1e9).chain([f64::INFINITY]);
        bounds.zip(self.counts).collect()
    }
}

/// How much of the log a start reads (`kraft.log.check`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogCheck {
    /// What no summary vouches for: the last segment, and not even that after a stop in good order.
    #[default]
    Tail,
    /// Every byte.
    Whole,
}

impl fmt::Display for LogCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogCheck::Tail => "tail",
            LogCheck::Whole => "whole",
        })
    }
}

/// Whether compressed batches of clients are looked into (`kraft.compressed.check`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressedCheck {
    /// Decompressed and checked record by record, on threads for it, before they are appended.
    #[default]
    Always,
    /// Their headers are believed: what is inside is found out by who reads it.
    Off,
}

impl fmt::Display for CompressedCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CompressedCheck::Always => "always",
            CompressedCheck::Off => "off",
        })
    }
}

/// Whose votes the first leader of a log needs (`kraft.first.leader`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstLeader {
    /// All voters': each says that its log is empty too.
    #[default]
    All,
    /// A majority's, as with Kafka's own voters: a voter that is away may have held a log.
    Majority,
}

impl fmt::Display for FirstLeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FirstLeader::All => "all",
            FirstLeader::Majority => "majority",
        })
    }
}

/// What a voter does while its log is in doubt (`kraft.log.doubt`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogDoubt {
    /// It votes for nobody and does not stand: others elect a leader, which fills it.
    #[default]
    Wait,
    /// Its vote counts among the votes of all voters. For who must have a leader although too few are without doubt: what
    /// nobody has any more is given up.
    Vote,
}

impl fmt::Display for LogDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogDoubt::Wait => "wait",
            LogDoubt::Vote => "vote",
        })
    }
}

/// What the log may hold (`kraft.data.mode`). Belongs to the log: fixed when it is created, the same on all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataMode {
    /// Batches as producers send them. Kafka's own voters would stop at most of them.
    #[default]
    Native,
    /// Only what Kafka's own voters can read too: values without keys, headers and compression.
    Interop,
}

impl fmt::Display for DataMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DataMode::Native => "native",
            DataMode::Interop => "interop",
        })
    }
}

/// Characters of a stranger's text that a log line or an error shows.
const SHOWN_CHARS_MAX: usize = 64;

/// Text that came over the wire, as people may see it: nothing in it can forge a line, turn it round or fill a disk.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.chars();
        for c in left.by_ref().take(SHOWN_CHARS_MAX) {
            write_printable(f, c)?;
        }
        if left.as_str().is_empty() { Ok(()) } else { f.write_str("...") }
    }
}

/// What does not print (control characters, those that change the direction of writing, those without width) is escaped.
pub(crate) fn write_printable(to: &mut impl fmt::Write, c: char) -> fmt::Result {
    match c {
        '\'' | '"' | '\\' => to.write_char(c),
        _ => c.escape_debug().try_for_each(|c| to.write_char(c)),
    }
}

/// Host and port of a listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

/// What a node keeps of elections, durable before anything that rests on it is said (Kafka's `quorum-state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumState {
    pub(crate) epoch: Epoch,
    pub(crate) leader: Option<NodeId>,
    pub(crate) voted: Option<ReplicaKey>,
    /// False from the first start on an empty directory until the log has caught up with a leader: such a voter
    /// may be one whose disk was wiped, and must not help a short log to win (`design: empty voter`).
    pub(crate) caught_up: bool,
    /// True from a start that found the end of the log damaged, and not for certain by a write that never completed, until
    /// the log has caught up with a leader: records that this voter has acknowledged may be missing.
    pub(crate) in_doubt: bool,
}

impl QuorumState {
    /// Of a directory in which nothing has ever been kept.
    pub const EMPTY: QuorumState =
        QuorumState { epoch: Epoch(0), leader: None, voted: None, caught_up: false, in_doubt: false };
}

/// Of the host, or of the control group that the process runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostMemory {
    /// What programs may have of it.
    pub total_bytes: u64,
    /// Without that anything must be given back for it but the kernel's cache.
    pub available_bytes: u64,
}

/// The two clocks of a step. Timeouts use only `monotonic_ns`; `wall_ms` goes only into timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// From a clock that only rises; its zero is nowhere.
    pub monotonic_ns: u64,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
}

pub(crate) const NS_PER_MS: u64 = 1_000_000;

impl Now {
    pub(crate) fn plus_ms(self, ms: u64) -> u64 {
        self.monotonic_ns + ms * NS_PER_MS
    }
}

/// Kafka's uuid: 16 bytes, printed as 22 characters of URL-safe base64 without padding.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub u128);

impl Uuid {
    /// "Not known", wherever Kafka has a uuid.
    pub const ZERO: Uuid = Uuid(0);
    /// Topic id of `__cluster_metadata` (Kafka: `Uuid.METADATA_TOPIC_ID`).
    pub const METADATA_TOPIC_ID: Uuid = Uuid(1);

    pub(crate) fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `None` where the text is not the 22 characters that stand for 16 bytes.
    pub(crate) fn parse(text: &str) -> Option<Uuid> {
        if text.len() != 22 {
            return None;
        }
        let mut value: u128 = 0;
        for (i, c) in text.bytes().enumerate() {
            let digit = BASE64_URL.iter().position(|b| *b == c)? as u128;
            if i < 21 {
                value = value << 6 | digit;
            } else if digit & 0x0f != 0 {
                return None;
            } else {
                value = value << 2 | digit >> 4;
            }
        }
        Some(Uuid(value))
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in 0..22 {
            // 21 digits of 6 bits from the top, then the last 2 bits, padded with zeros on the right.
            let digit = if i < 21 { self.0 >> (122 - 6 * i) } else { self.0 << 4 } & 0x3f;
            write!(f, "{}", BASE64_URL[digit as usize] as char)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! display_as_number {
    ($($t:ident),*) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(&self.0, f) }
        }
    )*};
}
display_as_number!(NodeId, Epoch, Offset, LogEndOffset, FlushedOffset, HighWatermark);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            // An IPv6 address, as it must be written too.
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Kafka's error code as it stands on the wire (`org.apache.kafka.common.protocol.Errors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub i16);

macro_rules! error_codes {
    ($($name:ident = $code:literal),* $(,)?) => {
        impl ErrorCode {
            $(#[doc = concat!("Kafka's error ", $code, ".")] pub const $name: ErrorCode = ErrorCode($code);)*
            /// Kafka's name of the code, for log lines.
            pub fn name(self) -> &'static str {
                match self.0 { $($code => stringify!($name),)* _ => "an error code without a name here" }
            }
        }
    };
}
error_codes! {
    UNKNOWN_SERVER_ERROR = -1,
    NONE = 0,
    OFFSET_OUT_OF_RANGE = 1,
    CORRUPT_MESSAGE = 2,
    UNKNOWN_TOPIC_OR_PARTITION = 3,
    LEADER_NOT_AVAILABLE = 5,
    NOT_LEADER_OR_FOLLOWER = 6,
    REQUEST_TIMED_OUT = 7,
    BROKER_NOT_AVAILABLE = 8,
    MESSAGE_TOO_LARGE = 10,
    COORDINATOR_NOT_AVAILABLE = 15,
    INVALID_TOPIC_EXCEPTION = 17,
    RECORD_LIST_TOO_LARGE = 18,
    NOT_ENOUGH_REPLICAS = 19,
    INVALID_REQUIRED_ACKS = 21,
    INVALID_GROUP_ID = 24,
    UNKNOWN_MEMBER_ID = 25,
    INVALID_TIMESTAMP = 32,
    UNSUPPORTED_VERSION = 35,
    TOPIC_ALREADY_EXISTS = 36,
    INVALID_CONFIG = 40,
    NOT_CONTROLLER = 41,
    INVALID_REQUEST = 42,
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43,
    POLICY_VIOLATION = 44,
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45,
    DUPLICATE_SEQUENCE_NUMBER = 46,
    INVALID_PRODUCER_EPOCH = 47,
    INVALID_TXN_STATE = 48,
    KAFKA_STORAGE_ERROR = 56,
    UNKNOWN_PRODUCER_ID = 59,
    GROUP_ID_NOT_FOUND = 69,
    FETCH_SESSION_ID_NOT_FOUND = 70,
    INVALID_FETCH_SESSION_EPOCH = 71,
    FENCED_LEADER_EPOCH = 74,
    UNKNOWN_LEADER_EPOCH = 75,
    UNSUPPORTED_COMPRESSION_TYPE = 76,
    OFFSET_NOT_AVAILABLE = 78,
    REBOOTSTRAP_REQUIRED = 129,
    INVALID_RECORD = 87,
    SNAPSHOT_NOT_FOUND = 98,
    POSITION_OUT_OF_RANGE = 99,
    UNKNOWN_TOPIC_ID = 100,
    INCONSISTENT_TOPIC_ID = 103,
    INCONSISTENT_CLUSTER_ID = 104,
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53,
    INVALID_VOTER_KEY = 125,
    DUPLICATE_VOTER = 126,
    VOTER_NOT_FOUND = 127,
}

impl ErrorCode {
    /// No error.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_prints_and_parses_as_kafka_does() {
        assert_eq!(Uuid(1).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid(2).to_string(), "AAAAAAAAAAAAAAAAAAAAAg");
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        for value in [0, 1, 2, u128::MAX, 0x1234_5678_9abc_def0_0fed_cba9_8765_4321] {
            assert_eq!(Uuid::parse(&Uuid(value).to_string()), Some(Uuid(value)));
        }
        for bad in ["", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAAA+", "AAAAAAAAAAAAAAAAAAAAAQQ"] {
            assert_eq!(Uuid::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn endpoints_are_shown_as_they_are_written() {
        let shown = |host: &str| Endpoint { host: host.into(), port: 9092 }.to_string();
        assert_eq!([shown("::1"), shown("localhost"), shown("")], ["[::1]:9092", "localhost:9092", ":9092"]);
    }

    #[test]
    fn a_strangers_text_is_short_and_cannot_hide_anything() {
        assert_eq!(Shown("raft-client-2 'x'").to_string(), "raft-client-2 'x'");
        assert_eq!(Shown("a\nb\u{202e}c\u{200b}").to_string(), r"a\nb\u{202e}c\u{200b}");
        assert_eq!(Shown(&"x".repeat(SHOWN_CHARS_MAX)).to_string().len(), SHOWN_CHARS_MAX);
        let long = Shown(&"\u{202e}".repeat(30_000)).to_string();
        assert!(long.ends_with("...") && long.len() < SHOWN_CHARS_MAX * 10, "{long}");
    }

    #[test]
    fn latencies_lie_in_the_bucket_below_whose_bound_they_are() {
        let mut latencies = LatencyBuckets::default();
        assert_eq!(latencies.len(), 0);
        [1, 10_000, 10_001, u64::MAX].into_iter().for_each(|ns| latencies.record(ns));
        latencies.record_many(3_000_000, 5);
        let buckets = latencies.buckets();
        assert_eq!((buckets[0], buckets[1]), ((0.000_01, 2), (0.000_02, 1)));
        assert_eq!(buckets.iter().find(|(bound, _)| *bound == 0.005).map(|(_, count)| *count), Some(5));
        assert_eq!(*buckets.last().unwrap(), (f64::INFINITY, 1));
        assert_eq!(latencies.len(), 9);
        let mut two = LatencyBuckets::default();
        two.record_many(1_500_000_000, 2);
        assert_eq!(two.sum_seconds(), 3.0);
    }

    #[test]
    fn logs_compare_by_epoch_before_offset() {
        let longer = OffsetAndEpoch { epoch: Epoch(1), offset: Offset(100) };
        let newer = OffsetAndEpoch { epoch: Epoch(2), offset: Offset(3) };
        assert!(newer > longer);
    }
}

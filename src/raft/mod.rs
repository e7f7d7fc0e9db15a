//! (contract; the owner of src/raft replaces this file)
pub mod effects;
pub mod event;
pub mod random {
    pub struct Random;
    impl Random {
        pub fn new(_s: u64) -> Random {
            Random
        }
        pub fn next_u64(&mut self) -> u64 {
            0
        }
    }
}
use crate::types::*;
pub use effects::*;
pub use event::*;

#[derive(Clone, Debug)]
pub struct RaftConfig {
    pub local: ReplicaKey,
    /// Static voters in the order of their ids. A node that is not among them is an observer.
    pub voters: Vec<ReplicaKey>,
    pub election_timeout_ms: u64,
    pub fetch_timeout_ms: u64,
    pub election_backoff_max_ms: u64,
    pub request_timeout_ms: u64,
    pub retry_backoff_ms: u64,
    /// How long a leader may park our Fetch (Kafka: 500).
    pub fetch_wait_ms_max: u64,
    /// Seed of the jitter.
    pub seed: u64,
}

/// What recovery found. The log is durable up to `log_end`.
#[derive(Clone, Debug)]
pub struct RecoveredState {
    pub quorum_state: QuorumState,
    pub log_start: Offset,
    pub log_end: LogEndOffset,
    /// First offset of each epoch in the log, ascending.
    pub epochs: Vec<EpochStart>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    Unattached,
    Prospective,
    Candidate,
    Leader,
    Follower,
    Resigned,
    Observer,
}

/// One line of DescribeQuorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaProgress {
    pub key: ReplicaKey,
    /// -1 where never heard of.
    pub log_end: Offset,
    /// Monotonic ns; `None`: never.
    pub last_fetch_ns: Option<u64>,
    pub last_caught_up_ns: Option<u64>,
}

pub struct Raft {}
impl Raft {
    pub fn new(_config: RaftConfig, _recovered: RecoveredState, _now: Now) -> Raft {
        unimplemented!()
    }
    /// The only way to change Raft state.
    pub fn step(&mut self, _now: Now, _event: Event, _effects: &mut Effects) {
        unimplemented!()
    }
    /// Monotonic ns at which `Event::Tick` is due.
    pub fn deadline(&self) -> Option<u64> {
        unimplemented!()
    }
    pub fn role(&self) -> RoleName {
        unimplemented!()
    }
    pub fn epoch(&self) -> Epoch {
        unimplemented!()
    }
    /// The leader of the epoch where known, ourselves included.
    pub fn leader(&self) -> Option<NodeId> {
        unimplemented!()
    }
    /// Leader, and the epoch has begun (LeaderChange appended): `Event::Append` will be given a place.
    pub fn can_append(&self) -> bool {
        unimplemented!()
    }
    pub fn is_leader(&self) -> bool {
        unimplemented!()
    }
    pub fn voters(&self) -> &[ReplicaKey] {
        unimplemented!()
    }
    /// `None`: unknown (a leader's epoch has not committed yet, a follower has not heard).
    pub fn high_watermark(&self) -> Option<HighWatermark> {
        unimplemented!()
    }
    pub fn log_end(&self) -> LogEndOffset {
        unimplemented!()
    }
    pub fn log_start(&self) -> Offset {
        unimplemented!()
    }
    pub fn flushed(&self) -> FlushedOffset {
        unimplemented!()
    }
    /// OffsetForLeaderEpoch: end of the largest epoch <= `epoch`, with that epoch; `None` where the log has none.
    pub fn end_of_epoch(&self, _epoch: Epoch) -> Option<OffsetAndEpoch> {
        unimplemented!()
    }
    /// Epoch of the record at the offset.
    pub fn epoch_at(&self, _offset: Offset) -> Option<Epoch> {
        unimplemented!()
    }
    pub fn epochs(&self) -> &[EpochStart] {
        unimplemented!()
    }
    /// Leader: voters and observers, ourselves among the voters.
    pub fn voter_progress(&self, _now: Now) -> Vec<ReplicaProgress> {
        unimplemented!()
    }
    pub fn observer_progress(&self, _now: Now) -> Vec<ReplicaProgress> {
        unimplemented!()
    }
    pub fn quorum_state(&self) -> QuorumState {
        unimplemented!()
    }
}

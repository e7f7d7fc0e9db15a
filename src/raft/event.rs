//! Everything that can happen to Raft: messages, clock, and the completions of what it asked for.
//!
//! Built by `replica` from decoded frames and disk completions, and by scenario scripts. Holds no bytes:
//! a batch is known here only by its offsets and its epoch.

use crate::types::*;

/// Ties an answer to the request that it answers. Chosen by the caller of `step`, opaque here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What Raft is told, one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words above say what the fields are")]
pub enum Event {
    /// `Raft::deadline` has passed. Harmless when it comes early.
    Tick,
    /// The quorum state handed out in `Effects::quorum_state` is durable. Until it comes, no other event may be
    /// stepped: the caller queues them (Java's `durableTransitionTo` blocks its thread for the same reason).
    QuorumStateDurable,
    /// This node's log is durable up to here.
    Flushed(FlushedOffset),
    /// The truncation asked for by `Effect::Truncate` is durable.
    Truncated(LogEndOffset),
    /// This node's log starts here, durably: what lies before is gone. Below what this node knows to be committed.
    StartMoved(OffsetAndEpoch),
    /// A snapshot of this node that ends here is durable: all before it is folded into it. Whoever took it; ids ascend.
    SnapshotTaken(OffsetAndEpoch),
    /// Retention or DeleteRecords want the log to start here; of two the higher counts. A leader's, but where each node keeps its own.
    WantStart(Offset),
    /// The same, and what lies from `begin` on is still there for replicas: the start may lie inside of a batch, `begin` does not.
    StartMovedWithin { start: OffsetAndEpoch, begin: OffsetAndEpoch },
    /// What `Effect::InstallSnapshot` asked for last is there, durably: a snapshot that ends here.
    SnapshotFetched(OffsetAndEpoch),
    /// What `Effect::PlaceSnapshot` asked for is done, durably: the log begins at `begin` and is empty, and all before the end of this
    /// snapshot is folded.
    SnapshotInstalled { id: OffsetAndEpoch, begin: OffsetAndEpoch },
    /// Leader: a client batch of this many offsets wants a place. Answered in `Effects::assigned`
    /// (`None` there: not the leader, or its epoch has not begun).
    Append { offsets: i64 },
    /// A voter or observer asks. Cluster id, topic and partition have been checked by the caller.
    Request { request_id: RequestId, request: Request },
    /// A voter answers our last request of that kind. Stale answers (older epoch, other correlation) may come.
    Response { from: NodeId, response: Response },
    /// All our requests of this kind to this node got no answer: connection refused or lost, request timeout, or an
    /// undecodable answer.
    RequestFailed { to: NodeId, kind: RequestKind },
    /// A Fetch to this node had not gone out yet when a newer one took its place.
    FetchOvertaken { to: NodeId },
    /// Nobody listens at this voter's endpoint, though its host answers: its process has ended, or the path lies.
    Refused { by: NodeId },
    /// The oldest flush has been under way for longer than `flush_stall_ms_max`: a leader resigns.
    FlushStalled,
    /// What makes this node a bad leader from now on, `None`: nothing.
    Fitness(Option<Unfit>),
    /// SIGTERM: a leader hands over (EndQuorumEpoch), nobody campaigns any more.
    Shutdown,
}

/// Why a voter should leave leading to others, if any of them can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is no room for more records.
    DiskFull,
    /// Records that others may need are there and cannot be read.
    LogDamaged,
    /// Its clock is so far behind that it would refuse what producers send.
    ClockBehind,
    /// Said of others only: one of Kafka's controllers, which takes no Produce.
    TakesNoClients,
}

/// Kinds of requests between voters, each with one under way to a peer at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "KIP-595's names, and one of ours")]
pub enum RequestKind {
    Vote,
    BeginQuorumEpoch,
    EndQuorumEpoch,
    Fetch,
    AskEpoch,
}

/// What another node asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "KIP-595's names")]
pub enum Request {
    Vote(VoteRequest),
    BeginQuorumEpoch(BeginQuorumEpochRequest),
    EndQuorumEpoch(EndQuorumEpochRequest),
    Fetch(FetchRequest),
    /// A Fetch that asks for nothing but the epoch and the leader that its refusal names; never parked, and not on the
    /// connection on which Fetches are.
    AskEpoch(FetchRequest),
}

/// KIP-595 Vote, with KIP-996's pre-vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    /// Whom the sender means; `None` in version 0 and where it sent -1.
    pub voter: Option<ReplicaKey>,
    /// The one in which the candidate wants to lead; of a pre-vote, the one that it is in.
    pub epoch: Epoch,
    /// Who asks for the vote.
    pub candidate: ReplicaKey,
    /// End of the candidate's log, and the epoch of its last record (0 for an empty log).
    pub last: OffsetAndEpoch,
    /// Would you vote for me? Nothing changes by the answer (KIP-996).
    pub pre_vote: bool,
    /// The candidate knows what [`VoterMemory`] means, and counts the votes by it.
    pub counts_memory: bool,
}

/// What a voter adds to its answer to a Vote, in a field of ours that Kafka's voters pass over: what its word is worth. See
/// the rule of the empty voter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VoterMemory {
    /// It does not say: one of Kafka's, or an older one of ours.
    #[default]
    Unsaid,
    /// All that it has ever voted and acknowledged is on its disk.
    Whole,
    /// Its log was empty at its first start, and it has not caught up with a leader since.
    Lost,
    /// As `Lost`, and it waits for the other voters' answers before its first vote: ask it again.
    Asking,
}

/// KIP-595: a leader tells a voter that it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeginQuorumEpochRequest {
    /// Whom the sender means; `None` where it does not say.
    pub voter: Option<ReplicaKey>,
    /// The sender.
    pub leader: NodeId,
    /// In which it leads.
    pub epoch: Epoch,
}

/// KIP-595: a leader tells that it resigns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndQuorumEpochRequest {
    /// The sender.
    pub leader: NodeId,
    /// In which it has led.
    pub epoch: Epoch,
    /// In the order in which they should stand for election.
    pub preferred_candidates: Vec<ReplicaKey>,
}

/// Fetch by a voter or an observer. A fetch offset says: everything below it is durable with me.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// The sender; a voter or an observer.
    pub replica: ReplicaKey,
    /// In which it follows.
    pub epoch: Epoch,
    /// Where its log ends: everything below is durable there.
    pub fetch_offset: Offset,
    /// Epoch of the record before `fetch_offset`, 0 for an empty log.
    pub last_fetched_epoch: Epoch,
    /// So long the leader may keep the answer back.
    pub max_wait_ms: i32,
    /// KIP-1166: high watermark known to the replica; `None`: unknown to it (-1). `Some(i64::MAX)`: do not wake me.
    pub high_watermark: Option<HighWatermark>,
    /// Why the replica should not lead (a field of our own; `None` too of one of Kafka's).
    pub unfit: Option<Unfit>,
    /// It has no room for what follows, and says only that it lives: records have to come with the answer, but no more than one batch.
    pub one_batch: bool,
    /// Where its log starts, durably; `None`: it does not say (-1), as Kafka's replicas and older ones of ours.
    pub log_start: Option<Offset>,
    /// Its wall time, now and then (a field of our own).
    pub wall_ms: Option<i64>,
}

/// What another node answers to our [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "KIP-595's names")]
pub enum Response {
    Vote(VoteResponse),
    BeginQuorumEpoch(LeaderResponse),
    EndQuorumEpoch(LeaderResponse),
    Fetch(FetchResponse),
    AskEpoch(LeaderResponse),
}

impl Response {
    pub(crate) fn error(&self) -> ErrorCode {
        match self {
            Response::Vote(response) => response.error,
            Response::BeginQuorumEpoch(response)
            | Response::EndQuorumEpoch(response)
            | Response::AskEpoch(response) => response.error,
            Response::Fetch(response) => response.error,
        }
    }
}

/// Answer to a Vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteResponse {
    /// `NONE` also where the vote was not given.
    pub error: ErrorCode,
    /// Whom the voter knows to lead, in `epoch`.
    pub leader: Option<NodeId>,
    /// The voter's, now.
    pub epoch: Epoch,
    /// It votes, or would, for the candidate.
    pub granted: bool,
    /// What that is worth.
    pub memory: VoterMemory,
    /// Where its log starts, durably (a field of our own; `None`: it does not say).
    pub start: Option<Offset>,
}

/// Body of BeginQuorumEpoch's and EndQuorumEpoch's answers, and all that counts in one to AskEpoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderResponse {
    /// `NONE`: heard, and believed.
    pub error: ErrorCode,
    /// Whom the sender knows to lead, in `epoch`.
    pub leader: Option<NodeId>,
    /// The sender's, now.
    pub epoch: Epoch,
}

/// A leader's answer to our Fetch, as Raft sees it. The batches themselves stay with the caller, which has checked
/// them (CRC, lengths, contiguous offsets, epochs not falling).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResponse {
    pub error: ErrorCode,
    pub(crate) leader: Option<NodeId>,
    pub(crate) epoch: Epoch,
    pub(crate) high_watermark: Option<HighWatermark>,
    pub(crate) diverging: Option<OffsetAndEpoch>,
    /// The leader no longer has our offset and names a snapshot instead.
    pub(crate) snapshot: Option<OffsetAndEpoch>,
    /// Beside it: where the leader's log begins, and the epoch of the record before that (a field of our own; `None` of Kafka's
    /// leaders, whose log begins at the snapshot's end for who takes it).
    pub(crate) begin: Option<OffsetAndEpoch>,
    /// Voters that the leader does not count as in sync: a bit for each place among the voters (a field of our own).
    pub(crate) lagging: u32,
    /// The start that the leader wants; `None`: it names none.
    pub(crate) log_start: Option<Offset>,
    pub(crate) batches: Vec<BatchSpan>,
}

/// Where a batch lies: offsets `base..=last`, written in `epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchSpan {
    pub(crate) base: Offset,
    pub(crate) last: Offset,
    pub(crate) epoch: Epoch,
}

//! What Raft wants done, in three classes by what must be durable first.
//!
//! `Raft::step` fills an `Effects`; `replica` (or a script, or the simulator) carries it out. The class of an effect
//! is the field that it stands in, so that nobody can send a promise before it is kept by forgetting a comment.

use super::event::{BatchSpan, Request, RequestId, Response};
use crate::types::*;

/// Filled by one step, in the order in which it decided; empty where nothing is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Make this durable, then step `Event::QuorumStateDurable`. No other event may be stepped before that.
    pub quorum_state: Option<QuorumState>,
    /// May be done now.
    pub at_once: Vec<Effect>,
    /// May be done once `quorum_state` of this same step is durable, told to `Raft::on_released` just before.
    pub(crate) after_quorum_state: Vec<Effect>,
    /// May be done once this node's log is durable up to the offset, told to `Raft::on_released` just before. Forgotten when the
    /// epoch or the role changes or the log is truncated (`Effect::RoleChanged`, `Effect::Truncate`) before that.
    pub(crate) after_flush: Vec<(FlushedOffset, Effect)>,
    /// Answer to `Event::Append`.
    pub(crate) assigned: Option<Assigned>,
    /// The story, in sentences: "rejected vote for 2: its log ends at 12 in epoch 3, mine at 15".
    pub(crate) notes: Vec<String>,
    /// Those of them that a peer can bring about again and again: its place in `notes`, the kind, and the peer.
    pub(crate) repeatable: Vec<(usize, NoteKind, NodeId)>,
    /// The list of the Fetch answer that was stepped last, empty: its room is there for the next one's.
    pub(crate) spans: Vec<BatchSpan>,
}

impl Effects {
    /// Keeps the allocations: a step of a busy node should not pay for them.
    pub fn clear(&mut self) {
        self.quorum_state = None;
        self.at_once.clear();
        self.after_quorum_state.clear();
        self.after_flush.clear();
        self.assigned = None;
        self.notes.clear();
        self.repeatable.clear();
    }

    /// A sentence that this peer, or who pretends to be it, can repeat at will: the caller writes a few of each kind.
    pub(super) fn note_about(&mut self, kind: NoteKind, peer: NodeId, text: String) {
        self.repeatable.push((self.notes.len(), kind, peer));
        self.notes.push(text);
    }
}

/// What a repeatable sentence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NoteKind {
    /// Granted or rejected.
    Vote,
    PreVote,
    /// A later epoch that only a request speaks of.
    UnconfirmedEpoch,
    /// It is not the leader that this voter may follow.
    NotFollowing,
    /// Its Fetch was refused, or told to cut.
    Fetch,
    /// It answered with an error.
    Answer,
    /// It contradicts what is known.
    Impossible,
    /// This node looks for a leader, or for votes, in vain.
    Campaign,
    /// It is the leader, perhaps still.
    Following,
    /// Two processes take themselves for it.
    TwoDirectories,
}

/// Place of a client batch: stamp these into it and append it to the log now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) base_offset: Offset,
    pub(crate) epoch: Epoch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a request to a voter (or, as an observer, to the leader).
    Send { to: NodeId, request: Request },
    /// Answer Vote, BeginQuorumEpoch or EndQuorumEpoch.
    Reply { request_id: RequestId, response: Response },
    /// Answer a replica's Fetch as the verdict says, at once or, for `Read` with nothing to read, when it is woken.
    Fetched { request_id: RequestId, verdict: FetchVerdict },
    /// First append of this leader's epoch: a LeaderChange control batch (one record) at `base_offset`.
    AppendLeaderChange { base_offset: Offset, epoch: Epoch, voters: Vec<NodeId>, granting: Vec<NodeId> },
    /// Append these batches of the Fetch response just stepped: `batches[first..first + count]`.
    AppendFetched { first: usize, count: usize },
    /// Cut the log to this end, durably, then step `Event::Truncated`. Appends asked for afterwards come after it.
    Truncate { to: LogEndOffset },
    /// The leader's log begins at `begin`, and this one ends below or parts from it: get a snapshot from that node that ends at or behind
    /// `begin` (`id` is its newest; one that is here already will do), durably, then step `Event::SnapshotFetched`. It takes the
    /// place of one that was asked for before; forgotten when the role changes (`Effect::RoleChanged`).
    InstallSnapshot { from: NodeId, id: OffsetAndEpoch, begin: OffsetAndEpoch },
    /// Let the log begin anew at `begin`, empty, with what this snapshot holds folded, durably; then step `Event::SnapshotInstalled`.
    PlaceSnapshot { id: OffsetAndEpoch, begin: OffsetAndEpoch },
    /// The high watermark of this node is now here; it never falls.
    HighWatermark(HighWatermark),
    /// Let this node's log start here, durably, then step `Event::StartMoved`: committed, flushed and folded into a snapshot of its own.
    AdvanceStart(OffsetAndEpoch),
    /// The start that is named to replicas has risen: answer those that wait.
    StartNamed,
    /// Role, epoch or leader changed: look at the accessors. Parked requests of the old state must be settled.
    RoleChanged,
    /// A peer said something impossible: drop its connections.
    DropPeer { node: NodeId, why: String },
    /// Stop the process before anything is changed: to go on would lose what is committed. Says both sides, and what to do.
    Stop { why: String },
    /// Shutdown is complete (handed over or timed out): the process may end.
    ShutdownComplete,
}

/// The leader's decision about a replica's Fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchVerdict {
    /// Answer with this error and the leader and epoch that Raft's accessors give.
    Refused(ErrorCode),
    /// The replica's log parts from ours: it must cut to this end.
    Diverging(OffsetAndEpoch),
    /// The replica's log ends below where ours begins, or parts from it there: it must get a snapshot, `id` is our newest, and
    /// begin anew at `begin`.
    Snapshot { id: OffsetAndEpoch, begin: OffsetAndEpoch },
    /// Valid: serve records from here up to the log end (not only to the high watermark).
    Read { from: Offset },
}

//! FetchSnapshot (KIP-630): a piece of a snapshot, to a replica whose log ends before ours begins. Only a leader serves.
//!
//! Called by `Replica`, and by `reading` when it is a piece's turn at the disk: it counts there as what is read of the log does, a voter's
//! before others'. The file is read elsewhere (`copies`), and found whole before any of it leaves. What is here is bounded by the connections:
//! none has two of these under way (`session`).

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::protocol::messages as m;
use crate::protocol::quorum::{self as wire, SnapshotBytes, SnapshotRequest};
use crate::replica::connection_id::ConnectionId;
use crate::replica::copies::{Copied, CopyDone, CopyOp, CopyWork, NotCopied};
use crate::replica::desk::{Desk, Engine};
use crate::replica::input::{Action, Ticket};
use crate::replica::notice::Level;
use crate::replica::room::answers::Share;
use crate::replica::room::reads::{Charge, Granted, Reader};
use crate::types::*;

/// Beside the fixed time a snapshot is held for as long as its size takes at this pace.
const HELD_BYTES_PER_MS: u64 = (1 << 20) / 1_000;
/// Of one voter; it fetches one, and may have begun another before.
const HELD_OF_VOTER_MAX: usize = 4;

/// Pieces that are asked for, and snapshots that are kept for who asks.
#[derive(Default)]
pub(in crate::replica) struct Serving {
    /// As fetch has them.
    shares: Vec<Arc<Share>>,
    /// In line for the disk, by their tokens.
    waiting: BTreeMap<u64, Job>,
    /// At the disk, each with what its piece is charged.
    reading: BTreeMap<u64, (Job, Arc<Charge>)>,
    /// Until when, by voter and snapshot. Once it is over it stays over.
    held: BTreeMap<(NodeId, OffsetAndEpoch), u64>,
    /// The last that was found bad: it is said once.
    bad: Option<OffsetAndEpoch>,
}

struct Job {
    ticket: Ticket,
    request: SnapshotRequest,
    reader: Reader,
    /// In which this node led.
    epoch: Epoch,
}

/// A piece, and what it is charged for as long as anybody has a slice of it.
struct Kept {
    bytes: Bytes,
    _charge: Arc<Charge>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Serving {
    /// What the clients of each core may be given: told once, at the start.
    pub(in crate::replica) fn share_answers(&mut self, shares: Vec<Arc<Share>>) {
        self.shares = shares;
    }

    /// Kafka: `KafkaRaftClient.handleFetchSnapshotRequest`, in its order.
    pub(in crate::replica) fn on_request(
        &mut self,
        engine: &Engine,
        desk: &mut Desk,
        ticket: Ticket,
        m: &m::FetchSnapshotRequest,
    ) {
        desk.counters.snapshot_requests += 1;
        let request = match wire::fetch_snapshot_request(&desk.context, m) {
            Ok(request) => request,
            Err(refusal) => {
                desk.counters.refused_requests += 1;
                return desk.answer(&ticket, refusal);
            }
        };
        let error = check(engine, &request);
        if !error.is_none() {
            return refuse(engine, desk, &ticket, error);
        }
        let is_voter = |key: ReplicaKey| {
            key.id != desk.context.local.id && desk.context.voters.iter().any(|(voter, _)| *voter == key.id)
        };
        let reader = match request.replica.is_some_and(is_voter) {
            true => Reader::Copy(ticket.connection),
            false => Reader::Client(ticket.connection),
        };
        let bytes = request.bytes_max.min(desk.limits.snapshot_piece_bytes_max);
        let token = desk.fresh_id();
        desk.reads.ask(token, reader, bytes);
        self.waiting.insert(token, Job { ticket, request, reader, epoch: engine.raft().epoch() });
    }

    /// It is a piece's turn at the disk. Gives back a turn that is another's.
    pub(in crate::replica) fn start_read(
        &mut self,
        engine: &Engine,
        desk: &mut Desk,
        granted: Granted,
    ) -> Option<Granted> {
        let Some(job) = self.waiting.remove(&granted.token) else { return Some(granted) };
        let Granted { token, charge, bytes_max } = granted;
        if !engine.leads_in(job.epoch) {
            desk.reads.done(token);
            refuse(engine, desk, &job.ticket, ErrorCode::NOT_LEADER_OR_FOLLOWER);
            return None;
        }
        let SnapshotRequest { id, position, .. } = job.request;
        desk.act(Action::Copy(CopyOp { token, work: CopyWork::Read { id, position, bytes_max } }));
        self.reading.insert(token, (job, charge));
        None
    }

    /// What was read, or why it was not. Gives back what was done for somebody else.
    pub(in crate::replica) fn on_done(
        &mut self,
        engine: &Engine,
        desk: &mut Desk,
        done: CopyDone,
    ) -> Option<CopyDone> {
        let Some((job, charge)) = self.reading.remove(&done.token) else { return Some(done) };
        if !engine.leads_in(job.epoch) {
            refuse(engine, desk, &job.ticket, ErrorCode::NOT_LEADER_OR_FOLLOWER);
            return None;
        }
        match done.result {
            Ok(Copied::Piece { size, bytes }) => {
                self.answer(engine, desk, job, size, Kept { bytes, _charge: charge })
            }
            Ok(_) => refuse(engine, desk, &job.ticket, ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(why) => {
                let error = self.error_of(desk, job.request.id, &why);
                refuse(engine, desk, &job.ticket, error);
            }
        }
        None
    }

    fn answer(&mut self, engine: &Engine, desk: &mut Desk, job: Job, size: u64, kept: Kept) {
        let Job { ticket, request, reader, .. } = job;
        if matches!(reader, Reader::Copy(_))
            && let Some(voter) = request.replica
        {
            self.hold(desk, voter.id, request.id, size);
        }
        let bytes = Bytes::from_owner(kept);
        desk.counters.snapshot_bytes_served += bytes.len() as u64;
        // What it holds is of the total of reads, as what a Fetch has from the device.
        let share = self.shares.get(ticket.connection.core()).filter(|_| matches!(reader, Reader::Client(_)));
        let given = share.map(|share| share.give(bytes.len(), bytes.len()));
        let told = SnapshotBytes {
            error: ErrorCode::NONE,
            id: request.id,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            position: request.position,
            bytes,
        };
        let (leader, epoch) = (engine.raft().leader(), engine.raft().epoch());
        let response = wire::fetch_snapshot_response(&desk.context, leader, epoch, told);
        desk.answer_given(&ticket, Some(response), given);
    }

    fn error_of(&mut self, desk: &mut Desk, id: OffsetAndEpoch, why: &NotCopied) -> ErrorCode {
        match why {
            NotCopied::Missing => {
                self.held.retain(|(_, held), _| *held != id);
                ErrorCode::SNAPSHOT_NOT_FOUND
            }
            NotCopied::OutOfRange => ErrorCode::POSITION_OUT_OF_RANGE,
            NotCopied::Bad(why) => {
                if self.bad.replace(id) != Some(id) {
                    desk.note(Level::Warn, format!("no replica is given a snapshot that is damaged: {why}"));
                }
                ErrorCode::SNAPSHOT_NOT_FOUND
            }
            NotCopied::Disk(error) => {
                desk.note_refused(|_| Some(format!("cannot give a replica a snapshot: {error}")));
                ErrorCode::KAFKA_STORAGE_ERROR
            }
        }
    }

    /// From the voter's first piece of it on, whatever it asks for after that: so it holds none for ever.
    pub(in crate::replica) fn hold(&mut self, desk: &Desk, voter: NodeId, id: OffsetAndEpoch, size: u64) {
        let hold_ms = desk.limits.snapshot_hold_ms.saturating_add(size / HELD_BYTES_PER_MS);
        self.held.entry((voter, id)).or_insert_with(|| desk.now.plus_ms(hold_ms));
        let of_voter = self.held.keys().filter(|(of, _)| *of == voter);
        if of_voter.clone().count() > HELD_OF_VOTER_MAX
            && let Some(oldest) = of_voter.copied().min_by_key(|(_, id)| id.offset)
        {
            self.held.remove(&oldest);
        }
    }

    /// The file must stay: a voter fetches it.
    pub(in crate::replica) fn is_held(&self, now: Now, id: OffsetAndEpoch) -> bool {
        self.held.iter().any(|((_, held), until_ns)| *held == id && now.monotonic_ns < *until_ns)
    }

    /// Nobody waits for it any more.
    pub(in crate::replica) fn forget_read(&mut self, token: u64) {
        self.waiting.remove(&token);
    }

    /// What is at the disk for it ends by itself.
    pub(in crate::replica) fn forget(&mut self, connection: ConnectionId) {
        self.reading.retain(|_, (job, _)| job.ticket.connection != connection);
    }

    /// All that wait.
    pub(in crate::replica) fn waiting(&self) -> usize {
        self.waiting.len() + self.reading.len()
    }
}

/// Whether this node leads in the epoch that the replica follows in, and what needs no disk.
fn check(engine: &Engine, request: &SnapshotRequest) -> ErrorCode {
    // To a replica -1 is an epoch like any other (Kafka: `validateLeaderOnlyRequest`).
    let error =
        if request.epoch < 0 { ErrorCode::FENCED_LEADER_EPOCH } else { engine.check_leader(request.epoch) };
    if !error.is_none() {
        return error;
    }
    // Kafka's first one, (0, 0), is no node's but its own; and none lies ahead of its leader's log.
    let may_be = request.id.offset > Offset(0) && request.id.offset <= engine.log().log_end().0;
    if may_be && request.id.epoch >= Epoch(0) { ErrorCode::NONE } else { ErrorCode::SNAPSHOT_NOT_FOUND }
}

fn refuse(engine: &Engine, desk: &mut Desk, ticket: &Ticket, error: ErrorCode) {
    desk.counters.refused_requests += 1;
    let (leader, epoch) = (engine.raft().leader(), engine.raft().epoch());
    let told = SnapshotBytes::refused(error);
    let response = wire::fetch_snapshot_response(&desk.context, leader, epoch, told);
    desk.answer(ticket, response);
}

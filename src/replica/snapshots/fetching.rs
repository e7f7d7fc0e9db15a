//! A leader's snapshot, got piece by piece (KIP-630), by a replica whose log ends before the leader's begins.
//!
//! `Replica` says of whom and which; what comes of it is polled. One at a time, one request under way, on a connection of its own: a
//! piece of a MiB stands before no Fetch. The pieces are written elsewhere (`copies`), and only the whole file is believed.
//!
//! A part belongs to one leader in one epoch: two nodes may have different bytes under one id. With the same leader a lost connection is
//! gone on with where the part ends; whatever else does not fit drops it. Then the same one is asked for again after a while, if neither
//! another leader nor a verdict with another one has come before.

use bytes::Bytes;
use std::collections::VecDeque;

use crate::config::Config;
use crate::log::snapshot_file_name;
use crate::protocol::quorum::{self as wire, SnapshotBytes, SnapshotRequest};
use crate::replica::copies::{Copied, CopyDone, CopyOp, CopyWork, NotCopied};
use crate::replica::desk::Desk;
use crate::replica::folds::Folds;
use crate::replica::input::{Action, Lane, PeerLink};
use crate::replica::notice::Level;
use crate::types::*;

/// Longest pause before the connection is opened again.
const RECONNECT_MS_MAX: u64 = 1_000;
/// What was bad is not asked for again of the same leader in the same epoch for so long …
const REFUSED_MS: u64 = 10_000;
/// … and what is not to be had for so long: a verdict with another one comes sooner.
const GONE_MS: u64 = 1_000;

/// Whose bytes they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    leader: NodeId,
    epoch: Epoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The next piece is to be asked for, when there is a connection.
    Wanting,
    Asking {
        correlation_id: i32,
        deadline_ns: u64,
    },
    /// So many bytes more are being written.
    Writing {
        token: u64,
        bytes: u64,
    },
    /// All of it is being checked.
    Finishing {
        token: u64,
    },
    /// Nothing is there of it, and nothing is asked for.
    Pausing {
        until_ns: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Job {
    source: Source,
    id: OffsetAndEpoch,
    /// Where the log is to begin.
    begin: OffsetAndEpoch,
    /// Of the whole file, once it was told.
    size: Option<u64>,
    /// Written.
    bytes: u64,
    step: Step,
}

/// The connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        retry_ns: u64,
    },
    Connecting {
        deadline_ns: u64,
    },
    /// ApiVersions is under way.
    Greeting {
        deadline_ns: u64,
        correlation_id: i32,
    },
    /// FetchSnapshot is asked in this version.
    Open {
        version: i16,
    },
    /// By us, and the server has not said so yet.
    Closing {
        retry_ns: u64,
    },
}

/// A snapshot that is durable, whole, and of this log.
#[derive(Debug)]
pub(in crate::replica) struct Fetched {
    /// Its name.
    pub(in crate::replica) id: OffsetAndEpoch,
    /// Of the file.
    pub(in crate::replica) bytes: u64,
    pub(in crate::replica) folds: Box<Folds>,
}

/// What an answer says to who waits for it.
#[derive(Debug, PartialEq, Eq)]
enum Unfit {
    /// Nothing is wrong with it: another verdict will come.
    Gone(ErrorCode),
    /// It cannot be, or is not taken.
    Refused(String),
}

/// The snapshot that is being fetched.
pub(in crate::replica) struct Fetching {
    client_id: String,
    request_timeout_ms: u64,
    retry_backoff_ms: u64,
    piece_bytes_max: usize,
    bytes_max: u64,
    job: Option<Job>,
    /// The node that the connection goes to.
    to: Option<NodeId>,
    state: State,
    backoff_ms: u64,
    next_correlation_id: i32,
    actions: VecDeque<Action>,
    fetched: Option<Fetched>,
}

impl Fetching {
    pub(in crate::replica) fn new(config: &Config) -> Fetching {
        Fetching {
            client_id: format!("raft-client-{}", config.node_id),
            request_timeout_ms: config.request_timeout_ms,
            retry_backoff_ms: config.retry_backoff_ms,
            piece_bytes_max: config.limits.snapshot_piece_bytes_max,
            bytes_max: config.limits.snapshot_bytes_max,
            job: None,
            to: None,
            state: State::Closed { retry_ns: 0 },
            backoff_ms: 0,
            next_correlation_id: 0,
            actions: VecDeque::new(),
            fetched: None,
        }
    }

    /// The leader of this epoch names its snapshot, and where its log begins. What is being fetched is gone on with where it covers that too.
    pub(in crate::replica) fn begin(
        &mut self,
        desk: &mut Desk,
        leader: NodeId,
        epoch: Epoch,
        id: OffsetAndEpoch,
        begin: OffsetAndEpoch,
    ) {
        let source = Source { leader, epoch };
        if let Some(job) = &mut self.job
            && job.source == source
            && (job.id == id || job.id.offset >= begin.offset && !matches!(job.step, Step::Pausing { .. }))
        {
            job.begin = begin;
            return;
        }
        self.give_up(desk);
        let said = format!(
            "fetching {} from node {leader}: its log begins at {}, behind the end of mine",
            snapshot_file_name(id),
            begin.offset
        );
        desk.note(Level::Info, said);
        self.job = Some(Job { source, id, begin, size: None, bytes: 0, step: Step::Wanting });
        self.advance(desk);
    }

    /// Nobody else leads, and in no other epoch: what is under way is wanted.
    pub(in crate::replica) fn on_role_changed(
        &mut self,
        desk: &mut Desk,
        leader: Option<NodeId>,
        epoch: Epoch,
    ) {
        let is_wanted = |job: &Job| Some(job.source.leader) == leader && job.source.epoch == epoch;
        if self.job.as_ref().is_some_and(|job| !is_wanted(job)) {
            self.give_up(desk);
        }
    }

    /// What has come of it.
    pub(in crate::replica) fn poll_fetched(&mut self) -> Option<Fetched> {
        self.fetched.take()
    }

    pub(in crate::replica) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Monotonic ns at which `on_tick` is due.
    pub(in crate::replica) fn deadline(&self) -> Option<u64> {
        let job = self.job.as_ref()?;
        match (job.step, self.state) {
            (Step::Asking { deadline_ns, .. }, _) => Some(deadline_ns),
            (Step::Pausing { until_ns }, _) => Some(until_ns),
            (Step::Wanting, State::Closed { retry_ns }) => Some(retry_ns),
            (Step::Wanting, State::Connecting { deadline_ns } | State::Greeting { deadline_ns, .. }) => {
                Some(deadline_ns)
            }
            _ => None,
        }
    }

    pub(in crate::replica) fn on_tick(&mut self, desk: &mut Desk) {
        let now_ns = desk.now.monotonic_ns;
        if self.deadline().is_none_or(|deadline_ns| deadline_ns > now_ns) {
            return;
        }
        match &mut self.job {
            Some(job) if matches!(job.step, Step::Pausing { .. }) => job.step = Step::Wanting,
            _ if matches!(self.state, State::Closed { .. }) => {}
            _ => self.close(desk.now, true),
        }
        self.advance(desk);
    }

    pub(in crate::replica) fn on_connected(&mut self, desk: &mut Desk) {
        let State::Connecting { .. } = self.state else { return };
        let correlation_id = self.take_correlation_id();
        let deadline_ns = desk.now.plus_ms(self.request_timeout_ms);
        self.state = State::Greeting { deadline_ns, correlation_id };
        let frame =
            wire::encode_api_versions_request(correlation_id, &self.client_id, desk.context.data_mode);
        self.send(frame.chunks);
    }

    /// The connection is gone, or was never made.
    pub(in crate::replica) fn on_closed(&mut self, desk: &mut Desk) {
        let retry_ns = match self.state {
            State::Closing { retry_ns } | State::Closed { retry_ns } => retry_ns,
            _ => desk.now.plus_ms(self.next_backoff_ms()),
        };
        (self.state, self.to) = (State::Closed { retry_ns }, None);
        self.ask_again();
        self.advance(desk);
    }

    /// An answer.
    pub(in crate::replica) fn on_frame(&mut self, desk: &mut Desk, frame: Bytes) {
        let taken = match self.state {
            State::Greeting { correlation_id, .. } => self.take_versions(desk, correlation_id, frame),
            State::Open { version } => self.take_piece(desk, version, frame),
            _ => Ok(()),
        };
        if let Err(why) = taken {
            let to = self.to.map_or(-1, |node| node.0);
            desk.note_refused(|_| Some(format!("closing the connection for snapshots to node {to}: {why}")));
            self.close(desk.now, true);
        }
        self.advance(desk);
    }

    fn take_versions(&mut self, desk: &mut Desk, correlation_id: i32, frame: Bytes) -> Result<(), String> {
        check_correlation(&frame, correlation_id)?;
        let versions = wire::decode_api_versions_response(frame).map_err(|error| error.to_string())?;
        match versions.fetch_snapshot {
            Some(version) => self.state = State::Open { version },
            None => self.refuse(desk, "it serves no snapshots (FetchSnapshot)".to_string()),
        }
        Ok(())
    }

    /// `Err`: it is no answer to what was asked.
    fn take_piece(&mut self, desk: &mut Desk, version: i16, frame: Bytes) -> Result<(), String> {
        let asked = self.job.as_ref().map(|job| job.step);
        let Some(Step::Asking { correlation_id, .. }) = asked else {
            return Err("it answered where nothing was asked".to_string());
        };
        check_correlation(&frame, correlation_id)?;
        let told = wire::decode_fetch_snapshot_response(&desk.context, version, frame)
            .map_err(|error| format!("its answer to FetchSnapshot is malformed: {error}"))?;
        let Some(job) = &mut self.job else { return Ok(()) };
        match judge(job, &told, self.piece_bytes_max, self.bytes_max) {
            Ok(size) => {
                self.backoff_ms = 0;
                job.size = Some(size);
                let (token, position) = (desk.fresh_id(), job.bytes);
                job.step = Step::Writing { token, bytes: told.bytes.len() as u64 };
                let work = CopyWork::Append { position, bytes: told.bytes };
                desk.act(Action::Copy(CopyOp { token, work }));
            }
            Err(Unfit::Gone(error)) => {
                let name = snapshot_file_name(job.id);
                desk.note(Level::Debug, format!("{name} is not to be had any more: {}", error.name()));
                self.pause(desk, GONE_MS);
            }
            Err(Unfit::Refused(why)) => self.refuse(desk, why),
        }
        Ok(())
    }

    /// What was being written, or checked.
    pub(in crate::replica) fn on_done(&mut self, desk: &mut Desk, done: CopyDone) {
        let Some(job) = &mut self.job else { return };
        let is_due = match job.step {
            Step::Writing { token, .. } | Step::Finishing { token } => token == done.token,
            _ => false,
        };
        if !is_due {
            return; // Of one that was given up.
        }
        match (done.result, job.step) {
            (Ok(Copied::Appended), Step::Writing { bytes, .. }) => {
                job.bytes += bytes;
                job.step = Step::Wanting;
                if job.size == Some(job.bytes) {
                    let token = desk.fresh_id();
                    job.step = Step::Finishing { token };
                    desk.act(Action::Copy(CopyOp { token, work: CopyWork::Finish { id: job.id } }));
                }
            }
            (Ok(Copied::Finished(folds)), Step::Finishing { .. }) => self.finish(desk, folds),
            (Err(NotCopied::Bad(why)), _) => {
                let leader = job.source.leader;
                self.refuse(desk, format!("it sent one that is none: {why}"));
                desk.peers.drop_peer(leader);
            }
            (Err(NotCopied::Disk(error)), _) => self.refuse(desk, format!("it cannot be kept: {error}")),
            (other, step) => self.refuse(desk, format!("{step:?} ended with {other:?}")),
        }
        self.advance(desk);
    }

    fn finish(&mut self, desk: &mut Desk, folds: Box<Folds>) {
        let Some(Job { source, id, bytes, .. }) = self.job.take() else { return };
        let (name, leader) = (snapshot_file_name(id), source.leader);
        desk.note(Level::Info, format!("fetched {name} from node {leader}: {bytes} bytes"));
        desk.counters.snapshots_fetched += 1;
        self.fetched = Some(Fetched { id, bytes, folds });
    }

    /// It is not asked for again of this leader in this epoch for a while.
    fn refuse(&mut self, desk: &mut Desk, why: String) {
        let Some(job) = &self.job else { return };
        let (name, leader) = (snapshot_file_name(job.id), job.source.leader);
        desk.note(Level::Warn, format!("gave up fetching {name} from node {leader}: {why}"));
        self.pause(desk, REFUSED_MS);
    }

    /// What there is of it goes, and the same is asked for again later.
    fn pause(&mut self, desk: &mut Desk, ms: u64) {
        let Some(Job { source, id, begin, .. }) = self.job else { return };
        self.give_up(desk);
        let step = Step::Pausing { until_ns: desk.now.plus_ms(ms) };
        self.job = Some(Job { source, id, begin, size: None, bytes: 0, step });
    }

    /// What there is of it goes.
    fn give_up(&mut self, desk: &mut Desk) {
        let Some(job) = self.job.take() else { return };
        if job.bytes > 0 || matches!(job.step, Step::Writing { .. } | Step::Finishing { .. }) {
            let token = desk.fresh_id();
            desk.act(Action::Copy(CopyOp { token, work: CopyWork::GiveUp }));
        }
        if matches!(job.step, Step::Asking { .. }) {
            // Its answer must not be taken for that of a later one.
            self.close(desk.now, false);
        }
    }

    /// Do what the state of the connection allows now.
    fn advance(&mut self, desk: &mut Desk) {
        let wanting = self.job.as_ref().map(|job| (job.step, job.source.leader));
        let leader = match wanting {
            None | Some((Step::Pausing { .. }, _)) => return self.close_unused(desk.now),
            Some((Step::Wanting, leader)) => leader,
            Some(_) => return,
        };
        match self.state {
            State::Closed { retry_ns } if retry_ns <= desk.now.monotonic_ns => self.connect(desk, leader),
            State::Open { version } if self.to == Some(leader) => self.ask(desk, version),
            State::Open { .. } | State::Connecting { .. } | State::Greeting { .. }
                if self.to != Some(leader) =>
            {
                self.close(desk.now, false)
            }
            _ => {}
        }
    }

    fn connect(&mut self, desk: &mut Desk, leader: NodeId) {
        let Some(endpoint) = desk.context.endpoint_of(leader).map(|endpoint| Endpoint::clone(endpoint))
        else {
            return self.refuse(desk, "it is not among the voters and has no endpoint".to_string());
        };
        self.state = State::Connecting { deadline_ns: desk.now.plus_ms(self.request_timeout_ms) };
        self.to = Some(leader);
        let link = PeerLink { node: leader, lane: Lane::Snapshot };
        self.actions.push_back(Action::PeerConnect { link, endpoint });
    }

    fn ask(&mut self, desk: &mut Desk, version: i16) {
        let correlation_id = self.take_correlation_id();
        let deadline_ns = desk.now.plus_ms(self.request_timeout_ms);
        let Some(job) = &mut self.job else { return };
        let request = SnapshotRequest {
            replica: Some(desk.context.local),
            epoch: job.source.epoch.0,
            id: job.id,
            position: i64::try_from(job.bytes).unwrap_or(i64::MAX),
            bytes_max: self.piece_bytes_max,
        };
        job.step = Step::Asking { correlation_id, deadline_ns };
        let frame = wire::encode_fetch_snapshot_request(
            &desk.context,
            version,
            correlation_id,
            &self.client_id,
            &request,
        );
        self.send(frame.chunks);
    }

    fn send(&mut self, chunks: crate::protocol::frame::Chunks) {
        if let Some(node) = self.to {
            let link = PeerLink { node, lane: Lane::Snapshot };
            self.actions.push_back(Action::PeerSend { link, chunks });
        }
    }

    fn close_unused(&mut self, now: Now) {
        if !matches!(self.state, State::Closed { .. } | State::Closing { .. }) {
            self.close(now, false);
        }
    }

    fn close(&mut self, now: Now, after_failure: bool) {
        if !matches!(self.state, State::Closed { .. } | State::Closing { .. })
            && let Some(node) = self.to
        {
            let link = PeerLink { node, lane: Lane::Snapshot };
            self.actions.push_back(Action::PeerClose { link });
            let pause_ms = if after_failure { self.next_backoff_ms() } else { 0 };
            self.state = State::Closing { retry_ns: now.plus_ms(pause_ms) };
        }
        self.ask_again();
    }

    /// What was asked for is not answered any more.
    fn ask_again(&mut self) {
        if let Some(job) = &mut self.job
            && matches!(job.step, Step::Asking { .. })
        {
            job.step = Step::Wanting;
        }
    }

    fn next_backoff_ms(&mut self) -> u64 {
        self.backoff_ms =
            (2 * self.backoff_ms).clamp(self.retry_backoff_ms, RECONNECT_MS_MAX.max(self.retry_backoff_ms));
        self.backoff_ms
    }

    fn take_correlation_id(&mut self) -> i32 {
        let id = self.next_correlation_id;
        self.next_correlation_id = id.wrapping_add(1) & i32::MAX;
        id
    }
}

/// Is it the next piece of what is fetched? Gives the size of the whole.
fn judge(job: &Job, told: &SnapshotBytes, piece_bytes_max: usize, bytes_max: u64) -> Result<u64, Unfit> {
    let refused = |why: String| Err(Unfit::Refused(why));
    match told.error {
        ErrorCode::NONE => {}
        // Of this leader the next verdict names another; of another one another.
        ErrorCode::SNAPSHOT_NOT_FOUND
        | ErrorCode::POSITION_OUT_OF_RANGE
        | ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH => return Err(Unfit::Gone(told.error)),
        other => return refused(format!("it answered with {}", other.name())),
    }
    if told.id != job.id {
        return refused(format!("it sent a piece of {:?}", told.id));
    }
    let Some(size) = u64::try_from(told.size).ok().filter(|size| *size > 0) else {
        return refused(format!("it says that it has {} bytes", told.size));
    };
    if size > bytes_max {
        return refused(format!("it has {size} bytes, more than kraft.snapshot.bytes.max = {bytes_max}"));
    }
    if job.size.is_some_and(|known| known != size) {
        return refused(format!("it has {size} bytes, and had others before"));
    }
    if u64::try_from(told.position) != Ok(job.bytes) {
        return refused(format!("it sent what lies at {}, and {} is due", told.position, job.bytes));
    }
    let bytes = told.bytes.len();
    if bytes == 0 || bytes > piece_bytes_max || bytes as u64 > size - job.bytes {
        let left = size - job.bytes;
        return refused(format!(
            "it sent {bytes} bytes where {left} are left and {piece_bytes_max} were asked for"
        ));
    }
    Ok(size)
}

fn check_correlation(frame: &[u8], expected: i32) -> Result<(), String> {
    match wire::response_correlation_id(frame) {
        Some(id) if id == expected => Ok(()),
        Some(id) => Err(format!("it answered request {id} where {expected} is due")),
        None => Err("its answer is shorter than a header".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(offset: i64) -> OffsetAndEpoch {
        OffsetAndEpoch { epoch: Epoch(3), offset: Offset(offset) }
    }

    fn job(size: Option<u64>, bytes: u64) -> Job {
        let source = Source { leader: NodeId(1), epoch: Epoch(4) };
        Job { source, id: id(90), begin: id(80), size, bytes, step: Step::Wanting }
    }

    fn told(size: i64, position: i64, bytes: usize) -> SnapshotBytes {
        let bytes = Bytes::from(vec![7; bytes]);
        SnapshotBytes { error: ErrorCode::NONE, id: id(90), size, position, bytes }
    }

    fn of(job: &Job, told: &SnapshotBytes) -> Result<u64, Unfit> {
        judge(job, told, 100, 1_000)
    }

    #[test]
    fn the_next_piece_is_taken_whatever_part_of_what_was_asked_for_it_is() {
        assert_eq!(of(&job(None, 0), &told(1_000, 0, 100)), Ok(1_000));
        assert_eq!(of(&job(Some(1_000), 100), &told(1_000, 100, 1)), Ok(1_000));
        assert_eq!(of(&job(Some(1_000), 990), &told(1_000, 990, 10)), Ok(1_000));
    }

    /// Endless, empty, with holes, of two files: nothing is written of it.
    #[test]
    fn what_is_not_the_next_piece_is_refused() {
        let (first, next) = (job(None, 0), job(Some(1_000), 100));
        let cases = [
            (&first, told(1_001, 0, 100), "more than kraft.snapshot.bytes.max = 1000"),
            (&first, told(i64::MAX, 0, 100), "more than kraft.snapshot.bytes.max"),
            (&first, told(0, 0, 0), "says that it has 0 bytes"),
            (&first, told(-1, 0, 1), "says that it has -1 bytes"),
            (&first, told(1_000, 1, 100), "lies at 1, and 0 is due"),
            (&first, told(1_000, -1, 100), "lies at -1, and 0 is due"),
            (&first, told(1_000, 0, 0), "sent 0 bytes"),
            (&first, told(1_000, 0, 101), "sent 101 bytes"),
            (&first, told(50, 0, 51), "where 50 are left"),
            (&next, told(999, 100, 10), "and had others before"),
            (&next, told(1_000, 0, 10), "lies at 0, and 100 is due"),
            (&next, told(1_000, 101, 10), "lies at 101, and 100 is due"),
            (&next, SnapshotBytes { id: id(91), ..told(1_000, 100, 10) }, "a piece of"),
            (&next, SnapshotBytes::refused(ErrorCode::KAFKA_STORAGE_ERROR), "KAFKA_STORAGE_ERROR"),
            (&next, SnapshotBytes::refused(ErrorCode(-1)), "answered with"),
        ];
        for (job, told, why) in cases {
            let Err(Unfit::Refused(said)) = of(job, &told) else { panic!("{told:?} was not refused") };
            assert!(said.contains(why), "{said}");
        }
        for error in
            [ErrorCode::SNAPSHOT_NOT_FOUND, ErrorCode::POSITION_OUT_OF_RANGE, ErrorCode::FENCED_LEADER_EPOCH]
        {
            assert_eq!(of(&next, &SnapshotBytes::refused(error)), Err(Unfit::Gone(error)));
        }
    }
}

//! One node of the cluster: a real `Replica` and real sessions, with what surrounds them made of simulated parts.

use super::clock::NodeClock;
use super::core::{Core, CoreShape, Served};
use super::dice::Dice;
use super::disk::SimDisk;
use super::durable::{BatchId, DurableLog};
use super::network::{End, Host, Parcel, WireId};
use super::told::Told;
use crate::config::{Config, Limits, Retention, Voter, Wait};
use crate::log::{Completion, SnapshotCompletion};
use crate::replica::copies::memory::MemorySnapshots;
use crate::replica::copies::{Copies, CopyDone};
use crate::replica::folds::Set;
use crate::replica::inspection::Found;
use crate::replica::receive::ReceiveBuffer;
use crate::replica::receive_pool::ReceivePool;
use crate::replica::{PeerLink, Replica, Standing};
use crate::types::*;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

/// What has come and waits for the node's next turn.
#[derive(Debug)]
pub(super) enum Arrival {
    Net { wire: WireId, end: End, parcel: Parcel },
    Disk(Completion),
    DiskFree(u64),
    Snapshot(SnapshotCompletion),
    Searched { token: u64, found: Found },
    Copied(CopyDone),
    Shutdown,
}

/// A connection to another voter.
pub(super) struct Calling {
    pub(super) wire: WireId,
    pub(super) received: ReceiveBuffer,
}

pub(crate) enum Process {
    Up(Box<Replica>),
    /// Until it is started again, and with which disk.
    Down {
        is_starting: bool,
    },
}

pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) config: Config,
    pub(crate) process: Process,
    pub(super) incarnation: u64,
    pub(crate) disk: SimDisk,
    /// Files of snapshots, beside it.
    pub(super) copies: Copies<MemorySnapshots>,
    pub(crate) clock: NodeClock,
    pub(crate) inbox: VecDeque<Arrival>,
    pub(crate) served: BTreeMap<WireId, Served>,
    pub(crate) links: BTreeMap<PeerLink, Calling>,
    pub(crate) pool: ReceivePool,
    /// What its clients have of it.
    pub(crate) core: Core,
    pub(crate) shape: CoreShape,
    /// The next turn.
    pub(super) turn_at: Option<u64>,
    pub(super) paused_until: u64,
    /// Its core is at work on what came before.
    pub(super) busy_until: u64,
    /// Die in the middle of the actions of the next turn, after so many.
    pub(super) dies_after: Option<u64>,
    /// What it said after its last turn.
    pub(crate) standing: Option<Standing>,
    /// What it goes by, up to where that is committed.
    pub(super) configs: Option<(Offset, Arc<Set>)>,
    /// Its disk was replaced by an empty one, or its log is in doubt, and it has not caught up since.
    pub(crate) is_behind: Option<Offset>,
    /// Its log is in doubt: it gives no vote before it has caught up.
    pub(super) is_in_doubt: bool,
    /// Its last start was refused, and its disk has not been replaced.
    pub(crate) is_refused: bool,
    /// What was on the disks that it has lost since.
    pub(crate) lost: Vec<DurableLog>,
    pub(super) directory_generation: u64,
    /// Votes asked for on a connection and not answered: epoch and candidate by request.
    pub(super) asked_votes: BTreeMap<(WireId, u64), (Epoch, i32)>,
    /// Produces handed over and not answered: acks and number of records by request.
    pub(super) asked_produces: BTreeMap<(WireId, u64), (i16, i64)>,
    /// What it has told in this turn.
    pub(crate) told: Vec<Told>,
    /// Bytes of Produces that no bound of its memory has held back.
    pub(super) not_held_back: u64,
    /// The epoch that it led last, and the uncommitted bytes that it had when it was elected.
    pub(super) inherited: (Epoch, u64),
    /// Turns without time passing.
    pub(crate) busy: (u64, u64),
}

impl Node {
    pub(crate) fn new(config: Config, shape: CoreShape, disk: SimDisk, clock: NodeClock) -> Node {
        Node {
            host: config.node_id.0,
            core: Core::new(&config, shape),
            shape,
            copies: Copies::new(MemorySnapshots::default(), config.clone()),
            config,
            process: Process::Down { is_starting: false },
            incarnation: 0,
            disk,
            clock,
            inbox: VecDeque::new(),
            served: BTreeMap::new(),
            links: BTreeMap::new(),
            pool: ReceivePool::default(),
            turn_at: None,
            paused_until: 0,
            busy_until: 0,
            dies_after: None,
            standing: None,
            configs: None,
            is_behind: None,
            is_in_doubt: false,
            is_refused: false,
            lost: Vec::new(),
            directory_generation: 0,
            asked_votes: BTreeMap::new(),
            asked_produces: BTreeMap::new(),
            told: Vec::new(),
            not_held_back: 0,
            inherited: (Epoch(-1), 0),
            busy: (0, 0),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.process, Process::Up(_))
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.config.voters.iter().any(|v| v.id == self.config.node_id)
    }

    pub(crate) fn directory_id(&self) -> Uuid {
        Uuid(self.host as u128 * 1000 + u128::from(self.directory_generation))
    }

    pub(super) fn link_of(&self, wire: WireId) -> Option<PeerLink> {
        self.links.iter().find(|(_, calling)| calling.wire == wire).map(|(link, _)| *link)
    }

    /// Something of it has rotted, or it was lost and has not come back: no other may be lost that a majority needs.
    pub(super) fn may_be_lost(&self) -> bool {
        self.is_behind.is_some() || self.has_rotten()
    }

    pub(super) fn has_rotten(&self) -> bool {
        self.disk.is_log_rotten() || self.disk.is_mark_rotten() || self.disk.are_votes_rotten()
    }

    /// Where the log on its platter ends: the larger of two is the more up to date.
    pub(super) fn durable_last(&self) -> OffsetAndEpoch {
        let epoch = self.disk.log.batches.last().map_or(Epoch(0), |batch| batch.id.epoch);
        OffsetAndEpoch { epoch, offset: self.disk.log.end() }
    }

    /// Epoch and candidate that quorum-state names on the platter.
    pub(super) fn durable_vote(&self) -> Option<(i64, i64)> {
        let file = self.disk.durable_votes()?;
        Some((number_after(file, "\"leaderEpoch\":")?, number_after(file, "\"votedId\":").unwrap_or(-1)))
    }

    /// Does quorum-state say that the log is in doubt?
    pub(super) fn says_in_doubt(&self) -> bool {
        let file = self.disk.durable_votes().unwrap_or_default();
        std::str::from_utf8(file).is_ok_and(|text| text.contains("\"inDoubt\":true"))
    }

    /// Does quorum-state say that the log has caught up with a leader since it was empty, or in doubt?
    pub(super) fn says_caught_up(&self) -> bool {
        let file = self.disk.durable_votes().unwrap_or_default();
        let says = |text: &str| text.contains("\"caughtUp\":true") && !text.contains("\"inDoubt\":true");
        std::str::from_utf8(file).is_ok_and(says)
    }
}

/// The number behind a key of a small JSON file. The checker reads it in its own way, not through the code under test.
fn number_after(file: &[u8], key: &str) -> Option<i64> {
    let text = std::str::from_utf8(file).ok()?;
    let rest = text.get(text.find(key)? + key.len()..)?;
    let end = rest.find([',', '}']).unwrap_or(rest.len());
    rest[..end].trim().parse().ok()
}

/// All disks, for the checker.
pub(super) struct AllPlatters<'a>(pub(super) &'a BTreeMap<Host, Box<Node>>);

impl super::checker::Platters for AllPlatters<'_> {
    fn log(&self, host: Host) -> Option<&DurableLog> {
        self.0.get(&host).map(|node| &node.disk.log)
    }

    fn held(&self, host: Host, end: Offset) -> Option<BatchId> {
        let node = self.0.get(&host)?;
        let mut held = std::iter::once(&node.disk.log).chain(node.lost.iter().rev());
        held.find_map(|log| log.ending_at(end)).map(|placed| placed.id)
    }

    fn batch(&self, host: Host, id: &BatchId) -> Option<Bytes> {
        let node = self.0.get(&host)?;
        let at = node.disk.log.batches.partition_point(|b| b.id.base < id.base);
        let placed = node.disk.log.batches.get(at).filter(|b| b.id == *id)?;
        node.disk.bytes_written_of(placed.segment, placed.position, placed.size_bytes)
    }
}

/// Sizes so small that everything that is rare in life happens often: rolls, reads from the disk, full buffers.
fn limits(dice: &mut Dice, bounds: &mut Dice, room: &mut Dice) -> Limits {
    const KIB: usize = 1024;
    let write_buffer_bytes = dice.pick(&[4 * KIB, 8 * KIB, 16 * KIB]).unwrap_or(8 * KIB);
    Limits {
        message_bytes_max: 32 * KIB,
        decompressed_bytes_max: 64 * KIB,
        request_bytes_max: 256 * KIB,
        segment_bytes_max: dice.pick(&[40, 64, 256]).unwrap_or(64) * KIB as u64,
        zero_ahead_bytes: dice.pick(&[4, 16, 32]).unwrap_or(16) * KIB as u64,
        fetch_response_bytes_max: 256 * KIB,
        replica_fetch_bytes_max: dice.pick(&[4, 64]).unwrap_or(64) * KIB,
        tail_cache_bytes_max: dice.pick(&[0, 4, 64]).unwrap_or(64) * KIB,
        write_buffer_bytes,
        write_buffers: 32 * KIB / write_buffer_bytes + 2,
        group_bytes_max: dice.pick(&[4, 16, 32]).unwrap_or(16) * KIB,
        unflushed_bytes_max: bounds.pick(&[1, 8, 64]).unwrap_or(64) * KIB as u64,
        uncommitted_bytes_max: bounds.pick(&[2, 16, 128]).unwrap_or(128) * KIB as u64,
        parked_requests_max: bounds.pick(&[3, 30, 1_000]).unwrap_or(1_000),
        connection_output_bytes_max: 512 * KIB,
        turn_inputs_max: dice.pick(&[4, 16, 64]).unwrap_or(64),
        flush_stall_ms_max: dice.pick(&[200, 2_000]).unwrap_or(2_000),
        commit_mark_idle_ms: dice.pick(&[5, 100]).unwrap_or(100),
        index_interval_bytes: bounds.pick(&[4, 64]).unwrap_or(4) * KIB as u64,
        // All honest clients together, observers and who has not noticed that it is gone are less than the least.
        connections_max: room.pick(&[30, 60, 1_000]).unwrap_or(60),
        guest_connections_max: room.pick(&[2, 8, 256]).unwrap_or(8),
        guest_ms_max: room.pick(&[500, 2_000]).unwrap_or(2_000),
        voter_connections_max: room.pick(&[8, 12]).unwrap_or(8),
        round_bytes_max: room.pick(&[32, 256, 4_096]).unwrap_or(256) * KIB,
        round_ms_max: room.pick(&[1, 3, 10]).unwrap_or(3),
        queued_request_bytes_max: room.pick(&[256, 512, 4_096]).unwrap_or(512) * KIB,
        device_read_bytes_max: room.pick(&[40, 256]).unwrap_or(40) * KIB,
        device_reads_bytes_max: room.pick(&[300, 600, 4_096]).unwrap_or(600) * KIB,
        read_cache_bytes_max: room.pick(&[0, 64, 256, 4_096]).unwrap_or(256) * KIB,
        read_ahead_bytes_max: 128 * KIB,
        read_piece_bytes: 64 * KIB,
        device_reads_max: room.pick(&[1, 4]).unwrap_or(4),
        answers_bytes_max: room.pick(&[64, 600, 8_192]).unwrap_or(600) * KIB,
        room_stall_ms_max: room.pick(&[200, 1_000]).unwrap_or(1_000),
        connection_requests_max: room.pick(&[8, 64]).unwrap_or(64),
        heavy_bytes_max: 512 * KIB,
        fold_walk_entries: 1,
        fold_settled_batches: 1,
        fold_held_batches_max: 12,
        ..Limits::default()
    }
}

/// How a node's core is made.
pub(crate) fn shape(dice: &mut Dice) -> CoreShape {
    CoreShape {
        lane: dice.pick(&[16, 64, 1_024]).unwrap_or(64),
        slowness: dice.pick(&[1, 4, 10]).unwrap_or(1),
    }
}

/// Configurations of all nodes: voters 1.., then observers. `bounds` draws those of their memory, `room` what clients may have.
pub(crate) fn configs(
    dice: &mut Dice,
    bounds: &mut Dice,
    room: &mut Dice,
    voters: i32,
    observers: i32,
) -> Vec<Config> {
    let endpoint = |id: i32| Endpoint { host: format!("node-{id}"), port: 9092 };
    let quorum: Vec<Voter> =
        (1..=voters).map(|id| Voter { id: NodeId(id), endpoint: endpoint(id) }).collect();
    let election_timeout_ms = dice.pick(&[150, 500, 1_000]).unwrap_or(500);
    let limits = limits(dice, bounds, room);
    let config = |id: i32| Config {
        node_id: NodeId(id),
        directory_id: None,
        cluster_id: Uuid::ZERO.to_string(),
        topic_name: super::TOPIC.to_string(),
        topic_id: Uuid::METADATA_TOPIC_ID,
        data_mode: DataMode::Native,
        voters: quorum.clone(),
        listener_name: "PLAINTEXT".to_string(),
        listener: endpoint(id),
        advertised: endpoint(id),
        log_dir: PathBuf::from("simulated"),
        http_listener: None,
        cpus: None,
        wait: Wait::Sleep,
        log_check: LogCheck::Tail,
        compressed_check: CompressedCheck::Always,
        first_leader: FirstLeader::All,
        log_doubt: LogDoubt::Wait,
        election_timeout_ms,
        fetch_timeout_ms: 2 * election_timeout_ms,
        election_backoff_max_ms: election_timeout_ms,
        request_timeout_ms: 2 * election_timeout_ms,
        retry_backoff_ms: 20,
        retention: Retention::default(),
        limits: limits.clone(),
    };
    (1..=voters + observers).map(config).collect()
}

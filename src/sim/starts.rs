//! The start of the logs moves, in one of eight seeds: the leader is told to, to any offset that all nodes hold for certain.
//!
//! Here is who asks for it; what was folded from what goes, kept as a node would keep it before that; and what must hold on the
//! platter: the files reach down to each start that a slot of the mark names, and no start is above what was kept, or decided. In
//! such a seed no disk is emptied and none rots: a node that lacks what is gone on the others could get it from nobody.

use super::alterations::ALTERED_KEY;
use super::checker::Checker;
use super::dice::Dice;
use super::disk::SimDisk;
use super::faults::Fault;
use super::lies::Lie;
use super::marks::{MARK_FIRST_AT, MARK_START_AT, moved, number_at};
use super::network::Host;
use super::node::{Node, Process};
use super::platter::DiskFile;
use super::{Event, Options, Simulation};
use crate::config::Retention;
use crate::log::{BLOCK_BYTES, SegmentId};
use crate::record::BatchHeader;
use crate::types::*;

const MOVES_ONE_IN: u64 = 8;
/// Of the dice that draw it: none of tests/simulator-seeds.txt became another run by it.
const MOVES_STREAM: u64 = 738;
/// Of the dice that draw how much stays.
const RETENTION_STREAM: u64 = 739;
/// Between two times that somebody wants one.
const MOVE_MS: u64 = 150;

/// Does the start of the logs move in this run?
pub fn moves_start(options: &Options) -> bool {
    Dice::new(options.seed, MOVES_STREAM).below(MOVES_ONE_IN) == 0
}

/// Where such a run has none of these.
pub(super) fn is_left_out(fault: Fault) -> bool {
    fault.is_rot() || matches!(fault, Fault::Wipe | Fault::WipeMost)
}

impl Simulation {
    pub(super) fn plan_move(&mut self) {
        let in_ns = match &mut self.mover {
            Some(mover) => 1 + mover.around(MOVE_MS * NS_PER_MS),
            None => return,
        };
        self.at(self.now_ns + in_ns, Event::MoveStart);
    }

    pub(super) fn on_move_start(&mut self) {
        if self.is_at_rest {
            return;
        }
        self.plan_move();
        if !self.is_calm {
            self.want_start();
        }
        let hosts: Vec<Host> = self.nodes.keys().copied().collect();
        hosts.into_iter().for_each(|host| self.maybe_keep_folded(host));
    }

    /// Somebody tells the leader to delete.
    fn want_start(&mut self) {
        let committed = |node: &Node| node.disk.marked_committed().unwrap_or_default();
        let held = self.nodes.values().map(|node| committed(node)).min().unwrap_or_default();
        let Some(mut node) = self.leader().and_then(|leader| self.nodes.remove(&leader)) else { return };
        let now = node.clock.now(self.now_ns);
        if let (Process::Up(replica), Some(mover)) = (&mut node.process, &mut self.mover) {
            let standing = replica.standing();
            let start = standing.log_start;
            let by_retention = replica.retained_start(now).filter(|_| mover.permille(500));
            let left = held.0.saturating_sub(start.0).max(0) as u64;
            let further = if mover.permille(300) { left } else { mover.below(left + 1) };
            let to = match by_retention {
                Some(to) => to.min(held),
                None => Offset(start.0 + further as i64),
            };
            if let Some(to) = by_retention {
                let latest_ms = self.nodes.values().map(|node| node.clock.now(self.now_ns).wall_ms).max();
                let latest_ms = latest_ms.unwrap_or(now.wall_ms).max(now.wall_ms);
                let left_bytes = standing.memory.unflushed_bytes + node.disk.log.bytes_from(to);
                let limits = self.checker.retention_at(standing.high_watermark, &node.config.retention);
                self.checker.on_retention(node.host, to, &limits, left_bytes, latest_ms);
            }
            if replica.want_start(to) {
                self.totals.starts_moved += 1;
                self.checker.on_start_decided(to);
            }
            self.wake(&mut node, 1_000);
        }
        self.nodes.insert(node.host, node);
    }

    /// Of all nodes alike, where the starts move.
    pub(super) fn draw_retention(options: &Options) -> Retention {
        let mut dice = Dice::new(options.seed, RETENTION_STREAM);
        let bytes = dice.pick(&[None, None, Some(20_000), Some(100_000)]).flatten();
        let ms = dice.pick(&[None, None, Some(1_000), Some(4_000)]).flatten();
        Retention { bytes, ms, ..Retention::default() }
    }

    /// As a node that takes snapshots: now and then, and where a start is wanted that none covers.
    fn maybe_keep_folded(&mut self, host: Host) {
        let Some(mut node) = self.nodes.remove(&host) else { return };
        if let (Process::Up(replica), Some(mover)) = (&mut node.process, &mut self.mover)
            && mover.permille(if replica.uncovered_start().is_some() { 500 } else { 100 })
            && let Some((id, sections)) = replica.folded()
        {
            if !self.liar.tells(Lie::StartBeforeSnapshot) {
                node.disk.kept.folded = Some((id.offset, sections));
            }
            replica.snapshot_taken(id);
            self.wake(&mut node, 1_000);
        }
        self.nodes.insert(host, node);
    }

    /// At rest nobody's log reaches further down than the leader's, and clients are told where that starts; but for who may not move
    /// his start before he starts again. Above it lies who had moved his for a leader that a majority did not follow in that.
    pub(super) fn starts_apart(&self, leader: Host) -> Option<String> {
        let start = |node: &Node| node.standing.map(|standing| standing.log_start);
        let stays = |node: &Node| node.standing.is_some_and(|standing| !standing.knows_folds);
        let leading = self.nodes.get(&leader)?;
        let told = leading.standing.and_then(|standing| standing.told_start);
        let is_behind = |node: &Node| start(node) < start(leading) && !stays(node);
        let behind = self.nodes.values().find(|node| is_behind(node)).map(|node| node.host);
        // It told what a majority of the others holds.
        let is_told = told == start(leading) || (stays(leading) && told > start(leading));
        let behind = behind.or_else(|| (!is_told).then_some(leader));
        behind.map(|host| format!("node {host} starts where the leader does, and clients are told so"))
    }

    /// After an operation of its disk, and after a crash.
    pub(super) fn check_start(&mut self, host: Host) {
        let Some(node) = self.nodes.get(&host) else { return };
        let (starts, oldest) = (node.disk.marked_starts(), node.disk.log.begins());
        if let (Some(lowest), Some(oldest)) = (starts.iter().min(), oldest)
            && oldest > *lowest
        {
            let detail =
                format!("node {host} has files from {oldest} on, and a mark that starts at {lowest}");
            self.checker.violate("the files reach down to where the mark starts", detail);
        }
        // R1.
        let folded = node.disk.kept.folded.as_ref().map_or(Offset(0), |(end, _)| *end);
        if let Some(highest) = starts.iter().max().filter(|highest| **highest > folded) {
            let detail =
                format!("node {host} starts at {highest}, and has kept what is folded up to {folded}");
            self.checker.violate("no log starts above what was folded and kept of it", detail);
        }
        let committed = self.checker.committed_end();
        if let Some(highest) = starts.iter().max().filter(|highest| **highest > committed) {
            let detail = format!("node {host} starts at {highest}, {committed} is committed");
            self.checker.violate("no log starts above what is committed", detail);
        }
    }
}

impl Checker {
    /// What the file says, but for what is set for the topic below this offset.
    fn retention_at(&self, committed: Option<HighWatermark>, of_file: &Retention) -> Retention {
        let set = self.alterations.at(committed.map_or(Offset(0), |committed| committed.0));
        let bytes = set.get(ALTERED_KEY).map_or(of_file.bytes, |value| value.parse().ok());
        Retention { bytes, ..*of_file }
    }

    /// A leader would let go of all before `start`: all of it must be older than the limit by the latest of all clocks, or there must
    /// be enough behind it; or both, one behind the other.
    fn on_retention(
        &mut self,
        host: Host,
        start: Offset,
        limits: &Retention,
        left_bytes: u64,
        latest_ms: i64,
    ) {
        let is_old = |header: &BatchHeader| match (header.data_timestamp(), limits.ms) {
            (Some(timestamp), Some(ms)) => latest_ms.saturating_sub(timestamp) > ms as i64,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let mut left_bytes = left_bytes;
        for header in self.committed_headers(start).iter().rev().flatten() {
            if limits.bytes.is_some_and(|bytes| left_bytes >= bytes) {
                return;
            }
            if !is_old(header) {
                let detail = format!(
                    "node {host} would let go of all before {start} by {limits:?}, and the batch at {} must stay",
                    header.base_offset
                );
                return self.violate("retention lets nothing go that must stay", detail);
            }
            left_bytes += header.size_bytes as u64;
        }
    }
}

impl SimDisk {
    /// Of each slot of the commit mark that was ever written; of none where a bit of it has rotted.
    fn slots(&self) -> impl Iterator<Item = &[u8]> {
        let mark = self.mark.as_ref().filter(|mark| mark.decay.is_none());
        let slots = mark.map(|mark| mark.durable.chunks(BLOCK_BYTES));
        slots.into_iter().flatten().filter(|slot| slot.iter().any(|byte| *byte != 0))
    }

    fn marked_starts(&self) -> Vec<Offset> {
        self.slots().filter_map(|slot| number_at(slot, MARK_START_AT)).map(Offset).collect()
    }

    /// The oldest segment that any slot of the mark names.
    pub(super) fn marked_first(&self) -> SegmentId {
        let first = |slot: &[u8]| match moved(slot) {
            true => number_at(slot, MARK_FIRST_AT),
            false => number_at(slot, MARK_START_AT),
        };
        self.slots().filter_map(first).min().map_or(self.log.first, |first| SegmentId(Offset(first)))
    }

    /// A write of the mark is about to be made.
    pub(super) fn note_mark(&mut self, slot: &[u8]) {
        if moved(slot) && self.kept.mark_before.is_none() {
            self.kept.mark_before.clone_from(&self.mark);
        }
    }

    /// A segment has been removed; one that was no more of the log may be seen again.
    pub(super) fn note_gone(&mut self, segment: SegmentId, file: &DiskFile) {
        if segment < self.marked_first() {
            self.kept.gone.push((segment, file.clone()));
        }
    }

    /// With the power: a file system that forgot one removal shows that segment again.
    pub(super) fn bring_back(&mut self) {
        if !self.kept.gone.is_empty() && self.dice.permille(300) {
            let pick = self.dice.below(self.kept.gone.len() as u64) as usize;
            let (segment, file) = self.kept.gone.swap_remove(pick);
            self.segments.entry(segment).or_insert(file);
        }
    }

    /// A lie: the mark is what it was before the start moved.
    pub(super) fn forget_start(&mut self) -> bool {
        let Some(mark) = self.kept.mark_before.take() else { return false };
        self.mark = Some(mark);
        true
    }
}

//! The start of the logs moves, in one of eight seeds: each node's for itself, to any offset that all of them hold for certain.
//!
//! Here is who asks for it; what was folded from what goes, kept as a node would keep it before that; and what must hold on the
//! platter: the files reach down to each start that a slot of the mark names. In such a seed no disk is emptied and none rots: a
//! node that lacks what is gone on the others could get it from nobody.

use super::dice::Dice;
use super::disk::SimDisk;
use super::faults::Fault;
use super::marks::{MARK_FIRST_AT, MARK_START_AT, moved, number_at};
use super::network::Host;
use super::node::{Node, Process};
use super::platter::DiskFile;
use super::{Event, Options, Simulation};
use crate::log::{BLOCK_BYTES, SegmentId};
use crate::replica::folds::Recovery;
use crate::types::*;

const MOVES_ONE_IN: u64 = 8;
/// Of the dice that draw it: none of tests/simulator-seeds.txt became another run by it.
const MOVES_STREAM: u64 = 738;
/// Between two moves, of whichever node.
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
        if self.is_calm {
            return;
        }
        self.plan_move();
        let committed = |node: &Node| node.disk.marked_committed().unwrap_or_default();
        let held = self.nodes.values().map(|node| committed(node)).min().unwrap_or_default();
        let hosts: Vec<Host> = self.nodes.keys().copied().collect();
        let Some(host) = self.mover.as_mut().and_then(|mover| mover.pick(&hosts)) else { return };
        let Some(mut node) = self.nodes.remove(&host) else { return };
        if self.move_start(&mut node, held) {
            self.totals.starts_moved += 1;
            self.wake(&mut node, 1_000);
        }
        self.nodes.insert(host, node);
    }

    /// False: it is down, or there is nothing to move over.
    fn move_start(&mut self, node: &mut Node, held: Offset) -> bool {
        let (Process::Up(replica), Some(mover)) = (&mut node.process, &mut self.mover) else { return false };
        let start = replica.standing().log_start;
        let Some((id, sections)) = replica.folded() else { return false };
        let left = held.min(id.offset).0.saturating_sub(start.0).max(0) as u64;
        let further = if mover.permille(300) { left } else { mover.below(left + 1) };
        // As a snapshot, what is folded is durable before.
        node.disk.kept.folded = Some((id.offset, sections));
        replica.snapshot_taken(id);
        replica.advance_start(Offset(start.0 + further as i64))
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
        let committed = self.checker.committed_end();
        if let Some(highest) = starts.iter().max().filter(|highest| **highest > committed) {
            let detail = format!("node {host} starts at {highest}, {committed} is committed");
            self.checker.violate("no log starts above what is committed", detail);
        }
    }
}

impl Node {
    /// The folds of its log begin with what was kept of what went.
    pub(super) fn recovery(&self) -> Recovery {
        match &self.disk.kept.folded {
            None => Recovery::new(&self.config),
            Some((end, sections)) => {
                Recovery::from_settled(&self.config, *end, sections).expect("what was folded reads back")
            }
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

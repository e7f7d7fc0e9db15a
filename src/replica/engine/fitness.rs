//! Whether this node should lead: room on its disk, and a log that can be read.
//!
//! Told by what the disk says, and by who could not read. Tells Raft at the end of a turn (`turn`), which hands over or lets
//! others stand (`raft::fitness`), and whoever runs the node, in a line and in `Status`.

use super::GatedEngine;
use crate::log::{DiskError, REFILL, ReadError};
use crate::raft::Unfit;
use crate::replica::notice::Level;
use crate::types::*;

/// There is room again with this part of a threshold above it: a disk at the edge must not move the leader back and forth, nor
/// fill the journal with lines.
const ROOM_MARGIN_DIVISOR: u64 = 4;
/// Between two lines about records that cannot be read, as long as they are the same.
const DAMAGE_LINE_INTERVAL_MS: u64 = 60_000;

#[derive(Debug)]
pub(super) struct Fitness {
    /// `u64::MAX`: not known yet.
    disk_free_bytes: u64,
    /// Fewer bytes are free than `disk_free_bytes_warn`, and not enough since.
    is_low: bool,
    /// The same of `disk_free_bytes_min`.
    is_full: bool,
    /// So many kinds of files want to grow and cannot.
    waits_for_room: u32,
    /// The offset at which a read failed last, and why.
    damage: Option<(Offset, String)>,
    /// Monotonic ns of the last line about it.
    damage_noted_ns: u64,
    /// Wall time of another leader when it began its epoch, and the monotonic ns at which we learnt it.
    other_clock: Option<(i64, u64)>,
}

impl Default for Fitness {
    fn default() -> Fitness {
        Fitness {
            disk_free_bytes: u64::MAX,
            is_low: false,
            is_full: false,
            waits_for_room: 0,
            damage: None,
            damage_noted_ns: 0,
            other_clock: None,
        }
    }
}

/// Fewer bytes than the threshold; who was under it is above it again only by a part of it.
fn is_under(bytes: u64, threshold: u64, was_under: bool) -> bool {
    let enough =
        if was_under { threshold.saturating_add(threshold / ROOM_MARGIN_DIVISOR) } else { threshold };
    bytes < enough
}

impl<W> GatedEngine<W> {
    /// So much is free in the file system; `u64::MAX`: not known yet.
    pub(crate) fn on_disk_free(&mut self, bytes: u64) {
        let min = self.limits.disk_free_bytes_min;
        let (is_below, was_below) = (bytes < min, self.fitness.disk_free_bytes < min);
        self.fitness.disk_free_bytes = bytes;
        self.fitness.is_full = is_under(bytes, min, self.fitness.is_full);
        let is_low = is_under(bytes, self.limits.disk_free_bytes_warn, self.fitness.is_low);
        // The line of the lower threshold says more.
        if is_low != std::mem::replace(&mut self.fitness.is_low, is_low) && !is_below && !was_below {
            self.note_disk_low();
        }
        if is_below != was_below {
            self.note_disk_free();
        }
    }

    fn note_disk_low(&mut self) {
        let (bytes, warn, min) =
            (self.fitness.disk_free_bytes, self.limits.disk_free_bytes_warn, self.limits.disk_free_bytes_min);
        let text = match self.fitness.is_low {
            true => format!(
                "{bytes} bytes are free in log.dirs, fewer than kraft.disk.free.warn.bytes = {warn}: make room. A leader takes \
                 nothing below kraft.disk.free.min.bytes = {min}"
            ),
            false => format!(
                "{bytes} bytes are free in log.dirs again, more than kraft.disk.free.warn.bytes = {warn}"
            ),
        };
        self.note(Level::Warn, text);
    }

    /// Below `kraft.disk.free.warn.bytes`, and not much above it since.
    pub(crate) fn is_disk_low(&self) -> bool {
        self.fitness.is_low
    }

    /// The server looks once a second; a fast producer would fill the disk in between.
    pub(super) fn on_appended_bytes(&mut self, bytes: u64) {
        self.on_disk_free(self.fitness.disk_free_bytes.saturating_sub(bytes));
    }

    /// `u64::MAX`: not known yet.
    pub(crate) fn disk_free_bytes(&self) -> u64 {
        self.fitness.disk_free_bytes
    }

    pub(crate) fn has_disk_room(&self) -> bool {
        self.fitness.disk_free_bytes >= self.limits.disk_free_bytes_min
    }

    pub(super) fn note_disk_free(&mut self) {
        let (bytes, min) = (self.fitness.disk_free_bytes, self.limits.disk_free_bytes_min);
        let text = match (bytes < min, self.raft.is_leader()) {
            (true, true) => format!(
                "{bytes} bytes are free in log.dirs, fewer than kraft.disk.free.min.bytes = {min}: Produce is refused \
                 until there is room, or until a voter that has some leads"
            ),
            (true, false) => format!(
                "{bytes} bytes are free in log.dirs, fewer than kraft.disk.free.min.bytes = {min}: this node goes on \
                 following, and leads only if no other voter can"
            ),
            (false, true) => format!("{bytes} bytes are free in log.dirs again: Produce is accepted"),
            (false, false) => format!("{bytes} bytes are free in log.dirs again"),
        };
        self.note(Level::Warn, text);
    }

    pub(super) fn on_no_room(&mut self, error: &DiskError) {
        self.fitness.waits_for_room += 1;
        let text = format!(
            "the disk is full: {} found no room. What needs it waits until there is some, and is acknowledged to nobody before",
            error.operation
        );
        self.note(Level::Warn, text);
    }

    pub(super) fn on_room_found(&mut self) {
        self.fitness.waits_for_room = self.fitness.waits_for_room.saturating_sub(1);
        // A small file finds room where a segment finds none.
        if !self.waits_for_room() {
            self.note(Level::Warn, "the disk has room again: what waited for it goes on".to_string());
        }
    }

    /// Not that there is room: a disk whose last words are that it has some is not looked at.
    pub(super) fn on_room_unwanted(&mut self) {
        self.fitness.waits_for_room = self.fitness.waits_for_room.saturating_sub(1);
        let text = "what waited for room on the disk is not needed any more; whether there is room again is not known";
        self.note(Level::Warn, text.to_string());
    }

    pub(crate) fn waits_for_room(&self) -> bool {
        self.fitness.waits_for_room > 0
    }

    pub(super) fn unfit_to_lead(&self, now: Now) -> Option<Unfit> {
        if self.fitness.damage.is_some() {
            return Some(Unfit::LogDamaged);
        }
        if self.fitness.is_full || self.waits_for_room() {
            return Some(Unfit::DiskFull);
        }
        self.is_clock_behind(now).then_some(Unfit::ClockBehind)
    }

    /// Records that are there and cannot be read: whoever needs them has to get them from another node.
    pub(crate) fn on_unreadable(&mut self, now: Now, what: &str, at: Offset, error: &ReadError) {
        // A read may be told after the start has passed it, and nobody would ever read it again and find it good.
        if at < self.log.log_start() {
            return;
        }
        let is_same = self.fitness.damage.as_ref().is_some_and(|(known, _)| *known == at);
        let due_ns = self.fitness.damage_noted_ns + DAMAGE_LINE_INTERVAL_MS * NS_PER_MS;
        if !is_same || now.monotonic_ns >= due_ns {
            self.fitness.damage_noted_ns = now.monotonic_ns;
            let text = format!(
                "{what} offset {at}: {error}. This node leads only if no other voter can, and does not start with \
                 kraft.log.check=whole. {REFILL}"
            );
            self.note(Level::Error, text);
        }
        self.fitness.damage = Some((at, error.to_string()));
    }

    /// What could not be read once may have been the device's bad moment.
    pub(crate) fn on_readable(&mut self, from: Offset, end: Offset) {
        let is_there = |at: Offset| from <= at && at < end;
        if self.fitness.damage.as_ref().is_some_and(|(at, _)| is_there(*at)) {
            self.fitness.damage = None;
            self.note(Level::Warn, "what could not be read of the log can be read again".to_string());
        }
    }

    /// What was damaged above it is gone.
    pub(super) fn on_cut_to(&mut self, end: Offset) {
        self.fitness.damage.take_if(|(at, _)| *at >= end);
    }

    /// What was damaged before it is no more of the log.
    pub(super) fn on_start_at(&mut self, start: Offset) {
        self.fitness.damage.take_if(|(at, _)| *at < start);
    }

    /// A leader begins its epoch with a batch that has its clock's time (a Fetch brings it to us within the moment).
    pub(super) fn on_leader_change_appended(&mut self, now: Now, epoch: Epoch, wall_ms: i64) {
        let is_ours = self.raft.is_leader() && self.raft.epoch() == epoch;
        // An old one tells nothing of today's clocks but that it was later than this.
        self.fitness.other_clock = (!is_ours && wall_ms > 0).then_some((wall_ms, now.monotonic_ns));
    }

    /// Who is behind by more than a record may lie ahead of a leader's clock refuses what producers send by the other clock,
    /// and they drop it. Which of the two is right nobody here can tell; the one ahead refuses nothing, unless records have a
    /// bound in the past too.
    fn is_clock_behind(&self, now: Now) -> bool {
        let limits = &self.limits;
        let Some((wall_ms, at_ns)) = self.fitness.other_clock else { return false };
        let since_ms = (now.monotonic_ns.saturating_sub(at_ns) / NS_PER_MS) as i64;
        let behind_ms = wall_ms.saturating_add(since_ms).saturating_sub(now.wall_ms);
        limits.timestamp_before_max_ms == i64::MAX && behind_ms > limits.timestamp_after_max_ms
    }

    /// As a state of this node.
    pub(crate) fn log_damage(&self) -> Option<String> {
        self.fitness.damage.as_ref().map(|(at, why)| format!("offset {at}: {why}"))
    }
}

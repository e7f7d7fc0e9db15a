//! Where the log may begin: what of it is folded into something durable here, and which start the quorum has decided.
//!
//! Records below the start of a log are gone, so nothing goes that no snapshot of this node has taken in
//! (docs/design/log-without-end.md, R1). Raft knows of a snapshot only where it ends, and in which epoch. A start is *wanted* by
//! the leader, which names it to those who fetch; it is *held* by who has it durably, which a follower says with its next Fetch;
//! and it is *told* to clients once a majority holds it. A new leader wants the highest that any of those holds who elected it:
//! one of them held whatever was told before.
//!
//! Beside Kafka's own voters, who say nothing of that, each node moves its start for itself (`RaftConfig::keeps_own_start`).

use super::Raft;
use super::effects::{Effect, Effects};
use super::event::{FetchRequest, FetchResponse};
use super::high_watermark::reached_by_majority;
use super::role::{Decided, Progress, Role};
use crate::types::*;

/// Having been taken over by a majority a start waits so long for the other voters in sync: one that is a batch behind its snapshot
/// need not be given another.
const IN_SYNC_PATIENCE_MS: u64 = 500;
/// A follower says its wall time with one Fetch in so long.
const CLOCK_INTERVAL_NS: u64 = 1_000 * NS_PER_MS;

/// What is known of this node's snapshots, and of its way to a later start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Snapshot that ends last.
    newest: Option<OffsetAndEpoch>,
    /// The log starts here, or was asked to.
    advancing: Offset,
    /// What is wanted of this node alone, where each keeps its own.
    own: Offset,
    /// When it last said its wall time.
    clock_said_ns: Option<u64>,
}

impl Start {
    /// As recovery found them.
    pub(super) fn found(newest: Option<OffsetAndEpoch>, log_start: Offset) -> Start {
        Start { newest, advancing: log_start, own: Offset(0), clock_said_ns: None }
    }

    /// Another log is in place of the one that was there.
    pub(super) fn on_installed(&mut self, begin: Offset) {
        self.advancing = self.advancing.max(begin);
    }

    /// Another leader has not heard it.
    pub(super) fn on_new_leader(&mut self) {
        self.clock_said_ns = None;
    }
}

impl Raft {
    // --- what this node has

    /// One that ends here is durable on this node, whoever took it. It may lie ahead of the log. One that is older than what is
    /// known tells nothing.
    pub(super) fn on_snapshot_taken(&mut self, id: OffsetAndEpoch) {
        if self.start.newest.is_none_or(|newest| newest.offset < id.offset) {
            self.start.newest = Some(id);
        }
    }

    /// The one of this node that ends last; `None`: it has none.
    pub(crate) fn newest_snapshot(&self) -> Option<OffsetAndEpoch> {
        self.start.newest
    }

    pub(super) fn on_start_moved(&mut self, now: Now, at: OffsetAndEpoch, begin: OffsetAndEpoch) {
        let floor = self.committed_floor();
        assert!(at.offset <= floor, "the log starts at {} and is committed up to {floor}", at.offset);
        // One from before an install.
        if at.offset < self.log_start().max(self.epochs.begin().offset) {
            return;
        }
        assert!(begin.offset <= at.offset, "the log begins at {} behind its start", begin.offset);
        self.log_start = at;
        self.epochs.begin_at(begin);
        self.start.advancing = self.start.advancing.max(at.offset);
        self.maybe_tell_start();
        let is_truncating = self.truncating.is_some();
        if let Role::Follower(follower) = &mut self.role
            && !self.config.keeps_own_start
            && !is_truncating
            && follower.gates.is_empty()
        {
            // The leader waits to hear of it.
            follower.fetcher.due = Some(now.monotonic_ns);
        }
    }

    /// Where this node is to start; at or below where it does: nowhere else.
    fn wanted_here(&self) -> Offset {
        match &self.role {
            _ if self.config.keeps_own_start => self.start.own,
            Role::Leader(leader) => leader.decided.wanted,
            Role::Follower(follower) => follower.named_start,
            _ => Offset(0),
        }
    }

    /// Where it is wanted that this node starts, or where it does.
    pub(crate) fn wanted_start(&self) -> Offset {
        self.wanted_here().max(self.log_start())
    }

    /// A start is wanted of this node that none of its snapshots covers: one is to be taken.
    pub(crate) fn uncovered_start(&self) -> Option<Offset> {
        let covered = self.newest_snapshot().map_or(Offset(0), |newest| newest.offset);
        Some(self.wanted_here()).filter(|wanted| *wanted > covered.max(self.start.advancing))
    }

    /// At the end of each step.
    pub(super) fn maybe_advance_start(&mut self, now: Now, effects: &mut Effects) {
        let to = self.wanted_here();
        if to <= self.start.advancing || !self.may_start_at(now, to) {
            return;
        }
        self.start.advancing = to;
        let at = OffsetAndEpoch { epoch: self.epochs.epoch_before(to), offset: to };
        effects.at_once.push(Effect::AdvanceStart(at));
    }

    fn may_start_at(&mut self, now: Now, to: Offset) -> bool {
        let is_covered = self.start.newest.is_some_and(|newest| to <= newest.offset);
        if !is_covered || to > self.committed_floor() || to > self.flushed.0 || self.truncating.is_some() {
            return false;
        }
        self.config.keeps_own_start || !self.is_leader() || self.is_held_by_enough(now, to)
    }

    // --- the leader's side

    /// What those hold who elected this node, itself among them.
    pub(super) fn find_start(&self, effects: &mut Effects) -> Decided {
        let (own, end) = (self.log_start(), self.log_end().0);
        let (mut highest, mut lowest) = (own, own);
        let Role::Candidate(election) = &self.role else { return Decided::agreed(own) };
        for (voter, start) in
            election.starts_of_granting().filter(|(voter, _)| *voter != self.config.local.id)
        {
            // One that is too old to say has never moved it.
            let start = start.unwrap_or(Offset(0));
            if start > end {
                let said =
                    format!("passing over that the log of {voter} starts at {start}: mine ends at {end}");
                effects.notes.push(said);
                lowest = Offset(-1);
                continue;
            }
            (highest, lowest) = (highest.max(start), lowest.min(start));
        }
        match lowest == highest {
            true => Decided::agreed(highest),
            false => Decided { told: None, ..Decided::agreed(highest) },
        }
    }

    /// What a Fetch says of its replica's log, which anybody can say in a voter's name. `Err`: nothing is kept of it.
    pub(super) fn judge_held(&self, request: &FetchRequest) -> Result<(), ErrorCode> {
        let Role::Leader(leader) = &self.role else { return Ok(()) };
        if self.config.keeps_own_start {
            return Ok(());
        }
        let Some(held) = request.log_start else {
            // It would keep what is gone everywhere else, and show it as a leader.
            let is_voter = self.voters.index_of(request.replica).is_some();
            let is_too_old = is_voter && self.log_start() > Offset(0);
            return if is_too_old { Err(ErrorCode::UNSUPPORTED_VERSION) } else { Ok(()) };
        };
        let committed = self.high_watermark().map_or(leader.epoch_start, |high_watermark| high_watermark.0);
        match held >= Offset(0) && held <= request.fetch_offset && held <= committed {
            true => Ok(()),
            false => Err(ErrorCode::INVALID_REQUEST),
        }
    }

    /// Of a voter, in its valid Fetch.
    pub(super) fn on_held(&mut self, place: usize, request: &FetchRequest) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(place) else { return };
        progress.wall_ms = request.wall_ms.or(progress.wall_ms);
        if progress.held_start != request.log_start {
            progress.held_start = request.log_start;
            self.maybe_tell_start();
        }
    }

    /// Retention or DeleteRecords want the log to start at `offset`. It is passed over where it is not committed, or a voter would
    /// not go along.
    pub(super) fn on_want_start(&mut self, offset: Offset, effects: &mut Effects) {
        if self.config.keeps_own_start {
            if offset <= self.committed_floor() {
                self.start.own = self.start.own.max(offset);
            }
            return;
        }
        let committed = self.high_watermark();
        if self.too_old_for_starts().is_some() || committed.is_none_or(|committed| offset > committed.0) {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        if offset > leader.decided.wanted {
            leader.decided.wanted = offset;
            leader.decided.held_since_ns = None;
            effects.at_once.push(Effect::StartNamed);
        }
    }

    /// A voter that has fetched in this epoch, and says of no start.
    pub(crate) fn too_old_for_starts(&self) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let local = self.config.local.id;
        let says_none =
            |p: &&Progress| p.key.id != local && p.last_fetch_ns.is_some() && p.held_start.is_none();
        leader.progress.iter().filter(|_| !self.config.keeps_own_start).find(says_none).map(|p| p.key.id)
    }

    /// What the leader names to who fetches; for a node that keeps its own, where its log starts.
    pub(crate) fn named_start(&self) -> Option<Offset> {
        match &self.role {
            _ if self.config.keeps_own_start => Some(self.log_start()),
            Role::Leader(leader) => {
                let committed = self.high_watermark()?.0;
                Some(leader.decided.wanted).filter(|wanted| *wanted <= committed)
            }
            _ => None,
        }
    }

    /// This epoch has its first commit: from now on a start is named.
    pub(super) fn on_first_commit(&self, effects: &mut Effects) {
        if self.named_start().is_some_and(|named| named > Offset(0)) {
            effects.at_once.push(Effect::StartNamed);
        }
    }

    fn is_held_by_enough(&mut self, now: Now, to: Offset) -> bool {
        let needed = self.voters.majority_besides_leader();
        let (local, lagging) = (self.config.local.id, self.lagging(now));
        let Role::Leader(leader) = &mut self.role else { return false };
        let mut holding = 0;
        let mut all_in_sync = true;
        for (place, progress) in leader.progress.iter().enumerate().filter(|(_, p)| p.key.id != local) {
            match progress.held_start >= Some(to) {
                true => holding += 1,
                false => all_in_sync &= lagging & 1 << place != 0,
            }
        }
        if holding < needed {
            leader.decided.held_since_ns = None;
            return false;
        }
        let since_ns = *leader.decided.held_since_ns.get_or_insert(now.monotonic_ns);
        all_in_sync || now.monotonic_ns >= since_ns + IN_SYNC_PATIENCE_MS * NS_PER_MS
    }

    /// When a leader goes on without those who are in sync and do not hold it yet.
    pub(super) fn start_due(&self) -> Option<u64> {
        let Role::Leader(leader) = &self.role else { return None };
        let Decided { wanted, held_since_ns, .. } = leader.decided;
        let since_ns = held_since_ns.filter(|_| wanted > self.start.advancing);
        since_ns.map(|since_ns| since_ns + IN_SYNC_PATIENCE_MS * NS_PER_MS)
    }

    /// A majority may hold more than it did.
    fn maybe_tell_start(&mut self) {
        let (local, own) = (self.config.local.id, self.log_start());
        let Role::Leader(leader) = &mut self.role else { return };
        let mut held = std::mem::take(&mut leader.reached);
        held.clear();
        let held_by = |p: &Progress| if p.key.id == local { own } else { p.held_start.unwrap_or(Offset(0)) };
        held.extend(leader.progress.iter().map(held_by));
        let majority = reached_by_majority(&mut held).unwrap_or(Offset(0));
        leader.reached = held;
        let decided = &mut leader.decided;
        let at = majority.min(decided.wanted);
        if at >= decided.found {
            decided.told = decided.told.max(Some(at));
        }
    }

    /// Where the log starts for clients. `None`: that is not known, or not so here: what they were told before may be later, and
    /// what is gone here may not be told yet.
    pub(crate) fn told_start(&self) -> Option<Offset> {
        match &self.role {
            _ if self.config.keeps_own_start => Some(self.log_start()),
            Role::Leader(leader) if leader.has_committed => {
                leader.decided.told.filter(|told| *told >= self.log_start())
            }
            _ => None,
        }
    }

    /// The latest start that this node knows of: from here on clients may read, whatever they were told.
    pub(crate) fn known_start(&self) -> Offset {
        self.told_start().unwrap_or_else(|| self.wanted_start())
    }

    // --- the follower's side

    /// `Err`: no leader says that.
    pub(super) fn on_start_named(&mut self, response: &FetchResponse) -> Result<(), String> {
        let Some(named) = response.log_start.filter(|_| !self.config.keeps_own_start) else { return Ok(()) };
        let committed = response.high_watermark.map_or(Offset(0), |committed| committed.0);
        if named > committed {
            return Err(format!("it names the start {named}, and {committed} as committed"));
        }
        if let Role::Follower(follower) = &mut self.role {
            follower.named_start = follower.named_start.max(named);
        }
        Ok(())
    }

    /// What a Fetch says of where this node's log starts.
    pub(super) fn held_start(&self) -> Option<Offset> {
        (!self.config.keeps_own_start).then(|| self.log_start())
    }

    // --- what time it is

    /// What a Fetch that goes out now says of this node's wall time.
    pub(super) fn clock_to_say(&mut self, now: Now) -> Option<i64> {
        let is_due = |said_ns: u64| now.monotonic_ns >= said_ns + CLOCK_INTERVAL_NS;
        if self.config.keeps_own_start || !self.start.clock_said_ns.is_none_or(is_due) {
            return None;
        }
        self.start.clock_said_ns = Some(now.monotonic_ns);
        Some(now.wall_ms)
    }

    /// The latest wall time that a majority has reached, as its voters said, once a second; alone, this node's. `own`: its own, where it
    /// goes by that. Nothing is added for the time since: a monotonic clock that leaps would age the log.
    pub(crate) fn agreed_wall_ms(&self, own: Option<i64>) -> Option<i64> {
        let leader = match &self.role {
            _ if self.config.keeps_own_start => return own,
            Role::Leader(leader) => leader,
            _ => return None,
        };
        let said = |p: &Progress| match p.key.id == self.config.local.id {
            true => own,
            false => p.wall_ms,
        };
        let mut said: Vec<Option<i64>> = leader.progress.iter().map(said).collect();
        said.sort_unstable_by(|a, b| b.cmp(a));
        said.get(said.len() / 2).copied().flatten()
    }
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;

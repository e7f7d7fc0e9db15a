//! What must never happen, whatever fails: looked at after every turn of every node, and at every answer to a client.
//!
//! The checker knows more than any node: the platters of all disks. What a node says (its flushed offset, its high
//! watermark, its epoch), is held against them. It changes nothing; the first violation ends the run.

use super::alterations::{ALTERED_KEY, Alterations, Set};
use super::durable::{BatchId, DurableLog};
use super::history::{History, Value};
use super::network::Host;
use crate::raft::RoleName;
use crate::record::compression::Codec;
use crate::record::{BatchHeader, StampedBatch, check_fetched, records};
use crate::replica::Standing;
use crate::types::*;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Clients write no batch as large as this.
const DECOMPRESSED_BYTES_MAX: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(super) invariant: &'static str,
    pub(super) detail: String,
}

/// What a node has said so far.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    incarnation: u64,
    epoch: Epoch,
    high_watermark: Option<HighWatermark>,
    log_start: Offset,
}

/// Disks as the checker sees them.
pub(super) trait Platters {
    fn log(&self, host: Host) -> Option<&DurableLog>;
    /// The batch that ends there, or the one that did before the host lost its disk: it had said so by then.
    fn held(&self, host: Host, end: Offset) -> Option<BatchId>;
    /// The bytes of the batch on that host's platter that has this id, as they were written: all copies may have rotted since.
    fn batch(&self, host: Host, id: &BatchId) -> Option<Bytes>;
}

#[derive(Debug)]
pub(super) struct Checker {
    voters: Vec<Host>,
    leaders: BTreeMap<Epoch, Host>,
    /// Base offset and epoch of each batch ever durable anywhere, with the batch and the one before it.
    matching: BTreeMap<(Offset, Epoch), (BatchId, Option<BatchId>)>,
    /// With the epoch of whoever said first that it is committed: leaders of later epochs have it.
    committed: Vec<(BatchId, Epoch)>,
    /// Of each of them; `None`: no copy could be read then.
    headers: Vec<Option<BatchHeader>>,
    said: BTreeMap<Host, Said>,
    /// The highest start that each node has told a client.
    starts_told: BTreeMap<Host, Offset>,
    /// The lowest and the highest that the leader of each epoch would have told.
    starts_of: BTreeMap<Epoch, (Offset, Offset)>,
    /// The highest that anybody has asked a leader for.
    start_decided: Offset,
    votes: BTreeMap<(Epoch, Host), i32>,
    pub(super) history: History,
    pub(super) alterations: Alterations,
    /// What is shown where nothing is set.
    pub(super) unaltered: String,
    violation: Option<Violation>,
}

impl Checker {
    pub(super) fn new(voters: Vec<Host>) -> Checker {
        Checker {
            voters,
            leaders: BTreeMap::new(),
            matching: BTreeMap::new(),
            committed: Vec::new(),
            headers: Vec::new(),
            said: BTreeMap::new(),
            starts_told: BTreeMap::new(),
            starts_of: BTreeMap::new(),
            start_decided: Offset(0),
            votes: BTreeMap::new(),
            history: History::default(),
            alterations: Alterations::default(),
            unaltered: "-1".to_string(),
            violation: None,
        }
    }

    pub(super) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// The first one counts.
    pub(super) fn violate(&mut self, invariant: &'static str, detail: String) {
        self.violation.get_or_insert(Violation { invariant, detail });
    }

    pub(super) fn committed_end(&self) -> Offset {
        self.committed.last().map_or(Offset(0), |(b, _)| b.next)
    }

    pub(super) fn last_committed(&self) -> Option<BatchId> {
        self.committed.last().map(|(batch, _)| *batch)
    }

    pub(super) fn voters(&self) -> usize {
        self.voters.len()
    }

    pub(super) fn commits(&self) -> usize {
        self.committed.len()
    }

    pub(super) fn elections(&self) -> usize {
        self.leaders.len()
    }

    /// Headers of all batches up to this place; `None`: no committed batch ends there, in that epoch.
    pub(super) fn committed_before(&self, id: OffsetAndEpoch) -> Option<&[Option<BatchHeader>]> {
        let at = self.committed.partition_point(|(b, _)| b.next < id.offset);
        let (last, _) = self.committed.get(at)?;
        ((last.next, last.epoch) == (id.offset, id.epoch)).then(|| &self.headers[..=at])
    }

    /// Of the committed batches that end at `end` or before.
    pub(super) fn committed_headers(&self, end: Offset) -> &[Option<BatchHeader>] {
        &self.headers[..self.committed.partition_point(|(batch, _)| batch.next <= end)]
    }

    fn committed_at(&self, base: Offset) -> Option<&(BatchId, Epoch)> {
        let at = self.committed.partition_point(|(b, _)| b.next <= base);
        self.committed.get(at)
    }

    /// New batches are on a platter.
    pub(super) fn on_durable(&mut self, host: Host, log: &mut DurableLog) {
        for at in log.checked..log.batches.len() {
            let id = log.batches[at].id;
            let before = at.checked_sub(1).map(|at| log.batches[at].id);
            let known = self.matching.entry((id.base, id.epoch)).or_insert((id, before));
            // What was before the first one that is there has gone with the start of the log.
            known.1 = known.1.or(before);
            let known = *known;
            if known.0 != id || before.is_some_and(|before| known.1 != Some(before)) {
                let detail = format!("node {host} has {id:?} behind {before:?}, another had {known:?}");
                self.violate("log matching: same offset and epoch, same batch and same past", detail);
            }
            if let Some((committed, epoch)) = self.committed_at(id.base).copied()
                && committed != id
                && id.epoch > epoch
            {
                let detail = format!("node {host} has {id:?} where {committed:?} was committed");
                self.violate("a committed batch never changes", detail);
            }
        }
        log.checked = log.batches.len();
    }

    /// After a turn: is what the node says of itself true?
    pub(super) fn on_turn(&mut self, host: Host, incarnation: u64, now: &Standing, platters: &dyn Platters) {
        self.check_progress(host, incarnation, now);
        let durable_end = platters.log(host).map_or(Offset(0), DurableLog::end);
        if now.flushed.0 > durable_end {
            let detail = format!(
                "node {host} says that it has flushed up to {}, its disk ends at {durable_end}",
                now.flushed
            );
            self.violate("what is said to be flushed is on the platter", detail);
        }
        // While it recovers, a cut that a dead process had begun may be seen and not durable.
        if durable_end > now.log_end.0 && !now.is_truncating && !now.is_gated {
            let detail = format!("node {host} has a log up to {}, its disk has {durable_end}", now.log_end);
            self.violate("what was cut off is off the platter", detail);
        }
        if now.role == RoleName::Leader {
            self.on_leader(host, now, platters);
            self.check_told(host, now);
        }
        if let Some(high_watermark) = now.high_watermark
            && high_watermark.0 > self.committed_end()
        {
            self.on_commit(host, now.epoch, high_watermark, platters);
        }
    }

    fn check_progress(&mut self, host: Host, incarnation: u64, now: &Standing) {
        let said = *self.said.entry(host).or_default();
        if now.epoch < said.epoch {
            let detail = format!("node {host} went from epoch {} back to {}", said.epoch, now.epoch);
            self.violate("the epoch of a node never falls, not by a restart either", detail);
        }
        // A leader that has not committed in its epoch says that it does not know.
        let known = now.high_watermark.or(said.high_watermark.filter(|_| said.incarnation == incarnation));
        if said.incarnation == incarnation && known < said.high_watermark {
            let detail = format!("node {host}: {:?} after {:?}", now.high_watermark, said.high_watermark);
            self.violate("the high watermark of a node never falls", detail);
        }
        if now.high_watermark.is_some_and(|hw| hw.0 > now.log_end.0) {
            let detail = format!("node {host}: {:?} with a log end of {}", now.high_watermark, now.log_end);
            self.violate("the high watermark is within the log", detail);
        }
        if now.log_start < said.log_start {
            let detail =
                format!("node {host} started at {}, and starts at {}", said.log_start, now.log_start);
            self.violate("the start of a log never falls, not by a restart either", detail);
        }
        if now.log_start > self.committed_end() {
            let detail = format!("node {host} starts at {}", now.log_start);
            self.violate("no log starts above what is committed", detail);
        }
        if now.log_start > self.start_decided {
            let detail =
                format!("node {host} starts at {}, decided was {}", now.log_start, self.start_decided);
            self.violate("no log starts above what was decided", detail);
        }
        // While its quorum state is being written nobody has heard of the epoch.
        let epoch = if now.is_gated { said.epoch } else { now.epoch };
        let log_start = now.log_start;
        self.said.insert(host, Said { incarnation, epoch, high_watermark: known, log_start });
    }

    fn on_leader(&mut self, host: Host, now: &Standing, platters: &dyn Platters) {
        match self.leaders.get(&now.epoch) {
            Some(other) if *other == host => return,
            Some(other) => {
                let detail = format!("nodes {other} and {host} both lead epoch {}", now.epoch);
                return self.violate("one leader in an epoch", detail);
            }
            None => self.leaders.insert(now.epoch, host),
        };
        let newest = self.committed.last().map_or(Epoch(0), |(_, epoch)| *epoch);
        if now.log_end.0 < self.committed_end() && now.epoch > newest {
            let detail = format!(
                "node {host} leads epoch {} with a log end of {}, {} was committed",
                now.epoch,
                now.log_end,
                self.committed_end()
            );
            self.violate("a leader has everything that was committed", detail);
        }
        let Some(log) = platters.log(host) else { return };
        // Its log may begin later.
        let begins = log.begins().unwrap_or_default();
        let from = self.committed.partition_point(|(batch, _)| batch.next <= begins);
        let differing = log.batches.iter().zip(&self.committed[from..]).find(|(mine, all)| mine.id != all.0);
        if let Some((mine, (all, _))) = differing.filter(|_| now.epoch > newest) {
            let detail =
                format!("node {host} leads epoch {} with {:?} instead of {all:?}", now.epoch, mine.id);
            self.violate("a leader has everything that was committed", detail);
        }
    }

    /// A leader is asked to let the log start here.
    pub(super) fn on_start_decided(&mut self, start: Offset) {
        self.start_decided = self.start_decided.max(start);
    }

    /// What a leader tells its clients is at least what those of earlier epochs have told, also where one of them tells it later.
    fn check_told(&mut self, host: Host, now: &Standing) {
        let Some(told) = now.told_start else { return };
        let own = self.starts_of.entry(now.epoch).or_insert((told, told));
        own.1 = own.1.max(told);
        let before = self.starts_of.range(..now.epoch).map(|(_, (_, highest))| *highest).max();
        let after = self.starts_of.range(now.epoch..).skip(1).map(|(_, (lowest, _))| *lowest).min();
        if before.is_some_and(|before| before > told) || after.is_some_and(|after| after < told) {
            let detail = format!(
                "node {host} tells the start {told} in epoch {}; earlier leaders told {before:?}, later ones {after:?}",
                now.epoch
            );
            self.violate("the start that clients are told never falls", detail);
        }
    }

    /// A node says that everything below is committed: a majority must have it on its platters.
    fn on_commit(
        &mut self,
        host: Host,
        epoch: Epoch,
        high_watermark: HighWatermark,
        platters: &dyn Platters,
    ) {
        let mut holders: BTreeMap<BatchId, Vec<Host>> = BTreeMap::new();
        for voter in &self.voters {
            if let Some(id) = platters.held(*voter, high_watermark.0) {
                holders.entry(id).or_default().push(*voter);
            }
        }
        let majority = self.voters.len() / 2 + 1;
        let Some(holder) = holders.values().find(|h| h.len() >= majority).and_then(|holders| {
            holders.iter().copied().max_by_key(|h| platters.log(*h).map(DurableLog::end))
        }) else {
            let detail = format!(
                "node {host} says that {high_watermark} is committed; on platters: {:?}",
                holders.values().collect::<Vec<_>>()
            );
            return self.violate("what is committed was flushed by a majority", detail);
        };
        let end = self.committed_end();
        let Some(log) = platters.log(holder) else { return };
        let from = log.batches.partition_point(|b| b.id.base < end);
        for placed in log.batches[from..].iter().take_while(|b| b.id.next <= high_watermark.0) {
            if placed.id.base != self.committed_end() {
                let detail = format!("{:?} is not the batch at {}", placed.id, self.committed_end());
                return self.violate("what is committed has no gap", detail);
            }
            self.committed.push((placed.id, epoch));
            let mut copies = self.voters.iter().filter_map(|voter| platters.batch(*voter, &placed.id));
            let bytes = copies.next();
            self.headers.push(bytes.as_ref().and_then(|bytes| BatchHeader::decode(bytes)));
            let bytes = bytes.unwrap_or_default();
            self.alterations.on_committed(placed.id.base, &bytes);
            let values = values_of(bytes);
            if let Err(detail) = self.history.on_committed(placed.id, values) {
                self.violate("idempotent producers: exactly once and in order", detail);
            }
        }
    }

    /// A vote that leaves must be on the platter. `durable`: epoch and candidate that quorum-state names.
    pub(super) fn on_vote(&mut self, host: Host, epoch: Epoch, candidate: i32, durable: Option<(i64, i64)>) {
        if durable != Some((i64::from(epoch.0), i64::from(candidate))) {
            let detail = format!(
                "node {host} votes for {candidate} in epoch {epoch}, its quorum-state says {durable:?}"
            );
            self.violate("a vote is durable before it is answered", detail);
        }
        let first = *self.votes.entry((epoch, host)).or_insert(candidate);
        if first != candidate {
            let detail = format!("node {host} votes for {candidate} and {first} in epoch {epoch}");
            self.violate("one vote in an epoch", detail);
        }
    }

    /// After an operation of its disk: nothing is cut that the node's own mark calls committed, by nobody, not at a start either.
    pub(super) fn on_cut(&mut self, host: Host, end: Offset, mark: Option<Offset>) {
        if let Some(committed) = mark.filter(|committed| end < *committed) {
            let detail =
                format!("the log of node {host} ends at {end}, its mark knows {committed} committed");
            self.violate("no node cuts below its own mark", detail);
        }
    }

    /// A node has recovered.
    pub(super) fn on_recovered(
        &mut self,
        host: Host,
        flushed: FlushedOffset,
        log_end: LogEndOffset,
        epoch: Epoch,
    ) {
        if log_end.0 < flushed.0 {
            let detail =
                format!("node {host} had flushed up to {flushed} and finds a log that ends at {log_end}");
            self.violate("what was flushed is found after a crash", detail);
        }
        let said = self.said.get(&host).map_or(Epoch(0), |said| said.epoch);
        if epoch < said {
            let detail = format!("node {host} was in epoch {said} and finds {epoch}");
            self.violate("the epoch of a node never falls, not by a restart either", detail);
        }
    }

    /// A new disk: what was said from the old one binds nobody. An epoch that was known on lost disks alone may come again,
    /// with another leader; what was committed in it is not forgotten.
    pub(super) fn on_wiped(&mut self, host: Host) {
        self.said.remove(&host);
        self.starts_told.remove(&host);
        self.votes.retain(|(_, voter), _| *voter != host);
        let newest = self.said.values().map(|said| said.epoch).max().unwrap_or(Epoch(0));
        self.leaders.retain(|epoch, _| *epoch <= newest);
        self.matching.retain(|(_, epoch), _| *epoch <= newest);
    }

    /// A consumer was given these.
    pub(super) fn on_consumed(&mut self, client: Host, high_watermark: i64, batches: &[StampedBatch]) {
        let end = self.committed_end();
        if high_watermark > end.0 {
            let detail = format!("client {client} was told {high_watermark}, {end} is committed");
            self.violate("no client sees a high watermark above what is committed", detail);
        }
        for batch in batches {
            let id = BatchId::of(batch.header(), &batch.to_bytes());
            if self.committed_at(id.base).map(|(committed, _)| committed) != Some(&id) {
                let detail = format!(
                    "client {client} was given {id:?}, committed is {:?} (up to {end})",
                    self.committed_at(id.base)
                );
                self.violate("consumers see only what is committed, and the same at each offset", detail);
            }
        }
    }

    /// A node goes by this where all below `end` is committed.
    pub(super) fn on_configs(&mut self, host: Host, end: Offset, set: &Set) {
        // What is committed above is not known here yet.
        if end > self.committed_end() {
            return;
        }
        let due = self.alterations.at(end);
        if *set != due {
            let detail = format!("node {host} goes by {set:?} at {end}, the log says {due:?}");
            self.violate("what is set is what the committed log says, on every node", detail);
        }
    }

    /// An administrator was told that it has been set to this.
    pub(super) fn on_altered(&mut self, client: Host, value: &str) {
        if !self.alterations.has_been(value) {
            let detail = format!("client {client} was told that {ALTERED_KEY}={value} is set");
            self.violate("nothing is said to be set before it is committed", detail);
        }
    }

    /// Somebody was told that it is set to this.
    pub(super) fn on_described(&mut self, client: Host, value: &str) {
        if value != self.unaltered && !self.alterations.has_been(value) {
            let detail = format!("client {client} was shown {ALTERED_KEY}={value}");
            self.violate("only what is committed is shown as set", detail);
        }
    }

    /// Clients have heard of this node that its log starts there, or lower.
    pub(super) fn start_told_by(&self, node: Host) -> Offset {
        self.starts_told.get(&node).copied().unwrap_or_default()
    }

    /// And was told that the log of this node starts there. `before`: what the node had told when it was asked.
    pub(super) fn on_start_told(
        &mut self,
        client: Host,
        (node, before): (Host, Offset),
        start: Offset,
        batches: &[StampedBatch],
    ) {
        let end = self.committed_end();
        if start < before {
            let detail = format!("client {client} was told {start} by node {node}, which had told {before}");
            self.violate("the start that a node tells its clients never falls", detail);
        }
        let told = self.starts_told.entry(node).or_default();
        *told = start.max(*told);
        let is_gone = |batch: &&StampedBatch| batch.next_offset() <= start;
        if start > end || batches.iter().any(|batch| is_gone(&batch)) {
            let first = batches.first().map(StampedBatch::base_offset);
            let detail = format!("client {client} was told {start}, {end} is committed, and given {first:?}");
            self.violate("nothing is served from before the start, and that is committed", detail);
        }
    }

    /// A producer was told that its batch is at this offset.
    pub(super) fn on_acknowledged(&mut self, client: Host, number: u64, count: u64, base: i64) {
        let (end, last) = (self.committed_end(), base + count as i64);
        if base < 0 || last > end.0 {
            let detail = format!("client {client} was told {base} for {number}, {end} is committed");
            return self.violate("nothing is acknowledged before it is committed", detail);
        }
        for i in 0..count {
            let (offset, wanted) = (Offset(base + i as i64), Value { client, number: number + i });
            let found = self.history.value_at(offset);
            if found != Some(wanted) {
                let detail = format!("client {client} was told {offset} for {wanted:?}, there is {found:?}");
                return self.violate("an acknowledged record is at its offset", detail);
            }
        }
        if let Err(detail) = self.history.on_acknowledged(client, number, base, last) {
            self.violate("what is sent after an acknowledgement comes behind it", detail);
        }
    }
}

/// Client and number of each record of a batch; none for a control batch.
fn values_of(bytes: Bytes) -> Vec<Option<Value>> {
    let (batches, _) = check_fetched(bytes);
    let Some(batch) = batches.first() else { return Vec::new() };
    if batch.header().is_control() {
        return vec![None; batch.header().record_count.max(0) as usize];
    }
    // What cannot be read has no values, and so another number of them than its offsets say.
    let Ok(batch) = Codec::decompress_batch(batch, DECOMPRESSED_BYTES_MAX) else { return Vec::new() };
    records(&batch).map(|record| record.ok().and_then(|r| Value::decode(r.value?))).collect()
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;

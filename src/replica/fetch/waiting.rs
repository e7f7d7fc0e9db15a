//! Fetches that wait: for records, for the device, or for others to take their answers.
//!
//! Kept by `fetch`, which decides. What a waiting Fetch holds is its answer so far: so the partitions that they name are
//! counted, and not only the Fetches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Topics;
use crate::replica::connection_id::ConnectionId;
use crate::replica::input::Ticket;
use crate::types::*;

/// A Fetch whose records are still to come: parked, or being read from the disk.
pub(super) struct FetchJob {
    pub(super) ticket: Ticket,
    pub(super) from: Offset,
    pub(super) max_bytes: usize,
    pub(super) min_bytes: usize,
    pub(super) deadline_ns: u64,
    pub(super) epoch: Epoch,
    pub(super) reader: Reader,
    /// It has a place in any case.
    pub(super) is_voter: bool,
    /// A consumer's: wakes when so many bytes are committed since the start, all that it waits for.
    pub(super) wake_at: u64,
}

impl FetchJob {
    /// Partitions that it names, which its answer has; a voter's are not counted.
    pub(super) fn partitions(&self) -> usize {
        match &self.reader {
            Reader::Consumer { topics, .. } => topics.iter().map(|topic| topic.partitions.len().max(1)).sum(),
            Reader::Replica { .. } => usize::from(!self.is_voter),
        }
    }
}

pub(super) enum Reader {
    /// The answer so far; the records belong to `topics[place.0].partitions[place.1]`.
    Consumer { topics: Topics, place: (usize, usize) },
    /// With the high watermark that it knows (KIP-1166).
    Replica { id: NodeId, high_watermark: Option<HighWatermark> },
}

/// Fetches under way, by id.
#[derive(Default)]
pub(crate) struct Fetches {
    parked: BTreeMap<u64, FetchJob>,
    /// At the device, or in the line for it.
    reading: BTreeMap<u64, FetchJob>,
    deadlines: BTreeSet<(u64, u64)>,
    by_connection: BTreeSet<(ConnectionId, u64)>,
    pub(super) by_replica: BTreeMap<NodeId, u64>,
    /// By core: consumers that wait until others have taken their answers, who waits longest first.
    lines: Vec<VecDeque<FetchJob>>,
    /// By `wake_at`.
    consumers: BTreeSet<(u64, u64)>,
    /// A high watermark was known at the last wake-up of the consumers.
    pub(super) had_high_watermark: bool,
    /// Those that were parked up to this one are looked at again, whatever they wait for.
    pub(super) recheck_up_to: u64,
    /// That all who are parked name.
    parked_partitions: usize,
    /// That all others do, who will have records.
    served_partitions: usize,
}

impl Fetches {
    pub(crate) fn len(&self) -> usize {
        self.parked.len() + self.reading.len() + self.lines.iter().map(VecDeque::len).sum::<usize>()
    }

    /// Partitions that those who are parked name: so much of their answers is held.
    pub(crate) fn parked_partitions(&self) -> usize {
        self.parked_partitions
    }

    /// The same of those who are read for, or wait for others to take their answers.
    pub(super) fn served_partitions(&self) -> usize {
        self.served_partitions
    }

    pub(super) fn get_parked(&self, id: u64) -> Option<&FetchJob> {
        self.parked.get(&id)
    }

    pub(super) fn get_reading(&self, id: u64) -> Option<&FetchJob> {
        self.reading.get(&id)
    }

    pub(super) fn read(&mut self, id: u64, job: FetchJob) {
        self.served_partitions += job.partitions();
        self.reading.insert(id, job);
    }

    /// It waits for the device no more.
    pub(super) fn take_reading(&mut self, id: u64) -> Option<FetchJob> {
        let job = self.reading.remove(&id)?;
        self.served_partitions -= job.partitions();
        Some(job)
    }

    /// Behind all who wait for others of its core to take their answers.
    pub(super) fn stand_in_line(&mut self, job: FetchJob) {
        self.served_partitions += job.partitions();
        self.lines[job.ticket.connection.core()].push_back(job);
    }

    /// It was the first, and waits on.
    pub(super) fn stay_first(&mut self, job: FetchJob) {
        self.served_partitions += job.partitions();
        self.lines[job.ticket.connection.core()].push_front(job);
    }

    pub(super) fn next_in_line(&mut self, core: usize) -> Option<FetchJob> {
        let job = self.lines[core].pop_front()?;
        self.served_partitions -= job.partitions();
        Some(job)
    }

    pub(crate) fn lines(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn has_line(&self, core: usize) -> bool {
        !self.lines[core].is_empty()
    }

    pub(super) fn set_lines(&mut self, cores: usize) {
        self.lines.resize_with(cores, VecDeque::new);
    }

    pub(crate) fn has_lines(&self) -> bool {
        (0..self.lines.len()).any(|core| self.has_line(core))
    }

    /// Those that wait for data, without those that are being read.
    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }

    #[cfg(test)]
    pub(crate) fn parked_ids(&self) -> Vec<u64> {
        self.parked.keys().copied().collect()
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A consumer's bytes are there, or it is to be looked at again.
    pub(super) fn has_ready(&self, committed_bytes: u64) -> bool {
        let has_bytes = self.consumers.first().is_some_and(|(wake_at, _)| *wake_at <= committed_bytes);
        has_bytes || self.to_recheck().next().is_some()
    }

    /// Ids of consumers whose bytes are there.
    pub(crate) fn ready(&self, committed_bytes: u64) -> impl Iterator<Item = u64> {
        self.consumers.range(..=(committed_bytes, u64::MAX)).map(|(_, id)| *id)
    }

    /// Ids of those whose time is over.
    pub(crate) fn due(&self, now_ns: u64) -> impl Iterator<Item = u64> {
        self.deadlines.range(..=(now_ns, u64::MAX)).map(|(_, id)| *id)
    }

    pub(super) fn to_recheck(&self) -> impl Iterator<Item = u64> {
        self.parked.range(..=self.recheck_up_to).map(|(id, _)| *id)
    }

    /// The connection is gone: nobody waits any more.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        while self.unpark_of(connection).is_some() {}
        if let Some(line) = self.lines.get_mut(connection.core()) {
            line.retain(|job| {
                let is_gone = job.ticket.connection == connection;
                self.served_partitions -= if is_gone { job.partitions() } else { 0 };
                !is_gone
            });
        }
    }

    /// The oldest of the connection.
    pub(super) fn unpark_of(&mut self, connection: ConnectionId) -> Option<FetchJob> {
        let (_, id) = *self.by_connection.range((connection, 0)..=(connection, u64::MAX)).next()?;
        self.unpark(id)
    }

    pub(super) fn park(&mut self, id: u64, job: FetchJob) {
        self.deadlines.insert((job.deadline_ns, id));
        self.by_connection.insert((job.ticket.connection, id));
        match job.reader {
            Reader::Consumer { .. } => {
                self.consumers.insert((job.wake_at, id));
            }
            Reader::Replica { id: replica, .. } => {
                self.by_replica.insert(replica, id);
            }
        }
        self.parked_partitions += job.partitions();
        self.parked.insert(id, job);
    }

    pub(super) fn unpark(&mut self, id: u64) -> Option<FetchJob> {
        let job = self.parked.remove(&id)?;
        self.parked_partitions -= job.partitions();
        self.deadlines.remove(&(job.deadline_ns, id));
        self.by_connection.remove(&(job.ticket.connection, id));
        self.consumers.remove(&(job.wake_at, id));
        if let Reader::Replica { id: replica, .. } = job.reader
            && self.by_replica.get(&replica) == Some(&id)
        {
            self.by_replica.remove(&replica);
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/limits.md counts with it.
    #[test]
    fn what_waits_is_small() {
        assert!(size_of::<FetchJob>() <= 512, "{}", size_of::<FetchJob>());
    }
}

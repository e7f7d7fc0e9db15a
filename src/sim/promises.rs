//! What a node says to others, held against what it has by then: nothing is answered before what it promises.
//!
//! The executor notes here what leaves in a turn; `Simulation::check_turn` hands it to the checker when the turn is
//! over, with the platter as it is. Also the bounds of a node's memory.

use super::checker::Checker;
use super::network::{Host, WireId};
use super::node::Node;
use super::told::Told;
use super::{FIRST_CLIENT, Simulation};
use crate::config::Limits;
use crate::protocol::{Request, Response, decode_request};
use crate::raft::RoleName;
use crate::replica::Standing;
use crate::replica::admit::AdmittedProduce;
use crate::types::*;
use bytes::Bytes;

/// What a platter says when something is told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Platter {
    end: Offset,
    epoch: Epoch,
    /// Epoch and candidate that quorum-state names.
    vote: Option<(i64, i64)>,
    /// It names a log in doubt.
    is_in_doubt: bool,
}

impl Platter {
    fn of(node: &Node) -> Platter {
        let vote = node.durable_vote();
        let log_epoch = node.disk.log.batches.last().map_or(Epoch(0), |batch| batch.id.epoch);
        let epoch = vote.and_then(|(epoch, _)| i32::try_from(epoch).ok()).map_or(Epoch(0), Epoch);
        // Recovery goes on in the epoch of the log where that is newer.
        Platter {
            end: node.disk.log.end(),
            epoch: epoch.max(log_epoch),
            vote,
            is_in_doubt: node.says_in_doubt(),
        }
    }
}

/// By how much a node's memory may rightly pass its limits, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Excess {
    /// The largest batch that any client has sent.
    batch: u64,
    /// Read before a bound could stop it.
    not_held_back: u64,
    /// Uncommitted when the leader was elected.
    inherited: u64,
}

impl Checker {
    pub(super) fn on_told(&mut self, host: Host, told: Told, platter: &Platter) {
        let committed = self.committed_end();
        let (holds, invariant) = match told {
            Told::Acknowledged { acks: 1, end } => {
                (end <= platter.end, "a Produce with acks=1 is answered when the leader has flushed it")
            }
            Told::Acknowledged { end, .. } => {
                (end <= committed, "a Produce with acks=-1 is answered when a majority has flushed it")
            }
            Told::Committed { end } => {
                (end <= committed, "clients are told of nothing that is not committed")
            }
            Told::Holds { end } => (end <= platter.end, "a follower fetches from what it has flushed"),
            Told::Epoch(epoch) => (epoch <= platter.epoch, "an epoch is durable before it is told"),
            Told::Stands(_) if platter.is_in_doubt => {
                (false, "whoever is in doubt of its log does not stand")
            }
            // A request may have waited for its connection, and the node may be in another epoch by now.
            Told::Stands(epoch) => (
                epoch < platter.epoch || platter.vote == Some((i64::from(epoch.0), i64::from(host))),
                "a candidate's own vote is durable before it asks for others",
            ),
        };
        if !holds {
            self.violate(
                invariant,
                format!("node {host} told {told:?}; its disk: {platter:?}, committed: {committed}"),
            );
        }
    }

    /// After a turn: is what the node keeps in memory within its limits?
    pub(super) fn check_memory(&mut self, host: Host, now: &Standing, limits: &Limits, excess: Excess) {
        let memory = &now.memory;
        let extra = excess.batch + excess.not_held_back;
        // A follower takes what one Fetch brings, and asks again when that is flushed.
        let fetched = limits.replica_fetch_bytes_max as u64;
        // A batch that is written in parts counts as a whole until it is, and its part under way with the group.
        let unflushed_max = limits.unflushed_bytes_max.max(fetched) + extra + limits.group_bytes_max as u64;
        // What does not stop at the bound is refused at twice the bound.
        let uncommitted_max = limits.uncommitted_bytes_max.max(excess.inherited)
            + excess.batch
            + excess.not_held_back.min(limits.uncommitted_bytes_max);
        let is_leader = now.role == RoleName::Leader;
        let uncommitted = if is_leader { memory.uncommitted_bytes } else { 0 };
        // Whole batches: of one that is written in parts the first ones may have been flushed.
        let tail_max = (limits.tail_cache_bytes_max as u64).max(memory.unflushed_bytes + extra);
        let parked_max = limits.parked_requests_max as u64;
        // A voter's is parked whatever clients have parked: one of each.
        let fetches_max = parked_max + self.voters() as u64;
        let bounds = [
            ("unflushed bytes", memory.unflushed_bytes, unflushed_max),
            ("uncommitted bytes", uncommitted, uncommitted_max),
            ("bytes of the tail cache", memory.tail_cache_bytes, tail_max),
            ("parked Produces", memory.parked_produces as u64, parked_max),
            ("parked Fetches", memory.parked_fetches as u64, fetches_max),
            ("producer ids", memory.producer_ids as u64, limits.producer_ids_max as u64),
        ];
        for (what, is, max) in bounds {
            if is > max {
                self.violate("memory is bounded", format!("node {host} has {is} {what}, {max} are allowed"));
            }
        }
    }
}

impl Node {
    /// A Produce is handed over: its answer will promise something. `was_held_back`: a bound could have stopped it.
    pub(super) fn note_produce(
        &mut self,
        wire: WireId,
        seq: u64,
        produce: &AdmittedProduce,
        was_held_back: bool,
    ) -> u64 {
        let batches = produce.partitions.iter().filter(|p| p.ours).filter_map(|p| p.batch.as_ref().ok());
        let (mut count, mut bytes) = (0, 0);
        for batch in batches {
            count += i64::from(batch.header().record_count);
            bytes += batch.size_bytes() as u64;
        }
        self.asked_produces.insert((wire, seq), (produce.acks, count));
        // Behind the gate they are appended together when it opens; and a connection's first one passes any bound,
        // because nobody knows before that it produces.
        if !was_held_back || self.standing.is_none_or(|standing| standing.is_gated) {
            self.not_held_back += bytes;
        }
        bytes
    }

    /// An answer is about to leave.
    pub(super) fn note_answer(&mut self, wire: WireId, seq: u64, response: &Response) {
        let asked = self.asked_produces.remove(&(wire, seq));
        let is_client = self.served.get(&wire).is_some_and(|served| served.host >= FIRST_CLIENT);
        match response {
            Response::Produce(produce) => {
                let lines = produce.topics.iter().flat_map(|topic| &topic.partitions);
                let Some((acks, count)) = asked else { return };
                for line in lines.filter(|line| line.error.is_none()) {
                    self.told.push(Told::Acknowledged { acks, end: Offset(line.base_offset + count) });
                }
            }
            Response::Fetch(fetch) => {
                for partition in fetch.topics.iter().flat_map(|topic| &topic.partitions) {
                    self.told.extend(partition.current_leader.map(|(_, epoch)| Told::Epoch(epoch)));
                    if is_client && partition.error.is_none() {
                        let end = partition.records.ends().map_or(Offset(0), |(_, end)| end);
                        self.told.push(Told::Committed { end: end.max(Offset(partition.high_watermark)) });
                    }
                }
            }
            Response::ListOffsets(list) => {
                let lines = list.topics.iter().flat_map(|topic| &topic.partitions);
                let offsets = lines.filter(|line| line.error_code == 0).map(|line| Offset(line.offset));
                self.told.extend(offsets.map(|end| Told::Committed { end }));
            }
            Response::Vote(vote) => {
                let lines = vote.topics.iter().flat_map(|topic| &topic.partitions);
                self.told.extend(lines.map(|line| Told::Epoch(Epoch(line.leader_epoch))));
            }
            Response::BeginQuorumEpoch(begin) => {
                let lines = begin.topics.iter().flat_map(|topic| &topic.partitions);
                self.told.extend(lines.map(|line| Told::Epoch(Epoch(line.leader_epoch))));
            }
            _ => {}
        }
    }

    /// Whole frames are about to leave for a peer.
    pub(crate) fn note_sent(&mut self, frames: &Bytes) {
        let mut rest = frames.clone();
        while let Some(length) = rest.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize) {
            if rest.len() < 4 + length {
                return;
            }
            let frame = rest.split_to(4 + length).slice(4..);
            if let Ok((_, request)) = decode_request(frame) {
                self.note_request(&request);
            }
        }
    }

    fn note_request(&mut self, request: &Request) {
        match request {
            Request::Vote(vote) => {
                for line in
                    vote.topics.iter().flat_map(|topic| &topic.partitions).filter(|line| !line.pre_vote)
                {
                    self.told.push(Told::Stands(Epoch(line.replica_epoch)));
                }
            }
            Request::Fetch(fetch) => {
                for line in fetch.topics.iter().flat_map(|topic| &topic.partitions) {
                    self.told.push(Told::Holds { end: Offset(line.fetch_offset) });
                    self.told.push(Told::Epoch(Epoch(line.current_leader_epoch)));
                }
            }
            Request::BeginQuorumEpoch(begin) => {
                let lines = begin.topics.iter().flat_map(|topic| &topic.partitions);
                self.told.extend(lines.map(|line| Told::Epoch(Epoch(line.leader_epoch))));
            }
            _ => {}
        }
    }
}

impl Simulation {
    /// The turn of this node is over, and the checker knows where it stands.
    pub(super) fn check_promises(&mut self, host: Host) {
        let Some(node) = self.nodes.get_mut(&host) else { return };
        let told = std::mem::take(&mut node.told);
        if !told.is_empty() {
            let platter = Platter::of(node);
            told.into_iter().for_each(|told| self.checker.on_told(host, told, &platter));
        }
        // Of one that has just died nothing is in memory.
        if let Some(standing) = node.standing.as_ref().filter(|_| node.is_up()) {
            let limits = &node.config.limits;
            if standing.role == RoleName::Leader && node.inherited.0 != standing.epoch {
                node.inherited = (standing.epoch, standing.memory.uncommitted_bytes);
            }
            let excess = Excess {
                batch: self.largest_batch,
                not_held_back: node.not_held_back,
                inherited: node.inherited.1,
            };
            self.checker.check_memory(host, standing, limits, excess);
            // What had waited is flushed and committed as fast as anything else; then the bound is the usual one.
            let memory = &standing.memory;
            if !standing.is_gated && memory.uncommitted_bytes == 0 && memory.unflushed_bytes == 0 {
                node.not_held_back = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::MemoryUse;

    fn is_caught(check: impl Fn(&mut Checker)) -> bool {
        let mut checker = Checker::new(vec![1]);
        check(&mut checker);
        checker.violation().is_some()
    }

    #[test]
    fn each_promise_is_held_against_the_platter() {
        let platter = Platter { end: Offset(10), epoch: Epoch(2), vote: Some((2, 1)), is_in_doubt: false };
        let cases = [
            (Told::Acknowledged { acks: 1, end: Offset(10) }, true),
            (Told::Acknowledged { acks: 1, end: Offset(11) }, false),
            (Told::Acknowledged { acks: -1, end: Offset(0) }, true),
            // Flushed here, but nobody has said that it is committed.
            (Told::Acknowledged { acks: -1, end: Offset(1) }, false),
            (Told::Committed { end: Offset(-1) }, true),
            (Told::Committed { end: Offset(1) }, false),
            (Told::Holds { end: Offset(10) }, true),
            (Told::Holds { end: Offset(11) }, false),
            (Told::Epoch(Epoch(2)), true),
            (Told::Epoch(Epoch(3)), false),
            (Told::Stands(Epoch(1)), true),
            (Told::Stands(Epoch(2)), true),
            (Told::Stands(Epoch(3)), false),
        ];
        for (told, holds) in cases {
            assert_eq!(is_caught(|checker| checker.on_told(1, told, &platter)), !holds, "{told:?}");
        }
        let doubts = Platter { is_in_doubt: true, ..platter };
        assert!(is_caught(|checker| checker.on_told(1, Told::Stands(Epoch(2)), &doubts)));
        let voted_for_another = Platter { vote: Some((2, 3)), ..platter };
        assert!(is_caught(|checker| checker.on_told(1, Told::Stands(Epoch(2)), &voted_for_another)));
    }

    #[test]
    fn each_part_of_a_nodes_memory_has_a_bound() {
        let limits = Limits { parked_requests_max: 3, producer_ids_max: 5, ..Limits::default() };
        let caught = |memory| {
            let now = Standing {
                role: RoleName::Leader,
                epoch: Epoch(1),
                leader: None,
                high_watermark: None,
                log_start: Offset(0),
                told_start: None,
                knows_folds: true,
                log_end: LogEndOffset(Offset(0)),
                flushed: FlushedOffset(Offset(0)),
                is_gated: false,
                is_truncating: false,
                memory,
            };
            is_caught(|checker| checker.check_memory(1, &now, &limits, Excess::default()))
        };
        let within =
            MemoryUse { parked_produces: 3, parked_fetches: 3, producer_ids: 5, ..Default::default() };
        assert!(!caught(within));
        let beyond = [
            MemoryUse { parked_produces: 4, ..within },
            MemoryUse { parked_fetches: 5, ..within },
            MemoryUse { producer_ids: 6, ..within },
            MemoryUse { unflushed_bytes: 1 << 40, ..within },
            MemoryUse { uncommitted_bytes: 1 << 40, ..within },
            MemoryUse { tail_cache_bytes: 1 << 40, ..within },
        ];
        beyond.into_iter().for_each(|memory| assert!(caught(memory), "{memory:?}"));
    }
}

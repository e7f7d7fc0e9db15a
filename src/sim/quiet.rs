//! What hostile clients must not be able to do, looked at after every turn of every node.
//!
//! - What a node holds for its clients stays within the named sum of its limits.
//! - Where nothing else fails, the leader and its epoch stay: no follower misses it, nobody is deposed.
//! - Each connection goes when those before it in its line have gone.

use super::Simulation;
use super::core::Served;
use super::network::Host;
use super::node::Node;
use crate::raft::RoleName;
use crate::replica::Standing;
use crate::replica::receive::RECEIVE_BYTES_MAX;
use crate::replica::room::frames::SMALL_FRAME_BYTES;
use crate::replica::room::limits::{answer_limits, frame_limits, place_limits};
use crate::replica::room::reads::charge_bytes;
use crate::types::*;

impl Simulation {
    /// The turn of this node is over.
    pub(super) fn check_hostile(&mut self, host: Host) {
        let Some(node) = self.nodes.get(&host).filter(|node| node.is_up()) else { return };
        if let Some(detail) = above_limits(node) {
            self.checker.violate("what is held for clients is bounded", format!("node {host} has {detail}"));
        }
        if let Some(detail) = node.passed_over() {
            self.checker.violate(
                "who stands in a line goes before all who came later",
                format!("node {host}, {detail}"),
            );
        }
        if self.fails_nothing && !self.is_calm {
            self.check_leader();
        }
    }

    fn check_leader(&mut self) {
        let voters = self.nodes.values().filter(|node| node.is_voter());
        let standings: Vec<(Host, Option<Standing>)> =
            voters.map(|node| (node.host, node.standing.filter(|_| node.is_up()))).collect();
        match self.settled {
            None => self.settled = settled(&standings),
            Some((leader, epoch)) => {
                let is_moved = |(host, standing): &&(Host, Option<Standing>)| {
                    let role = if *host == leader { RoleName::Leader } else { RoleName::Follower };
                    standing.is_none_or(|now| now.epoch != epoch || now.role != role)
                };
                if let Some((host, now)) = standings.iter().find(is_moved) {
                    let now = now.map(|now| (now.role, now.epoch, now.leader));
                    let detail = format!(
                        "{leader} led epoch {epoch}, and node {host} is in {now:?}, and nothing has failed"
                    );
                    self.checker.violate("no client deposes a leader or moves an epoch", detail);
                }
            }
        }
    }
}

/// The leader and its epoch, once all voters follow it.
fn settled(standings: &[(Host, Option<Standing>)]) -> Option<(Host, Epoch)> {
    let leader = standings.iter().find_map(|(host, standing)| {
        let now = (*standing)?;
        (now.role == RoleName::Leader && now.high_watermark.is_some()).then_some((*host, now.epoch))
    })?;
    let follows = |(host, standing): &(Host, Option<Standing>)| {
        standing.is_some_and(|now| {
            let is_led = now.role == RoleName::Follower && now.leader == Some(NodeId(leader.0));
            !now.is_gated
                && now.epoch == leader.1
                && now.high_watermark.is_some()
                && (*host == leader.0 || is_led)
        })
    };
    standings.iter().all(follows).then_some(leader)
}

/// What the node holds above a limit, if anything.
fn above_limits(node: &Node) -> Option<String> {
    // Of the configuration, whatever the core says of itself.
    let limits = &node.config.limits;
    let others = node.config.voters.iter().filter(|voter| voter.id != node.config.node_id).count();
    let clients = || node.served.values().filter(|served| !served.is_voter());
    let held: usize = clients().map(Served::held_bytes).sum();
    // As large as its last request was, or as a busy connection's.
    let read_bytes_max = limits.request_bytes_max.max(RECEIVE_BYTES_MAX) + SMALL_FRAME_BYTES;
    let under_way = clients().map(|served| served.session.requests_under_way()).max().unwrap_or(0);
    let voters = node.served.values().filter(|served| served.is_voter());
    let over = voters.map(Served::requests_over).max().unwrap_or(0);
    let unsent = clients().map(Served::unsent_bytes).max().unwrap_or(0);
    let unsent_of_all: usize = clients().map(Served::unsent_bytes).sum();
    let device = node.standing.map_or(0, |standing| standing.memory.device_read_bytes);
    // None is so large here that it must be alone.
    let heavy = node.standing.map_or(0, |standing| standing.memory.heavy_bytes);
    let answers = answer_limits(limits, 1);
    let one_read = charge_bytes(limits.message_bytes_max, limits.read_piece_bytes);
    let bounds = [
        ("connections", node.served.len(), place_limits(limits).most(others).sum()),
        // One read brings what nobody knew of before.
        ("bytes of requests", held, frame_limits(limits, 1).bytes_max + read_bytes_max),
        ("requests under way of a connection", under_way, limits.connection_requests_max),
        ("requests too many under way of a voter's connection", over, 0),
        ("requests that wait for the replica", node.core.queued(), node.core.queued_max()),
        // What the device was read for is not let go before its last byte is sent.
        (
            "unsent bytes of all clients, beside what is read from the device",
            unsent_of_all.saturating_sub(device),
            answers.bytes_max + answers.device_bytes_max,
        ),
        ("unsent bytes of a connection", unsent, limits.connection_output_bytes_max),
        // One read alone is always allowed.
        ("bytes of the device for clients", device, limits.pinned_reads_bytes_max().max(one_read)),
        ("bytes of requests for many things", heavy, limits.heavy_bytes_max),
    ];
    let above = bounds.into_iter().find(|(_, is, max)| is > max);
    above.map(|(what, is, max)| format!("{is} {what}, {max} are allowed"))
}

//! The executor: starts and kills nodes, runs their turns, and carries out their actions on simulated parts.
//!
//! It is to the simulator what `server::replica_core` and its connections are to the server.

use super::checker::Violation;
use super::core::Core;
use super::lies::Lie;
use super::network::{End, Host, Parcel, REFUSED, WireId};
use super::node::{AllPlatters, Arrival, Calling, Node, Process};
use super::transit::flip_record_bit;
use super::{Event, Simulation, snapshots};
use crate::log::{Completion, DiskOp, LogConfig, SmallFile};
use crate::protocol::{Request, Response};
use crate::raft::RoleName;
use crate::replica::admit::Admitted;
use crate::replica::folds::Folds;
use crate::replica::receive::{ReceiveBuffer, Sender};
use crate::replica::room::answers::Given;
use crate::replica::session::Arrived;
use crate::replica::snapshots::Started;
use crate::replica::*;
use crate::types::*;
use bytes::Bytes;
use std::collections::BTreeMap;

/// More turns than this in one millisecond of a node is a busy loop.
const TURNS_PER_MS_MAX: u64 = 3_000;

fn is_of_disk(arrival: &Arrival) -> bool {
    matches!(arrival, Arrival::Disk(_) | Arrival::DiskFree(_) | Arrival::Snapshot(_))
}

impl Simulation {
    // --- life and death

    /// Start the process: recover from what the disk has kept.
    pub(super) fn start(&mut self, host: Host) {
        let Some(mut node) = self.nodes.remove(&host) else { return };
        if matches!(node.process, Process::Down { .. }) {
            self.start_process(&mut node);
        }
        self.nodes.insert(host, node);
    }

    fn lie_before_start(&mut self, node: &mut Node) {
        if self.liar.tells(Lie::VoteRestored) {
            node.disk.restore_older(SmallFile::QuorumState);
        }
        if node.incarnation > 0 && self.liar.tells(Lie::TailForgotten) {
            node.disk.forget_tail();
        }
        if node.incarnation > 0 && self.liar.is(Lie::StartForgotten) && node.disk.forget_start() {
            self.liar.told += 1;
        }
    }

    fn start_process(&mut self, node: &mut Node) {
        node.process = Process::Down { is_starting: false };
        self.lie_before_start(node);
        self.rot_snapshot(node);
        let flushes_names = !self.liar.tells(Lie::NamesBelieved);
        node.disk.open(flushes_names);
        let has_rotten_votes = node.disk.are_votes_rotten();
        if has_rotten_votes && self.liar.tells(Lie::RotBelieved) {
            node.disk.unseal_votes();
        }
        let forgets = self.liar.tells(Lie::ProducersForgotten);
        // An operator who has seen rot lets everything be looked at; some always do.
        let check = match self.is_calm || node.host % 4 == 0 {
            true => LogCheck::Whole,
            false => LogCheck::Tail,
        };
        let config = LogConfig { check, ..log_config(&node.config.limits) };
        let started = snapshots::start(node, &config, &mut self.liar);
        let Started { mut recovered, mut folds, snapshots, from, notes } = match started {
            Ok(started) => started,
            Err(error) => return self.on_start_refused(node, error),
        };
        if let Some(doubt) = recovered.doubt.clone() {
            if !self.on_doubt(node, &doubt) {
                return;
            }
            recovered.go_on_in_doubt();
        }
        if !self.reaches_snapshot(node, &mut recovered, &folds) {
            return;
        }
        self.totals.snapshots_set_aside += notes.len() as u64;
        for note in notes.iter().chain(&recovered.notes) {
            self.trace.line(self.now_ns, node.host, note);
        }
        if has_rotten_votes {
            let detail = format!("node {} started with a quorum-state that has rotted", node.host);
            self.checker.violate("rot is refused, never believed", detail);
        }
        if let Some(standing) = node.standing {
            let (end, epoch) = (recovered.log_end, recovered.quorum_state.epoch);
            self.checker.on_recovered(node.host, standing.flushed, end, epoch);
        }
        self.checker.on_durable(node.host, &mut node.disk.log);
        node.is_refused = false;
        node.incarnation += 1;
        // What a predecessor told while its platter was rotten was held against nothing.
        node.told.clear();
        self.totals.starts += 1;
        self.totals.summaries += recovered.effort.summaries as u64;
        self.totals.scans += (recovered.effort.segments - recovered.effort.summaries) as u64;
        let (seed, now) = (self.dice.next_u64(), node.clock.now(self.now_ns));
        self.totals.snapshots_read += u64::from(from.is_some());
        let text = format!("started, its log ends at {}{}", recovered.log_end, snapshots::named(from));
        let config = self.liar.config_of(&node.config);
        if forgets {
            folds = Folds::new(&node.config);
        }
        if self.liar.tells(Lie::ConfigsForgotten) {
            folds.forget_configs();
        }
        let mut replica = Replica::new(&config, node.directory_id(), recovered, folds, seed, now);
        replica.know_snapshots(snapshots);
        self.trace.line(self.now_ns, node.host, &text);
        self.run_process(node, replica);
        node.inbox.push_back(Arrival::DiskFree(if node.disk.trouble.is_full { 0 } else { 1 << 40 }));
        self.wake(node, 1_000);
    }

    fn run_process(&mut self, node: &mut Node, mut replica: Replica) {
        self.empty_core(node);
        replica.share_answers(vec![node.core.answers.clone()]);
        if self.liar.tells(Lie::EpochsBelieved) {
            replica.believe_requests();
        }
        node.process = Process::Up(Box::new(replica));
    }

    pub(super) fn start_later(&mut self, node: &mut Node, delay_ns: u64) {
        if let Process::Down { is_starting: false } = node.process {
            node.process = Process::Down { is_starting: true };
            self.at(self.now_ns + delay_ns, Event::Start(node.host));
        }
    }

    /// An empty disk under the same id. The node must not help a short log to win until it has caught up.
    pub(super) fn wipe(&mut self, node: &mut Node) {
        node.lost.push(node.disk.log.clone());
        node.disk.wipe();
        node.directory_generation += 1;
        node.standing = None;
        node.is_behind = Some(self.checker.committed_end());
        (node.is_in_doubt, node.is_refused) = (false, false);
        self.checker.on_wiped(node.host);
        self.totals.wipes += 1;
        self.trace.line(self.now_ns, node.host, "has got an empty disk");
    }

    /// The process is gone: connections break, what was submitted happens or not. With the power, what was not
    /// flushed is lost or torn, and nobody is told that the connections are gone.
    pub(super) fn crash(&mut self, host: Host, with_power: bool, why: &str) {
        let Some(mut node) = self.nodes.remove(&host) else { return };
        if node.is_up() {
            self.end_process(&mut node, with_power, why);
        } else if with_power {
            node.disk.cut_power();
        }
        self.nodes.insert(host, node);
    }

    fn end_process(&mut self, node: &mut Node, with_power: bool, why: &str) {
        self.trace.line(self.now_ns, node.host, why);
        let Process::Up(replica) = std::mem::replace(&mut node.process, Process::Down { is_starting: false })
        else {
            return;
        };
        replica.free_buffers();
        for arrival in node.inbox.drain(..) {
            if let Arrival::Disk(Completion { buffer: Some(buffer), .. }) = arrival {
                buffer.free();
            }
        }
        node.disk.kill().into_iter().for_each(|buffer| buffer.free());
        if with_power {
            node.disk.cut_power();
        }
        self.checker.on_durable(node.host, &mut node.disk.log);
        let called = std::mem::take(&mut node.served).into_keys().map(|wire| (wire, End::Called));
        let calling =
            std::mem::take(&mut node.links).into_values().map(|calling| (calling.wire, End::Caller));
        for (wire, end) in called.chain(calling).collect::<Vec<_>>() {
            match with_power {
                true => self.network.vanish(self.now_ns, wire, end),
                false => self.network.close(self.now_ns, wire, end, "connection reset by peer"),
            }
        }
        node.core = Core::new(&node.config, node.shape);
        node.asked_votes.clear();
        node.asked_produces.clear();
        node.not_held_back = 0;
        node.turn_at = None;
        node.paused_until = 0;
        node.dies_after = None;
    }

    // --- what arrives

    /// Let the node have a turn soon.
    pub(super) fn wake(&mut self, node: &mut Node, in_ns: u64) {
        let at = (self.now_ns + in_ns).max(node.paused_until).max(node.busy_until);
        if node.turn_at.is_none_or(|turn| turn > at) {
            node.turn_at = Some(at);
            self.at(at, Event::Turn(node.host));
        }
    }

    /// Something for a node, to be looked at in its next turn.
    pub(super) fn arrive(&mut self, host: Host, arrival: Arrival) {
        let Some(mut node) = self.nodes.remove(&host) else { return };
        if node.is_up() {
            match &arrival {
                Arrival::Net { wire, end: End::Called, parcel: Parcel::Bytes(bytes) } => {
                    node.on_socket(*wire, Some(bytes))
                }
                Arrival::Net { wire, end: End::Called, parcel: Parcel::Closed(_) } => {
                    node.on_socket(*wire, None)
                }
                _ => node.inbox.push_back(arrival),
            }
            let delay_ns = 500 + self.dice.around(5_000);
            self.wake(&mut node, delay_ns);
        } else {
            match arrival {
                Arrival::Net { wire, parcel: Parcel::Call, .. } => self.network.refuse(self.now_ns, wire),
                Arrival::Net { wire, end, parcel: Parcel::Bytes(_) | Parcel::Accepted } => {
                    self.network.close(self.now_ns, wire, end, "connection reset by peer")
                }
                Arrival::Disk(Completion { buffer: Some(buffer), .. }) => buffer.free(),
                _ => {}
            }
        }
        self.nodes.insert(host, node);
    }

    pub(super) fn on_disk(&mut self, host: Host, ticket: u64) {
        if self.on_snapshot_done(host, ticket) {
            return;
        }
        let Some(node) = self.nodes.get_mut(&host) else { return };
        let Some((completion, has_failed)) = node.disk.complete(ticket) else { return };
        self.totals.faults += has_failed as u64;
        self.checker.on_durable(host, &mut node.disk.log);
        self.checker.on_cut(host, node.disk.log.end(), node.disk.marked_committed());
        self.check_start(host);
        self.arrive(host, Arrival::Disk(completion));
    }

    // --- a turn

    pub(super) fn turn(&mut self, host: Host) {
        let Some(mut node) = self.nodes.remove(&host) else { return };
        if node.turn_at == Some(self.now_ns) {
            node.turn_at = None;
            if node.paused_until > self.now_ns {
                let left_ns = node.paused_until - self.now_ns;
                self.wake(&mut node, left_ns);
            } else if let Process::Up(replica) =
                std::mem::replace(&mut node.process, Process::Down { is_starting: false })
            {
                self.run_turn(&mut node, replica);
                // Also of a node that has died in it: somebody may have heard it.
                return self.check_turn(node);
            }
        }
        self.nodes.insert(host, node);
    }

    fn check_turn(&mut self, node: Box<Node>) {
        let (host, incarnation, standing) = (node.host, node.incarnation, node.standing);
        self.nodes.insert(host, node);
        if let Some(standing) = standing {
            self.checker.on_turn(host, incarnation, &standing, &AllPlatters(&self.nodes));
            self.check_promises(host);
            self.check_hostile(host);
            if let Some((end, set)) = self.nodes.get_mut(&host).and_then(|node| node.configs.take()) {
                self.checker.on_configs(host, end, &set);
            }
        }
    }

    fn run_turn(&mut self, node: &mut Node, mut replica: Box<Replica>) {
        self.totals.turns += 1;
        let now = node.clock.now(self.now_ns);
        let given_up = replica.snapshot_counts().given_up;
        self.check_busy(node, now);
        let inputs = node.config.limits.turn_inputs_max as u64;
        let inputs = if self.dice.permille(300) { self.dice.between(1, inputs) } else { inputs };
        // All that the device has done: its number is bounded by what is under way there.
        let (done, others) = std::mem::take(&mut node.inbox).into_iter().partition(is_of_disk);
        node.inbox = others;
        for arrival in done {
            self.take_arrival(node, &mut replica, now, arrival);
        }
        for _ in 0..inputs {
            let Some(arrival) = node.inbox.pop_front() else { break };
            self.take_arrival(node, &mut replica, now, arrival);
        }
        self.run_sockets(node, now);
        self.take_handed(node, &mut replica, now, inputs);
        if replica.deadline().is_some_and(|deadline| deadline <= now.monotonic_ns) {
            replica.handle(now, Input::Tick);
        }
        replica.end_turn(now);
        let mut ended = None;
        let mut left = node.dies_after.take();
        while let Some(action) = replica.poll_action() {
            if left == Some(0) {
                action.free_buffer();
                ended = Some((EXIT_OK, "was killed in the middle of a turn".to_string()));
                break;
            }
            left = left.map(|left| left - 1);
            if let Action::Stop { exit_code, why } = action {
                ended = Some((exit_code, why));
                break;
            }
            self.carry_out(node, action);
        }
        // What a turn has answered leaves with its last action, in one send for each connection.
        if ended.is_none() || self.dice.permille(500) {
            self.end_round(node, &replica, now);
        }
        node.standing = Some(replica.standing());
        node.configs = replica.settled_configs();
        self.count_snapshots(&replica, given_up);
        let next = replica.deadline().map(|deadline| node.clock.when(deadline));
        let least_ns = self.put_off_ns(&replica);
        let has_more = !node.inbox.is_empty() || node.core.has_more(replica.takes_clients());
        node.busy_until = self.now_ns + node.core.spent_ns();
        node.process = Process::Up(replica);
        match ended {
            Some((code, why)) => self.on_stopped(node, code, &why),
            None if has_more => self.wake(node, 2_000),
            None => {
                let in_ns = next.map_or(1_000 * NS_PER_MS, |at| at.saturating_sub(self.now_ns).max(least_ns));
                self.wake(node, in_ns.min(1_000 * NS_PER_MS));
            }
        }
        self.note_caught_up(node);
    }

    fn check_busy(&mut self, node: &mut Node, now: Now) {
        let ms = now.monotonic_ns / NS_PER_MS;
        node.busy = if node.busy.0 == ms { (ms, node.busy.1 + 1) } else { (ms, 1) };
        if node.busy.1 > TURNS_PER_MS_MAX {
            let detail = format!("node {} had {} turns in a millisecond", node.host, node.busy.1);
            self.checker.violate("no node is busy with nothing", detail);
        }
    }

    fn on_stopped(&mut self, node: &mut Node, code: i32, why: &str) {
        let text = format!("stopped with exit code {code}: {why}");
        if why.starts_with("stopping before anything is cut") {
            self.checker.violate("no leader lacks what is committed", format!("node {} {text}", node.host));
        }
        // What it reads and finds rotten it does not stop for; a start does.
        if code == EXIT_CORRUPT {
            self.checker.violate("only a start is refused for rot", format!("node {} {text}", node.host));
        }
        self.end_process(node, false, &text);
        self.totals.stops += 1;
        let delay_ns = self.dice.around(500 * NS_PER_MS);
        self.start_later(node, delay_ns);
    }

    /// A voter that was given an empty disk, or whose log is in doubt, counts again when its log has what was committed then.
    fn note_caught_up(&mut self, node: &mut Node) {
        let has_begun = node.standing.is_some_and(|standing| !standing.is_gated);
        let is_level = node.is_behind.is_some_and(|end| node.disk.log.end() >= end);
        if is_level && has_begun && node.says_caught_up() {
            node.is_behind = None;
            node.is_in_doubt = false;
            node.lost.clear();
        }
    }

    fn take_arrival(&mut self, node: &mut Node, replica: &mut Replica, now: Now, arrival: Arrival) {
        match arrival {
            Arrival::Disk(completion) => replica.handle(now, Input::Disk(completion)),
            Arrival::DiskFree(bytes) => replica.handle(now, Input::DiskFree { bytes }),
            Arrival::Copied(done) => replica.handle(now, Input::Copied(done)),
            Arrival::Snapshot(done) => replica.handle(now, Input::Snapshot(done)),
            Arrival::Searched { token, found } => replica.handle(now, Input::Searched { token, found }),
            Arrival::Shutdown => replica.handle(now, Input::Shutdown),
            Arrival::Net { wire, end: End::Caller, parcel } => {
                let Some(link) = node.link_of(wire) else { return };
                match parcel {
                    Parcel::Accepted => replica.handle(now, Input::PeerConnected { link }),
                    Parcel::Bytes(bytes) => self.read_answers(node, replica, now, link, &bytes),
                    Parcel::Closed(why) => {
                        node.links.remove(&link);
                        let is_refused = why == REFUSED;
                        replica.handle(now, Input::PeerClosed { link, why: why.to_string(), is_refused });
                    }
                    Parcel::Call => {}
                }
            }
            Arrival::Net { wire, end: End::Called, parcel: Parcel::Call } => self.accept(node, now, wire),
            Arrival::Net { end: End::Called, .. } => {}
        }
    }

    /// Whole answers of another voter, as `server::peer_links` cuts them out.
    fn read_answers(
        &mut self,
        node: &mut Node,
        replica: &mut Replica,
        now: Now,
        link: PeerLink,
        bytes: &[u8],
    ) {
        let Some(calling) = node.links.get_mut(&link) else { return };
        calling.received.room(&mut node.pool).extend_from_slice(bytes);
        let wire = calling.wire;
        loop {
            match calling.received.next_frame(node.config.limits.voter_answer_bytes_max()) {
                Ok(Some(frame)) => replica.handle(now, Input::PeerFrame { link, frame }),
                Ok(None) => return,
                Err(why) => {
                    self.network.close(self.now_ns, wire, End::Caller, "closed by this node");
                    node.links.remove(&link);
                    let why = why.to_string();
                    return replica.handle(now, Input::PeerClosed { link, why, is_refused: false });
                }
            }
        }
    }

    pub(super) fn hand_over(
        &mut self,
        node: &mut Node,
        replica: &mut Replica,
        now: Now,
        wire: WireId,
        arrived: Arrived,
        is_first_produce: bool,
    ) {
        let Arrived { seq, api_version, is_forwarded, mut request, .. } = arrived;
        match &mut request {
            Admitted::Produce(produce) => {
                // What was on its way when the replica was full by what came before it.
                let was_held_back = !is_first_produce && !replica.is_full();
                let bytes = node.note_produce(wire, seq, produce, was_held_back);
                self.largest_batch = self.largest_batch.max(bytes);
                if produce.acks == -1 && self.liar.tells(Lie::AckBeforeCommit) {
                    produce.acks = 1;
                }
            }
            Admitted::Other(Request::Vote(vote)) => {
                let asked = vote.topics.first().and_then(|topic| topic.partitions.first());
                if let Some(vote) = asked.filter(|vote| !vote.pre_vote) {
                    let asked = (Epoch(vote.replica_epoch), vote.replica_id.0);
                    node.asked_votes.insert((wire, seq), asked);
                }
            }
            Admitted::Other(Request::Fetch(fetch)) if fetch.replica_id > 0 => {
                let partitions = fetch.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                for partition in partitions {
                    let end = replica.standing().log_end.0.0;
                    if end > partition.fetch_offset && self.liar.tells(Lie::FetchAhead) {
                        partition.fetch_offset = end;
                        partition.last_fetched_epoch = replica.standing().epoch.0;
                    }
                }
            }
            Admitted::Other(_) | Admitted::Heavy(_) => {}
        }
        let (received_ns, decoded_ns) = (now.monotonic_ns, now.monotonic_ns);
        let connection = ConnectionId(wire.0);
        let input =
            Input::Request { connection, seq, api_version, is_forwarded, request, received_ns, decoded_ns };
        replica.handle(now, input);
    }

    // --- actions

    fn carry_out(&mut self, node: &mut Node, action: Action) {
        let now = node.clock.now(self.now_ns);
        match action {
            Action::Disk(op) => self.submit(node, op),
            Action::Snapshot(op) => self.submit_snapshot(node, op),
            Action::Search(search) => {
                let found = search.look(&mut self.inspector);
                node.inbox.push_back(Arrival::Searched { token: search.token, found });
            }
            Action::Copy(op) => {
                let done = node.copies.carry_out(op);
                node.inbox.push_back(Arrival::Copied(done));
            }
            Action::Note { level, text } => {
                if level != Level::Debug {
                    self.trace.line(self.now_ns, node.host, &text);
                }
            }
            Action::Stop { .. } => {}
            Action::Answer { connection, seq, response, given } => {
                let from_device = given.as_ref().map_or(0, Given::device_bytes);
                self.answer(node, now, WireId(connection.0), seq, response, from_device);
                // It is counted among what the connection has.
                drop(given);
            }
            Action::Close { connection, if_silent_ms, .. } => {
                self.close_for_replica(node, now, WireId(connection.0), if_silent_ms)
            }
            Action::PeerConnect { link, .. } => {
                let wire = self.network.call(self.now_ns, node.host, link.node.0);
                // A link that was not closed is replaced, as the server does it.
                let received = ReceiveBuffer::new(Sender::Voter);
                if let Some(old) = node.links.insert(link, Calling { wire, received }) {
                    self.network.close(self.now_ns, old.wire, End::Caller, "closed by this node");
                }
            }
            Action::PeerSend { link, chunks } => {
                if let Some(calling) = node.links.get(&link) {
                    let (wire, whole) = (calling.wire, Bytes::from(chunks.concat()));
                    self.trace.bytes(&whole);
                    node.note_sent(&whole);
                    self.network.send(self.now_ns, wire, End::Caller, whole);
                }
            }
            Action::PeerClose { link } => {
                if let Some(wire) = node.links.get(&link).map(|calling| calling.wire) {
                    self.network.close(self.now_ns, wire, End::Caller, "closed by this node");
                    let parcel = Parcel::Closed("closed by this node");
                    node.inbox.push_back(Arrival::Net { wire, end: End::Caller, parcel });
                }
            }
        }
    }

    fn submit(&mut self, node: &mut Node, op: DiskOp) {
        let lie = self.liar.about(&op.kind);
        let is_early = lie == Some(Lie::CompletionEarly);
        let (ticket, takes_ns) = node.disk.submit(op, lie);
        let takes_ns = if is_early { 1_000 } else { takes_ns };
        let host = node.host;
        self.at(self.now_ns + takes_ns, Event::Disk(host, ticket));
        if self.liar.tells(Lie::CompletionSwapped) {
            node.disk.swap_tickets(ticket);
        }
    }

    fn answer(
        &mut self,
        node: &mut Node,
        now: Now,
        wire: WireId,
        seq: u64,
        mut response: Option<Response>,
        from_device: usize,
    ) {
        let asked = node.asked_votes.remove(&(wire, seq));
        if let Some(response) = &mut response {
            self.falsify(node, wire, response);
            node.note_answer(wire, seq, response);
        }
        if let (Some((epoch, candidate)), Some(Response::Vote(vote))) = (asked, &response) {
            let line = vote.topics.first().and_then(|topic| topic.partitions.first());
            if line.is_some_and(|line| line.vote_granted && line.error_code == 0) {
                self.checker.on_vote(node.host, epoch, candidate, node.durable_vote());
                if node.says_in_doubt() {
                    let detail = format!("node {} votes for {candidate} in epoch {epoch}", node.host);
                    self.checker.violate("whoever is in doubt of its log votes for nobody", detail);
                }
            }
        }
        if let Some(Err(why)) = node.answer(wire, seq, response, from_device, now) {
            let text = format!("closed a connection: {why:?}");
            self.trace.line(self.now_ns, node.host, &text);
            return self.close_served(node, now, wire);
        }
        self.on_answered(node, wire, seq);
    }

    pub(super) fn send_answers(&mut self, wire: WireId, chunks: Vec<Bytes>, is_client: bool) {
        if chunks.is_empty() {
            return;
        }
        let mut whole = Bytes::from(chunks.concat());
        if is_client
            && self.liar.is(Lie::RotServed)
            && let Some(flipped) = flip_record_bit(&whole, &mut self.dice)
            && self.liar.tells(Lie::RotServed)
        {
            whole = flipped;
        }
        self.network.send(self.now_ns, wire, End::Called, whole);
    }

    /// Lies about answers.
    fn falsify(&mut self, node: &Node, wire: WireId, response: &mut Response) {
        let is_client = node.served.get(&wire).is_some_and(|s| s.host >= super::FIRST_CLIENT);
        match response {
            Response::Produce(produce) => {
                for line in produce.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    if line.error.is_none() && self.liar.tells(Lie::AckMoved) {
                        line.base_offset += 1;
                    }
                    if line.error.is_none() && self.liar.tells(Lie::AnswerSwapped) {
                        std::mem::swap(&mut line.base_offset, &mut self.held_back);
                    }
                    if !line.error.is_none() && self.liar.tells(Lie::AckOfFailure) {
                        (line.error, line.base_offset) =
                            (ErrorCode::NONE, self.checker.committed_end().0 - 1);
                    }
                }
            }
            Response::Vote(vote) => {
                for line in vote.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    if !line.vote_granted && line.error_code == 0 && self.liar.tells(Lie::VoteGranted) {
                        line.vote_granted = true;
                    }
                    if self.liar.tells(Lie::EpochEarly) {
                        line.leader_epoch += 1;
                    }
                }
            }
            Response::Fetch(fetch) => {
                for partition in fetch.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    if partition.error.is_none() {
                        self.falsify_fetch(node, is_client, partition);
                    }
                }
            }
            Response::IncrementalAlterConfigs(answer) => {
                for line in answer.responses.iter_mut().filter(|line| line.error_code != 0) {
                    if self.liar.tells(Lie::AlterationOfFailure) {
                        line.error_code = 0;
                    }
                }
            }
            _ => {}
        }
    }

    fn falsify_fetch(
        &mut self,
        node: &Node,
        is_client: bool,
        partition: &mut crate::protocol::FetchPartition,
    ) {
        if is_client && self.liar.tells(Lie::PastHighWatermark) {
            partition.high_watermark += 5;
        }
        let tail = node.disk.log.batches.last().filter(|b| b.id.next > self.checker.committed_end());
        if let Some(tail) = tail.filter(|_| is_client)
            && self.liar.tells(Lie::UncommittedShown)
            && let Some(bytes) = node.disk.bytes_of(tail.segment, tail.position, tail.size_bytes)
        {
            partition.records = crate::record::check_fetched(bytes).0.into();
        }
        let Some(first) = partition.records.iter().next() else { return };
        let is_moved = is_client && self.liar.tells(Lie::ConsumerMoved);
        let is_older = !is_client && self.liar.tells(Lie::FollowerEpoch);
        // What nobody lies about goes out as it was found: a run stays one.
        if is_moved || is_older {
            let (base, epoch) = (first.base_offset(), first.epoch());
            let mut batches: Vec<_> = partition.records.iter().collect();
            match is_moved {
                true => batches[0].stamp(Offset(base.0 + 1), epoch),
                false => batches[0].stamp(base, Epoch((epoch.0 - 1).max(0))),
            }
            partition.records = batches.into();
        }
    }

    // --- for faults and the end

    pub(super) fn leader(&self) -> Option<Host> {
        let leads = |node: &&Node| {
            let is_leader = |s: &Standing| s.role == RoleName::Leader && !s.is_gated;
            node.is_up() && node.standing.as_ref().is_some_and(is_leader)
        };
        self.nodes
            .values()
            .map(|node| &**node)
            .filter(leads)
            .max_by_key(|n| n.standing.map(|s| s.epoch))
            .map(|n| n.host)
    }

    pub(super) fn standings(&self) -> BTreeMap<Host, Option<Standing>> {
        self.nodes.iter().map(|(host, node)| (*host, node.standing.filter(|_| node.is_up()))).collect()
    }

    pub(super) fn violation(&self) -> Option<&Violation> {
        self.checker.violation()
    }
}

//! Test only: runs `testscripts/*` (goldenscript) on a `Cluster`. A script moves every message, timer and disk by
//! hand and shows what each node says and does.
//!
//! - `cluster voters=N [observers=N] [whole=1]`: new nodes, all up, nothing durable (or that they have caught up).
//! - `timeout ID`: the clock moves to the node's next election, fetch or other deadline until its role changes.
//! - `tick ID`, `advance MS`: one tick now; the clock alone.
//! - `deliver [FROM-TO] [max=N]`: messages in order (of one direction), with what they cause, until none is left.
//!   `drop FROM-TO`: these are lost. `double FROM-TO`: they are delivered twice. `hold ID`: its disk completes only
//!   by `disk ID`. `cut ID`, `heal ID`: nothing gets through to or from it.
//! - `refuse ID by=N`: nobody listens where N was.
//! - `unfit ID [why=N]`: 1: its disk is full, 2: its log is damaged, 0: it is fit again.
//! - `append ID [offsets=N]`, `flush-stalled ID`, `shutdown ID`, `crash ID [keep=N]`, `start ID`, `wipe ID`.
//! - `say TO vote|pre-vote|begin|end|fetch|diverging|told ...`: a message of one's own invention (`old=1`: of a candidate
//!   that does not count reserves).
//! - `plant ID epoch=N EPOCH-END... [committed=N]`: a node that is down gets this log, and a mark. `batches N`: a Fetch brings so many at most.
//!   `flushed ID to=N`, `quorum ID`: one completion of a held disk, however late.
//! - `state`: one line for each node. Lines of `Fetch` traffic show only with `verbose`.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;

use super::cluster::{Cluster, Message, Node, Payload};
use super::show::show_state;
use super::solo::{at, key};
use super::*;

struct Script {
    cluster: Cluster,
    held: BTreeSet<NodeId>,
    cut: BTreeSet<NodeId>,
    is_verbose: bool,
}

/// A message loop that does not end is a failure, not a hang.
const DELIVERIES_MAX: usize = 500;

impl goldenscript::Runner for Script {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        match command.name.as_str() {
            "cluster" => {
                let voters = args.take_key("voters").unwrap_or("3").parse()?;
                let observers = args.take_key("observers").unwrap_or("0").parse()?;
                self.cluster = Cluster::new(voters, observers, 1, 1);
                if args.take_key("whole").is_some() {
                    self.cluster.nodes.values_mut().for_each(Node::remember_all);
                }
                (self.held, self.cut, self.is_verbose) = Default::default();
            }
            "verbose" => self.is_verbose = true,
            "state" => return Ok(self.show_states()),
            "advance" => {
                let ms: u64 = args.next_pos().ok_or("how long?")?.parse()?;
                self.cluster.now.monotonic_ns += ms * NS_PER_MS;
                for id in self.cluster.ids() {
                    self.cluster.wake_parked(id);
                }
            }
            "deliver" => {
                let link = args.next_pos().map(parse_link).transpose()?;
                let max = args.take_key("max").map_or(Ok(DELIVERIES_MAX), str::parse)?;
                self.deliver(link, max)?;
            }
            "drop" | "double" => {
                let link = parse_link(args.next_pos().ok_or("which link?")?)?;
                self.meddle(link, command.name == "double");
            }
            "batches" => self.cluster.fetch_batches_max = args.next_pos().ok_or("how many?")?.parse()?,
            "plant" => {
                let id = parse_id(args.next_pos().ok_or("which node?")?)?;
                let epoch = Epoch(args.take_key("epoch").ok_or("in which epoch?")?.parse()?);
                let mut epochs = Vec::new();
                while let Some(text) = args.next_pos() {
                    let (epoch, end) = text.split_once('-').ok_or("EPOCH-END")?;
                    epochs.push((epoch.parse()?, end.parse()?));
                }
                let committed = args.take_key("committed").unwrap_or("0").parse()?;
                self.cluster.plant(id, epoch, &epochs);
                self.cluster.node(id).mark = Offset(committed);
            }
            "say" => {
                let to = parse_id(args.next_pos().ok_or("to whom?")?)?;
                let kind = args.next_pos().ok_or("what?")?;
                let mut number = |name: &str, default: i64| -> Result<i64, Box<dyn Error>> {
                    Ok(args.take_key(name).map_or(Ok(default), str::parse)?)
                };
                let message = invent(kind, to, self.cluster.nodes[&to].raft(), &mut number)?;
                self.cluster.deliver(message);
            }
            name => {
                let id = parse_id(args.next_pos().ok_or("which node?")?)?;
                let mut number = |name: &str, default: i64| -> Result<i64, Box<dyn Error>> {
                    Ok(args.take_key(name).map_or(Ok(default), str::parse)?)
                };
                self.run_node(name, id, &mut number)?;
            }
        }
        self.settle_disks();
        Ok(self.take_trace())
    }
}

type Number<'a> = &'a mut dyn FnMut(&str, i64) -> Result<i64, Box<dyn Error>>;

impl Script {
    fn run_node(&mut self, name: &str, id: NodeId, number: Number) -> Result<(), Box<dyn Error>> {
        match name {
            "tick" => self.cluster.step(id, Event::Tick, Vec::new()),
            "timeout" => self.run_timeout(id)?,
            "append" => {
                let offsets = number("offsets", 1)?;
                if self.cluster.append(id, offsets).is_none() {
                    self.cluster.trace.push(format!("n{id} -> no place for it"));
                }
            }
            "unfit" => {
                let unfit = [None, Some(Unfit::DiskFull), Some(Unfit::LogDamaged)];
                let why = unfit.get(number("why", 1)? as usize).copied().flatten();
                self.cluster.step(id, Event::Fitness(why), Vec::new());
            }
            "flush-stalled" => self.cluster.step(id, Event::FlushStalled, Vec::new()),
            "refuse" => {
                let by = NodeId(number("by", 1)? as i32);
                self.cluster.step(id, Event::Refused { by }, Vec::new());
            }
            "shutdown" => self.cluster.step(id, Event::Shutdown, Vec::new()),
            "crash" => {
                let keep = number("keep", 0)?;
                self.cluster.crash(id, (false, false, keep as usize));
            }
            "quorum" => self.cluster.complete_quorum_state(id),
            "flushed" => {
                let to = Offset(number("to", 0)?);
                self.cluster.complete_flush(id, to);
            }
            "start" => self.cluster.start(id),
            "wipe" => self.cluster.wipe(id),
            "hold" => drop(self.held.insert(id)),
            "disk" => drop(self.held.remove(&id)),
            "cut" => drop(self.cut.insert(id)),
            "heal" => drop(self.cut.remove(&id)),
            _ => return Err(format!("unknown command {name}").into()),
        }
        Ok(())
    }

    /// Ticks at its deadlines until the node is something else. Its own requests stay in the network.
    fn run_timeout(&mut self, id: NodeId) -> Result<(), Box<dyn Error>> {
        let before = (self.cluster.nodes[&id].raft().role(), self.cluster.nodes[&id].raft().epoch());
        for _ in 0..DELIVERIES_MAX {
            let deadline = self.cluster.nodes[&id].raft().deadline().ok_or("it waits for nothing")?;
            self.cluster.now.monotonic_ns = self.cluster.now.monotonic_ns.max(deadline);
            self.cluster.step(id, Event::Tick, Vec::new());
            let raft = self.cluster.nodes[&id].raft();
            if (raft.role(), raft.epoch()) != before {
                return Ok(());
            }
        }
        Err("nothing happened".into())
    }

    fn settle_disks(&mut self) {
        for id in self.cluster.ids() {
            // Each completion may cause the next.
            while self.cluster.is_up(id) && !self.held.contains(&id) && self.settle_disk(id) {}
        }
    }

    fn settle_disk(&mut self, id: NodeId) -> bool {
        let node = &self.cluster.nodes[&id];
        if node.writing_state.is_some() {
            self.cluster.complete_quorum_state(id);
        } else if node.before_truncation.is_some() {
            self.cluster.complete_truncation(id);
        } else if node.flushed() < node.log_end() {
            let end = node.log_end();
            self.cluster.complete_flush(id, end);
        } else {
            return false;
        }
        true
    }

    fn next_message(&self, link: Option<(NodeId, NodeId)>) -> Option<usize> {
        self.cluster
            .network
            .iter()
            .position(|message| link.is_none_or(|link| link == (message.from, message.to)))
    }

    fn deliver(&mut self, link: Option<(NodeId, NodeId)>, max: usize) -> Result<(), Box<dyn Error>> {
        for count in 0.. {
            self.settle_disks();
            let Some(index) = self.next_message(link).filter(|_| count < max) else { return Ok(()) };
            if count == DELIVERIES_MAX {
                return Err("the messages do not end".into());
            }
            let message = self.cluster.network.remove(index);
            let is_cut = self.cut.contains(&message.from) || self.cut.contains(&message.to);
            if is_cut && !matches!(message.payload, Payload::Failed(_)) {
                self.cluster.lose(message);
            } else {
                self.cluster.deliver(message);
            }
        }
        Ok(())
    }

    fn meddle(&mut self, link: (NodeId, NodeId), doubles: bool) {
        let (chosen, kept): (Vec<Message>, Vec<Message>) = std::mem::take(&mut self.cluster.network)
            .into_iter()
            .partition(|message| link == (message.from, message.to));
        self.cluster.network = kept;
        for message in chosen {
            if doubles {
                self.cluster.network.push(message.clone());
                self.cluster.network.push(message);
            } else {
                self.cluster.lose(message);
            }
        }
    }

    fn take_trace(&mut self) -> String {
        let is_noise = |line: &&String| {
            line.contains(" Fetch ") || line.contains("-> fetch read") || line.contains("-> fetch refused")
        };
        let lines = std::mem::take(&mut self.cluster.trace);
        lines.iter().filter(|line| self.is_verbose || !is_noise(line)).fold(
            String::new(),
            |mut text, line| {
                let _ = writeln!(text, "{line}");
                text
            },
        )
    }

    fn show_states(&self) -> String {
        let mut text = String::new();
        for (id, node) in &self.cluster.nodes {
            let Some(raft) = &node.raft else {
                let _ = writeln!(text, "n{id} down");
                continue;
            };
            let high_watermark = raft.high_watermark().map_or("-".to_string(), |known| known.to_string());
            let epochs: Vec<String> =
                raft.epochs().iter().map(|start| format!("{}@{}", start.start_offset, start.epoch)).collect();
            let _ = writeln!(
                text,
                "n{id} {:?} {} end={} flushed={} hw={high_watermark} epochs=[{}]",
                raft.role(),
                show_state(&raft.quorum_state()),
                raft.log_end(),
                raft.flushed(),
                epochs.join(" ")
            );
        }
        text
    }
}

fn parse_id(text: &str) -> Result<NodeId, Box<dyn Error>> {
    Ok(NodeId(text.parse()?))
}

fn parse_link(text: &str) -> Result<(NodeId, NodeId), Box<dyn Error>> {
    let (from, to) = text.split_once('-').ok_or("a link is FROM-TO")?;
    Ok((parse_id(from)?, parse_id(to)?))
}

/// A message as if it came from node `from`, whether it is up or not.
fn invent(kind: &str, to: NodeId, raft: &Raft, number: Number) -> Result<Message, Box<dyn Error>> {
    let epoch = Epoch(number("epoch", i64::from(raft.epoch().0))? as i32);
    let from = number("from", 2)? as i32;
    let leader = NodeId(number("leader", i64::from(from))? as i32);
    let last = at(number("last-epoch", 0)? as i32, number("last", 0)?);
    let payload = match kind {
        "vote" | "pre-vote" => {
            let voter = Some(key(number("voter", i64::from(to.0))? as i32));
            let (candidate, pre_vote) = (key(from), kind == "pre-vote");
            let counts_memory = number("old", 0)? == 0;
            let vote = VoteRequest { voter, epoch, candidate, last, pre_vote, counts_memory };
            Payload::Request(Request::Vote(vote))
        }
        "begin" => Payload::Request(Request::BeginQuorumEpoch(BeginQuorumEpochRequest {
            voter: None,
            leader,
            epoch,
        })),
        "end" => {
            let preferred_candidates = Vec::new();
            Payload::Request(Request::EndQuorumEpoch(EndQuorumEpochRequest {
                leader,
                epoch,
                preferred_candidates,
            }))
        }
        "fetch" => Payload::Request(Request::Fetch(FetchRequest {
            replica: key(from),
            epoch,
            fetch_offset: last.offset,
            last_fetched_epoch: last.epoch,
            max_wait_ms: 500,
            high_watermark: None,
            unfit: None,
            one_batch: false,
            log_start: Some(Offset(0)),
            wall_ms: None,
        })),
        "told" => {
            let error = ErrorCode::FENCED_LEADER_EPOCH;
            let response = LeaderResponse { error, leader: Some(leader), epoch };
            Payload::Response(Response::AskEpoch(response), Vec::new())
        }
        "diverging" => {
            let response = FetchResponse {
                error: ErrorCode::NONE,
                leader: Some(leader),
                epoch,
                high_watermark: None,
                diverging: Some(last),
                snapshot: None,
                begin: None,
                lagging: 0,
                log_start: None,
                batches: Vec::new(),
            };
            Payload::Response(Response::Fetch(response), Vec::new())
        }
        _ => return Err(format!("cannot say {kind}").into()),
    };
    Ok(Message { from: NodeId(from), to, payload, lives: (1, 1) })
}

fn run(name: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/raft/testscripts").join(name);
    let cluster = Cluster::new(1, 0, 1, 1);
    let mut script = Script { cluster, held: BTreeSet::new(), cut: BTreeSet::new(), is_verbose: false };
    goldenscript::run(&mut script, path).expect("the script runs");
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { run(stringify!($name)); })*

        /// A script that nobody runs proves nothing.
        #[test]
        fn every_script_is_run() {
            let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/raft/testscripts");
            let mut found: Vec<String> = std::fs::read_dir(directory)
                .expect("the directory")
                .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
                .collect();
            found.sort();
            let mut named = vec![$(stringify!($name).to_string()),*];
            named.sort();
            assert_eq!(found, named);
        }
    };
}
scripts! {
    check_quorum, committed_before_the_start, deposed_leader, election, emptied_majority, empty_voter, empty_voter_of_deposed_leader, empty_voter_that_led,
    figure_8, first_leader, first_leader_dies, hand_over, high_watermark, invented_messages, late_and_doubled, longer_log_asks_first, longer_log_of_lower_epoch,
    pre_vote,
    refused_by_leader, resignation, restart_after_own_vote, several_diverging_epochs, split_vote,
    stale_completions, two_ask_at_once,
}

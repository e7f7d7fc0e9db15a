//! The one task that owns the replica and the log device: takes inputs, lets the replica think, carries out its actions.
//!
//! A turn is: completions, voters, clients, up to `turn_inputs_max`; then `end_turn`; then one submission to the ring, with
//! the writes and one send per connection. Nothing in a turn waits. Between turns the tasks of the sockets fill the queues, and the core
//! sleeps in its ring, or spins for its own flush where the configuration has given it a CPU, yielding in each round.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::control::Control;
use super::inputs::Inputs;
use super::mesh::{CoreSender, ToNetwork, ToReplica, core_of};
use super::network_core::NetworkCore;
use super::peer_links::PeerLinks;
use super::signals::ShutdownAsked;
use crate::config::Wait;
use crate::io::clock;
use crate::io::log_device::{DeviceEvent, LogDevice};
use crate::io::ring::CoreRing;
use crate::io::scheduling::Courtesy;
use crate::protocol::Response;
use crate::replica::{Action, ConnectionId, EXIT_DISK, Input, Level, Replica};
use crate::types::{NS_PER_MS, Now};

/// A spin for a flush lasts no longer than this; a slower device is slept for.
const SPIN_NS_MAX: u64 = NS_PER_MS;
/// A turn that answers more connections has its writes before its sends in the ring, else behind them: what a follower
/// waits for goes first, but a hundred answers are worth a flush.
const ANSWERS_BEFORE_WRITES_MAX: usize = 4;
/// The status and the histograms are published this often.
const STAGES_INTERVAL_NS: u64 = 1_000 * NS_PER_MS;
/// Idle connections are looked for this often.
const IDLE_INTERVAL_NS: u64 = 10_000 * NS_PER_MS;
/// A replica that has gone quiet is asked this often, should a deadline have been missed.
const TICK_INTERVAL_NS: u64 = 1_000 * NS_PER_MS;

/// How the node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub exit_code: i32,
    pub why: String,
}

/// A network core as the replica core sees it.
pub struct Edge {
    pub receiver: Receiver<ToReplica>,
    pub sender: CoreSender,
    /// Something was put for it in this turn.
    pub is_dirty: bool,
}

pub struct ReplicaCore {
    pub replica: Replica,
    pub device: LogDevice,
    pub ring: Rc<CoreRing>,
    pub inputs: Rc<Inputs>,
    pub network: Rc<NetworkCore>,
    pub links: Rc<PeerLinks>,
    /// By core number, from core 1 on.
    pub edges: Vec<Edge>,
    /// Connections that the acceptor gives this core.
    pub accepted: Receiver<ToNetwork>,
    pub control: Control,
    pub open_connections: Arc<AtomicUsize>,
    pub shutdown_asked: ShutdownAsked,
    pub wait: Wait,
    pub turn_inputs_max: usize,
    pub courtesy: Courtesy,
    pub schedule: Schedule,
}

/// What is due when, in monotonic ns, beside the replica's own deadline.
#[derive(Debug, Default)]
pub struct Schedule {
    stages_published: u64,
    idle_closed: u64,
    last_turn: u64,
    is_shutting_down: bool,
    was_full: bool,
    /// The ring holds writes or sends that the kernel has not been given.
    has_unsent: bool,
}

impl ReplicaCore {
    /// Until the replica says stop, or the ring breaks.
    pub async fn run(&mut self) -> Ended {
        loop {
            let turn = match self.wait().await {
                Ok(()) => self.turn(),
                Err(error) => Err(error),
            };
            match turn {
                Ok(None) => {}
                Ok(Some(ended)) => return ended,
                Err(error) => {
                    let why = format!("the ring of the replica core is broken: {error}");
                    return Ended { exit_code: EXIT_DISK, why };
                }
            }
        }
    }

    fn turn(&mut self) -> io::Result<Option<Ended>> {
        let now = clock::now();
        self.ring.take_rung();
        let taken = self.take_inputs(now);
        self.publish_in_time(now);
        if taken == 0 {
            // What the device goes on with by itself.
            self.schedule.has_unsent |= self.device.submit();
            return Ok(None);
        }
        self.schedule.last_turn = now.monotonic_ns;
        // Its own time: what the turn itself costs shows between the commit and the answer.
        self.replica.end_turn(clock::now());
        let ended = self.carry_out_actions(now);
        if self.network.answered() > ANSWERS_BEFORE_WRITES_MAX {
            self.schedule.has_unsent |= self.device.submit();
        }
        self.schedule.has_unsent |= self.links.flush();
        self.schedule.has_unsent |= self.network.flush();
        self.schedule.has_unsent |= self.device.submit();
        self.tell_full();
        self.flush_edges();
        self.network.wake_waiting();
        if ended.is_some() {
            self.hand_over()?;
            self.publish_status(now);
            self.control.publish_stages(self.replica.take_stages());
        }
        Ok(ended)
    }

    /// Returns how many the replica was given.
    fn take_inputs(&mut self, now: Now) -> usize {
        let mut taken = self.take_completions(now);
        self.take_accepted();
        self.take_from_edges();
        if self.shutdown_asked.load(Ordering::SeqCst) && !self.schedule.is_shutting_down {
            self.schedule.is_shutting_down = true;
            self.replica.handle(now, Input::Shutdown);
            taken += 1;
        }
        while taken < self.turn_inputs_max
            && let Some(input) = self.inputs.pop()
        {
            self.replica.handle(now, input);
            taken += 1;
        }
        if now.monotonic_ns >= self.tick_due() {
            self.replica.handle(now, Input::Tick);
            taken += 1;
        }
        taken
    }

    /// All of them: their number is bounded by what is under way.
    fn take_completions(&mut self, now: Now) -> usize {
        let mut taken = 0;
        while let Some(event) = self.device.poll() {
            let input = match event {
                DeviceEvent::Completion(completion) => Input::Disk(completion),
                DeviceEvent::DiskFree(bytes) => Input::DiskFree { bytes },
            };
            self.replica.handle(now, input);
            taken += 1;
        }
        taken
    }

    fn take_accepted(&self) {
        for message in self.accepted.try_iter() {
            if let ToNetwork::Accepted(accepted) = message {
                self.network.accept(accepted);
            }
        }
    }

    /// Bounded by the credits of the cores.
    fn take_from_edges(&mut self) {
        for edge in &mut self.edges {
            for message in edge.receiver.try_iter() {
                match message {
                    ToReplica::Request(request) => self.inputs.push_client(request.into_input()),
                    ToReplica::Closed(connection) => {
                        self.inputs.push_client(Input::ConnectionClosed { connection });
                        edge.sender.put(ToNetwork::ClosedSeen(connection));
                        edge.is_dirty = true;
                    }
                    ToReplica::Peer(moved) => self.network.accept_moved(*moved),
                }
            }
        }
    }

    fn carry_out_actions(&mut self, now: Now) -> Option<Ended> {
        let mut ended = None;
        while let Some(action) = self.replica.poll_action() {
            match action {
                Action::Answer { connection, seq, response } => self.answer(connection, seq, response),
                Action::Close { connection, why } => self.close(connection, why),
                Action::PeerConnect { link, endpoint } => self.links.connect(link, endpoint),
                Action::PeerSend { link, chunks } => self.links.send(link, chunks),
                Action::PeerClose { link } => self.links.close(link),
                Action::Disk(op) => self.device.push(op),
                Action::Note { level, text } => self.note(now, level, &text),
                Action::Stop { exit_code, why } => ended = Some(Ended { exit_code, why }),
            }
        }
        ended
    }

    fn answer(&mut self, connection: ConnectionId, seq: u64, response: Option<Response>) {
        match self.edge(connection) {
            None => self.network.answer(connection, seq, response),
            Some(edge) => edge.put(ToNetwork::Answer { connection, seq, response }),
        }
    }

    fn close(&mut self, connection: ConnectionId, why: String) {
        match self.edge(connection) {
            None => self.network.close(connection, why),
            Some(edge) => edge.put(ToNetwork::Close { connection, why }),
        }
    }

    /// `None`: the connection is one of this core.
    fn edge(&mut self, connection: ConnectionId) -> Option<&mut Edge> {
        let core = core_of(connection);
        self.edges.get_mut(core.checked_sub(1)?)
    }

    fn note(&mut self, now: Now, level: Level, text: &str) {
        match level {
            Level::Debug => tracing::debug!("{text}"),
            Level::Info => tracing::info!("{text}"),
            Level::Warn => tracing::warn!("{text}"),
            Level::Error => tracing::error!("{text}"),
        }
        if level != Level::Debug {
            // A change of role is always noted: whoever watches sees it at once.
            self.publish_status(now);
        }
    }

    fn tell_full(&mut self) {
        let is_full = self.replica.is_full();
        if is_full == self.schedule.was_full {
            return;
        }
        self.schedule.was_full = is_full;
        self.network.set_full(is_full);
        self.edges.iter_mut().for_each(|edge| edge.put(ToNetwork::Full(is_full)));
    }

    fn flush_edges(&mut self) {
        for edge in self.edges.iter_mut().filter(|edge| edge.is_dirty) {
            edge.is_dirty = false;
            edge.sender.ring();
        }
    }

    fn publish_in_time(&mut self, now: Now) {
        let now_ns = now.monotonic_ns;
        let is_due = now_ns >= self.stages_due();
        if self.control.take_status_wanted() || is_due {
            self.publish_status(now);
        }
        if is_due {
            let elapsed_ns = now_ns - self.schedule.stages_published;
            self.schedule.stages_published = now_ns;
            let stages = self.replica.take_stages();
            self.courtesy.adapt(stages.committed_bytes, elapsed_ns);
            self.control.publish_stages(stages);
            self.control.connections(self.open_connections.load(Ordering::Relaxed));
        }
        if now_ns >= self.schedule.idle_closed + IDLE_INTERVAL_NS {
            self.schedule.idle_closed = now_ns;
            self.network.close_idle(now_ns);
        }
    }

    fn publish_status(&mut self, now: Now) {
        self.control.publish_status(self.replica.status(now));
    }

    fn stages_due(&self) -> u64 {
        self.schedule.stages_published + STAGES_INTERVAL_NS
    }

    fn tick_due(&self) -> u64 {
        let quiet = self.schedule.last_turn + TICK_INTERVAL_NS;
        self.replica.deadline().map_or(quiet, |deadline| deadline.min(quiet))
    }

    /// When a turn is due although nothing comes.
    fn deadline(&self) -> u64 {
        self.tick_due().min(self.stages_due())
    }

    fn is_ready(&mut self) -> bool {
        self.ring.is_rung() || !self.inputs.is_empty() || self.device.has_events()
    }

    /// Until there is something to do, or a deadline has come.
    async fn wait(&mut self) -> io::Result<()> {
        self.ring.reap();
        if self.ring.has_woken() {
            self.hand_over()?;
        }
        self.ring.run_tasks().await;
        if self.is_ready() {
            return self.hand_over();
        }
        if self.wait == Wait::Spin && self.spin_for_flush().await? {
            return Ok(());
        }
        self.schedule.has_unsent = false;
        let left_ns = self.deadline().saturating_sub(clock::monotonic_ns());
        self.ring.wait(Duration::from_nanos(left_ns))?;
        self.ring.run_tasks().await;
        Ok(())
    }

    /// Give the kernel the turn's writes and sends, where something else comes before the call that sleeps, which does it too:
    /// neither must wait for tasks, nor for another turn.
    fn hand_over(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.schedule.has_unsent) { self.ring.submit() } else { Ok(()) }
    }

    /// Look for the completion of a flush and give the CPU away in each round: without that the kernel's flush
    /// workers wait for the next timer tick, 4 ms. True: there is something to do.
    async fn spin_for_flush(&mut self) -> io::Result<bool> {
        let start_ns = clock::monotonic_ns();
        let deadline = self.deadline().min(start_ns + SPIN_NS_MAX);
        while self.device.writes_in_flight() > 0 && clock::monotonic_ns() < deadline {
            // The sockets that the tasks wait for again.
            self.ring.submit()?;
            // SAFETY: no arguments.
            unsafe { libc::sched_yield() };
            self.ring.reap();
            self.ring.run_tasks().await;
            if self.is_ready() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Edge {
    fn put(&mut self, message: ToNetwork) {
        self.sender.put(message);
        self.is_dirty = true;
    }
}

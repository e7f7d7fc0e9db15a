//! The one task that owns the replica and the log device: takes inputs, lets the replica think, carries out its actions.
//!
//! A turn is: completions, voters, clients, up to `turn_inputs_max`; then `end_turn`; then one submission to the ring, with
//! the writes and one send per connection. Nothing in a turn waits. Between turns the tasks of the sockets fill the queues, and the core
//! sleeps in its ring, or spins for its own flush where the configuration has given it a CPU, yielding in each round.

use std::io;
use std::rc::Rc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::control::Control;
use super::copying::Copying;
use super::doors::Doors;
use super::inputs::{Inputs, Next};
use super::inspectors::Inspectors;
use super::mesh::{Edge, ToNetwork, ToReplica};
use super::network_core::NetworkCore;
use super::peer_links::PeerLinks;
use super::wish::{Wish, Wishes};
use crate::config::Wait;
use crate::io::clock;
use crate::io::log_device::{DeviceEvent, LogDevice};
use crate::io::ring::CoreRing;
use crate::io::scheduling::Courtesy;
use crate::io::snapshot_thread::SnapshotThread;
use crate::protocol::Response;
use crate::replica::room::answers::Given;
use crate::replica::{Action, ConnectionId, EXIT_DISK, Input, Level, Replica};
use crate::types::{NS_PER_MS, Now};

/// A spin for a flush lasts no longer than this; a slower device is slept for.
const SPIN_NS_MAX: u64 = NS_PER_MS;
/// A turn that answers more connections has its writes before its sends in the ring, else behind them: what a follower
/// waits for goes first, but a hundred answers are worth a flush.
const ANSWERS_BEFORE_WRITES_MAX: usize = 4;
/// The status and the histograms are published this often.
const STAGES_INTERVAL_NS: u64 = 1_000 * NS_PER_MS;
/// A replica that has gone quiet is asked this often, should a deadline have been missed.
const TICK_INTERVAL_NS: u64 = 1_000 * NS_PER_MS;

/// As a shell tells of SIGKILL.
const EXIT_KILLED: i32 = 128 + 9;

/// How a node ended, or why it did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What `kraft-server` ends with: 0 is good order, the others are in docs/starts-and-ends.md.
    pub exit_code: i32,
    /// One sentence.
    pub why: String,
}

pub(super) struct ReplicaCore {
    pub(super) replica: Replica,
    pub(super) device: LogDevice,
    pub(super) snapshot_thread: SnapshotThread,
    pub(super) ring: Rc<CoreRing>,
    pub(super) inputs: Rc<Inputs>,
    pub(super) network: Rc<NetworkCore>,
    pub(super) links: Rc<PeerLinks>,
    pub(super) inspectors: Inspectors,
    pub(super) copying: Copying,
    /// By core number, from core 1 on.
    pub(super) edges: Vec<Edge>,
    /// Connections that the acceptor gives this core, and what the inspectors give back.
    pub(super) accepted: Receiver<ToNetwork>,
    pub(super) control: Control,
    pub(super) doors: Doors,
    pub(super) wishes: Wishes,
    pub(super) wait: Wait,
    pub(super) turn_inputs_max: usize,
    pub(super) courtesy: Courtesy,
    pub(super) schedule: Schedule,
}

/// What is due when, in monotonic ns, beside the replica's own deadline.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    stages_published: u64,
    idle_closed: u64,
    last_turn: u64,
    is_shutting_down: bool,
    was_full: bool,
    /// The ring holds writes or sends that the kernel has not been given.
    has_unsent: bool,
    /// Since the stages were published last.
    slept_ns: u64,
    /// Part of the interval before in which the core slept (Kafka: poll-idle-ratio).
    idle_ratio: Option<f64>,
}

impl ReplicaCore {
    /// Until the replica says stop, or the ring breaks.
    pub(crate) async fn run(&mut self) -> Ended {
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

    /// Until there is something to do, or a deadline has come.
    async fn wait(&mut self) -> io::Result<()> {
        self.ring.reap();
        if self.ring.has_woken() {
            self.hand_over()?;
        }
        self.run_round().await;
        if self.is_ready() {
            return self.hand_over();
        }
        if self.wait == Wait::Spin && self.spin_for_flush().await? {
            return Ok(());
        }
        self.schedule.has_unsent = false;
        let asleep_ns = clock::monotonic_ns();
        let left_ns = self.deadline().saturating_sub(asleep_ns);
        self.ring.wait(Duration::from_nanos(left_ns))?;
        self.schedule.slept_ns += clock::monotonic_ns().saturating_sub(asleep_ns);
        self.run_round().await;
        Ok(())
    }

    /// Give the kernel the turn's writes and sends, where something else comes before the call that sleeps, which does it too:
    /// neither must wait for tasks, nor for another turn.
    fn hand_over(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.schedule.has_unsent) { self.ring.submit() } else { Ok(()) }
    }

    /// Let the sockets run, for one round.
    async fn run_round(&mut self) {
        self.network.begin_round(clock::monotonic_ns());
        self.ring.run_tasks().await;
        // Who is not read any more must not keep the kernel from being asked for the others.
        self.schedule.has_unsent |= self.network.has_line();
    }

    fn is_ready(&mut self) -> bool {
        let has_input = !self.inputs.is_empty(self.replica.takes_clients());
        has_input || self.ring.is_rung() || self.device.has_events() || self.network.has_line()
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
            self.run_round().await;
            if self.is_ready() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// When a turn is due although nothing comes.
    fn deadline(&self) -> u64 {
        self.tick_due().min(self.stages_due()).min(self.idle_due())
    }

    fn tick_due(&self) -> u64 {
        let quiet = self.schedule.last_turn + TICK_INTERVAL_NS;
        self.replica.deadline().map_or(quiet, |deadline| deadline.min(quiet))
    }

    fn turn(&mut self) -> io::Result<Option<Ended>> {
        let now = clock::now();
        self.ring.take_rung();
        if self.wishes.is(Wish::End) {
            return Ok(Some(Ended { exit_code: EXIT_KILLED, why: "it was told to end at once".into() }));
        }
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
        self.edges.iter_mut().for_each(|edge| edge.end_turn(ToNetwork::Taken));
        if ended.is_some() {
            self.hand_over()?;
            self.publish_status(now);
            self.control.publish_stages(self.replica.take_stages(self.control.cleared_stages()));
        }
        Ok(ended)
    }

    /// Returns how many the replica was given.
    fn take_inputs(&mut self, now: Now) -> usize {
        let mut taken = self.take_completions(now);
        self.take_accepted();
        self.take_from_edges();
        if self.wishes.is(Wish::Stop) && !self.schedule.is_shutting_down {
            self.schedule.is_shutting_down = true;
            self.replica.handle(now, Input::Shutdown);
            taken += 1;
        }
        while taken < self.turn_inputs_max
            && let Some(next) = self.inputs.pop(self.replica.takes_clients())
        {
            match next {
                Next::Voter(input) => self.replica.handle(now, input),
                Next::Client(core, input) => {
                    let is_request = matches!(input, Input::Request { .. });
                    self.replica.handle(now, input);
                    if is_request {
                        self.note_taken(core);
                    }
                }
            }
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
                DeviceEvent::HostMemory(memory) => Input::HostMemory(memory),
            };
            self.replica.handle(now, input);
            taken += 1;
        }
        while let Some(done) = self.snapshot_thread.poll() {
            self.replica.handle(now, Input::Snapshot(done));
            taken += 1;
        }
        taken
    }

    fn take_accepted(&self) {
        for message in self.accepted.try_iter() {
            match message {
                ToNetwork::Accepted(entered) => self.network.accept(entered),
                ToNetwork::Inspected(request) => self.network.on_inspected(*request),
                ToNetwork::Decoded(connection, decoded) => self.network.on_decoded(connection, decoded),
                ToNetwork::Searched { token, found } => {
                    self.inputs.push_client(Input::Searched { token, found })
                }
                ToNetwork::Copied(done) => self.inputs.push_voter(Input::Copied(done)),
                _ => {}
            }
        }
    }

    /// Bounded by the credits of the cores.
    fn take_from_edges(&mut self) {
        for (edge, core) in self.edges.iter_mut().zip(1..) {
            for message in edge.receiver.try_iter() {
                match message {
                    ToReplica::Request(request) => self.inputs.push_client_of(core, request.into_input()),
                    ToReplica::Closed(connection) => {
                        self.inputs.push_client_of(core, Input::ConnectionClosed { connection });
                    }
                    ToReplica::Peer(moved) => self.network.accept_moved(*moved),
                }
            }
        }
    }

    /// The core that a request came from may send another one, whatever becomes of this.
    fn note_taken(&mut self, core: usize) {
        match self.edge_of(core) {
            None => self.network.on_taken(1),
            Some(edge) => edge.note_taken(),
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
            self.links.sample_round_trips();
            self.schedule.idle_ratio = Some(self.schedule.slept_ns as f64 / elapsed_ns.max(1) as f64);
            self.schedule.slept_ns = 0;
            let stages = self.replica.take_stages(self.control.cleared_stages());
            self.courtesy.adapt(stages.committed_bytes, elapsed_ns);
            self.control.publish_stages(stages);
            self.doors.expire(now_ns);
            self.network.close_stalled(now_ns);
            self.replica.rest();
            self.control.connections(self.doors.taken());
            self.control.connections_refused(self.doors.take_sent_away());
        }
        if now_ns >= self.idle_due() {
            self.schedule.idle_closed = now_ns;
            self.network.close_idle(now_ns);
        }
    }

    fn stages_due(&self) -> u64 {
        self.schedule.stages_published + STAGES_INTERVAL_NS
    }

    fn idle_due(&self) -> u64 {
        self.schedule.idle_closed + self.network.idle_interval_ns()
    }

    fn carry_out_actions(&mut self, now: Now) -> Option<Ended> {
        let mut ended = None;
        while let Some(action) = self.replica.poll_action() {
            match action {
                Action::Answer { connection, seq, response, given } => {
                    self.answer(connection, seq, response, given)
                }
                Action::Close { connection, why, if_silent_ms } => self.close(connection, why, if_silent_ms),
                Action::PeerConnect { link, endpoint } => self.links.connect(link, endpoint),
                Action::PeerSend { link, chunks } => self.links.send(link, chunks),
                Action::PeerClose { link } => self.links.close(link),
                Action::Disk(op) => self.device.push(op),
                Action::Snapshot(op) => self.snapshot_thread.submit(op),
                Action::Search(search) => self.inspectors.search(search),
                Action::Copy(op) => self.copying.submit(op),
                Action::Note { level, text } => self.note(now, level, &text),
                Action::Stop { exit_code, why } => ended = Some(Ended { exit_code, why }),
            }
        }
        ended
    }

    fn answer(
        &mut self,
        connection: ConnectionId,
        seq: u64,
        response: Option<Response>,
        given: Option<Given>,
    ) {
        match self.edge(connection) {
            None => self.network.answer(connection, seq, response, given),
            Some(edge) => edge.put(ToNetwork::Answer { connection, seq, response, given }),
        }
    }

    fn close(&mut self, connection: ConnectionId, why: String, if_silent_ms: Option<u64>) {
        match self.edge(connection) {
            None => self.network.close(connection, why, if_silent_ms),
            Some(edge) => edge.put(ToNetwork::Close { connection, why, if_silent_ms }),
        }
    }

    /// `None`: the connection is one of this core.
    fn edge(&mut self, connection: ConnectionId) -> Option<&mut Edge> {
        self.edge_of(connection.core())
    }

    fn edge_of(&mut self, core: usize) -> Option<&mut Edge> {
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

    fn publish_status(&mut self, now: Now) {
        let mut status = self.replica.status(now);
        status.watched.device_flushes = *self.device.flushes();
        status.watched.round_trips = self.links.round_trips();
        status.watched.idle_ratio = self.schedule.idle_ratio;
        self.control.publish_status(status);
    }

    /// Where the process lives on: close all sockets, and let the tasks end that hold one. False: some have not, in time.
    /// What the disk has been given is waited for, so that nothing of this life is written in the next; then its memory goes.
    pub(super) async fn let_go(self) -> bool {
        self.links.close_all();
        let are_gone = self.network.let_go(|| Rc::strong_count(&self.links) == 1).await;
        let ReplicaCore { replica, mut device, ring, network, links, .. } = self;
        let is_settled = device.settle();
        drop((device, network, links));
        let is_ring_gone = Rc::into_inner(ring).is_some();
        if is_settled && is_ring_gone {
            replica.free_buffers();
        }
        are_gone && is_settled
    }
}

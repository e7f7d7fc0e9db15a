//! The cores of a node, their threads and what lies between them, from the first that is started to the last that has ended.

use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use super::failure::{Failure, kernel_failure, shortage};
use crate::config::Config;
use crate::io::directory::random_u64;
use crate::io::doorbell::Doorbell;
use crate::io::executor::{self, Executor, ExecutorThread, THREADS_OF_EXECUTOR};
use crate::io::file_thread::{FileThreads, LogFiles, WaitAtEnd};
use crate::io::listener::{Acceptor, Listener};
use crate::io::log_device::LogDevice;
use crate::io::rate_limit::{RateLimit, and_more};
use crate::io::ring::CoreRing;
use crate::io::scheduling::Courtesy;
use crate::io::snapshot_directory::NodeSnapshots;
use crate::io::snapshot_thread::SnapshotThread;
use crate::io::{clock, kernel};
use crate::log::RecoveredLog;
use crate::replica::folds::Folds;
use crate::replica::room::limits::{CoreRoom, core_rooms, place_limits, places_within};
use crate::replica::room::places::Places;
use crate::replica::session::SessionLimits;
use crate::replica::snapshots::FoundSnapshots;
use crate::replica::{EXIT_KERNEL, Replica};
use crate::server::control::Control;
use crate::server::copying::{self, Copying};
use crate::server::doors::Doors;
use crate::server::inputs::Inputs;
use crate::server::inspectors::Inspectors;
use crate::server::life::Life;
use crate::server::mesh::{CoreSender, Edge, Entered, ReplicaSender, StopAtEnd, ToNetwork};
use crate::server::network_core::{NetworkCore, RequestSink};
use crate::server::peer_links::PeerLinks;
use crate::server::placement::{CpuMask, Placement};
use crate::server::replica_core::{Ended, ReplicaCore, Schedule};
use crate::server::wish::Wishes;
use crate::types::Uuid;

/// All that the cores need, on its way to them.
pub(super) struct Node {
    pub(super) config: Config,
    pub(super) placement: Placement,
    pub(super) mask: CpuMask,
    pub(super) directory_id: Uuid,
    pub(super) recovered: RecoveredLog,
    pub(super) folds: Folds,
    pub(super) snapshots: FoundSnapshots,
    pub(super) files: LogFiles,
    /// The process goes on without it.
    pub(super) is_guest: bool,
}

impl Node {
    /// Another life in this process may have the directory next.
    fn wait_at_end(&self) -> WaitAtEnd {
        if self.is_guest { WaitAtEnd::Yes } else { WaitAtEnd::No }
    }
}

/// The replica core runs on this thread; the others get theirs. Threads that must not be pinned are started first.
pub(super) fn run_cores(
    node: Node,
    listener: Listener,
    control: Control,
    life: &Life<'_>,
) -> Result<Ended, Failure> {
    let failed = |e: std::io::Error| shortage("The threads of this node cannot be started", &e);
    let doorbell = Doorbell::new().map_err(failed)?;
    let mut threads = FileThreads::start(node.files.clone(), doorbell.clone()).map_err(failed)?;
    // Here from the first to the last, also in a panic: the caller lets go of the directory's lock next.
    let wait = node.wait_at_end();
    let _workers = threads.take_workers(wait);
    let directory = &node.files.directory;
    let started = SnapshotThread::start(directory, doorbell.clone(), wait).map_err(failed)?;
    let (snapshot_thread, _snapshot_worker) = started;
    let wishes = life.hand_to(doorbell.clone());
    let (own_sender, accepted) = CoreSender::new(doorbell.clone());
    let (inspectors, queue) = Inspectors::new();
    let snapshots = NodeSnapshots::new(&node.files.directory);
    let (copying, _copier) =
        copying::start(snapshots, &node.config, own_sender.clone(), wait).map_err(failed)?;
    let limits = SessionLimits::of(&node.config);
    let rooms = core_rooms(&node.config, node.placement.cores.len());
    let (mut edges, mut network_cores) = (Vec::new(), StopAtEnd::default());
    for (core, room) in rooms.iter().enumerate().skip(1) {
        let (room, limits, control) = (room.clone(), limits.clone(), control.clone());
        let edge =
            start_network_core(core, &node, room, limits, control, inspectors.clone(), doorbell.clone())?;
        network_cores.0.push(edge.lane().clone());
        edges.push(edge);
    }
    let senders = [&[own_sender], &network_cores.0[..]].concat();
    queue.start(node.config.limits.inspection_threads, &senders).map_err(failed)?;
    let ready = format!("ready: listening on {}", node.config.listener);
    let doors = Doors::new(places(&node.config));
    control.watch_room(doors.most(), rooms.clone());
    let acceptor = start_acceptor(listener, senders, doors.clone()).map_err(failed)?;
    kernel::check_threads(THREADS_OF_EXECUTOR).map_err(failed)?;
    let executor = Executor::build(node.placement.cores[0], "replica-core")
        .map_err(|e| shortage("The replica core cannot be started", &e))?;
    // Its tasks hold sockets and buffers that the kernel may still use: with the process they end at the same time.
    let executor = ManuallyDrop::new(executor);
    kernel::check_workers().map_err(|line| Failure { exit_code: EXIT_KERNEL, line })?;
    let parts = Parts {
        threads,
        snapshot_thread,
        doorbell,
        accepted,
        edges,
        limits,
        control,
        doors,
        rooms,
        inspectors,
        copying,
        wishes,
        ready,
        guest: life.ready(),
    };
    let core_ended = executor.run(replica_core(node, parts));
    drop(acceptor);
    drop(network_cores);
    let (ended, has_let_go) = core_ended?;
    if has_let_go {
        drop(ManuallyDrop::into_inner(executor));
    }
    Ok(ended)
}

/// A core that has only client connections, on a thread of its own.
fn start_network_core(
    core: usize,
    node: &Node,
    room: CoreRoom,
    limits: SessionLimits,
    control: Control,
    inspectors: Inspectors,
    replica: Doorbell,
) -> Result<Edge, Failure> {
    let failed = |e: std::io::Error| shortage("A network core cannot be started", &e);
    let doorbell = Doorbell::new().map_err(failed)?;
    let (sender, messages) = CoreSender::new(doorbell.clone());
    let (to_replica, receiver) = ReplicaSender::new(replica);
    kernel::check_threads(1 + THREADS_OF_EXECUTOR).map_err(failed)?;
    let (built, is_built) = mpsc::sync_channel(1);
    let is_guest = node.is_guest;
    let thread = ExecutorThread::start(node.placement.cores[core], "network-core", move || async move {
        let ring = CoreRing::new(doorbell);
        // The start waits for it.
        let _ = built.send(ring.as_ref().map(|_| ()).map_err(|e| e.raw_os_error().unwrap_or(0)));
        if let Ok(ring) = ring {
            let sink = RequestSink::Mesh(to_replica);
            let network = NetworkCore::new(core, limits, room, control, sink, inspectors, ring.clone());
            network.run(messages).await;
            if is_guest {
                network.let_go(|| true).await;
            }
        }
    })
    .map_err(failed)?;
    match is_built.recv() {
        Ok(Ok(())) => {}
        Ok(Err(errno)) => return Err(failed(std::io::Error::from_raw_os_error(errno))),
        // Its executor was not even built, and the thread says why.
        Err(_) => {
            let error = thread.join().err().unwrap_or(std::io::Error::other("it has ended"));
            return Err(failed(error));
        }
    }
    Ok(Edge::new(receiver, sender))
}

/// As many as the descriptors allow; what is left out of `max.connections` is told.
fn places(config: &Config) -> Places {
    let others: Vec<_> = config.voters.iter().map(|v| v.id).filter(|id| *id != config.node_id).collect();
    let (wanted, possible) = (place_limits(&config.limits), kernel::connections_possible());
    let Some(fewer) = places_within(&wanted, others.len(), possible) else {
        return Places::new(wanted, others);
    };
    tracing::warn!(
        "max.connections={} and {} places for voters and guests are more than the descriptor limit of {possible} \
         allows: {} clients are taken (ulimit -n).",
        wanted.clients_max,
        fewer.guests_max + others.len() * fewer.voter_connections_max,
        fewer.clients_max
    );
    Places::new(fewer, others)
}

/// Hand accepted connections to the cores in turn.
fn start_acceptor(listener: Listener, cores: Vec<CoreSender>, doors: Doors) -> std::io::Result<Acceptor> {
    let (mut next, mut lines) = (0, RateLimit::default());
    listener.start(move |accepted| {
        let now_ns = clock::monotonic_ns();
        let remote = accepted.remote;
        let (place, closed) = doors.arrive(now_ns);
        if closed > 0
            && let Some(suppressed) = lines.admit("full", now_ns)
        {
            tracing::warn!(
                "Closed {closed} connections that had not shown themselves to be voters, for one from {remote}: all places \
                 for clients are taken (max.connections).{}",
                and_more(suppressed)
            );
        }
        cores[next].send(ToNetwork::Accepted(Entered { accepted, place }));
        next = (next + 1) % cores.len();
    })
}

/// What the replica core takes over beside the node.
struct Parts {
    threads: FileThreads,
    snapshot_thread: SnapshotThread,
    doorbell: Doorbell,
    accepted: Receiver<ToNetwork>,
    edges: Vec<Edge>,
    limits: SessionLimits,
    control: Control,
    inspectors: Inspectors,
    copying: Copying,
    doors: Doors,
    rooms: Vec<CoreRoom>,
    wishes: Wishes,
    ready: String,
    /// Where the process goes on without this node.
    guest: Option<SyncSender<()>>,
}

/// How it ended, and whether nothing is left on the executor that the kernel may use.
async fn replica_core(node: Node, parts: Parts) -> Result<(Ended, bool), Failure> {
    let Node { config, placement, mask, directory_id, recovered, folds, snapshots, .. } = node;
    let seed = random_u64().map_err(|e| kernel_failure("No random seed", e))?;
    let mut replica = Replica::new(&config, directory_id, recovered, folds, seed, clock::now());
    replica.know_snapshots(snapshots);
    replica.share_answers(parts.rooms.iter().map(|room| room.answers.clone()).collect());
    let status_bell = parts.doorbell.clone();
    parts.control.wake_with(move || status_bell.ring());
    // Whoever has put something into a queue before this, has rung too.
    let ring = CoreRing::new(parts.doorbell)
        .map_err(|e| shortage("The ring of the replica core cannot be built", &e))?;
    let device = LogDevice::new(parts.threads, ring.clone(), &replica.buffer_regions());
    if placement.cores[0].is_some()
        && let Err(error) = device.set_worker_cpus(&mask.set)
    {
        tracing::warn!("Flush workers share the replica core's CPU ({error}): flushes may be slower.");
    }
    let inputs = Rc::new(Inputs::new(placement.cores.len()));
    executor::wake_regularly();
    let (control, network_ring) = (parts.control, ring.clone());
    let sink = RequestSink::Local(inputs.clone());
    let connect_timeout = Duration::from_millis(config.request_timeout_ms);
    let (room, inspectors) = (parts.rooms[0].clone(), parts.inspectors.clone());
    let network = NetworkCore::new(0, parts.limits, room, control.clone(), sink, inspectors, network_ring);
    let frame_bytes_max = config.limits.voter_answer_bytes_max();
    let pool = network.receive_pool();
    let mut core = ReplicaCore {
        replica,
        device,
        snapshot_thread: parts.snapshot_thread,
        network,
        links: PeerLinks::new(inputs.clone(), ring.clone(), pool, connect_timeout, frame_bytes_max),
        inspectors: parts.inspectors,
        copying: parts.copying,
        ring,
        inputs,
        edges: parts.edges,
        accepted: parts.accepted,
        control,
        doors: parts.doors,
        wishes: parts.wishes,
        wait: placement.wait,
        turn_inputs_max: config.limits.turn_inputs_max,
        courtesy: Courtesy::of_this_thread(),
        schedule: Schedule::default(),
    };
    tracing::info!("{}", parts.ready);
    if let Some(ready) = &parts.guest {
        // Whoever has started this node may have gone meanwhile.
        let _ = ready.send(());
    }
    let ended = core.run().await;
    let has_let_go = parts.guest.is_some() && core.let_go().await;
    Ok((ended, has_let_go))
}

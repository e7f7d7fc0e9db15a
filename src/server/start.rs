//! One life of a node: check the kernel, lock the directory, recover, build the cores, wait for the end.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use super::control::{Control, ControlError, FinishAtEnd};
use super::doors::Doors;
use super::inputs::Inputs;
use super::inspectors::Inspectors;
use super::life::Life;
use super::logging;
use super::mesh::{CoreSender, Edge, Entered, ReplicaSender, StopAtEnd, ToNetwork};
use super::network_core::{NetworkCore, RequestSink};
use super::peer_links::PeerLinks;
use super::placement::{CpuMask, Placement};
use super::replica_core::{Ended, ReplicaCore, Schedule};
use super::signals::Signals;
use super::wish::Wishes;
use crate::config::Config;
use crate::io::directory::{Directory, DirectorySource, Owner, Refusal, random_u64};
use crate::io::disk_error::Blame;
use crate::io::doorbell::Doorbell;
use crate::io::durable::{self, Probe};
use crate::io::executor::{self, Executor, ExecutorThread, THREADS_OF_EXECUTOR};
use crate::io::file_thread::{FileThreads, LogFiles, WaitAtEnd};
use crate::io::host_memory::host_memory;
use crate::io::listener::{Acceptor, Listener};
use crate::io::log_device::LogDevice;
use crate::io::rate_limit::{RateLimit, and_more};
use crate::io::ring::CoreRing;
use crate::io::scheduling::Courtesy;
use crate::io::{clock, kernel, memory};
use crate::log::{self, BLOCK_BYTES, Doubt, Effort, LogConfig, Recovered, RecoveredLog, RecoveryError};
use crate::record::{BatchHeader, StampedBatch, check_interop};
use crate::replica::folds::{Folds, Recovery};
use crate::replica::room::limits::{CoreRoom, core_rooms, place_limits, places_within};
use crate::replica::room::places::Places;
use crate::replica::session::SessionLimits;
use crate::replica::{EXIT_CONFIG, EXIT_CORRUPT, EXIT_DISK, EXIT_KERNEL, EXIT_OK, Replica, log_config};
use crate::types::{DataMode, LogCheck, NS_PER_MS, Uuid};

/// Recovery that takes longer says how far it is, this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// A network core looks this often for who keeps memory from others, and at the latest then for idle connections.
const NETWORK_INTERVAL_NS: u64 = 1_000 * NS_PER_MS;

/// Why a node does not start or does not go on: one line, and the exit code.
#[derive(Debug)]
struct Failure {
    exit_code: i32,
    line: String,
}

fn config_error(line: String) -> Failure {
    Failure { exit_code: EXIT_CONFIG, line }
}

fn disk_failure(error: impl ToString) -> Failure {
    Failure { exit_code: EXIT_DISK, line: error.to_string() }
}

/// By what is to blame, as README's table has it.
pub(super) fn exit_code_of(blame: Blame) -> i32 {
    match blame {
        Blame::Disk => EXIT_DISK,
        Blame::Limit => EXIT_KERNEL,
        Blame::Configuration => EXIT_CONFIG,
    }
}

fn refused(refusal: Refusal) -> Failure {
    Failure { exit_code: exit_code_of(refusal.blame), line: refusal.line }
}

fn kernel_failure(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure { exit_code: EXIT_KERNEL, line: format!("{what}: {error}") }
}

/// Something that every start takes was not to be had.
fn shortage(what: &str, error: &std::io::Error) -> Failure {
    kernel_failure(what, format!("{}.", kernel::explain_shortage(error)))
}

/// The line and the exit code of a start that got no thread at all.
pub fn thread_refused(error: &std::io::Error) -> (String, i32) {
    (format!("error: {}.\n", kernel::explain_shortage(error)), EXIT_KERNEL)
}

/// Run a node until it is told to stop or must not go on. Returns the exit code of the process.
pub fn run(config: Config, signals: &Signals) -> i32 {
    abort_on_panic();
    memory::take_over();
    run_and_tell(config, Life::Process(signals)).exit_code
}

/// A whole life, with its last line in the log.
pub(super) fn run_and_tell(config: Config, life: Life<'_>) -> Ended {
    match run_node(config, &life) {
        Ok(ended) => {
            match ended.exit_code {
                EXIT_OK => tracing::info!("Stopped: {}", ended.why),
                code => tracing::error!("Stopped with exit code {code}: {}", ended.why),
            }
            ended
        }
        Err(Failure { exit_code, line }) => {
            tracing::error!("{line}");
            Ended { exit_code, why: line }
        }
    }
}

/// A core whose task has panicked would go on without it, and acknowledge nothing for ever. The words go the way of all log
/// lines: std's own would wait for a stderr that nobody reads.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        let mut text = format!("A broken invariant stops this node: thread {name} {panic}");
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            text.push_str(&format!(" {trace}"));
        }
        logging::last_words(tracing::Level::ERROR, &text);
        std::process::abort();
    }));
}

fn run_node(config: Config, life: &Life<'_>) -> Result<Ended, Failure> {
    let mask = CpuMask::of_process().map_err(|e| kernel_failure("sched_getaffinity failed", e))?;
    let placement =
        Placement::choose(config.cpus.as_deref(), config.wait, &mask.cpus).map_err(config_error)?;
    kernel::check().map_err(|line| Failure { exit_code: EXIT_KERNEL, line })?;
    let mut config = within_file_size_limit(config, kernel::file_bytes_max());
    config.limits = config.limits.on_host(host_memory());
    let (directory, owner) = open_directory(&config)?;
    let listener = Listener::bind(&config.listener).map_err(config_error)?;
    let control = Control::start(&config, life.stdout()).map_err(|error| match error {
        ControlError::Listener(line) => config_error(line),
        ControlError::Thread(error) => shortage("What watches this node cannot be started", &error),
    })?;
    let _finish = FinishAtEnd(control.clone());
    // The directory is locked until this returns.
    let prepared = prepare(config, &directory, &owner, placement, mask, life.ready().is_some());
    prepared.and_then(|node| run_cores(node, listener, control, life))
}

/// Read back what the directory holds, and say what starts.
fn prepare(
    config: Config,
    directory: &Directory,
    owner: &Owner,
    placement: Placement,
    mask: CpuMask,
    is_guest: bool,
) -> Result<Node, Failure> {
    let probe = durable::probe(&directory.partition).map_err(disk_failure)?;
    let files = LogFiles { directory: directory.partition.clone(), mode: probe.mode.clone() };
    let (recovered, folds) = recover(directory, &config)?;
    directory.record_data_mode(owner).map_err(refused)?;
    files.create_commit_mark().map_err(disk_failure)?;
    print_banner(&config, directory, &placement, &probe, &recovered);
    if let Some(doubt) = placement.doubt(&mask.cpus) {
        tracing::warn!("{doubt}");
    }
    let directory_id = directory.directory_id;
    Ok(Node { config, placement, mask, directory_id, recovered, folds, files, is_guest })
}

/// A limit below the size of a segment ends the node when a segment gets there, but not at its start, by the room that it
/// takes ahead.
fn within_file_size_limit(mut config: Config, limit: Option<u64>) -> Config {
    let Some(limit) = limit else { return config };
    let segment = config.limits.segment_bytes_max;
    if limit < segment {
        tracing::warn!(
            "Files of this process may have {limit} bytes (ulimit -f, LimitFSIZE=), and metadata.log.segment.bytes is {segment}: \
             this node stops when a segment reaches the limit. Raise it, or lower metadata.log.segment.bytes."
        );
    }
    let half = (limit / 2 / BLOCK_BYTES as u64).max(1) * BLOCK_BYTES as u64;
    config.limits.zero_ahead_bytes = config.limits.zero_ahead_bytes.min(half);
    config
}

fn open_directory(config: &Config) -> Result<(Directory, Owner), Failure> {
    let owner = Owner {
        cluster_id: config.cluster_id.clone(),
        node_id: config.node_id,
        directory_id: config.directory_id,
        topic_name: config.topic_name.clone(),
        topic_id: config.topic_id,
        data_mode: config.data_mode,
    };
    let directory = Directory::open(&config.log_dir, &owner).map_err(refused)?;
    Ok((directory, owner))
}

fn recover(directory: &Directory, config: &Config) -> Result<(RecoveredLog, Folds), Failure> {
    let (partition, limits) = (&directory.partition, &config.limits);
    let mut recovery = Recovery::new(config);
    let mut progress = Progress::start();
    let mut proof = Proof::new(config.data_mode, directory.is_data_mode_known);
    let mut source = DirectorySource::open(partition).map_err(disk_failure)?;
    // A summary does not say whether Kafka's voters could read what is in the segment.
    let check = if proof.must_be_interop { LogCheck::Whole } else { config.log_check };
    let log_config = LogConfig { check, ..log_config(limits) };
    let recovered = log::recover(&mut source, &log_config, &mut |part| {
        if let Recovered::Batch(batch) = part {
            proof.on_batch(batch, recovery.folds());
            progress.on_batch(batch.header());
        }
        recovery.take(part)
    });
    let mut recovered = recovered.map_err(|error| match error {
        RecoveryError::Corrupt(corrupt) => Failure {
            exit_code: EXIT_CORRUPT,
            line: format!(
                "{corrupt}. It lies below what was committed, so cutting it could lose acknowledged records: this \
                 node does not start. The partition is {}.",
                partition.display()
            ),
        },
        newer @ RecoveryError::Newer { .. } => Failure {
            exit_code: EXIT_CORRUPT,
            line: format!(
                "{newer}: this program cannot know what it says of the log, so this node does not start. Start the program \
                 that wrote it. The partition is {}.",
                partition.display()
            ),
        },
        RecoveryError::Disk(error) => disk_failure(error),
    })?;
    if recovered.has_lost_log && config.voters.len() == 1 && config.voters[0].id == config.node_id {
        return Err(Failure {
            exit_code: EXIT_CORRUPT,
            line: format!(
                "{}: there is no log, and quorum-state says that it has held committed records. This node is the only \
                 voter, so nobody can fill it again. Put the log back (a volume that is not mounted?); to begin a new one \
                 without those records, remove quorum-state.",
                partition.display()
            ),
        });
    }
    recovered.notes.iter().for_each(|note| tracing::warn!("{note}"));
    settle_doubt(&mut recovered, config, partition)?;
    progress.finish(&recovered.effort);
    proof.finish(partition)?;
    Ok((recovered, recovery.into_folds()))
}

/// Who lacks records that it may have acknowledged needs another voter that can give them back.
fn settle_doubt(recovered: &mut RecoveredLog, config: &Config, partition: &Path) -> Result<(), Failure> {
    let has_peers = config.voters.iter().any(|voter| voter.id != config.node_id);
    let refuse = |line: String| Err(Failure { exit_code: EXIT_CORRUPT, line });
    if let Some(Doubt { segment, position, offset, why }) = &recovered.doubt {
        let what = format!(
            "{segment} is damaged at byte {position}, from offset {offset} on: {why}. No write that a crash cut short is \
             known to leave that, so records from there on may have been acknowledged"
        );
        if !has_peers {
            return refuse(format!(
                "{what}. This is the only voter: it does not start, and nothing was cut. Restore the file; or give up \
                 what follows: `truncate -s {position} {segment}` in {}.",
                partition.display()
            ));
        }
        tracing::warn!(
            "{what}. They are cut here and fetched from the leader; until this node has caught up with it, it votes for \
             nobody and does not stand."
        );
        recovered.go_on_in_doubt();
    }
    if recovered.quorum_state.in_doubt && !has_peers {
        return refuse(format!(
            "The end of this log was damaged when this node was one of several voters, and it has not caught up with a leader \
             since: acknowledged records may be missing. It does not start as the only voter. Start it beside the others \
             until it has caught up; or restore {}.",
            partition.display()
        ));
    }
    Ok(())
}

/// Looks for batches that this node must not go on from: those that do not fit what is folded, and, in a log that nobody has
/// vouched for yet, those that would stop one of Kafka's voters.
struct Proof {
    must_be_interop: bool,
    unfit: Option<String>,
}

impl Proof {
    fn new(mode: DataMode, is_known: bool) -> Proof {
        Proof { must_be_interop: mode == DataMode::Interop && !is_known, unfit: None }
    }

    fn on_batch(&mut self, batch: &StampedBatch, folds: &Folds) {
        if self.unfit.is_some() {
            return;
        }
        if let Err(why) = folds.fits(batch) {
            self.unfit = Some(why);
        } else if self.must_be_interop
            && let Err(why) = check_interop(batch)
        {
            self.unfit = Some(format!(
                "kraft.data.mode=interop was not the mode of this log when its batch at offset {} was written: {why}. \
                 Set kraft.data.mode=native, or give all nodes of the quorum an empty log.dirs",
                batch.base_offset()
            ));
        }
    }

    fn finish(self, partition: &Path) -> Result<(), Failure> {
        let Some(why) = self.unfit else { return Ok(()) };
        Err(config_error(format!("{}: {why}.", partition.display())))
    }
}

/// Says how far a long recovery is.
struct Progress {
    start: Instant,
    last_line: Instant,
    bytes: u64,
}

impl Progress {
    fn start() -> Progress {
        Progress { start: Instant::now(), last_line: Instant::now(), bytes: 0 }
    }

    fn finish(&self, effort: &Effort) {
        let Effort { bytes_read, log_bytes, segments, summaries } = effort;
        tracing::info!(
            "Recovery read {bytes_read} bytes of a log of {log_bytes} in {} ms: {summaries} of {segments} segments have \
             summaries.",
            self.start.elapsed().as_millis()
        );
    }

    fn on_batch(&mut self, header: &BatchHeader) {
        self.bytes += header.size_bytes as u64;
        if self.last_line.elapsed() >= PROGRESS_INTERVAL {
            self.last_line = Instant::now();
            tracing::info!(
                "Recovery has verified {} MiB up to offset {} in {} s.",
                self.bytes >> 20,
                header.last_offset(),
                self.start.elapsed().as_secs()
            );
        }
    }
}

fn print_banner(
    config: &Config,
    directory: &Directory,
    placement: &Placement,
    probe: &Probe,
    recovered: &RecoveredLog,
) {
    let voters: Vec<String> = config.voters.iter().map(|v| format!("{}@{}", v.id, v.endpoint)).collect();
    tracing::info!("kraft {} starts node {}.", env!("CARGO_PKG_VERSION"), config.node_id);
    tracing::info!("Directory: {} with id {}.", directory.path.display(), directory.directory_id);
    tracing::info!("Voters: {}.", voters.join(", "));
    tracing::info!(
        "Listener: {}://{}, advertised as {}.",
        config.listener_name,
        config.listener,
        config.advertised
    );
    tracing::info!("Placement: {placement}.");
    tracing::info!("Durable writes: {}; {probe}.", probe.mode);
    tracing::info!(
        "Log: starts at {}, ends at {}, epoch {}, high watermark not known before a leader is.",
        recovered.start.offset,
        recovered.log_end,
        recovered.quorum_state.epoch
    );
}

/// All that the cores need, on its way to them.
struct Node {
    config: Config,
    placement: Placement,
    mask: CpuMask,
    directory_id: Uuid,
    recovered: RecoveredLog,
    folds: Folds,
    files: LogFiles,
    /// The process goes on without it.
    is_guest: bool,
}

/// The replica core runs on this thread; the others get theirs. Threads that must not be pinned are started first.
fn run_cores(node: Node, listener: Listener, control: Control, life: &Life<'_>) -> Result<Ended, Failure> {
    let failed = |e: std::io::Error| shortage("The threads of this node cannot be started", &e);
    let doorbell = Doorbell::new().map_err(failed)?;
    let mut threads = FileThreads::start(node.files.clone(), doorbell.clone()).map_err(failed)?;
    // Here from the first to the last, also in a panic: the caller lets go of the directory's lock next.
    let _workers = threads.take_workers(if node.is_guest { WaitAtEnd::Yes } else { WaitAtEnd::No });
    let wishes = life.hand_to(doorbell.clone());
    let (own_sender, accepted) = CoreSender::new(doorbell.clone());
    let (inspectors, queue) = Inspectors::new();
    let limits = SessionLimits::of(&node.config);
    let rooms = core_rooms(&node.config, node.placement.cores.len());
    let (mut edges, mut network_cores) = (Vec::new(), StopAtEnd::default());
    for (core, room) in rooms.iter().enumerate().skip(1) {
        let edge = start_network_core(
            core,
            &node,
            room.clone(),
            limits.clone(),
            control.clone(),
            inspectors.clone(),
            doorbell.clone(),
        )?;
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
        doorbell,
        accepted,
        edges,
        limits,
        control,
        doors,
        rooms,
        inspectors,
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
    doorbell: Doorbell,
    accepted: Receiver<ToNetwork>,
    edges: Vec<Edge>,
    limits: SessionLimits,
    control: Control,
    inspectors: Inspectors,
    doors: Doors,
    rooms: Vec<CoreRoom>,
    wishes: Wishes,
    ready: String,
    /// Where the process goes on without this node.
    guest: Option<SyncSender<()>>,
}

/// How it ended, and whether nothing is left on the executor that the kernel may use.
async fn replica_core(node: Node, parts: Parts) -> Result<(Ended, bool), Failure> {
    let Node { config, placement, mask, directory_id, recovered, folds, .. } = node;
    let seed = random_u64().map_err(|e| kernel_failure("No random seed", e))?;
    let mut replica = Replica::new(&config, directory_id, recovered, folds, seed, clock::now());
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
        network,
        links: PeerLinks::new(inputs.clone(), ring.clone(), pool, connect_timeout, frame_bytes_max),
        inspectors: parts.inspectors,
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
            network_core(network.clone(), ring, messages).await;
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

async fn network_core(network: Rc<NetworkCore>, ring: Rc<CoreRing>, messages: Receiver<ToNetwork>) {
    executor::wake_regularly();
    let idle_interval_ns = network.idle_interval_ns().min(NETWORK_INTERVAL_NS);
    let (mut stalled_closed_ns, mut idle_closed_ns) = (clock::monotonic_ns(), clock::monotonic_ns());
    let mut is_stopping = false;
    loop {
        network.begin_round(clock::monotonic_ns());
        ring.run_tasks().await;
        // Who waits only for the next round does not let the core sleep.
        let most_ns = if network.has_line() { 0 } else { idle_interval_ns };
        if let Err(error) = ring.wait(Duration::from_nanos(most_ns)) {
            panic!("the ring of a network core is broken: {error}");
        }
        ring.take_rung();
        for message in messages.try_iter() {
            match message {
                ToNetwork::Accepted(entered) => network.accept(entered),
                ToNetwork::Answer { connection, seq, response, given } => {
                    network.answer(connection, seq, response, given)
                }
                ToNetwork::Close { connection, why, if_silent_ms } => {
                    network.close(connection, why, if_silent_ms)
                }
                ToNetwork::Inspected(request) => network.on_inspected(*request),
                ToNetwork::Decoded(connection, decoded) => network.on_decoded(connection, decoded),
                ToNetwork::Searched { .. } => {}
                ToNetwork::Taken(requests) => network.on_taken(requests),
                ToNetwork::Full(is_full) => network.set_full(is_full),
                ToNetwork::Stop => is_stopping = true,
            }
        }
        if network.flush() && (is_stopping || ring.has_woken()) {
            // Answers do not wait for tasks. A ring that is broken says so at the next wait.
            let _ = ring.submit();
        }
        if is_stopping {
            return;
        }
        let now_ns = clock::monotonic_ns();
        if now_ns >= stalled_closed_ns + NETWORK_INTERVAL_NS {
            stalled_closed_ns = now_ns;
            network.close_stalled(now_ns);
        }
        if now_ns >= idle_closed_ns + idle_interval_ns {
            idle_closed_ns = now_ns;
            network.close_idle(now_ns);
        }
    }
}

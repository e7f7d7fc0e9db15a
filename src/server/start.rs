//! One life of a node: check the kernel, lock the directory, recover (`recovering`), run the cores (`cores`) until they end.

use super::control::{Control, ControlError, FinishAtEnd};
use super::life::Life;
use super::logging;
use super::placement::{CpuMask, Placement};
use super::replica_core::Ended;
use super::signals::Signals;
use crate::config::Config;
use crate::io::directory::{Directory, Owner};
use crate::io::durable::{self, Probe};
use crate::io::file_thread::LogFiles;
use crate::io::host_memory::host_memory;
use crate::io::listener::Listener;
use crate::io::{kernel, memory};
use crate::log::{BLOCK_BYTES, RecoveredLog};
use crate::replica::snapshots::Started;
use crate::replica::{EXIT_KERNEL, EXIT_OK};
use cores::{Node, run_cores};
pub(super) use failure::exit_code_of;
pub use failure::thread_refused;
use failure::{Failure, config_error, disk_failure, kernel_failure, refused, shortage};
use recovering::recover;

mod cores;
mod failure;
mod recovering;

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
    let Started { recovered, folds, snapshots, .. } = recover(directory, &config)?;
    directory.record_data_mode(owner).map_err(refused)?;
    files.create_commit_mark().map_err(disk_failure)?;
    print_banner(&config, directory, &placement, &probe, &recovered);
    if let Some(doubt) = placement.doubt(&mask.cpus) {
        tracing::warn!("{doubt}");
    }
    let directory_id = directory.directory_id;
    Ok(Node { config, placement, mask, directory_id, recovered, folds, snapshots, files, is_guest })
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

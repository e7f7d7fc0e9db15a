//! What the kernel must allow, asked before any executor is built: glommio's own answers are panics and exits.
//!
//! Called once at start. Each refusal is one sentence with the command that helps; the process then ends with
//! EXIT_KERNEL.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use io_uring::{IoUring, Probe, opcode, squeue, types};

/// glommio refuses to start below it, also on kernels that no longer count rings (its `uring.rs`).
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
/// net.core.wmem_max is a few hundred KiB by default, and nobody gives a socket so much that nobody reads.
const MORE_THAN_A_SOCKET_HOLDS: usize = 16 << 20;
/// The main thread, signals (2), log lines, stdout, latencies, file threads (2), those for memory, for snapshots and for copies of them, those that look into compressed
/// batches (2), the one that decodes large requests, the acceptor and glommio's own. One of the kernel's for flushes comes to them.
const THREADS_NEEDED: usize = 16;
/// What a node has without clients: log cache, write buffers, pools, state (docs/limits.md).
const MEMORY_NEEDED_BYTES: usize = 48 << 20;
/// Files, directories and listeners beside the connections.
const DESCRIPTORS_RESERVED: u64 = 128;
/// Fewer places for connections are no use: voters have two or three each.
const CONNECTIONS_MIN: u64 = 16;

/// `Err`: one sentence, with what to do.
pub(crate) fn check() -> Result<(), String> {
    check_memory()?;
    check_descriptors()?;
    check_io_uring()?;
    check_memlock()
}

/// The allocator's own answer is an abort that names no limit.
fn check_memory() -> Result<(), String> {
    let mut trial: Vec<u8> = Vec::new();
    let reserved = std::hint::black_box(&mut trial).try_reserve_exact(MEMORY_NEEDED_BYTES);
    reserved.map_err(|_| {
        let why = explain_shortage(&io::Error::from_raw_os_error(libc::ENOMEM));
        format!("A start takes {} MiB, and {why}.", MEMORY_NEEDED_BYTES >> 20)
    })
}

fn check_io_uring() -> Result<(), String> {
    let mut ring =
        IoUring::new(8).map_err(|error| explain_refusal(&error, &Surroundings::of_this_process()))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| {
        forbidden(&error).unwrap_or_else(|| {
            format!("The kernel does not say what its io_uring can do ({error}): use Linux 6.1 or newer.")
        })
    })?;
    for (code, name) in [
        (opcode::WriteFixed::CODE, "WRITE_FIXED"),
        (opcode::Write::CODE, "WRITE"),
        (opcode::Read::CODE, "READ"),
        (opcode::PollAdd::CODE, "POLL_ADD"),
        (opcode::PollRemove::CODE, "POLL_REMOVE"),
        (opcode::SendMsg::CODE, "SENDMSG"),
    ] {
        if !probe.is_supported(code) {
            return Err(format!("io_uring of this kernel lacks {name}: use Linux 6.1 or newer."));
        }
    }
    match counts_partial_sends(&mut ring) {
        Ok(true) => {}
        Ok(false) => {
            return Err(
                "io_uring of this kernel forgets what a full socket took: use Linux 6.1 or newer.".into()
            );
        }
        Err(error) => {
            let why = forbidden(&error).unwrap_or(format!("io_uring cannot send on a socket: {error}."));
            return Err(why);
        }
    }
    // The flags of a core's ring are newer than the opcodes.
    let ring: io::Result<IoUring> = IoUring::builder().setup_coop_taskrun().setup_single_issuer().build(8);
    ring.map(|_| ()).map_err(|error| {
        format!(
            "io_uring of this kernel lacks COOP_TASKRUN or SINGLE_ISSUER ({error}): use Linux 6.1 or newer."
        )
    })
}

/// `io::ring::outbox` rests on it: of a send that is larger than the room the ring says how many bytes went. Early kernels
/// only say that it failed, and the rest would be sent as if nothing had gone.
fn counts_partial_sends(ring: &mut IoUring) -> io::Result<bool> {
    let (here, _there) = UnixStream::pair()?;
    let large = vec![0u8; MORE_THAN_A_SOCKET_HOLDS];
    let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
    let send =
        opcode::Send::new(types::Fd(here.as_raw_fd()), large.as_ptr(), large.len() as u32).flags(flags);
    // SAFETY: bytes and socket live until the completion has come.
    unsafe { ring.submission().push(&send.build()) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let result = ring.completion().next().map_or(-libc::EIO, |entry| entry.result());
    match -result {
        libc::EAGAIN => Ok(false),
        error if error > 0 => Err(io::Error::from_raw_os_error(error)),
        _ => Ok(true),
    }
}

/// What tells a kernel without io_uring from a sandbox that hides it.
struct Surroundings {
    /// The sysctl kernel.io_uring_disabled; absent before Linux 6.6, and where the kernel is built without io_uring.
    disabled: Option<u32>,
    /// As `uname -r` says it.
    release: String,
    has_seccomp_filter: bool,
}

impl Surroundings {
    fn of_this_process() -> Surroundings {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Surroundings {
            disabled: read("/proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
            release: read("/proc/sys/kernel/osrelease").trim().to_string(),
            has_seccomp_filter: read("/proc/self/status")
                .lines()
                .filter_map(|line| line.strip_prefix("Seccomp:"))
                .any(|mode| mode.trim() == "2"),
        }
    }

    fn seccomp(&self) -> &'static str {
        match self.has_seccomp_filter {
            true => "a seccomp filter is in force for this process",
            false => "no seccomp filter is in force for this process",
        }
    }
}

/// A sandbox may let a process have a ring and forbid it to use one.
fn forbidden(error: &io::Error) -> Option<String> {
    let is_filters = matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS));
    is_filters.then(|| explain_refusal(error, &Surroundings::of_this_process()))
}

const SECCOMP_ADVICE: &str = "allow io_uring_setup, io_uring_enter and io_uring_register in its profile (docker and podman: \
                              --security-opt seccomp=unconfined or a profile of your own; systemd: SystemCallFilter=)";

fn explain_refusal(error: &io::Error, around: &Surroundings) -> String {
    match (error.raw_os_error(), around.disabled) {
        (Some(libc::EPERM), Some(disabled @ 1..)) => format!(
            "kernel.io_uring_disabled is {disabled}, so this user may not use io_uring: run \
             `sudo sysctl kernel.io_uring_disabled=0`."
        ),
        (Some(libc::EPERM | libc::EACCES), _) => format!(
            "io_uring is forbidden here ({error}; {}), most likely by a container's seccomp profile: {SECCOMP_ADVICE}.",
            around.seccomp()
        ),
        // The sysctl is there: so is io_uring, and the answer is a filter's.
        (Some(libc::ENOSYS), Some(_)) => format!(
            "io_uring is hidden from this process ({error}) although this kernel ({}) has it; {}. A container's seccomp \
             profile answers so (podman): {SECCOMP_ADVICE}.",
            around.release,
            around.seccomp()
        ),
        (Some(libc::ENOSYS), None) => format!(
            "There is no io_uring ({error}). Either this kernel ({}) has none: use Linux 6.1 or newer, built with \
             CONFIG_IO_URING. Or a container's seccomp profile hides it, as podman's does ({}): {SECCOMP_ADVICE}.",
            around.release,
            around.seccomp()
        ),
        (Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::EAGAIN), _) => {
            format!("io_uring cannot be set up: {}.", explain_shortage(error))
        }
        _ => format!("io_uring cannot be set up: {error}."),
    }
}

/// Raise the soft limit as far as the hard one allows, then look.
fn check_memlock() -> Result<(), String> {
    let limit =
        raise_limit(libc::RLIMIT_MEMLOCK).map_err(|e| format!("The memlock limit cannot be read: {e}."))?;
    explain_memlock(limit)
}

fn explain_memlock(limit: u64) -> Result<(), String> {
    if limit >= MEMLOCK_BYTES_MIN {
        return Ok(());
    }
    Err(format!(
        "The memlock limit is {} KiB, at least {} KiB are needed: run `ulimit -l 65536` as root first, or set \
         LimitMEMLOCK=infinity in the service.",
        limit >> 10,
        MEMLOCK_BYTES_MIN >> 10
    ))
}

fn check_descriptors() -> Result<(), String> {
    let limit =
        raise_limit(libc::RLIMIT_NOFILE).map_err(|e| format!("The limit of files cannot be read: {e}."))?;
    explain_descriptors(limit)
}

fn explain_descriptors(limit: u64) -> Result<(), String> {
    let needed = DESCRIPTORS_RESERVED + CONNECTIONS_MIN;
    if limit >= needed {
        return Ok(());
    }
    Err(format!(
        "The limit of open files is {limit}, and {needed} are needed at least: run `ulimit -n 65536`, or set \
         LimitNOFILE=65536 in the service."
    ))
}

/// So many threads can be started at once. For those that glommio starts: it panics where it gets none.
pub(crate) fn check_threads(count: usize) -> io::Result<()> {
    let (hold, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let mut threads = Vec::new();
    let mut started = Ok(());
    for _ in 0..count {
        let held = held.clone();
        // Until all are there: the first who waits gets the lock, the others wait for it.
        let wait = move || drop(held.lock().map(|held| held.recv()));
        match thread::Builder::new().name("trial".into()).spawn(wait) {
            Ok(thread) => threads.push(thread),
            Err(error) => started = Err(error),
        }
    }
    drop(hold);
    for thread in threads {
        let _ = thread.join();
    }
    started
}

/// A thread of the kernel must be there for what the device cannot do at once. Called when all threads of this process are
/// started, on the thread that will own the log: it keeps that worker.
pub(crate) fn check_workers() -> Result<(), String> {
    let mut ring =
        IoUring::new(8).map_err(|error| explain_refusal(&error, &Surroundings::of_this_process()))?;
    let nothing = opcode::Nop::new().build().flags(squeue::Flags::ASYNC);
    // SAFETY: it refers to no memory.
    let pushed = unsafe { ring.submission().push(&nothing) }.map_err(io::Error::other);
    let done = pushed.and_then(|()| ring.submit_and_wait(1));
    let result = ring.completion().next().map_or(-libc::EIO, |entry| entry.result());
    match (done, result) {
        (Ok(_), 0..) => Ok(()),
        (Err(error), _) => Err(format!("io_uring does nothing: {}.", explain_shortage(&error))),
        (Ok(_), error) => Err(format!(
            "io_uring gets no thread of the kernel ({}): {}.",
            io::Error::from_raw_os_error(-error),
            explain_shortage(&io::Error::from_raw_os_error(libc::EAGAIN))
        )),
    }
}

/// How many connections the descriptor limit leaves room for, after raising it as far as it goes.
pub(crate) fn connections_possible() -> usize {
    let limit = raise_limit(libc::RLIMIT_NOFILE).unwrap_or(1024);
    limit.saturating_sub(DESCRIPTORS_RESERVED).max(CONNECTIONS_MIN).try_into().unwrap_or(usize::MAX)
}

/// What was not to be had at the start (a thread, a descriptor, memory), with the limits that there are and what to do: half a
/// sentence.
pub(crate) fn explain_shortage(error: &io::Error) -> String {
    let limit = |resource| match current_limit(resource) {
        Ok(libc::RLIM_INFINITY) | Err(_) => "unlimited".to_string(),
        Ok(limit) => limit.to_string(),
    };
    let memory = || {
        format!(
            "address space: {} (ulimit -v, LimitAS=), data: {} (ulimit -d, LimitDATA=)",
            limit(libc::RLIMIT_AS),
            limit(libc::RLIMIT_DATA)
        )
    };
    let is_memory_limited = [libc::RLIMIT_AS, libc::RLIMIT_DATA]
        .map(current_limit)
        .into_iter()
        .any(|l| l.is_ok_and(|l| l < libc::RLIM_INFINITY));
    match error.raw_os_error() {
        Some(libc::EAGAIN) => {
            let of_group = group_threads_max().map_or("unlimited".to_string(), |max| max.to_string());
            format!(
                "no thread can be started ({error}). Processes and threads of this user: {} (ulimit -u, LimitNPROC=); of this \
                 control group: {of_group} (pids.max: TasksMax=, --pids-limit). A node with one core has \
                 {THREADS_NEEDED}, and more for HTTP and for the kernel's flush workers: raise the limit{}",
                limit(libc::RLIMIT_NPROC),
                if is_memory_limited {
                    format!(". Each needs memory for its stack: {}", memory())
                } else {
                    String::new()
                }
            )
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            format!(
                "no file descriptor is left ({error}). The limit is {}: raise it (ulimit -n)",
                limit(libc::RLIMIT_NOFILE)
            )
        }
        Some(libc::ENOMEM) => format!(
            "no memory is left ({error}): {}; locked memory: {} (ulimit -l, LimitMEMLOCK=); all in bytes: raise them, or the \
             memory limit of the control group",
            memory(),
            limit(libc::RLIMIT_MEMLOCK)
        ),
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => format!(
            "{error}; {}. A sandbox forbids it: allow clone, clone3, eventfd2 and the three calls of io_uring in its profile \
             (docker and podman: --security-opt seccomp=unconfined or a profile of your own; systemd: SystemCallFilter=)",
            Surroundings::of_this_process().seccomp()
        ),
        _ => error.to_string(),
    }
}

/// The smallest pids.max of this process's control groups, version 2.
fn group_threads_max() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = std::path::Path::new("/sys/fs/cgroup");
    let inner = root.join(group);
    let limits = inner.ancestors().take_while(|directory| directory.starts_with(root));
    limits.filter_map(|d| std::fs::read_to_string(d.join("pids.max")).ok()?.trim().parse().ok()).min()
}

/// The largest file of this process (ulimit -f); `None` where there is no limit.
pub(crate) fn file_bytes_max() -> Option<u64> {
    current_limit(libc::RLIMIT_FSIZE).ok().filter(|limit| *limit != libc::RLIM_INFINITY)
}

fn current_limit(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid struct to fill.
    if unsafe { libc::getrlimit(resource, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// The soft limit after it was raised to the hard one.
fn raise_limit(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid struct to fill.
    if unsafe { libc::getrlimit(resource, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: a valid struct to read. A refusal leaves the old limit in force.
    let kept = unsafe { libc::setrlimit(resource, &raised) } != 0;
    Ok(if kept { limit.rlim_cur } else { raised.rlim_cur })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_passes() {
        check().unwrap();
        assert!(connections_possible() >= 16);
    }

    #[test]
    fn this_machine_has_workers() {
        check_workers().unwrap();
        check_threads(3).unwrap();
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let refused = |errno, disabled, has_seccomp_filter| {
            let around = Surroundings { disabled, release: "6.1.0".into(), has_seccomp_filter };
            explain_refusal(&io::Error::from_raw_os_error(errno), &around)
        };
        assert!(refused(libc::EPERM, Some(2), false).contains("sysctl kernel.io_uring_disabled=0"));
        assert!(refused(libc::EPERM, Some(0), true).contains("seccomp profile"));
        let hidden = refused(libc::ENOSYS, Some(0), true);
        assert!(
            hidden.contains("although this kernel (6.1.0) has it") && hidden.contains("podman"),
            "{hidden}"
        );
        let either = refused(libc::ENOSYS, None, false);
        assert!(
            either.contains("use Linux 6.1 or newer") && either.contains("podman's does (no seccomp"),
            "{either}"
        );
        assert!(refused(libc::ENOMEM, None, false).contains("ulimit -l"));
        assert!(refused(libc::ENOMEM, None, false).contains("ulimit -d"));
        assert!(refused(libc::EAGAIN, None, false).contains("ulimit -u"));
        let forbidden_thread = explain_shortage(&io::Error::from_raw_os_error(libc::EPERM));
        assert!(forbidden_thread.contains("allow clone, clone3"), "{forbidden_thread}");
        assert!(
            forbidden(&io::Error::from_raw_os_error(libc::EPERM))
                .is_some_and(|why| why.contains("io_uring_enter"))
        );
        assert_eq!(forbidden(&io::Error::from_raw_os_error(libc::EINVAL)), None);
        assert!(explain_memlock(64 << 10).unwrap_err().contains("64 KiB"));
        explain_memlock(8 << 20).unwrap();
        let error = explain_descriptors(64).unwrap_err();
        assert!(error.contains("is 64, and 144 are needed"), "{error}");
    }
}

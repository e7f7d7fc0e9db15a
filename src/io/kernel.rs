//! What the kernel must allow, asked before any executor is built: glommio's own answers are panics and exits.
//!
//! Called once at start. Each refusal is one sentence with the command that helps; the process then ends with
//! EXIT_KERNEL.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::{IoUring, Probe, opcode, types};

/// glommio refuses to start below it, also on kernels that no longer count rings (its `uring.rs`).
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
/// net.core.wmem_max is a few hundred KiB by default, and nobody gives a socket so much that nobody reads.
const MORE_THAN_A_SOCKET_HOLDS: usize = 16 << 20;
/// Files, directories and listeners beside the connections.
const DESCRIPTORS_RESERVED: u64 = 128;

/// `Err`: one sentence, with what to do.
pub fn check() -> Result<(), String> {
    check_io_uring()?;
    check_memlock()
}

fn check_io_uring() -> Result<(), String> {
    let mut ring = IoUring::new(8).map_err(|error| explain_refusal(&error, io_uring_disabled()))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| {
        format!("The kernel does not say what its io_uring can do ({error}): use Linux 6.1 or newer.")
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
        Err(error) => return Err(format!("io_uring cannot send on a socket: {error}.")),
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

/// The sysctl, 0 where it is absent.
fn io_uring_disabled() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn explain_refusal(error: &io::Error, disabled: u32) -> String {
    match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), 1..) => format!(
            "kernel.io_uring_disabled is {disabled}, so this user may not use io_uring: run \
             `sudo sysctl kernel.io_uring_disabled=0`."
        ),
        (Some(libc::EPERM | libc::EACCES), _) => {
            "io_uring is forbidden here, most likely by a container's seccomp profile: allow io_uring_setup, \
             io_uring_enter and io_uring_register in it (docker: --security-opt seccomp=unconfined)."
                .into()
        }
        (Some(libc::ENOSYS), _) => "This kernel has no io_uring: use Linux 6.1 or newer.".into(),
        (Some(libc::ENOMEM), _) => {
            "io_uring gets no locked memory: raise the limit (ulimit -l 65536, or LimitMEMLOCK=infinity)."
                .into()
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

/// How many connections the descriptor limit leaves room for, after raising it as far as it goes.
pub fn connections_possible() -> usize {
    let limit = raise_limit(libc::RLIMIT_NOFILE).unwrap_or(1024);
    limit.saturating_sub(DESCRIPTORS_RESERVED).max(16).try_into().unwrap_or(usize::MAX)
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
    fn each_refusal_says_what_to_do() {
        let refused = |errno, disabled| explain_refusal(&io::Error::from_raw_os_error(errno), disabled);
        assert!(refused(libc::EPERM, 2).contains("sysctl kernel.io_uring_disabled=0"));
        assert!(refused(libc::EPERM, 0).contains("seccomp"));
        assert!(refused(libc::ENOSYS, 0).contains("Linux 6.1"));
        assert!(refused(libc::ENOMEM, 0).contains("ulimit -l"));
        assert!(explain_memlock(64 << 10).unwrap_err().contains("64 KiB"));
        explain_memlock(8 << 20).unwrap();
    }
}

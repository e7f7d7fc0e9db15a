//! Waiting for many sockets at once: Linux's epoll, level-triggered, with timeouts in ns. `kraft-null-server` uses it too.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// Sockets told of in one call; the rest come with the next.
const EVENTS_MAX: usize = 256;

pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// What a socket is ready for. An error or a hang-up reads as readable: the read then says what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) token: usize,
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: a system call without pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Watch for what can be read. Closing the socket ends it.
    pub(crate) fn add(&self, socket: &impl AsRawFd, token: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, token, libc::EPOLLIN)
    }

    /// One of several that watch the same listener: not all are woken for each connection.
    #[allow(dead_code, reason = "for kraft-null-server")]
    pub(crate) fn add_shared(&self, socket: &impl AsRawFd, token: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, token, libc::EPOLLIN | libc::EPOLLEXCLUSIVE)
    }

    /// Watch for room to write as well, or no more.
    pub(crate) fn watch_writable(
        &self,
        socket: &impl AsRawFd,
        token: usize,
        is_wanted: bool,
    ) -> io::Result<()> {
        let writable = if is_wanted { libc::EPOLLOUT } else { 0 };
        self.control(libc::EPOLL_CTL_MOD, socket, token, libc::EPOLLIN | writable)
    }

    fn control(&self, what: i32, socket: &impl AsRawFd, token: usize, events: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token as u64 };
        // SAFETY: `event` lives until the call returns.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, socket.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Waits, for ever without a timeout, and returns how many sockets are ready: ask `ready` for each.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        self.events.clear();
        // SAFETY: the kernel writes at most EVENTS_MAX events into the vector's capacity, and reads the timeout.
        let result = unsafe {
            let (fd, events) = (self.fd.as_raw_fd(), self.events.as_mut_ptr());
            let none = ptr::null::<libc::sigset_t>();
            libc::syscall(libc::SYS_epoll_pwait2, fd, events, EVENTS_MAX, timeout, none, 0)
        };
        if result < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) };
        }
        // SAFETY: so many were written.
        unsafe { self.events.set_len(result as usize) };
        Ok(self.events.len())
    }

    /// The i-th of the sockets that the last `wait` counted.
    pub(crate) fn ready(&self, i: usize) -> Ready {
        let event = self.events[i];
        let has = |wanted: i32| event.events & wanted as u32 != 0;
        Ready {
            token: event.u64 as usize,
            is_readable: has(libc::EPOLLIN | libc::EPOLLERR | libc::EPOLLHUP),
            is_writable: has(libc::EPOLLOUT),
        }
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Open descriptors that this process may have: the soft limit is raised to the hard one.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write `limit`.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return u64::MAX;
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 { limit.rlim_max } else { limit.rlim_cur }
    }
}

//! Sockets as the system calls make them: what the standard library does not offer. `listener` and `peer` use it.

use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A TCP socket of the address's family, which nothing waits on.
pub(super) fn new_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn connect(socket: &OwnedFd, address: &SocketAddr) -> io::Result<()> {
    // SAFETY: the name lives during the call, and is as long as it says.
    with_name(address, |name, size| unsafe { libc::connect(socket.as_raw_fd(), name, size) })
}

pub(crate) fn bind(socket: &OwnedFd, address: &SocketAddr) -> io::Result<()> {
    // SAFETY: the name lives during the call, and is as long as it says.
    with_name(address, |name, size| unsafe { libc::bind(socket.as_raw_fd(), name, size) })
}

/// An option that is a number.
pub(super) fn set_option(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value lives during the call, and is as long as it says.
    result(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) })
}

/// The address as the kernel takes it.
fn with_name(
    address: &SocketAddr,
    call: impl FnOnce(*const libc::sockaddr, libc::socklen_t) -> libc::c_int,
) -> io::Result<()> {
    match address {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            result(call((&raw const name).cast(), size_of::<libc::sockaddr_in>() as libc::socklen_t))
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            result(call((&raw const name).cast(), size_of::<libc::sockaddr_in6>() as libc::socklen_t))
        }
    }
}

fn result(returned: libc::c_int) -> io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

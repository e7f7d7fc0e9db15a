//! A node in a process that lives on: it ends when it is told to, and leaves nothing behind. One test, because what it counts
//! is the process's.

#[path = "fixtures/embedded.rs"]
mod embedded;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use kraft::config::Config;
use kraft::server::Node;

/// Each life has 8 MiB of write buffers.
const LIVES_FOR_MEMORY: usize = 6;
const GROWTH_BYTES_MAX: usize = LIVES_FOR_MEMORY * (8 << 20) / 2;
/// Of Linux; not in libc's list.
const F_SETSIG: libc::c_int = 10;
const GONE_MAX: Duration = Duration::from_secs(10);

/// Threads and descriptors of this process.
fn held() -> (usize, usize) {
    let count = |folder: &str| fs::read_dir(folder).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

/// Threads that have been told to end may take their time; what stays for good is left behind. glommio 0.9 keeps an eventfd of
/// each executor that has been.
fn wait_until_gone(before: (usize, usize), more: usize) {
    let deadline = Instant::now() + GONE_MAX;
    let is_gone = |(threads, descriptors)| threads == before.0 && descriptors <= before.1 + more;
    while !is_gone(held()) {
        let open = || fs::read_dir("/proc/self/fd").unwrap().map(|fd| fs::read_link(fd.unwrap().path()));
        assert!(
            Instant::now() < deadline,
            "(threads, descriptors) were {before:?}, and are {:?}: {:?}",
            held(),
            open().collect::<Vec<_>>()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_node_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let (config, address) = embedded::sole_voter(home.path());
    let before = held();
    for (is_killed, lives) in [(false, 1), (false, 2), (true, 3)] {
        let node = Node::start(config.clone()).unwrap();
        let second = Node::start(config.clone()).err().expect("the directory is locked");
        assert_eq!(second.exit_code, 1, "{}", second.why);
        let mut client = TcpStream::connect(&address).unwrap();
        client.set_read_timeout(Some(GONE_MAX)).unwrap();
        let ended = if is_killed { node.kill() } else { node.stop() };
        assert_eq!(ended.exit_code, if is_killed { 137 } else { 0 }, "{}", ended.why);
        assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)), "its client is told");
        drop(client);
        wait_until_gone(before, lives);
    }
    drop(Node::start(config.clone()).unwrap());
    wait_until_gone(before, 4);
    // The port is free, and the directory's lock too.
    assert_eq!(Node::start(config.clone()).unwrap().stop().exit_code, 0);
    what_is_under_way_keeps_the_lock(&config, &home.path().join("log"));
    lives_do_not_add_up(&config);
    a_client_that_does_not_read_keeps_nothing(&config, &address);
}

fn a_client_that_does_not_read_keeps_nothing(config: &Config, address: &str) {
    // ApiVersions 0, without a name.
    let requests = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff].repeat(10_000);
    let before = held();
    let node = Node::start(config.clone()).unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    while client.write(&requests).is_ok() {}
    assert_eq!(node.stop().exit_code, 0);
    drop(client);
    wait_until_gone(before, 1);
}

fn lives_do_not_add_up(config: &Config) {
    let before = resident_bytes();
    for life in 0..LIVES_FOR_MEMORY {
        let node = Node::start(config.clone()).unwrap();
        let ended = if life % 2 == 0 { node.kill() } else { node.stop() };
        assert!([0, 137].contains(&ended.exit_code), "{}", ended.why);
    }
    let more = resident_bytes().saturating_sub(before);
    assert!(more < GROWTH_BYTES_MAX, "{more} bytes more after {LIVES_FOR_MEMORY} lives");
}

fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() << 10
}

/// A vote that the disk holds back is not written into the next life: `kill` waits for it, and the directory is locked so long.
fn what_is_under_way_keeps_the_lock(config: &Config, log_dir: &Path) {
    let held_back = held_back(&log_dir.join("__cluster_metadata-0/quorum-state.tmp"));
    let node = Node::start(config.clone()).unwrap();
    while !is_waited_for(&held_back) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = std::thread::spawn(move || node.kill());
    std::thread::sleep(Duration::from_millis(500));
    assert!(!killed.is_finished(), "a file is still to be written");
    let early = Node::start(config.clone()).err().expect("the directory is locked");
    assert_eq!(early.exit_code, 1, "{}", early.why);
    drop(held_back);
    assert_eq!(killed.join().unwrap().exit_code, 137);
    assert_eq!(Node::start(config.clone()).expect("at once").stop().exit_code, 0);
}

/// Who opens this file to write waits until it is dropped (F_SETLEASE).
fn held_back(path: &Path) -> File {
    let file = File::open(path).unwrap();
    // SAFETY: no pointers.
    let is_set = unsafe {
        // The signal that tells of a waiting one: one that is ignored.
        libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) == 0
            && libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) == 0
    };
    assert!(is_set, "{}: {}", path.display(), io::Error::last_os_error());
    file
}

fn is_waited_for(held_back: &File) -> bool {
    // SAFETY: no pointers. Where somebody waits, it is what the lease has to become.
    unsafe { libc::fcntl(held_back.as_raw_fd(), libc::F_GETLEASE) == libc::F_UNLCK }
}

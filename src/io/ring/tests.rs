use super::*;
use crate::io::executor::spawn;
use crate::io::executor::tests::{run, sleep};
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Instant;

/// A ring that is looked at every now and then, for tests whose own tasks wait for something else.
pub(crate) fn driven_ring() -> Rc<CoreRing> {
    let ring = CoreRing::new(Doorbell::new().unwrap()).unwrap();
    let driven = ring.clone();
    spawn(async move {
        loop {
            driven.wait(Duration::ZERO).unwrap();
            sleep(Duration::from_micros(200)).await;
        }
    });
    ring
}

/// Run `task` as the server does: nothing wakes the core but its ring.
pub(crate) fn drive<T: 'static>(task: impl AsyncFnOnce(Rc<CoreRing>) -> T + 'static) -> T {
    run(async {
        let ring = new_ring();
        let result = Rc::new(RefCell::new(None));
        let (slot, own) = (result.clone(), ring.clone());
        spawn(async move {
            let done = task(own).await;
            *slot.borrow_mut() = Some(done);
        });
        loop {
            ring.run_tasks().await;
            if let Some(result) = result.borrow_mut().take() {
                return result;
            }
            ring.wait(Duration::from_secs(20)).unwrap();
        }
    })
}

pub(super) fn new_ring() -> Rc<CoreRing> {
    CoreRing::new(Doorbell::new().unwrap()).unwrap()
}

#[test]
fn a_wait_ends_with_its_timeout_and_with_the_bell() {
    let ring = new_ring();
    let start = Instant::now();
    ring.wait(Duration::from_millis(20)).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20) && !ring.take_rung());
    for _ in 0..3 {
        let bell = ring.doorbell.clone();
        let other = std::thread::spawn(move || bell.ring());
        let start = Instant::now();
        while !ring.is_rung() {
            ring.wait(Duration::from_secs(20)).unwrap();
        }
        other.join().unwrap();
        assert!(ring.take_rung() && !ring.take_rung() && start.elapsed() < Duration::from_secs(15));
    }
}

#[test]
fn a_task_sleeps_until_its_socket_is_ready_and_all_tasks_run_before_the_core_sleeps() {
    run(async {
        let ring = new_ring();
        let (here, mut there) = UnixStream::pair().unwrap();
        let seen = Rc::new(Cell::new(0));
        let (counted, own) = (seen.clone(), ring.clone());
        spawn(async move {
            let readable = Readiness::to_read(own.clone(), here.as_raw_fd());
            loop {
                poll_fn(|cx| readable.poll(cx)).await;
                // A task that wakes others, each of which wakes the next.
                for _ in 0..10 {
                    own.note_woken();
                    let_others_run().await;
                }
                counted.set(counted.get() + 1);
                let mut byte = [0];
                std::io::Read::read_exact(&mut &here, &mut byte).unwrap();
            }
        });
        for n in 0..5 {
            ring.run_tasks().await;
            ring.wait(Duration::ZERO).unwrap();
            ring.run_tasks().await;
            assert_eq!(seen.get(), n, "woken without a reason");
            there.write_all(&[7]).unwrap();
            ring.wait(Duration::from_secs(20)).unwrap();
            ring.run_tasks().await;
            assert_eq!(seen.get(), n + 1);
        }
    });
}

#[test]
fn what_is_ready_before_it_is_watched_is_seen_and_a_closed_end_too() {
    let ring = new_ring();
    let (here, there) = UnixStream::pair().unwrap();
    let (readable, writable) = (
        Readiness::to_read(ring.clone(), here.as_raw_fd()),
        Readiness::to_write(ring.clone(), here.as_raw_fd()),
    );
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(readable.poll(cx).is_pending() && writable.poll(cx).is_pending());
    ring.wait(Duration::from_secs(20)).unwrap();
    assert!(readable.poll(cx).is_pending() && writable.poll(cx).is_ready());
    drop(there);
    ring.wait(Duration::from_secs(20)).unwrap();
    assert!(readable.poll(cx).is_ready());
}

#[test]
fn a_dropped_watch_lets_the_socket_go_and_frees_its_slot() {
    let ring = new_ring();
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..100 {
        let (here, there) = UnixStream::pair().unwrap();
        let readable = Readiness::to_read(ring.clone(), here.as_raw_fd());
        assert!(readable.poll(cx).is_pending());
        ring.submit().unwrap();
        drop(readable);
        drop(here);
        // The kernel closes it when the watch has gone: the other end sees that.
        there.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        while ring.inner.borrow().free_watches.is_empty() {
            ring.wait(Duration::from_secs(1)).unwrap();
        }
        assert_eq!(std::io::Read::read(&mut &there, &mut [0]).unwrap(), 0);
    }
    assert_eq!(ring.inner.borrow().watches.len(), 1);
}

#[test]
fn more_watches_than_any_queue_holds_all_fire() {
    const SOCKETS: usize = SUBMISSION_ENTRIES as usize * 3;
    let ring = new_ring();
    let cx = &mut Context::from_waker(Waker::noop());
    let (here, mut there) = UnixStream::pair().unwrap();
    let watches: Vec<_> = (0..SOCKETS).map(|_| Readiness::to_read(ring.clone(), here.as_raw_fd())).collect();
    assert!(watches.iter().all(|watch| watch.poll(cx).is_pending()));
    ring.submit().unwrap();
    there.write_all(&[1]).unwrap();
    let mut fired = 0;
    let start = Instant::now();
    while fired < SOCKETS && start.elapsed() < Duration::from_secs(20) {
        ring.wait(Duration::from_secs(1)).unwrap();
        fired = ring.inner.borrow().watches.iter().filter(|watch| watch.has_fired).count();
    }
    assert!(watches.iter().all(|watch| watch.poll(cx).is_ready()));
}

/// The two ends of a connection.
pub(crate) fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, there)
}

/// Until it is ready. False: it was not within 20 s.
fn becomes_ready(ring: &CoreRing, receive: &Readiness, bytes: usize) -> bool {
    let cx = &mut Context::from_waker(Waker::noop());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if receive.poll_for(cx, bytes).is_ready() {
            return true;
        }
        ring.wait(Duration::from_secs(20)).unwrap();
    }
    false
}

#[test]
fn who_awaits_many_bytes_sleeps_until_they_are_there_or_the_end_is() {
    const AWAITED: usize = 100_000;
    let ring = new_ring();
    let (mut here, mut there) = connected();
    let receive = Readiness::to_receive(ring.clone(), here.as_raw_fd());
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(receive.poll_for(cx, AWAITED).is_pending());
    ring.submit().unwrap();
    there.write_all(&[7; AWAITED - 1]).unwrap();
    ring.wait(Duration::from_millis(50)).unwrap();
    if !ring.inner.borrow().sets_low_water {
        assert!(std::env::var_os("CI").is_none(), "this kernel sets no socket options through a ring");
        return eprintln!("SKIPPED: this kernel (before Linux 6.7) sets no socket options through a ring");
    }
    assert!(receive.poll_for(cx, AWAITED).is_pending(), "woken by less than it can use");
    there.write_all(&[7]).unwrap();
    assert!(becomes_ready(&ring, &receive, AWAITED));
    here.read_exact(&mut [0; AWAITED]).unwrap();

    assert!(receive.poll_for(cx, 0).is_pending());
    there.write_all(&[7]).unwrap();
    assert!(becomes_ready(&ring, &receive, 0), "who awaits nothing certain takes what comes");

    assert!(receive.poll_for(cx, AWAITED).is_pending());
    drop(there);
    assert!(becomes_ready(&ring, &receive, AWAITED), "at the end nothing more comes");
}

#[test]
fn what_a_closed_socket_awaited_is_nothing_to_the_next_one_of_its_number() {
    let ring = new_ring();
    let cx = &mut Context::from_waker(Waker::noop());
    let (here, _there) = connected();
    let (next, mut there) = connected();
    let number = here.as_raw_fd();
    let receive = Readiness::to_receive(ring.clone(), number);
    assert!(receive.poll_for(cx, 100_000).is_pending());
    drop(receive);
    // SAFETY: both are open; `here` is the other socket from now on, and `next` too.
    assert_eq!(unsafe { libc::dup2(next.as_raw_fd(), number) }, number);
    let receive = Readiness::to_receive(ring.clone(), number);
    there.write_all(&[7]).unwrap();
    assert!(becomes_ready(&ring, &receive, 0));
}

#[test]
fn a_kernel_that_sets_no_options_is_asked_once_and_wakes_for_each_piece() {
    let ring = new_ring();
    let (here, mut there) = connected();
    ring.inner.borrow_mut().complete_low_water(-libc::EBADF);
    assert!(ring.inner.borrow().sets_low_water, "of one socket that is gone");
    ring.inner.borrow_mut().complete_low_water(-libc::EOPNOTSUPP);
    let receive = Readiness::to_receive(ring.clone(), here.as_raw_fd());
    there.write_all(&[7]).unwrap();
    assert!(becomes_ready(&ring, &receive, 100_000));
}

#[test]
fn nothing_put_before_a_ring_is_missed() {
    let doorbell = Doorbell::new().unwrap();
    let (sender, receiver) = mpsc::channel();
    let remote = doorbell.clone();
    let thread = std::thread::spawn(move || {
        for n in 0..1_000u32 {
            sender.send(n).unwrap();
            remote.ring();
            if n % 100 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let ring = CoreRing::new(doorbell).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 1_000 {
        ring.wait(Duration::from_secs(20)).unwrap();
        assert!(ring.take_rung(), "nobody rang for 20 s, and {} are missing", 1_000 - seen.len());
        seen.extend(receiver.try_iter());
    }
    thread.join().unwrap();
    assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
}

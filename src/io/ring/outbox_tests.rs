use super::super::SUBMISSION_ENTRIES;
use super::super::tests::{connected, new_ring};
use super::*;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const QUEUED_BYTES: usize = 1_000;

/// An outbox, and who reads what it sends.
fn outbox(ring: &Rc<CoreRing>) -> (Rc<Outbox>, TcpStream) {
    let (here, there) = connected();
    there.set_read_timeout(Some(PATIENCE)).unwrap();
    (Outbox::new(ring.clone(), Rc::new(here.into())), there)
}

/// The same with a send that the kernel does not have yet.
fn queued(ring: &Rc<CoreRing>) -> (Rc<Outbox>, TcpStream) {
    let (outbox, there) = outbox(ring);
    outbox.push(pattern(QUEUED_BYTES));
    outbox.send();
    (outbox, there)
}

/// As if the kernel had said so of the one send that is queued.
fn complete(ring: &CoreRing, result: i32) {
    let mut inner = ring.inner.borrow_mut();
    let slot = inner.sends.queued[0];
    inner.complete_send(slot, result);
}

fn read_to_end(there: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    there.read_to_end(&mut read).unwrap();
    read
}

fn pattern(bytes: usize) -> Bytes {
    (0..bytes as u32).map(|i| ((i * 7) >> 3) as u8).collect::<Vec<_>>().into()
}

/// Push until the socket takes no more. Returns all that was pushed.
fn fill(ring: &CoreRing, outbox: &Rc<Outbox>) -> Vec<u8> {
    let mut pushed = Vec::new();
    while !outbox.is_full() {
        let chunk = pattern(100_003 + pushed.len() % 1_009);
        pushed.extend_from_slice(&chunk);
        outbox.push(chunk);
        outbox.send();
        ring.submit().unwrap();
        assert!(pushed.len() < 100_000_000, "a socket that holds everything: the test shows nothing");
    }
    pushed
}

fn read_bytes(there: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    there.read_exact(&mut read).unwrap();
    read
}

fn has_no_entries(ring: &CoreRing) -> bool {
    let sends = &ring.inner.borrow().sends;
    sends.queued.is_empty()
        && sends.slots.iter().all(Option::is_none)
        && sends.free.len() == sends.slots.len()
}

#[test]
fn what_a_turn_sends_goes_with_the_call_that_sleeps_and_does_not_end_its_sleep() {
    let ring = new_ring();
    let (outbox, mut there) = outbox(&ring);
    for chunk in ["a ", "few ", "chunks"] {
        outbox.push(Bytes::from_static(chunk.as_bytes()));
    }
    outbox.send();
    there.set_nonblocking(true).unwrap();
    assert_eq!(
        there.read(&mut [0]).unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "sent with a call of its own"
    );
    assert_eq!((outbox.unsent_bytes(), outbox.take_sent()), (12, 0));
    let start = Instant::now();
    ring.wait(Duration::from_millis(50)).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50), "woken by its own send");
    assert_eq!((outbox.unsent_bytes(), outbox.take_sent(), outbox.take_sent()), (0, 12, 0));
    there.set_nonblocking(false).unwrap();
    assert_eq!(read_bytes(&mut there, 12), b"a few chunks");
    assert!(has_no_entries(&ring));
}

#[test]
fn a_full_socket_is_waited_for_and_nothing_is_lost_or_doubled() {
    let ring = new_ring();
    let (outbox, mut there) = outbox(&ring);
    let mut pushed = fill(&ring, &outbox);
    // Behind what waits, and in more pieces than one send has.
    for _ in 0..CHUNKS_PER_SEND * 2 + 1 {
        pushed.extend_from_slice(&pattern(1_001));
        outbox.push(pattern(1_001));
        outbox.send();
    }
    let bytes = pushed.len();
    let reader = std::thread::spawn(move || read_bytes(&mut there, bytes));
    let start = Instant::now();
    while outbox.unsent_bytes() > 0 {
        assert!(start.elapsed() < PATIENCE, "{} bytes were not sent", outbox.unsent_bytes());
        ring.wait(Duration::from_millis(10)).unwrap();
    }
    assert_eq!(outbox.take_sent(), bytes);
    assert!(reader.join().unwrap() == pushed, "other bytes came than were sent");
    assert!(has_no_entries(&ring) && !outbox.is_full());
}

/// Each of them needs entries, and only the last one tells the core nothing.
#[test]
fn more_chunks_than_one_send_has_all_go_without_another_reason_to_wake() {
    let ring = new_ring();
    let (outbox, mut there) = outbox(&ring);
    let chunks = CHUNKS_PER_SEND * 3 + 5;
    (0..chunks).for_each(|i| outbox.push(pattern(11 + i)));
    let bytes = outbox.unsent_bytes();
    outbox.send();
    let of_the_last: usize = (CHUNKS_PER_SEND * 3..chunks).map(|i| 11 + i).sum();
    let start = Instant::now();
    while outbox.unsent_bytes() > of_the_last {
        ring.wait(PATIENCE).unwrap();
    }
    ring.wait(Duration::from_millis(1)).unwrap();
    assert_eq!(outbox.take_sent(), bytes);
    assert!(start.elapsed() < PATIENCE, "the core slept with chunks unsent");
    let expected: Vec<u8> = (0..chunks).flat_map(|i| pattern(11 + i)).collect();
    assert!(read_bytes(&mut there, bytes) == expected);
}

#[test]
fn what_is_sent_twice_before_the_call_goes_in_order() {
    let ring = new_ring();
    let (outbox, mut there) = outbox(&ring);
    for word in ["first ", "second ", "third"] {
        outbox.push(Bytes::from_static(word.as_bytes()));
        outbox.send();
    }
    ring.wait(Duration::ZERO).unwrap();
    assert_eq!(read_bytes(&mut there, 18), b"first second third");
    assert!(has_no_entries(&ring));
}

#[test]
fn more_sends_than_the_queue_holds_all_go_with_one_wait() {
    let ring = new_ring();
    let all: Vec<_> = (0..SUBMISSION_ENTRIES as usize * 2 + 7).map(|_| outbox(&ring)).collect();
    for (i, (outbox, _)) in all.iter().enumerate() {
        outbox.push(pattern(i + 1));
        outbox.send();
    }
    ring.wait(Duration::ZERO).unwrap();
    for (i, (outbox, mut there)) in all.into_iter().enumerate() {
        assert_eq!((outbox.unsent_bytes(), outbox.take_sent()), (0, i + 1));
        assert_eq!(read_bytes(&mut there, i + 1), pattern(i + 1));
    }
    assert!(has_no_entries(&ring));
}

/// Its number could be another connection's by the time that the kernel sees the entry.
#[test]
fn a_socket_lives_until_what_was_sent_on_it_is_gone() {
    let ring = new_ring();
    let (outbox, mut there) = queued(&ring);
    drop(outbox);
    let (_next, mut of_next) = connected();
    ring.wait(Duration::ZERO).unwrap();
    assert_eq!(read_to_end(&mut there), pattern(QUEUED_BYTES));
    of_next.set_nonblocking(true).unwrap();
    assert_eq!(of_next.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(has_no_entries(&ring));
}

#[test]
fn a_shutdown_comes_after_what_was_sent_and_frees_what_waits_for_room() {
    let ring = new_ring();
    let (last_words, mut there) = queued(&ring);
    last_words.shut_down();
    assert_eq!(read_to_end(&mut there), pattern(QUEUED_BYTES));

    let (stuck, _there) = outbox(&ring);
    fill(&ring, &stuck);
    stuck.shut_down();
    let start = Instant::now();
    while !has_no_entries(&ring) {
        assert!(start.elapsed() < PATIENCE, "the ring holds on to a connection that is gone");
        ring.wait(Duration::from_secs(1)).unwrap();
    }
    assert_eq!(stuck.unsent_bytes(), 0);
    stuck.push(pattern(5));
    assert_eq!(stuck.unsent_bytes(), 0, "kept for a connection that is gone");
}

#[test]
fn who_reads_from_a_connection_that_cannot_be_sent_on_sees_its_end() {
    let ring = new_ring();
    let (outbox, there) = outbox(&ring);
    drop(there);
    let start = Instant::now();
    while outbox.state.borrow().stage != Stage::Over {
        assert!(start.elapsed() < PATIENCE, "a reader that is gone takes everything");
        outbox.push(pattern(1_000));
        outbox.send();
        ring.wait(Duration::from_millis(1)).unwrap();
    }
    assert!(has_no_entries(&ring));
}

#[test]
fn a_send_that_fails_ends_a_connection_whose_other_side_lives() {
    let ring = new_ring();
    let (outbox, mut there) = queued(&ring);
    complete(&ring, -libc::ENOBUFS);
    ring.wait(Duration::ZERO).unwrap();
    let mut here = TcpStream::from(outbox.socket.try_clone().unwrap());
    here.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(here.read(&mut [0]).unwrap(), 0);
    read_to_end(&mut there);
    assert!(has_no_entries(&ring) && outbox.unsent_bytes() == 0);
}

/// Nothing came of a send, or a signal was in its way: neither is the end of the connection.
#[test]
fn a_send_that_was_not_begun_is_sent_again() {
    let ring = new_ring();
    let (outbox, mut there) = outbox(&ring);
    for error in [libc::EINTR, libc::EAGAIN] {
        outbox.push(pattern(1_000));
        outbox.send();
        // As if the kernel had sent nothing.
        outbox.state.borrow_mut().vectors.iter_mut().for_each(|vector| vector.iov_len = 0);
        complete(&ring, -error);
        let start = Instant::now();
        while outbox.unsent_bytes() > 0 {
            assert!(start.elapsed() < PATIENCE);
            ring.wait(Duration::from_millis(1)).unwrap();
        }
        assert_eq!((read_bytes(&mut there, 1_000), outbox.take_sent()), (pattern(1_000).to_vec(), 1_000));
    }
}

#[test]
fn a_task_that_waits_for_the_end_of_a_send_is_woken_and_the_core_for_it() {
    let ring = new_ring();
    let (outbox, _there) = outbox(&ring);
    let woken = std::sync::Arc::new(Woken::default());
    let start = Instant::now();
    outbox.wake_when_sent(&woken.clone().into());
    outbox.push(pattern(10));
    outbox.send();
    assert_eq!(woken.0.load(Relaxed), 0);
    ring.wait(PATIENCE).unwrap();
    assert!(woken.0.load(Relaxed) == 1 && ring.has_woken());
    // It comes when the ring has the send already.
    outbox.push(pattern(10));
    outbox.send();
    outbox.wake_when_sent(&woken.clone().into());
    assert_eq!(woken.0.load(Relaxed), 2, "the core may sleep while a task waits");
    assert!(start.elapsed() < PATIENCE, "the core slept while a task waited");
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

use super::*;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const CHARGE: usize = 2 * MIB;

fn limits() -> ReadLimits {
    ReadLimits {
        bytes_max: 5 * CHARGE,
        answer_bytes_max: MIB,
        voter_bytes_max: 2 * MIB,
        charge_bytes: CHARGE,
        under_way_max: 2,
        stall_ms_max: 1_000,
    }
}

fn reads() -> Reads {
    Reads::new(limits())
}

fn client(number: u64) -> Reader {
    Reader::Client(ConnectionId(number))
}

fn tokens(reads: &mut Reads) -> Vec<(u64, Arc<Charge>)> {
    std::iter::from_fn(|| reads.next(0)).map(|granted| (granted.token, granted.charge)).collect()
}

#[test]
fn one_read_of_each_connection_and_all_in_turn() {
    let mut reads = reads();
    for token in 0..6 {
        reads.ask(token, client(1), usize::MAX);
    }
    for token in 10..12 {
        reads.ask(token, client(2), usize::MAX);
    }
    assert_eq!(reads.waiting(), 8);
    let mut order = Vec::new();
    for _ in 0..4 {
        let granted = tokens(&mut reads);
        assert!(granted.len() <= 2);
        for (token, charge) in granted {
            order.push(token);
            reads.done(token);
            // Its answer has been taken.
            drop(charge);
        }
    }
    assert_eq!((order.as_slice(), reads.waiting()), (&[0, 10, 1, 11, 2, 3][..], 2));
    assert_eq!(reads.held_bytes(), 0);
}

#[test]
fn while_the_log_writes_clients_read_little_and_one_after_the_other() {
    let most = ReadLimits { answer_bytes_max: 2 << 20, bytes_max: 16 << 20, ..limits() };
    let mut reads = Reads::new(most.clone());
    (0..4).for_each(|n| reads.ask(n, client(n), usize::MAX));
    reads.ask(9, Reader::Voter(NodeId(1)), usize::MAX);
    reads.set_writing(true);
    let (voter, first) = (reads.next(0).unwrap(), reads.next(0).unwrap());
    assert_eq!(
        (voter.token, voter.bytes_max),
        (9, most.voter_bytes_max),
        "a voter's is part of what is written"
    );
    assert_eq!((first.token, first.bytes_max), (0, WRITING_READ_BYTES));
    assert!(reads.next(0).is_none());
    reads.done(0);
    assert_eq!(reads.next(0).map(|granted| granted.token), Some(1));
    reads.set_writing(false);
    let next = reads.next(0).unwrap();
    assert_eq!((next.token, next.bytes_max), (2, 2 << 20));
}

#[test]
fn a_client_is_answered_with_its_share() {
    let mut reads = reads();
    reads.ask(1, client(1), 55 << 20);
    reads.ask(2, client(2), 10 * KIB);
    assert_eq!(reads.next(0).map(|granted| granted.bytes_max), Some(MIB));
    let small = reads.next(0).unwrap();
    assert_eq!(small.bytes_max, 10 * KIB);
    assert_eq!(small.charge.bytes, CHARGE, "it pins a whole piece");
}

#[test]
fn what_is_not_taken_keeps_the_next_read_waiting() {
    let mut reads = reads();
    for token in 0..9 {
        reads.ask(token, client(1), usize::MAX);
    }
    let mut held = Vec::new();
    for token in 0..2 {
        let granted = reads.next(0).unwrap();
        assert_eq!(granted.token, token);
        held.push(granted.charge);
        reads.done(token);
    }
    assert!(reads.next(0).is_none(), "two answers lie in its connection");
    assert!(reads.must_look_again());
    assert_eq!(reads.held_bytes(), 2 * CHARGE);
    held.pop();
    assert_eq!(reads.next(0).map(|granted| granted.token), Some(2));
}

#[test]
fn the_total_is_kept_and_nobody_passes_who_waits_for_it() {
    let mut reads = Reads::new(ReadLimits { under_way_max: 100, ..limits() });
    for number in 0..20 {
        reads.ask(number, client(number), usize::MAX);
    }
    let mut held = tokens(&mut reads);
    assert_eq!(held.len(), 5);
    assert!(reads.held_bytes() <= limits().bytes_max);
    reads.ask(30, client(30), 1);
    held.remove(0);
    assert_eq!(reads.next(0).map(|granted| granted.token), Some(5));
    held.clear();
    assert_eq!(reads.held_bytes(), 0, "the fifth was dropped at once");
}

#[test]
fn one_read_goes_even_where_the_total_is_less() {
    let mut reads = Reads::new(ReadLimits { bytes_max: 1, ..limits() });
    reads.ask(1, client(1), 9);
    reads.ask(2, client(2), 9);
    let first = reads.next(0).unwrap();
    assert!(reads.next(0).is_none());
    reads.done(1);
    drop(first);
    assert_eq!(reads.next(0).map(|granted| granted.token), Some(2));
}

#[test]
fn voters_wait_for_no_client() {
    let mut reads = reads();
    for number in 0..10 {
        reads.ask(number, client(number), usize::MAX);
    }
    let held = tokens(&mut reads);
    assert_eq!(held.len(), 2);
    reads.ask(20, Reader::Voter(NodeId(2)), usize::MAX);
    reads.ask(21, Reader::Voter(NodeId(2)), usize::MAX);
    reads.ask(22, Reader::Voter(NodeId(3)), usize::MAX);
    let before = reads.held_bytes();
    let voters = tokens(&mut reads);
    assert_eq!(voters.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [20, 22]);
    assert_eq!(reads.held_bytes(), before, "their bytes are not of the clients' total");
    reads.done(20);
    assert_eq!(tokens(&mut reads).len(), 1);
}

#[test]
fn a_connection_that_is_gone_leaves_nothing() {
    let mut reads = reads();
    for token in 0..5 {
        reads.ask(token, client(1), usize::MAX);
    }
    reads.ask(9, client(2), usize::MAX);
    let granted = reads.next(0).unwrap();
    assert_eq!(reads.forget(ConnectionId(1)), [1, 2, 3, 4]);
    reads.done(granted.token);
    drop(granted);
    assert_eq!(reads.held_bytes(), 0);
    assert_eq!(tokens(&mut reads).iter().map(|(token, _)| *token).collect::<Vec<_>>(), [9]);
    reads.done(9);
    assert!(reads.forget(ConnectionId(2)).is_empty());
    assert!(reads.readers.is_empty() && reads.by_token.is_empty() && reads.under_way == 0);
    reads.done(9);
}

fn ms(ms: u64) -> u64 {
    ms * NS_PER_MS
}

/// The total is held by five who took nothing since 0 to 4 ms.
fn held_by_five() -> (Reads, Vec<Arc<Charge>>) {
    let mut reads = Reads::new(ReadLimits { under_way_max: 100, ..limits() });
    for number in 0..5 {
        reads.ask(number, client(number), usize::MAX);
    }
    let held: Vec<_> = (0..5).map(|number| reads.next(ms(number)).unwrap().charge).collect();
    (0..5).for_each(|token| reads.done(token));
    (reads, held)
}

fn silent(number: u64) -> Stalled {
    Stalled { connection: ConnectionId(number), if_silent_ms: Some(1_000) }
}

#[test]
fn who_sits_on_its_answers_is_named_only_while_others_wait() {
    let (mut reads, held) = held_by_five();
    // They want more themselves, and stand before the other.
    for number in 0..5 {
        reads.ask(10 + number, client(number), usize::MAX);
        reads.ask(20 + number, client(number), usize::MAX);
    }
    assert!(reads.next(ms(5)).is_none());
    assert_eq!(reads.stalled(ms(3_000)), [], "nobody else wants anything");
    reads.ask(7, client(7), usize::MAX);
    assert!(reads.next(ms(3_000)).is_none());
    assert_eq!(reads.stalled(ms(3_900)), []);
    assert_eq!(reads.stalled(ms(4_150)), [0, 1, 2, 3, 4].map(silent));
    assert_eq!(reads.stalled(ms(4_151)), [], "a moment ago it was said");
    drop(held);
    assert!(reads.next(ms(4_200)).is_some(), "there is room now");
    assert_eq!(reads.stalled(ms(9_000)), []);
}

/// Each of them is let through in its time: what it waits for is its turn, and nobody sits on that.
#[test]
fn a_long_line_that_moves_is_nobodys_fault() {
    let (mut reads, mut held) = held_by_five();
    for number in 10..40 {
        reads.ask(number, client(number), usize::MAX);
    }
    let patient = held.pop();
    for number in 10..30 {
        let now = 500 * (number - 9);
        held.remove(0);
        let granted = reads.next(ms(now)).unwrap();
        assert_eq!(granted.token, number);
        reads.done(number);
        held.push(granted.charge);
        assert!(reads.next(ms(now)).is_none());
        if now <= 6_000 {
            assert_eq!(reads.stalled(ms(now)), [], "after {now} ms");
        }
    }
    let late = Stalled { connection: ConnectionId(4), if_silent_ms: None };
    assert_eq!(reads.stalled(ms(10_000)), [late], "but an answer has not all the time in the world");
    drop(patient);
}

#[test]
fn who_has_answers_to_take_keeps_nobody_behind_it_waiting() {
    let (mut reads, mut held) = held_by_five();
    held.pop();
    reads.ask(10, client(0), usize::MAX);
    held.push(reads.next(0).expect("a second answer").charge);
    reads.done(10);
    held.remove(3);
    // The total has room for one more, and the first one has two.
    reads.ask(11, client(0), usize::MAX);
    reads.ask(12, client(9), 1);
    assert_eq!(reads.next(0).map(|granted| granted.token), Some(12));
    held.clear();
    assert_eq!(reads.next(0).map(|granted| granted.token), Some(11));
}

#[test]
fn what_lies_in_memory_is_charged_like_what_is_read_and_passes_nobody_who_waits() {
    let mut reads = reads();
    reads.set_writing(true);
    let (first, most) = reads.ask_memory(client(1), 10 * MIB, 0).expect("there is room");
    assert_eq!((first.bytes, most, reads.held_bytes()), (CHARGE, WRITING_READ_BYTES, CHARGE));
    reads.set_writing(false);
    let second = reads.ask_memory(client(1), 10, 0).expect("an answer on its way, and the next one");
    assert_eq!(second.1, 10);
    assert_eq!(reads.ask_memory(client(9), 10 * MIB, 0).map(|(_, most)| most), Some(MIB));
    assert!(reads.ask_memory(client(1), 10, 0).is_none(), "it has not taken those");
    reads.ask(5, client(2), MIB);
    assert!(reads.ask_memory(client(2), 10, 0).is_none(), "its own first wish goes first");
    let others: Vec<_> = (3..6).map(|number| reads.ask_memory(client(number), 10, 0)).collect();
    assert!(others.iter().all(Option::is_some));
    assert!(reads.ask_memory(client(6), 10, 0).is_none(), "all is pinned");
    assert!(reads.ask_memory(Reader::Voter(NodeId(1)), 10, 0).is_some(), "a voter waits for no client");
    assert!(reads.next(0).is_none());
    drop(first);
    assert!(reads.ask_memory(client(6), 10, 0).is_none(), "somebody has waited longer");
    assert_eq!(reads.next(0).map(|granted| granted.token), Some(5));
    drop((second, others));
    reads.done(5);
    reads.rest();
    assert!(reads.readers.is_empty() && reads.held_bytes() == 0);
}

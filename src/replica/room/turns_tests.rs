use super::*;
use crate::protocol::api_versions::key;

/// A small request, as most are, and one for thousands of names.
const SMALL: Announced = Announced { bytes: 100, api_key: key::API_VERSIONS };
const NAMES: Announced = Announced { bytes: 480 << 10, api_key: key::METADATA };
const LIMITS: RoundLimits = RoundLimits { bytes_max: 1_000, ns_max: 100 };

fn turns() -> Turns {
    let mut turns = Turns::new(LIMITS);
    turns.begin_round(0, room(99));
    turns
}

fn room(requests: usize) -> Room {
    Room { requests, is_for_cheap: false }
}

fn id(number: u64) -> ConnectionId {
    ConnectionId(number)
}

#[test]
fn alone_everybody_goes_at_once() {
    let (mut turns, mut turn) = (turns(), Turn::default());
    for _ in 0..10 * STINT_REQUESTS {
        assert!(turns.may_go(id(1), &mut turn, room(1), Some(SMALL)));
        turns.took_request(&mut turn, SMALL, 1, 99);
    }
    assert!(!turns.has_line(room(9)));
}

#[test]
fn a_round_ends_with_its_bytes_and_with_its_time() {
    for is_time in [false, true] {
        let (mut turns, mut turn) = (turns(), Turn::default());
        match is_time {
            false => turns.took_bytes(&mut turn, 1_000, 0),
            true => turns.took_request(&mut turn, SMALL, 1, 100),
        }
        assert!(!turns.may_go(id(1), &mut turn, room(9), Some(SMALL)));
        assert!(!turns.may_go(id(1), &mut turn, room(9), Some(SMALL)), "it stands in the line once");
        turns.begin_round(100, room(9));
        assert_eq!((turns.next(room(9)), turns.next(room(9))), (Some(id(1)), None));
        assert!(turns.let_in(&mut turn) && turns.may_go(id(1), &mut turn, room(9), Some(SMALL)));
    }
}

#[test]
fn a_round_that_is_over_lets_nobody_in_and_the_next_one_goes_on() {
    let (mut turns, mut turn) = (turns(), [Turn::default(); 2]);
    turns.took_request(&mut turn[0], SMALL, 1, 500);
    assert!(
        !turns.may_go(id(0), &mut turn[0], room(9), Some(SMALL))
            && !turns.may_go(id(1), &mut turn[1], room(9), Some(SMALL))
    );
    assert_eq!(turns.next(room(9)), None);
    for (n, turn) in (0..).zip(&mut turn) {
        turns.begin_round(1_000 * n, room(9));
        assert_eq!(turns.next(room(9)), Some(id(n)));
        assert!(turns.let_in(turn));
        turns.took_request(turn, SMALL, 1, 1_000 * n + 100);
        assert!(turns.may_go(id(n), turn, room(9), Some(SMALL)), "a stint goes on to its end");
        turns.rest(turn);
        assert_eq!(turns.next(room(9)), None, "it has taken the whole round");
    }
}

#[test]
fn who_was_served_waits_behind_those_who_were_not() {
    let mut turns = turns();
    let mut turn = [Turn::default(); 3];
    turns.took_bytes(&mut Turn::default(), 1_000, 0);
    for (n, turn) in turn.iter_mut().enumerate() {
        assert!(!turns.may_go(id(n as u64), turn, room(99), Some(SMALL)));
    }
    turns.begin_round(0, room(99));
    let mut order = Vec::new();
    for _ in 0..6 {
        let ConnectionId(n) = turns.next(room(99)).unwrap();
        let n = n as usize;
        assert!(turns.let_in(&mut turn[n]));
        // It has far more to say than a stint holds.
        let mut requests = 0;
        while turns.may_go(id(n as u64), &mut turn[n], room(99), Some(SMALL)) {
            turns.took_request(&mut turn[n], SMALL, 1, 0);
            requests += 1;
        }
        assert_eq!(requests, STINT_REQUESTS);
        order.push(n);
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

/// A closed loop, as of `kraft-perf --clients 10000`: who was answered asks again at once.
#[test]
fn of_a_crowd_nobody_is_served_twice_before_all_were_served_once() {
    const CROWD: usize = 2_000;
    const HANDED_MAX: usize = 512;
    const TAKEN_PER_TURN: usize = 256;
    let mut turns = Turns::new(RoundLimits { bytes_max: 4 << 20, ns_max: 4_000_000 });
    let (mut turn, mut served) = (vec![Turn::default(); CROWD], vec![0u32; CROWD]);
    let (mut asking, mut handed, mut now_ns) = (VecDeque::from_iter(0..CROWD), VecDeque::new(), 0);
    for _ in 0..100 {
        turns.begin_round(now_ns, room(HANDED_MAX - handed.len()));
        loop {
            let room = room(HANDED_MAX - handed.len());
            let let_in = turns.next(room).map(|ConnectionId(n)| n as usize);
            let Some(n) = let_in.or_else(|| asking.pop_front()) else { break };
            let is_let_in = let_in.is_some();
            assert!(!is_let_in || turns.let_in(&mut turn[n]));
            if turns.may_go(id(n as u64), &mut turn[n], room, Some(SMALL)) {
                now_ns += 10_000;
                turns.took_request(&mut turn[n], SMALL, 10_000, now_ns);
                turns.rest(&mut turn[n]);
                served[n] += 1;
                handed.push_back(n);
            }
        }
        asking.extend(handed.drain(..TAKEN_PER_TURN.min(handed.len())));
        let (fewest, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
        assert!(most - fewest <= 1, "one was served {most} times and another one {fewest} times");
    }
    assert!(served.iter().min().unwrap() > &5);
}

#[test]
fn nobody_is_let_in_without_room() {
    let (mut turns, mut turn) =
        (Turns::new(RoundLimits { bytes_max: 1_000, ns_max: 1_000_000 }), [Turn::default(); 3]);
    for (n, turn) in turn.iter_mut().enumerate() {
        assert!(!turns.may_go(id(n as u64), turn, room(0), Some(SMALL)));
    }
    assert_eq!(turns.next(room(0)), None);
    assert_eq!(turns.next(room(1)), Some(id(0)));
    turns.let_in(&mut turn[0]);
    assert_eq!(turns.next(room(STINT_REQUESTS)), None, "the room is promised to the first");
    assert_eq!(turns.next(room(STINT_REQUESTS + 1)), Some(id(1)));
    turns.let_in(&mut turn[1]);
    // The room was less than a stint: it goes on where it was in the line.
    assert!(!turns.may_go(id(0), &mut turn[0], room(0), Some(SMALL)));
    turns.rest(&mut turn[1]);
    assert_eq!((turns.next(room(1)), turns.stints), (Some(id(0)), 0));
    turns.let_in(&mut turn[0]);
    assert!(turns.may_go(id(0), &mut turn[0], room(1), Some(SMALL)));
    turns.took_request(&mut turn[0], SMALL, 1, 0);
    assert!(
        !turns.may_go(id(0), &mut turn[0], room(0), Some(SMALL)),
        "it has had some: to the end of the line"
    );
    assert_eq!([turns.next(room(1)), turns.next(room(1))], [Some(id(2)), Some(id(0))]);
}

/// The line is empty when all of it was let in, and they have not run yet.
#[test]
fn who_needs_no_line_leaves_the_room_of_those_let_in() {
    let mut turns = Turns::new(RoundLimits { ns_max: 1_000_000, ..LIMITS });
    let (mut turn, mut other) = (Turn::default(), Turn::default());
    assert!(!turns.may_go(id(0), &mut turn, room(0), Some(SMALL)));
    assert_eq!(turns.next(room(STINT_REQUESTS + 1)), Some(id(0)));
    assert!(turns.let_in(&mut turn) && !turns.has_line(room(9)));
    assert!(turns.may_go(id(1), &mut other, room(STINT_REQUESTS + 1), Some(SMALL)));
    assert!(!turns.may_go(id(1), &mut other, room(STINT_REQUESTS), Some(SMALL)));
    assert!(
        !turns.may_step(id(2), &mut Turn::default(), room(STINT_REQUESTS)),
        "nor does a newcomer take it"
    );
    assert!(turns.may_go(id(0), &mut turn, room(STINT_REQUESTS), Some(SMALL)));
    turns.rest(&mut turn);
    assert_eq!([turns.next(room(9)), turns.next(room(9))], [Some(id(2)), Some(id(1))]);
}

/// It may be a voter's: it waits for no crowd of clients, nor do they wait for a crowd of newcomers.
#[test]
fn a_newcomer_goes_before_those_who_wait_and_some_of_them_in_each_round() {
    let (mut turns, mut clients) = (turns(), [Turn::default(); 3]);
    turns.took_bytes(&mut Turn::default(), 1_000, 0);
    for (n, turn) in clients.iter_mut().enumerate() {
        assert!(!turns.may_go(id(n as u64), turn, room(99), Some(SMALL)));
    }
    let mut newcomers = [Turn::default(); NEWCOMERS_PER_ROUND + 2];
    let went =
        (10..).zip(&mut newcomers).filter_map(|(n, turn)| turns.may_step(id(n), turn, room(1)).then_some(n));
    assert_eq!(went.count(), NEWCOMERS_PER_ROUND, "though the round is over");
    assert!(!turns.may_step(id(10), &mut newcomers[0], room(1)), "and nobody passes those who stand there");
    turns.begin_round(0, room(99));
    let last = 10 + NEWCOMERS_PER_ROUND as u64;
    assert_eq!(turns.next(room(0)), None);
    assert_eq!([turns.next(room(99)), turns.next(room(99))], [Some(id(last)), Some(id(last + 1))]);
    let turn = &mut newcomers[NEWCOMERS_PER_ROUND];
    assert!(turns.let_in(turn) && turns.may_step(id(last), turn, room(1)));
    assert!(turn.is_free(), "it was one step");
    assert_eq!([turns.next(room(99)), turns.next(room(99))], [Some(id(10)), Some(id(0))]);
    turns.leave(&mut newcomers[0]);
    assert!(!turns.let_in(&mut newcomers[0]), "it has gone");
    assert!(turns.let_in(&mut clients[0]) && turns.may_go(id(0), &mut clients[0], room(99), Some(SMALL)));
}

/// A client that was awake runs before the newcomers that were let in before it.
#[test]
fn a_stint_leaves_the_steps_that_were_promised() {
    let (mut turns, mut client, mut newcomer) = (turns(), Turn::default(), Turn::default());
    assert!(
        !turns.may_go(id(0), &mut client, room(0), Some(SMALL))
            && !turns.may_step(id(1), &mut newcomer, room(0))
    );
    turns.begin_round(0, room(2));
    assert_eq!(turns.next(room(2)), Some(id(1)));
    assert!(turns.let_in(&mut newcomer));
    assert_eq!(turns.next(room(2)), Some(id(0)));
    assert!(turns.let_in(&mut client));
    assert!(turns.may_go(id(0), &mut client, room(2), Some(SMALL)));
    turns.took_request(&mut client, SMALL, 1, 0);
    assert!(!turns.may_go(id(0), &mut client, room(1), Some(SMALL)));
    assert!(!turns.may_step(id(1), &mut newcomer, room(0)), "the room is gone for another reason");
    assert!(!turns.may_step(id(2), &mut Turn::default(), room(9)));
    turns.begin_round(0, room(9));
    assert_eq!(turns.next(room(9)), Some(id(1)), "it is still the first");
    assert!(turns.let_in(&mut newcomer) && turns.may_step(id(1), &mut newcomer, room(1)));
}

/// Both crowds always have more to say. Nobody of those who stand there first waits for longer than is promised.
#[test]
fn however_little_room_there_is_each_line_moves() {
    for room_max in [1, 2, 3, STINT_REQUESTS, STINT_REQUESTS + 1, 3 * NEWCOMERS_PER_ROUND] {
        let mut turns = turns();
        let mut everybody = [Turn::default(); 600];
        let (clients, newcomers) = (0..5, 5..600);
        let is_client = |n: u64| n < 5;
        let mut stood = [None; 600];
        for round in 0..200 {
            let mut left = room_max;
            turns.look_around(round * 1_000);
            turns.begin_round(round * 1_000, room(left));
            let mut awake: VecDeque<usize> = clients.clone().chain(newcomers.clone()).collect();
            while let Some(n) = awake.pop_front() {
                let turn = &mut everybody[n];
                let may_go = |turns: &mut Turns, turn: &mut Turn, left| match is_client(n as u64) {
                    true => {
                        let next = if n % 2 == 0 { SMALL } else { NAMES };
                        turns.may_go(id(n as u64), turn, room(left), Some(next))
                    }
                    false => turns.may_step(id(n as u64), turn, room(left)),
                };
                while may_go(&mut turns, turn, left) {
                    stood[n] = None;
                    left -= 1;
                    turns.took_request(turn, SMALL, 1, round * 1_000);
                }
                let at_most = turns.rounds_at_most(turn).expect("it has more to say") as u64;
                let (since, at_most) = *stood[n].get_or_insert((round, at_most));
                let waited = round - since;
                assert!(waited <= at_most, "{n} waits for {waited} of {at_most} rounds, room {room_max}");
                while let Some(ConnectionId(next)) = turns.next(room(left)) {
                    assert!(turns.let_in(&mut everybody[next as usize]));
                    awake.push_front(next as usize);
                }
            }
            assert!(left < room_max, "somebody went");
        }
    }
}

#[test]
fn a_crowd_that_comes_and_leaves_takes_no_steps_of_those_who_stay() {
    let mut turns = turns();
    let mut gone = [Turn::default(); 2 * NEWCOMERS_PER_ROUND];
    for (n, turn) in (1..).zip(&mut gone) {
        assert!(!turns.may_step(id(n), turn, room(0)));
        turns.leave(turn);
    }
    let mut turn = Turn::default();
    assert!(!turns.may_step(id(0), &mut turn, room(0)));
    turns.begin_round(0, room(9));
    let named = std::iter::from_fn(|| turns.next(room(9))).find(|named| *named == id(0));
    assert_eq!(named, Some(id(0)));
    assert!(turns.let_in(&mut turn), "in the same round");
}

#[test]
fn who_has_gone_is_passed_over() {
    let (mut turns, mut turn) = (turns(), [Turn::default(); 2]);
    for (n, turn) in turn.iter_mut().enumerate() {
        turns.may_go(id(n as u64), turn, room(0), Some(SMALL));
    }
    turns.leave(&mut turn[0]);
    assert_eq!(turns.next(room(5)), Some(id(0)));
    assert!(!turns.let_in(&mut turn[0]));
    assert_eq!(turns.next(room(5)), Some(id(1)));
    assert!(turns.let_in(&mut turn[1]));
    turns.leave(&mut turn[1]);
    turns.leave(&mut turn[1]);
    assert_eq!(turns.stints, 0);
}

/// It has as many requests under way as it may, and is looked at with each answer.
#[test]
fn who_is_blocked_in_the_line_keeps_one_place() {
    let (mut turns, mut turn) = (turns(), [Turn::default(); 2]);
    for _ in 0..5 {
        assert!(!turns.may_go(id(0), &mut turn[0], room(0), Some(SMALL)));
        turns.rest(&mut turn[0]);
    }
    assert!(!turns.may_go(id(1), &mut turn[1], room(0), Some(SMALL)));
    assert_eq!(
        [turns.next(room(99)), turns.next(room(99)), turns.next(room(99))],
        [Some(id(0)), Some(id(1)), None]
    );
    assert!(turns.let_in(&mut turn[0]));
    turns.rest(&mut turn[0]);
    assert!(!turns.may_go(id(0), &mut turn[0], room(0), Some(SMALL)), "it did not use its turn");
    assert_eq!([turns.next(room(99)), turns.next(room(99))], [Some(id(0)), None]);
}

/// Three hundred that each ask for thousands of names, and one that asks for little.
#[test]
fn who_asks_for_little_is_not_behind_a_crowd_that_asks_for_much() {
    const NS: u64 = 2_000_000;
    let mut turns = Turns::new(RoundLimits { bytes_max: 1 << 30, ns_max: 10_000_000 });
    let (mut crowd, mut small) = ([Turn::default(); 300], Turn::default());
    let mut now_ns = 0;
    turns.look_around(now_ns);
    turns.begin_round(now_ns, room(512));
    let mut served = [0; 300];
    let mut waited = Vec::new();
    for _ in 0..500 {
        turns.look_around(now_ns);
        turns.begin_round(now_ns, room(512));
        let mut named = Vec::new();
        while let Some(ConnectionId(n)) = turns.next(room(512)) {
            let turn = if n == 300 { &mut small } else { &mut crowd[n as usize] };
            assert!(turns.let_in(turn));
            named.push(n as usize);
        }
        assert!(named.len() <= 7, "no more than the round has time for: {}", named.len());
        // It comes in the middle of each round.
        let half = named.len() / 2;
        for (place, n) in named.into_iter().enumerate() {
            if place == half {
                let came_ns = now_ns;
                assert!(turns.may_go(id(300), &mut small, room(512), Some(SMALL)), "at once");
                now_ns += 10_000;
                turns.took_request(&mut small, SMALL, 10_000, now_ns);
                turns.rest(&mut small);
                waited.push(now_ns - came_ns);
            }
            while turns.may_go(id(n as u64), &mut crowd[n], room(512), Some(NAMES)) {
                now_ns += NS;
                served[n] += 1;
                turns.took_request(&mut crowd[n], NAMES, NS, now_ns);
            }
        }
        for n in 0..crowd.len() {
            while turns.may_go(id(n as u64), &mut crowd[n], room(512), Some(NAMES)) {
                now_ns += NS;
                served[n] += 1;
                turns.took_request(&mut crowd[n], NAMES, NS, now_ns);
            }
        }
    }
    assert!(waited.len() == 499 && waited.iter().all(|ns| *ns == 10_000));
    let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
    // The first one had a round to itself.
    assert!(*least > 0 && most - least <= 6, "{least} {most}: the crowd is served in its turn");
}

/// The other way round: many that ask for little leave their part to who asks for much.
#[test]
fn who_asks_for_much_has_its_part_beside_a_crowd_that_asks_for_little() {
    let mut turns = Turns::new(RoundLimits { bytes_max: 1 << 30, ns_max: 10_000_000 });
    let mut crowd = [Turn::default(); 300];
    let (mut much, mut much_ns, mut now_ns) = (Turn::default(), 0, 0);
    for _ in 0..200 {
        turns.look_around(now_ns);
        turns.begin_round(now_ns, room(512));
        let mut awake: VecDeque<u64> = (0..=300).collect();
        while let Some(ConnectionId(next)) = turns.next(room(512)) {
            let turn = if next == 300 { &mut much } else { &mut crowd[next as usize] };
            assert!(turns.let_in(turn));
            awake.push_front(next);
        }
        while let Some(n) = awake.pop_front() {
            let (turn, next, cost_ns) = match n {
                300 => (&mut much, NAMES, 1_000_000),
                _ => (&mut crowd[n as usize], SMALL, 20_000),
            };
            while turns.may_go(id(n), turn, room(512), Some(next)) {
                now_ns += cost_ns;
                much_ns += if n == 300 { cost_ns } else { 0 };
                turns.took_request(turn, next, cost_ns, now_ns);
            }
            while let Some(ConnectionId(next)) = turns.next(room(512)) {
                let turn = if next == 300 { &mut much } else { &mut crowd[next as usize] };
                assert!(turns.let_in(turn));
                awake.push_back(next);
            }
        }
    }
    let part = much_ns as f64 / now_ns as f64;
    assert!((0.3..0.7).contains(&part), "{part}: one of two lines");
}

#[test]
fn a_slow_core_lets_in_as_many_as_it_has_time_for() {
    let mut turns = Turns::new(RoundLimits { bytes_max: 1 << 30, ns_max: 10_000_000 });
    let mut crowd = [Turn::default(); 100];
    let (mut now_ns, mut longest_ns) = (0, 0);
    for round in 0..50 {
        turns.look_around(now_ns);
        turns.begin_round(now_ns, room(512));
        let begun_ns = now_ns;
        let mut awake = VecDeque::new();
        while let Some(ConnectionId(n)) = turns.next(room(512)) {
            assert!(turns.let_in(&mut crowd[n as usize]));
            awake.push_back(n as usize);
        }
        awake.extend(0..crowd.len());
        while let Some(n) = awake.pop_front() {
            while turns.may_go(id(n as u64), &mut crowd[n], room(512), Some(NAMES)) {
                now_ns += 10 * NAMES.ns();
                turns.took_request(&mut crowd[n], NAMES, NAMES.ns(), now_ns);
            }
        }
        assert!(now_ns > begun_ns, "somebody goes");
        if round > 2 {
            longest_ns = longest_ns.max(now_ns - begun_ns);
        }
    }
    assert!(
        longest_ns <= 10 * NAMES.ns(),
        "one of them takes longer than a round: {} us",
        longest_ns / 1_000
    );
}

/// Ten that each ask for much take what a round lets them; beside them a voter, somebody who asks for little, or nobody.
#[test]
fn rounds_are_short_while_some_ask_for_much_and_others_do_not() {
    #[derive(Clone, Copy, PartialEq)]
    enum Beside {
        Nobody,
        Cheap,
        Voter,
    }
    const ROUND_NS: u64 = 4_000_000;
    const REQUEST_NS: u64 = 100_000;
    let longest_ns = |beside: Beside, wanted: Announced| {
        let mut turns = Turns::new(RoundLimits { bytes_max: 1 << 30, ns_max: ROUND_NS });
        let mut everybody = [Turn::default(); 11];
        let (mut now_ns, mut longest_ns) = (0, 0);
        for round in 0..100 {
            turns.look_around(now_ns);
            turns.begin_round(now_ns, room(512));
            let begun_ns = now_ns;
            if beside == Beside::Voter {
                turns.voter_went(now_ns);
            }
            if round > 2 {
                let is_mixed = beside != Beside::Nobody && wanted != SMALL;
                assert_eq!(turns.read_bytes_max(false) <= MIXED_READ_BYTES, is_mixed, "reads are short then");
            }
            let mut awake: VecDeque<u64> = (0..if beside == Beside::Cheap { 11 } else { 10 }).collect();
            loop {
                while let Some(ConnectionId(next)) = turns.next(room(512)) {
                    assert!(turns.let_in(&mut everybody[next as usize]));
                    awake.push_front(next);
                }
                let Some(n) = awake.pop_front() else { break };
                let turn = &mut everybody[n as usize];
                let (request, ns) = if n == 10 { (SMALL, 5_000) } else { (wanted, REQUEST_NS) };
                while turns.may_go(id(n), turn, room(512), Some(request)) {
                    now_ns += ns;
                    turns.took_request(turn, request, ns, now_ns);
                    if n == 10 {
                        turns.rest(turn);
                        break;
                    }
                }
            }
            // The first ones are not known to be mixed.
            if round > 2 {
                longest_ns = longest_ns.max(now_ns - begun_ns);
            }
            now_ns += 10_000;
        }
        longest_ns
    };
    let much = Announced { bytes: 16 << 10, ..NAMES };
    assert!(longest_ns(Beside::Nobody, much) >= ROUND_NS);
    for beside in [Beside::Cheap, Beside::Voter] {
        let mixed_ns = longest_ns(beside, much);
        assert!(mixed_ns <= 250_000 + REQUEST_NS, "{mixed_ns}");
    }
    assert!(longest_ns(Beside::Voter, SMALL) >= ROUND_NS, "nobody asks for much");
}

/// What waits for the replica before a record is all that was handed on before it.
#[test]
fn few_requests_are_handed_on_while_some_pipeline_and_others_do_not() {
    let (mut turns, mut deep, mut shallow) = (turns(), Turn::default(), Turn::default());
    let mut handed_max = |others_under_way| {
        for (turn, requests) in [(&mut deep, 64), (&mut shallow, others_under_way)] {
            turns.has_under_way(turn, requests, 0);
            turns.took_request(turn, SMALL, 5_000, 0);
        }
        // Before the round begins, which goes by the room there is.
        turns.look_around(0);
        turns.requests_max(512)
    };
    assert_eq!(handed_max(6), 512, "they are not so different");
    assert_eq!(handed_max(5), MIXED_REQUESTS);
}

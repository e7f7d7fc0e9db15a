use super::super::solo::{Solo, at, key};
use super::*;
use crate::raft::{Effect, Event, FetchRequest, Request, RequestId};

/// A valid Fetch of this voter at our log end, or below it by so many, with what it says of itself.
fn fetch(solo: &mut Solo, from: i32, below: i64, unfit: Option<Unfit>) {
    let end = solo.raft.log_end().0.0 - below;
    let request = FetchRequest {
        replica: key(from),
        epoch: solo.raft.epoch(),
        fetch_offset: Offset(end),
        last_fetched_epoch: solo.raft.epochs.epoch_before(Offset(end)),
        max_wait_ms: 500,
        high_watermark: None,
        unfit,
        one_batch: false,
        log_start: None,
        wall_ms: None,
    };
    solo.step(Event::Request { request_id: RequestId(9), request: Request::Fetch(request) });
}

fn full(solo: &mut Solo) {
    solo.step(Event::Fitness(Some(Unfit::DiskFull)));
}

/// The order in which EndQuorumEpoch names its successors; `None`: nothing was handed over.
fn successors(solo: &Solo) -> Option<Vec<i32>> {
    solo.sent().iter().find_map(|(_, request)| match request {
        Request::EndQuorumEpoch(end) => Some(end.preferred_candidates.iter().map(|key| key.id.0).collect()),
        _ => None,
    })
}

#[test]
fn a_full_leader_waits_for_word_of_the_others_and_hands_over_to_one_with_room() {
    let mut solo = Solo::leader(3, &[(1, 4)]);
    fetch(&mut solo, 2, 0, None);
    fetch(&mut solo, 3, 0, None);
    full(&mut solo);
    assert_eq!(successors(&solo), None, "they may be as full as we are");
    solo.after_ms(FULL_PATIENCE_MS - 1);
    fetch(&mut solo, 3, 0, None);
    assert_eq!(successors(&solo), None);
    fetch(&mut solo, 2, 0, Some(Unfit::DiskFull));
    solo.after_ms(1).step(Event::Tick);
    assert_eq!(successors(&solo), Some(vec![3, 2]), "who has room stands first");
    assert_eq!(solo.raft.role(), RoleName::Resigned);
}

#[test]
fn a_leader_stays_while_nobody_can_do_better() {
    for (what, below, unfit) in [
        ("full as well", 0, Some(Unfit::DiskFull)),
        ("damaged", 0, Some(Unfit::LogDamaged)),
        ("no leader for clients", 0, Some(Unfit::TakesNoClients)),
        ("behind, and so not to be elected", 1, None),
    ] {
        let mut solo = Solo::leader(3, &[(1, 4)]);
        full(&mut solo);
        solo.after_ms(FULL_PATIENCE_MS);
        fetch(&mut solo, 2, below, unfit);
        solo.step(Event::Tick);
        assert!(solo.raft.is_leader(), "{what}");
        assert!(solo.raft.deadline().is_some_and(|at| at > solo.now.monotonic_ns), "{what}: no busy loop");
    }
    let mut solo = Solo::leader(3, &[(1, 4)]);
    fetch(&mut solo, 2, 0, None);
    solo.after_ms(1_000);
    fetch(&mut solo, 3, 0, Some(Unfit::DiskFull));
    solo.after_ms(1_500);
    full(&mut solo);
    solo.after_ms(FULL_PATIENCE_MS);
    fetch(&mut solo, 3, 0, Some(Unfit::DiskFull));
    assert!(solo.raft.is_leader(), "2 has not been heard of lately");
}

#[test]
fn room_that_comes_back_in_time_keeps_the_leader() {
    let mut solo = Solo::leader(3, &[(1, 4)]);
    full(&mut solo);
    solo.after_ms(FULL_PATIENCE_MS - 1).step(Event::Fitness(None));
    solo.after_ms(1);
    fetch(&mut solo, 2, 0, None);
    solo.step(Event::Tick);
    assert!(solo.raft.is_leader());
}

#[test]
fn a_damaged_leader_hands_over_at_once_to_one_that_has_caught_up_lately() {
    let mut solo = Solo::leader(3, &[(1, 4)]);
    fetch(&mut solo, 2, 0, None);
    solo.step(Event::Append { offsets: 1 });
    solo.step(Event::Fitness(Some(Unfit::LogDamaged)));
    assert_eq!(successors(&solo), Some(vec![2, 3]), "produce goes on, so nobody is level with the log end");
}

#[test]
fn who_was_elected_unfit_tries_to_hand_over_later_and_later() {
    let mut solo = Solo::voter(1, 3, &[(1, 4)]);
    full(&mut solo);
    for patience_ms in [RETURN_PATIENCE_MS, RETURN_PATIENCE_MS * 2] {
        solo.win();
        solo.flush();
        let elected_ns = solo.now.monotonic_ns;
        fetch(&mut solo, 2, 0, None);
        assert!(solo.raft.is_leader(), "the others could not");
        while solo.raft.is_leader() {
            solo.after_ms(500);
            fetch(&mut solo, 2, 0, None);
        }
        assert_eq!((solo.now.monotonic_ns - elected_ns) / NS_PER_MS, patience_ms);
    }
}

#[test]
fn an_unfit_voter_lets_the_others_stand_once() {
    let mut solo = Solo::follower(1, &[(1, 4)]);
    full(&mut solo);
    solo.tick_until(RoleName::Unattached);
    let note = solo.notes.join(" ");
    assert!(note.contains("no answer from 2 within the fetch timeout, but my disk has no room"), "{note}");
    let waited_from = solo.now.monotonic_ns;
    // Meanwhile others have our vote.
    solo.vote_request(3, 1, at(1, 4), true);
    assert!(solo.reply_to_vote().granted);
    solo.tick_until(RoleName::Prospective);
    let waited_ms = (solo.now.monotonic_ns - waited_from) / NS_PER_MS;
    assert!((2_000..3_000).contains(&waited_ms), "{waited_ms} ms");
    // Nobody came: from here on it stands as any other.
    solo.tick_at_deadline();
    assert_eq!(solo.raft.role(), RoleName::Follower, "too few pre-votes: back to the leader that it knew");
    solo.tick_until(RoleName::Prospective);
}

#[test]
fn a_leader_that_is_heard_again_starts_the_count_anew() {
    let mut solo = Solo::follower(1, &[(1, 4)]);
    full(&mut solo);
    solo.tick_until(RoleName::Unattached);
    solo.tick_until(RoleName::Prospective);
    solo.tick_at_deadline();
    assert_eq!(solo.raft.role(), RoleName::Follower);
    solo.step(Event::Tick);
    solo.fetched(None, &[]);
    solo.tick_until(RoleName::Unattached);
}

#[test]
fn a_resigned_leader_without_room_waits_too() {
    let mut solo = Solo::leader(3, &[(1, 4)]);
    fetch(&mut solo, 2, 0, None);
    full(&mut solo);
    solo.after_ms(FULL_PATIENCE_MS);
    fetch(&mut solo, 2, 0, None);
    assert_eq!(solo.raft.role(), RoleName::Resigned);
    let resigned_ns = solo.now.monotonic_ns;
    solo.tick_until(RoleName::Prospective);
    assert!(solo.now.monotonic_ns >= resigned_ns + 3_000 * NS_PER_MS, "an election timeout, and two more");
}

#[test]
fn the_only_voter_stands_whatever_it_lacks() {
    let mut solo = Solo::voter(1, 1, &[(1, 4)]);
    full(&mut solo);
    solo.tick_at_deadline();
    solo.flush();
    assert!(solo.raft.is_leader());
    solo.after_ms(60_000).step(Event::Tick);
    assert!(solo.raft.is_leader());
    assert!(!solo.effects.iter().any(|effect| matches!(effect, Effect::Send { .. })));
    assert_eq!(solo.raft.unfit(), Some(Unfit::DiskFull));
}

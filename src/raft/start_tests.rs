use super::super::solo::{Solo, at, key};
use super::super::*;
use super::IN_SYNC_PATIENCE_MS;

/// The starts that the last step wants the log moved to.
fn advanced(solo: &Solo) -> Vec<OffsetAndEpoch> {
    let to = |effect: &Effect| match effect {
        Effect::AdvanceStart(at) => Some(*at),
        _ => None,
    };
    solo.effects.iter().filter_map(to).collect()
}

fn want(solo: &mut Solo, to: i64) -> Vec<OffsetAndEpoch> {
    solo.step(Event::WantStart(Offset(to)));
    advanced(solo)
}

fn taken(solo: &mut Solo, end: i64) -> Vec<OffsetAndEpoch> {
    let epoch = solo.raft.epoch_before(Offset(end));
    solo.step(Event::SnapshotTaken(OffsetAndEpoch { epoch, offset: Offset(end) }));
    advanced(solo)
}

fn moved(solo: &mut Solo, to: i64) {
    let epoch = solo.raft.epoch_before(Offset(to));
    solo.step(Event::StartMoved(OffsetAndEpoch { epoch, offset: Offset(to) }));
}

/// A Fetch of this voter at our log's end, with what it says of its own start and clock.
fn fetch(solo: &mut Solo, from: i32, log_start: Option<i64>, wall_ms: Option<i64>) -> Option<FetchVerdict> {
    let end = solo.raft.log_end().0;
    fetch_at(solo, from, end, log_start, wall_ms)
}

fn fetch_at(
    solo: &mut Solo,
    from: i32,
    fetch_offset: Offset,
    log_start: Option<i64>,
    wall_ms: Option<i64>,
) -> Option<FetchVerdict> {
    let request = FetchRequest {
        replica: key(from),
        epoch: solo.raft.epoch(),
        fetch_offset,
        last_fetched_epoch: solo.raft.epochs.epoch_before(fetch_offset),
        max_wait_ms: 500,
        high_watermark: None,
        unfit: None,
        one_batch: false,
        log_start: log_start.map(Offset),
        wall_ms,
    };
    solo.request(Request::Fetch(request));
    solo.effects.iter().find_map(|effect| match effect {
        Effect::Fetched { verdict, .. } => Some(*verdict),
        _ => None,
    })
}

/// Leads a log of three voters, 0..10 and its own first record at 10, all of it committed.
fn leader() -> Solo {
    let mut solo = Solo::leader(3, &[(1, 10)]);
    fetch(&mut solo, 2, Some(0), None);
    fetch(&mut solo, 3, Some(0), None);
    assert_eq!(solo.raft.high_watermark(), Some(HighWatermark(Offset(11))));
    solo
}

fn told(solo: &Solo) -> Option<i64> {
    solo.raft.told_start().map(|start| start.0)
}

#[test]
fn a_lone_voter_moves_its_start_behind_a_snapshot_and_tells_it() {
    let mut solo = Solo::leader(1, &[(1, 10)]);
    assert_eq!(told(&solo), Some(0));
    assert_eq!(want(&mut solo, 12), [], "above what is committed");
    assert_eq!(solo.raft.uncovered_start(), None);
    assert_eq!(want(&mut solo, 6), [], "no snapshot covers it");
    assert_eq!(solo.raft.uncovered_start(), Some(Offset(6)));
    assert_eq!(taken(&mut solo, 5), []);
    assert_eq!(taken(&mut solo, 6), [at(1, 6)]);
    assert_eq!(taken(&mut solo, 8), [], "once");
    assert_eq!(told(&solo), Some(0), "it is not durable");
    assert_eq!(want(&mut solo, 4), [], "back");
    moved(&mut solo, 6);
    assert_eq!((told(&solo), solo.raft.uncovered_start()), (Some(6), None));
    assert_eq!(taken(&mut solo, 7), [], "an older snapshot than the newest takes nothing back");
    assert_eq!(want(&mut solo, 8), [at(1, 8)]);
}

#[test]
fn a_leader_moves_when_enough_others_hold_the_start_and_waits_for_those_in_sync() {
    for (says, waits) in [(Some(6), false), (Some(0), true)] {
        let mut solo = leader();
        taken(&mut solo, 11);
        assert_eq!(want(&mut solo, 6), []);
        assert!(solo.effects.contains(&Effect::StartNamed), "who waits is told");
        assert_eq!(solo.raft.named_start(), Some(Offset(6)));
        fetch(&mut solo, 2, Some(6), None);
        assert_eq!(advanced(&solo), [], "3 is in sync");
        solo.after_ms(IN_SYNC_PATIENCE_MS - 1);
        fetch(&mut solo, 3, says, None);
        assert_eq!(advanced(&solo).is_empty(), waits);
        solo.after_ms(1);
        if waits {
            assert!(solo.raft.deadline().is_some_and(|at| at <= solo.now.monotonic_ns));
            solo.step(Event::Tick);
            assert_eq!(advanced(&solo), [at(1, 6)], "it has waited long enough");
        }
        assert_eq!(told(&solo), if waits { Some(0) } else { Some(6) }, "what a majority holds");
        moved(&mut solo, 6);
        assert_eq!(told(&solo), Some(6));
    }
}

#[test]
fn a_voter_that_is_not_in_sync_is_not_waited_for() {
    let mut solo = leader();
    taken(&mut solo, 11);
    for _ in 0..20 {
        solo.after_ms(500);
        fetch(&mut solo, 2, Some(0), None);
    }
    want(&mut solo, 6);
    fetch(&mut solo, 2, Some(6), None);
    assert_eq!(advanced(&solo), [at(1, 6)]);
}

#[test]
fn what_a_fetch_says_is_bounded() {
    let mut solo = Solo::leader(3, &[(1, 10)]);
    let refused = Some(FetchVerdict::Refused(ErrorCode::INVALID_REQUEST));
    // Before the first commit of this epoch nothing of it is committed.
    assert_eq!(fetch(&mut solo, 2, Some(11), None), refused);
    assert_eq!(solo.raft.high_watermark(), None, "nothing is kept of it");
    assert_ne!(fetch(&mut solo, 2, Some(10), None), refused);
    assert_eq!(solo.raft.named_start(), Some(Offset(0)), "it raises nothing");
    assert_eq!(fetch_at(&mut solo, 3, Offset(8), Some(9), None), refused, "above its own log's end");
    solo.raft.on_append(5);
    assert_eq!(fetch(&mut solo, 3, Some(12), None), refused, "above what is committed");
    assert_eq!(fetch(&mut solo, 3, Some(-2), None), refused);
    assert_eq!(told(&solo), Some(0));
}

/// A leader of three whom 2 has elected, whose log starts there.
fn elected_by_one_that_starts_at(start: Option<i64>) -> Solo {
    let mut solo = Solo::voter(1, 3, &[(1, 10)]);
    solo.tick_until(RoleName::Prospective);
    solo.vote_response(2, 1, true);
    solo.tick_until(RoleName::Candidate);
    let response = VoteResponse {
        error: ErrorCode::NONE,
        leader: None,
        epoch: solo.raft.epoch(),
        granted: true,
        memory: VoterMemory::Whole,
        start: start.map(Offset),
    };
    solo.step(Event::Response { from: NodeId(2), response: Response::Vote(response) });
    assert!(solo.raft.is_leader());
    solo.flush();
    solo
}

#[test]
fn a_new_leader_wants_the_highest_of_those_who_elected_it_and_tells_it_when_a_majority_holds_it() {
    let mut solo = elected_by_one_that_starts_at(Some(4));
    assert_eq!(solo.raft.named_start(), None, "nothing is committed in its epoch");
    fetch(&mut solo, 2, Some(4), None);
    assert!(solo.effects.contains(&Effect::StartNamed), "the first commit");
    assert_eq!(solo.raft.named_start(), Some(Offset(4)));
    assert_eq!((told(&solo), solo.raft.known_start()), (None, Offset(4)), "only 2 holds it");
    taken(&mut solo, 11);
    assert_eq!(advanced(&solo), [at(1, 4)], "3 was not heard");
    moved(&mut solo, 4);
    assert_eq!(told(&solo), Some(4));
    // All have the same: it is told with the first commit.
    for start in [Some(0), None] {
        let mut solo = elected_by_one_that_starts_at(start);
        assert_eq!(told(&solo), None);
        fetch(&mut solo, 2, start, None);
        assert_eq!(told(&solo), Some(0));
    }
    let mut solo = elected_by_one_that_starts_at(Some(12));
    fetch(&mut solo, 2, Some(4), None);
    assert_eq!(
        (solo.raft.named_start(), told(&solo)),
        (Some(Offset(0)), Some(0)),
        "it cannot be: passed over"
    );
}

#[test]
fn a_voter_says_where_its_log_starts_and_an_older_one_that_does_not_keeps_all_as_it_is() {
    let mut solo = Solo::voter(1, 3, &[(1, 10)]);
    assert_eq!(solo.vote_request(2, 2, at(1, 10), false).start, Some(Offset(0)));
    let mut solo = leader();
    taken(&mut solo, 11);
    fetch(&mut solo, 3, None, None);
    assert_eq!(solo.raft.too_old_for_starts(), Some(NodeId(3)));
    want(&mut solo, 6);
    assert_eq!(solo.raft.named_start(), Some(Offset(0)));
    fetch(&mut solo, 3, Some(0), None);
    assert_eq!(solo.raft.too_old_for_starts(), None);
    want(&mut solo, 6);
    fetch(&mut solo, 2, Some(6), None);
    fetch(&mut solo, 3, Some(6), None);
    moved(&mut solo, 6);
    let verdict = fetch(&mut solo, 3, None, None);
    assert_eq!(verdict, Some(FetchVerdict::Refused(ErrorCode::UNSUPPORTED_VERSION)), "it has what is gone");
}

#[test]
fn a_follower_goes_along_and_says_so_at_once() {
    let mut solo = Solo::follower(1, &[(1, 10)]);
    let named = |solo: &Solo, start: i64, committed: i64| FetchResponse {
        high_watermark: Some(HighWatermark(Offset(committed))),
        log_start: Some(Offset(start)),
        ..solo.fetch_response()
    };
    let answer = |solo: &mut Solo, response| {
        solo.step(Event::Response { from: NodeId(2), response: Response::Fetch(response) });
    };
    let response = named(&solo, 9, 8);
    answer(&mut solo, response);
    assert!(solo.has_dropped(2), "no leader names a start above what it knows to be committed");
    let mut solo = Solo::follower(1, &[(1, 10)]);
    taken(&mut solo, 5);
    let response = named(&solo, 6, 8);
    answer(&mut solo, response);
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.log_start), Some(Some(Offset(0))), "as ever");
    assert_eq!((advanced(&solo), solo.raft.uncovered_start()), (vec![], Some(Offset(6))));
    assert_eq!(taken(&mut solo, 7), [at(1, 6)]);
    moved(&mut solo, 6);
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.log_start), Some(Some(Offset(6))), "at once");
    assert_eq!(told(&solo), None, "it serves no clients");
    want(&mut solo, 8);
    assert_eq!(solo.raft.wanted_start(), Offset(6), "only a leader decides");
}

#[test]
fn beside_kafkas_voters_each_node_moves_its_own() {
    let mut solo = leader();
    solo.raft.config.keeps_own_start = true;
    taken(&mut solo, 11);
    fetch(&mut solo, 3, None, None);
    assert_eq!(want(&mut solo, 6), [at(1, 6)]);
    moved(&mut solo, 6);
    assert_eq!(told(&solo), Some(6));
    assert!(matches!(fetch(&mut solo, 3, None, None), Some(FetchVerdict::Read { .. })));
    let mut solo = Solo::follower(1, &[(1, 10)]);
    solo.raft.config.keeps_own_start = true;
    let response = FetchResponse {
        high_watermark: Some(HighWatermark(Offset(8))),
        log_start: Some(Offset(7)),
        ..solo.fetch_response()
    };
    solo.step(Event::Response { from: NodeId(2), response: Response::Fetch(response) });
    taken(&mut solo, 8);
    assert_eq!(advanced(&solo), [], "that is the leader's own");
    assert_eq!(want(&mut solo, 5), [at(1, 5)]);
    assert_eq!(solo.raft.held_start(), None, "-1, as Kafka's voters say");
}

#[test]
fn the_time_that_counts_is_what_a_majority_has_reached() {
    let mut solo = leader();
    let agreed = |solo: &Solo, own| solo.raft.agreed_wall_ms(own);
    assert_eq!(agreed(&solo, Some(9_000)), None, "no other has said one");
    fetch(&mut solo, 2, Some(0), Some(1_000));
    assert_eq!(agreed(&solo, Some(9_000)), Some(1_000));
    fetch(&mut solo, 3, Some(0), Some(5_000));
    assert_eq!(agreed(&solo, Some(9_000)), Some(5_000));
    assert_eq!(agreed(&solo, None), Some(1_000), "its own was set");
    solo.after_ms(300);
    assert_eq!(agreed(&solo, Some(9_000)), Some(5_000), "a monotonic clock that leaps ages nothing");
    let alone = Solo::leader(1, &[(1, 10)]);
    assert_eq!((agreed(&alone, Some(7)), agreed(&alone, None)), (Some(7), None));
    assert_eq!(agreed(&Solo::follower(1, &[(1, 10)]), Some(7)), None);
}

#[test]
fn a_follower_says_its_time_once_in_a_second() {
    let mut solo = Solo::follower(1, &[(1, 10)]);
    let mut said = vec![solo.sent_fetch().and_then(|fetch| fetch.wall_ms)];
    for _ in 0..25 {
        solo.after_ms(100).now.wall_ms += 100;
        solo.fetched(Some(10), &[]);
        solo.after_ms(20).now.wall_ms += 20;
        solo.step(Event::Tick);
        said.extend(solo.sent_fetch().map(|fetch| fetch.wall_ms));
    }
    let times: Vec<i64> = said.iter().flatten().copied().collect();
    assert!(said.len() > 20 && times.len() >= 3, "{said:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "{times:?}");
}

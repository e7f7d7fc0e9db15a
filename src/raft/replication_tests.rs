use super::super::solo::{Solo, at, key, span};
use super::*;
use crate::raft::{RoleName, event::Event};

fn refused(error: ErrorCode) -> FetchVerdict {
    FetchVerdict::Refused(error)
}

fn read(from: i64) -> FetchVerdict {
    FetchVerdict::Read { from: Offset(from) }
}

fn high_watermark(solo: &Solo) -> Option<i64> {
    solo.raft.high_watermark().map(|known| known.0.0)
}

#[test]
fn a_fetch_is_judged_as_kafka_judges_it() {
    // Epoch 2: 0..10, epoch 4: 10..20, and a leader of epoch 5 from 20.
    let mut solo = Solo::leader(3, &[(2, 10), (4, 20)]);
    for (epoch, offset, last, verdict) in [
        (5, -1, 2, refused(ErrorCode::INVALID_REQUEST)),
        (5, 3, -1, refused(ErrorCode::INVALID_REQUEST)),
        (5, 3, 6, refused(ErrorCode::INVALID_REQUEST)),
        (-1, 3, 2, refused(ErrorCode::INVALID_REQUEST)),
        (4, 3, 2, refused(ErrorCode::FENCED_LEADER_EPOCH)),
        (6, 3, 2, refused(ErrorCode::UNKNOWN_LEADER_EPOCH)),
        (5, 0, 0, read(0)),
        (5, 10, 2, read(10)),
        (5, 15, 4, read(15)),
        (5, 21, 5, read(21)),
        (5, 22, 5, FetchVerdict::Diverging(at(5, 21))),
        (5, 25, 4, FetchVerdict::Diverging(at(4, 20))),
        (5, 15, 3, FetchVerdict::Diverging(at(2, 10))),
        (5, 15, 2, FetchVerdict::Diverging(at(2, 10))),
        (5, 5, 1, FetchVerdict::Diverging(at(1, 0))),
        (5, i64::MAX, 5, FetchVerdict::Diverging(at(5, 21))),
    ] {
        assert_eq!(solo.fetch(2, epoch, offset, last), verdict, "epoch {epoch}, {offset} after {last}");
    }
    assert_eq!(solo.fetch(1, 5, 0, 0), refused(ErrorCode::UNKNOWN_SERVER_ERROR), "our own id");
    let mut follower = Solo::follower(5, &[]);
    assert_eq!(follower.fetch(3, 5, 0, 0), refused(ErrorCode::NOT_LEADER_OR_FOLLOWER));
}

#[test]
fn batches_are_appended_at_the_log_end_and_skipped_below_it() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.fetched(None, &[span(8, 9, 3), span(10, 12, 5), span(13, 13, 5)]);
    assert!(solo.effects.contains(&Effect::AppendFetched { first: 1, count: 2 }));
    assert_eq!(
        (solo.raft.log_end(), solo.raft.epoch_at(Offset(10))),
        (LogEndOffset(Offset(14)), Some(Epoch(5)))
    );
}

#[test]
fn a_tail_of_a_deposed_leader_is_cut_although_it_was_never_asked_for() {
    // 10..15 of epoch 3 are not flushed when the leader of epoch 5 is found: the Fetch goes out at 10.
    let mut solo = Solo::follower(3, &[(3, 10)]);
    solo.fetched(Some(10), &[span(10, 14, 3)]);
    solo.told_epoch(2, 5, 2);
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.fetch_offset), Some(Offset(10)));
    solo.fetched(Some(11), &[span(10, 10, 5), span(11, 16, 5)]);
    assert!(solo.effects.contains(&Effect::Truncate { to: LogEndOffset(Offset(10)) }), "{:?}", solo.effects);
    assert!(solo.sent().is_empty(), "not before the truncation is durable");
    solo.step(Event::Flushed(FlushedOffset(Offset(15))));
    assert_eq!(solo.raft.flushed(), FlushedOffset(Offset(10)), "a write that the truncation overtook");
    solo.step(Event::Truncated(LogEndOffset(Offset(15))));
    assert!(solo.sent().is_empty(), "some other truncation");
    solo.step(Event::Truncated(LogEndOffset(Offset(10))));
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.fetch_offset), Some(Offset(10)));
}

#[test]
fn impossible_batches_drop_the_leader_and_append_nothing() {
    for batches in [
        &[span(11, 12, 5)][..],
        &[span(10, 9, 5)],
        &[span(10, 12, 6)],
        &[span(10, 12, 2)],
        &[span(8, 12, 3)],
        &[span(1, 3, 2)],
        &[span(-3, 12, 3)],
        &[span(10, i64::MAX, 5)],
        &[span(10, 12, 5), span(14, 15, 5)],
        &[span(10, 12, 5), span(13, 15, 4)],
    ] {
        let mut solo = Solo::follower(5, &[(2, 2), (3, 10)]);
        solo.fetched(Some(10), batches);
        assert!(solo.has_dropped(2), "{batches:?}: {:?}", solo.effects);
        assert_eq!(solo.raft.log_end(), LogEndOffset(Offset(10)));
    }
}

#[test]
fn a_late_answer_with_what_went_since_is_passed_over() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.fetched(Some(10), &[span(10, 12, 5)]);
    solo.step(Event::Flushed(FlushedOffset(Offset(13))));
    solo.fetched(Some(13), &[]);
    assert_eq!(high_watermark(&solo), Some(13));
    solo.step(Event::StartMoved(at(5, 12)));
    assert_eq!(solo.raft.log_start(), Offset(12));
    solo.fetched(Some(13), &[span(8, 9, 3), span(10, 12, 5), span(13, 13, 5)]);
    assert!(!solo.has_dropped(2), "{:?}", solo.effects);
    assert!(solo.effects.contains(&Effect::AppendFetched { first: 2, count: 1 }), "{:?}", solo.effects);
}

#[test]
fn nothing_is_read_from_before_the_start() {
    let mut solo = Solo::leader(3, &[(2, 10), (4, 20)]);
    assert_eq!(solo.fetch(2, 5, 21, 5), read(21));
    solo.step(Event::StartMoved(at(4, 15)));
    for (offset, last, verdict) in [
        (14, 4, refused(ErrorCode::OFFSET_OUT_OF_RANGE)),
        (15, 4, read(15)),
        (15, 2, FetchVerdict::Diverging(at(2, 15))),
        (20, 4, read(20)),
    ] {
        assert_eq!(solo.fetch(2, 5, offset, last), verdict, "{offset} after {last}");
    }
}

#[test]
#[should_panic(expected = "the log starts at 16 and is committed up to 0")]
fn no_log_starts_above_what_is_committed() {
    Solo::follower(5, &[(3, 20)]).step(Event::StartMoved(at(3, 16)));
}

#[test]
fn several_diverging_epochs_are_cut_one_after_another() {
    let mut solo = Solo::follower(9, &[(1, 5), (3, 10), (4, 15), (7, 20)]);
    assert!(solo.diverging(at(4, 12)).contains(&Effect::Truncate { to: LogEndOffset(Offset(12)) }));
    solo.step(Event::Truncated(LogEndOffset(Offset(12))));
    let fetch = solo.sent_fetch().expect("a Fetch");
    assert_eq!((fetch.fetch_offset, fetch.last_fetched_epoch), (Offset(12), Epoch(4)));
    assert!(solo.diverging(at(2, 9)).contains(&Effect::Truncate { to: LogEndOffset(Offset(5)) }));
    solo.step(Event::Truncated(LogEndOffset(Offset(5))));
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.last_fetched_epoch), Some(Epoch(1)));
}

#[test]
fn a_late_order_to_cut_is_ignored() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.diverging(at(3, 8));
    solo.step(Event::Truncated(LogEndOffset(Offset(8))));
    solo.fetched(None, &[span(8, 20, 5)]);
    solo.diverging(at(3, 8));
    assert_eq!(solo.raft.log_end(), LogEndOffset(Offset(21)), "that was acknowledged to the leader");
    assert!(!solo.has_dropped(2));
}

#[test]
fn what_is_committed_is_never_cut() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.fetched(Some(11), &[span(10, 12, 5)]);
    assert_eq!(high_watermark(&solo), Some(11));
    solo.told_epoch(2, 6, 2);
    solo.diverging(at(3, 9));
    let why = stop(&solo).expect("a cut to 9, 11 is committed");
    let says = "my log ends at 13 in epoch 5 and is committed up to 11, but node 2, which leads epoch 6, has only what lies \
                before 9 of it (its epoch 3 ends at 9)";
    assert!(why.contains(says), "{why}");
    assert_eq!(solo.raft.log_end(), LogEndOffset(Offset(13)));
    solo.fetched(None, &[span(10, 10, 6)]);
    assert!(
        stop(&solo).is_some_and(|why| why.contains("before 10 of it (there it has a record of epoch 6)"))
    );
    solo.diverging(at(5, 12));
    assert!(solo.effects.contains(&Effect::Truncate { to: LogEndOffset(Offset(12)) }));
}

fn stop(solo: &Solo) -> Option<&str> {
    solo.effects.iter().find_map(|effect| match effect {
        Effect::Stop { why } => Some(why.as_str()),
        _ => None,
    })
}

#[test]
fn what_was_committed_before_the_start_is_never_cut() {
    let mut solo = Solo::follower(5, &[(3, 10), (4, 20)]);
    solo.raft.committed_before = Offset(15);
    assert_eq!(high_watermark(&solo), None, "nobody is shown what a leader has not confirmed");
    for (end, stops) in [(at(3, 10), true), (at(4, 14), true), (at(4, 15), false)] {
        solo.diverging(end);
        assert_eq!(stop(&solo).is_some(), stops, "{end:?}");
        let cuts = solo.effects.iter().any(|effect| matches!(effect, Effect::Truncate { .. }));
        assert_eq!(cuts, !stops, "{end:?}");
    }
}

#[test]
fn nonsense_of_a_diverging_answer_is_refused() {
    for end in [at(-1, 5), at(3, -1)] {
        let mut solo = Solo::follower(5, &[(3, 10)]);
        solo.diverging(end);
        assert!(solo.has_dropped(2));
    }
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.diverging(at(3, i64::MAX));
    assert_eq!(solo.raft.log_end(), LogEndOffset(Offset(10)));
}

#[test]
fn a_follower_knows_no_more_committed_than_it_shares_with_its_leader() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.fetched(Some(50), &[]);
    assert_eq!(high_watermark(&solo), None, "its tail may yet be cut (KAFKA-14704)");
    solo.fetched(Some(50), &[span(10, 12, 5)]);
    assert_eq!(high_watermark(&solo), Some(13));
    solo.fetched(Some(12), &[]);
    assert_eq!(high_watermark(&solo), Some(13), "it never falls");
    solo.fetched(Some(-7), &[]);
    assert_eq!(high_watermark(&solo), Some(13));
}

#[test]
fn an_empty_voter_has_caught_up_when_the_committed_is_on_its_disk() {
    let state = QuorumState {
        epoch: Epoch(5),
        leader: Some(NodeId(2)),
        voted: None,
        caught_up: false,
        in_doubt: false,
    };
    let mut solo = Solo::new(1, 3, state, &[]);
    solo.step(Event::Tick);
    assert_eq!(solo.sent_fetch().and_then(|fetch| fetch.high_watermark), None, "it wants to hear of it");
    solo.fetched(None, &[span(0, 4, 3), span(5, 5, 5)]);
    assert_eq!(solo.persisted, None);
    solo.fetched(Some(6), &[]);
    assert_eq!(solo.persisted, None, "not on the disk yet");
    solo.flush();
    solo.fetched(Some(6), &[]);
    assert_eq!(solo.persisted.map(|state| state.caught_up), Some(true));
}

#[test]
fn answers_of_others_and_of_old_epochs_change_nothing() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    let response = FetchResponse { batches: vec![span(10, 12, 5)], ..solo.fetch_response() };
    let old = FetchResponse { epoch: Epoch(4), ..response.clone() };
    solo.step(Event::Response { from: NodeId(2), response: crate::raft::Response::Fetch(old) });
    solo.step(Event::Response { from: NodeId(3), response: crate::raft::Response::Fetch(response) });
    assert_eq!(solo.raft.log_end(), LogEndOffset(Offset(10)));
    let mut leader = Solo::leader(3, &[]);
    let response = FetchResponse { leader: None, batches: vec![span(1, 1, 1)], ..leader.fetch_response() };
    leader.step(Event::Response { from: NodeId(2), response: crate::raft::Response::Fetch(response) });
    assert!(leader.raft.is_leader() && leader.raft.log_end() == LogEndOffset(Offset(1)));
}

#[test]
fn no_leader_is_fetched_from_before_a_truncation_is_durable() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.diverging(at(3, 8));
    solo.told_epoch(3, 6, 3);
    assert_eq!(solo.sent(), []);
    solo.after_ms(100).step(Event::Tick);
    assert_eq!(solo.sent(), []);
    solo.step(Event::Truncated(LogEndOffset(Offset(8))));
    assert_eq!(solo.sent().iter().map(|(to, _)| *to).collect::<Vec<_>>(), [3]);
}

#[test]
fn a_truncation_forgets_the_fetches_that_waited_for_the_disk() {
    let mut solo = Solo::follower(3, &[(3, 10)]);
    solo.fetched(None, &[span(10, 11, 3), span(12, 14, 3)]);
    solo.told_epoch(2, 5, 2);
    solo.fetched(None, &[span(10, 11, 3)]);
    assert_eq!(solo.after_flush.len(), 1, "at 15, which nobody has confirmed");
    solo.tick_at_deadline();
    solo.fetched(None, &[span(10, 11, 3), span(12, 12, 5)]);
    solo.step(Event::Truncated(LogEndOffset(Offset(12))));
    solo.fetched(None, &[span(10, 11, 3), span(12, 16, 5)]);
    assert_eq!(solo.after_flush.iter().map(|(offset, _)| offset.0.0).collect::<Vec<_>>(), [17]);
    solo.flush();
    solo.after_ms(501).fetched(None, &[]);
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.fetch_offset), Some(Offset(17)), "one was under way");
}

#[test]
fn a_leader_that_sends_only_nonsense_is_given_up() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    while solo.raft.role() == crate::raft::RoleName::Follower {
        solo.fetched(Some(10), &[span(30, 31, 5)]);
        solo.tick_at_deadline();
    }
    assert!((2000..2200).contains(&(solo.now.monotonic_ns / NS_PER_MS)), "{}", solo.now.monotonic_ns);
}

#[test]
fn an_answer_of_a_newer_epoch_is_for_another_fetch() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    let response = FetchResponse { epoch: Epoch(6), batches: vec![span(10, 12, 6)], ..solo.fetch_response() };
    solo.step(Event::Response { from: NodeId(2), response: crate::raft::Response::Fetch(response) });
    assert_eq!((solo.raft.epoch(), solo.raft.log_end()), (Epoch(6), LogEndOffset(Offset(10))));
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.epoch), Some(Epoch(6)), "asked again in its epoch");
}

#[test]
fn batches_that_we_hold_show_how_far_the_leaders_log_is_ours() {
    // 8 and 9 of the old epoch come again: up to 10 the logs agree, 10 and 11 may yet be cut.
    let mut solo = Solo::follower(5, &[(3, 12)]);
    solo.fetched(Some(30), &[span(8, 9, 3)]);
    assert_eq!(high_watermark(&solo), Some(10));
    solo.diverging(at(3, 10));
    assert!(solo.effects.contains(&Effect::Truncate { to: LogEndOffset(Offset(10)) }), "{:?}", solo.effects);
}

#[test]
fn a_log_that_starts_later_has_nothing_before() {
    let state = QuorumState { epoch: Epoch(4), leader: None, voted: None, caught_up: true, in_doubt: false };
    let mut solo = Solo::with(key(1), (1..=3).map(key).collect(), state, at(2, 100), &[(4, 120)]);
    solo.win();
    assert_eq!(solo.raft.log_start(), Offset(100));
    assert_eq!(solo.fetch(2, 5, 99, 4), refused(ErrorCode::OFFSET_OUT_OF_RANGE));
    assert_eq!(solo.fetch(2, 5, 100, 4), read(100));
    assert_eq!(solo.raft.epoch_at(Offset(99)), None);
    assert_eq!(solo.raft.end_of_epoch(Epoch(4)), Some(at(4, 120)));
    assert_eq!(solo.raft.end_of_epoch(Epoch(3)), Some(at(3, 100)), "where the first that is here begins");
}

fn answered(solo: &mut Solo, response: FetchResponse) {
    solo.step(Event::Response { from: NodeId(2), response: crate::raft::Response::Fetch(response) });
}

#[test]
fn a_snapshot_is_nothing_that_this_node_can_take() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    let response = FetchResponse { snapshot: Some(at(4, 90)), ..solo.fetch_response() };
    // It asks again and again, later each time, says so now and then, and calls for no election: the leader lives.
    let (mut asked_ms, mut told) = (Vec::new(), 0);
    let begin_ns = solo.now.monotonic_ns;
    while solo.now.monotonic_ns < begin_ns + 20_000 * NS_PER_MS {
        answered(&mut solo, response.clone());
        assert!(!solo.has_dropped(2));
        told += solo.notes.iter().filter(|note| note.contains("offers a snapshot at 90")).count();
        let waits_from_ns = solo.now.monotonic_ns;
        solo.tick_at_deadline();
        assert!(solo.sent_fetch().is_some() && solo.raft.role() == RoleName::Follower);
        asked_ms.push((solo.now.monotonic_ns - waits_from_ns) / NS_PER_MS);
    }
    assert_eq!(asked_ms[..7], [20, 40, 80, 160, 320, 640, 1000]);
    assert!(asked_ms[7..].iter().all(|ms| *ms == 1000), "{asked_ms:?}");
    assert_eq!(told, 5, "of {} answers", asked_ms.len());
    assert_eq!(solo.raft.log_end(), LogEndOffset(Offset(10)));
    // With records again it goes on at once.
    let span = crate::raft::solo::span(10, 10, 5);
    let response = FetchResponse { batches: vec![span], ..solo.fetch_response() };
    answered(&mut solo, response);
    solo.flush();
    assert_eq!(solo.raft.log_end(), LogEndOffset(Offset(11)));
}

#[test]
fn a_leader_that_cannot_read_is_waited_for_and_any_other_error_is_not() {
    for (error, is_waited_for) in [
        (ErrorCode::KAFKA_STORAGE_ERROR, true),
        (ErrorCode::OFFSET_OUT_OF_RANGE, true),
        (ErrorCode::UNKNOWN_SERVER_ERROR, false),
    ] {
        let mut solo = Solo::follower(5, &[(3, 10)]);
        let response = FetchResponse { error, ..solo.fetch_response() };
        let mut answers = 0;
        while solo.now.monotonic_ns < 30_000 * NS_PER_MS && solo.raft.role() == RoleName::Follower {
            answers += 1;
            answered(&mut solo, response.clone());
            solo.tick_at_deadline();
        }
        assert_eq!(solo.raft.role() == RoleName::Follower, is_waited_for, "{}", error.name());
        assert!(answers < 40, "{answers} questions in {} ms", solo.now.monotonic_ns / NS_PER_MS);
    }
}

#[test]
fn a_fetch_that_is_answered_with_an_error_is_tried_again() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    let response = FetchResponse { error: ErrorCode::OFFSET_OUT_OF_RANGE, ..solo.fetch_response() };
    answered(&mut solo, response);
    assert!(!solo.has_dropped(2) && solo.sent().is_empty());
    solo.after_ms(20).step(Event::Tick);
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.fetch_offset), Some(Offset(10)));
}

#[test]
fn a_fetch_without_an_id_counts_for_nothing() {
    let mut solo = Solo::leader(3, &[]);
    assert_eq!(solo.fetch(-1, 1, 1, 1), read(1));
    assert_eq!(solo.raft.observer_progress(solo.now), []);
    assert_eq!(high_watermark(&solo), None);
}

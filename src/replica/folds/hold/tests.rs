//! A copy that is made in steps is the state at the offset at which it was begun, whatever comes meanwhile.

use super::super::tests::{batch, config};
use super::*;
use crate::record::StampedBatch;
use proptest::prelude::*;

const ALL: i64 = i64::MAX;

fn folds(walk_entries: usize) -> Folds {
    let mut config = config();
    (config.limits.producer_ids_max, config.limits.fold_walk_entries) = (1_000, walk_entries);
    config.limits.fold_settled_batches = 2;
    Folds::new(&config)
}

/// Of so many producers, one batch each.
fn settled(walk_entries: usize, producers: i64) -> Folds {
    let mut folds = folds(walk_entries);
    (0..producers).for_each(|i| folds.fold(&batch(i, i, 0)));
    folds.settle(HighWatermark(Offset(producers)));
    folds
}

fn sections(folds: &Folds, end: Offset) -> Vec<Section> {
    folds.sections(&(Offset(0)..end)).expect("all of it is settled")
}

/// Turns in which nothing comes, until the copy is whole.
fn copied(folds: &mut Folds) -> (FoldsCopy, usize) {
    for turn in 1..10_000 {
        if let Some(copy) = folds.end_turn(0) {
            return (copy, turn);
        }
    }
    panic!("a copy has an end");
}

#[test]
fn a_turn_copies_so_many_entries_and_allocates_nothing_for_them() {
    for (entries, producers, turns) in [(1, 5, 7), (4, 12, 4), (4, 13, 4), (100, 5, 1), (7, 0, 1)] {
        let mut folds = settled(entries, producers);
        let expected = sections(&folds, Offset(producers));
        folds.hold(Offset(producers)).expect("all is committed");
        let place = |folds: &Folds| {
            let copied = &folds.copy.as_ref().expect("it is under way").producers;
            (copied.len(), copied.memory())
        };
        let (_, memory) = place(&folds);
        for turn in 1..turns {
            assert_eq!(folds.end_turn(0), None);
            let done = (turn * entries).min(producers as usize);
            assert_eq!(place(&folds), (done, memory), "{entries} of {producers}, turn {turn}");
        }
        let (copy, more) = copied(&mut folds);
        assert_eq!((more, copy.end()), (1, Offset(producers)));
        assert_eq!(copy.producers.memory(), memory);
        assert_eq!(copy.into_sections(), expected);
        assert!(!folds.is_behind(), "nothing came meanwhile");
    }
}

/// Under full turns too: more than came.
#[test]
fn what_has_waited_for_a_copy_is_settled_in_steps_and_faster_than_it_comes() {
    let mut folds = settled(2, 10);
    folds.hold(Offset(10)).expect("all is committed");
    let mut end = 10;
    let mut turn = |folds: &mut Folds, came: i64| {
        (end..end + came).for_each(|i| folds.fold(&batch(i, i % 10, i as i32)));
        end += came;
        folds.settle(HighWatermark(Offset(end)));
        let before = folds.unsettled();
        let copy = folds.end_turn(came as usize);
        (copy.is_some(), before - folds.unsettled())
    };
    for _ in 0..5 {
        assert_eq!(turn(&mut folds, 8), (false, 0), "what is copied stands still");
    }
    assert_eq!(turn(&mut folds, 8), (true, 18), "twice what came, and two");
    assert!(folds.waits_to_settle(Offset(29)) && !folds.waits_to_settle(Offset(28)));
    assert!(folds.hold(Offset(10)).is_err() && folds.hold(Offset(58)).is_err());
    assert_eq!(folds.sections(&(Offset(0)..Offset(58))), None);
    assert_eq!(turn(&mut folds, 8), (false, 18));
    assert_eq!(turn(&mut folds, 0), (false, 2));
    assert_eq!(turn(&mut folds, 40), (false, 58));
    assert!(!folds.is_behind());
    assert_eq!(folds, refolded(&folds, 106));
}

impl Folds {
    fn unsettled(&self) -> usize {
        self.producers.unsettled() + self.voters.unsettled()
    }
}

/// The log of `what_has_waited…`, without a copy.
fn refolded(like: &Folds, end: i64) -> Folds {
    let mut folds = folds(like.limits.walk_entries);
    (0..10).for_each(|i| folds.fold(&batch(i, i, 0)));
    (10..end).for_each(|i| folds.fold(&batch(i, i % 10, i as i32)));
    folds.settle(HighWatermark(Offset(end)));
    folds
}

#[test]
fn a_copy_for_which_too_much_waits_is_given_up() {
    let mut folds = settled(1, 10);
    folds.limits.held_batches_max = 5;
    folds.hold(Offset(10)).expect("all is committed");
    (10..15).for_each(|i| folds.fold(&batch(i, 1, i as i32)));
    folds.settle(HighWatermark(Offset(15)));
    assert_eq!((folds.end_turn(5), folds.is_held()), (None, true));
    folds.fold(&batch(15, 1, 15));
    assert_eq!((folds.end_turn(1), folds.is_held(), folds.is_behind()), (None, false, true));
    folds.end_turn(1);
    assert!(!folds.is_behind());
    assert_eq!(folds.settled, Offset(15));
}

#[test]
fn a_copy_is_not_begun_of_what_is_not_the_fold_of_the_log() {
    let mut folds = settled(1, 10);
    assert!(folds.hold(Offset(9)).is_err());
    folds.assume(Offset(10));
    folds.fold(&batch(10, 1, 1));
    folds.assume(Offset(11));
    assert!(folds.hold(Offset(10)).is_err_and(|why| why.contains("at the start")));
    folds.settle(HighWatermark(Offset(11)));
    assert_eq!(folds.hold(Offset(11)), Ok(()));
    assert!(folds.hold(Offset(11)).is_err_and(|why| why.contains("the last copy")));
    folds.let_go();
    folds.cut(Offset(8));
    assert!(folds.hold(Offset(8)).is_err_and(|why| why.contains("was cut")));
}

#[test]
fn a_cut_into_what_is_copied_ends_it_and_one_above_does_not() {
    let mut folds = settled(1, 10);
    let expected = sections(&folds, Offset(10));
    folds.hold(Offset(10)).expect("all is committed");
    folds.end_turn(0);
    folds.fold(&batch(10, 3, 1));
    folds.cut(Offset(10));
    assert!(folds.is_held());
    assert_eq!(copied(&mut folds).0.into_sections(), expected);
    folds.hold(Offset(10)).expect("all is committed");
    folds.cut(Offset(9));
    assert!(!folds.is_held());
}

#[test]
fn at_a_stop_nothing_waits() {
    let mut folds = settled(1, 10);
    folds.hold(Offset(10)).expect("all is committed");
    (10..15).for_each(|i| folds.fold(&batch(i, 1, i as i32)));
    folds.settle(HighWatermark(Offset(14)));
    folds.let_go();
    assert!(!folds.is_behind());
    assert!(folds.sections(&(Offset(0)..Offset(14))).is_some());
}

#[derive(Clone, Debug)]
enum Event {
    Append { producer_id: i64 },
    Cut { keep: f64 },
    Settle { upto: f64 },
    Hold,
    Turn,
    Stop,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        12 => (-1..9_i64).prop_map(|producer_id| Event::Append { producer_id }),
        2 => (0.0..1.0_f64).prop_map(|keep| Event::Cut { keep }),
        4 => (0.0..1.1_f64).prop_map(|upto| Event::Settle { upto: upto.min(1.0) }),
        3 => Just(Event::Hold),
        8 => Just(Event::Turn),
        1 => Just(Event::Stop),
    ];
    prop::collection::vec(event, 1..150)
}

/// One log, folded as ever and with copies.
struct Twins {
    plain: Folds,
    held: Folds,
    log: Vec<StampedBatch>,
    /// Batches.
    committed: usize,
    /// What the copy under way must give.
    expected: Option<Vec<Section>>,
    came: usize,
    copies: usize,
}

impl Twins {
    fn end(&self, batches: usize) -> Offset {
        self.log[..batches].last().map_or(Offset(0), StampedBatch::next_offset)
    }

    fn each(&mut self, change: impl Fn(&mut Folds)) {
        change(&mut self.plain);
        change(&mut self.held);
    }

    fn happen(&mut self, event: Event) {
        let above = |keep: f64, twins: &Twins| {
            twins.committed + ((twins.log.len() - twins.committed) as f64 * keep) as usize
        };
        match event {
            Event::Append { producer_id } => {
                let base = self.end(self.log.len());
                let batch = batch(base.0, producer_id, base.0 as i32);
                self.each(|folds| folds.fold(&batch));
                self.log.push(batch);
                self.came += 1;
            }
            Event::Cut { keep } => {
                let keep = above(keep, self);
                let to = self.end(keep);
                self.each(|folds| folds.cut(to));
                self.log.truncate(keep);
            }
            Event::Settle { upto } => {
                self.committed = above(upto, self);
                let to = self.end(self.committed);
                self.each(|folds| folds.settle(HighWatermark(to)));
            }
            Event::Hold => {
                let at = self.end(self.committed);
                if self.held.hold(at).is_ok() {
                    self.expected = Some(sections(&self.plain, at));
                }
            }
            Event::Turn => self.turn(),
            Event::Stop => {
                self.held.let_go();
                self.expected = None;
            }
        }
    }

    fn turn(&mut self) {
        if let Some(copy) = self.held.end_turn(std::mem::take(&mut self.came)) {
            assert_eq!(Some(copy.into_sections()), self.expected.take());
            self.copies += 1;
        }
    }
}

proptest! {
    /// And nothing is other afterwards than if there had been no copy.
    #[test]
    fn a_copy_made_at_any_time_is_what_encode_gives_there(
        events in events(),
        walk_entries in 1..6_usize,
        producer_ids_max in 1..9_usize,
    ) {
        let mut config = config();
        config.limits.producer_ids_max = producer_ids_max;
        config.limits.fold_walk_entries = walk_entries;
        config.limits.fold_settled_batches = 1;
        let plain = Folds::new(&config);
        let held = plain.clone();
        let mut twins =
            Twins { plain, held, log: Vec::new(), committed: 0, expected: None, came: 0, copies: 0 };
        for event in events {
            twins.happen(event);
            // What is asked of them is answered from the current state, copy or not.
            for id in 0..9 {
                prop_assert_eq!(twins.held.producers().contains(id), twins.plain.producers().contains(id));
            }
        }
        for _ in 0..500 {
            twins.turn();
        }
        prop_assert_eq!(twins.expected, None, "a copy has an end, and is given");
        prop_assert!(!twins.held.is_behind());
        let all = Offset(0)..Offset(ALL);
        prop_assert_eq!(twins.held.producers.encode(&all), twins.plain.producers.encode(&all));
        prop_assert_eq!(&twins.held, &twins.plain);
    }
}

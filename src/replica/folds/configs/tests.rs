use super::*;
use crate::raft::random::Random;
use crate::record::{check_fetched, configs_batch, data_batch, leader_change_batch};

fn said(base: i64, set: &[(&str, &str)]) -> StampedBatch {
    let mut batch = configs_batch(1_000 + base, set);
    batch.stamp(Offset(base), Epoch(1));
    batch
}

fn data(base: i64) -> StampedBatch {
    let mut bytes = data_batch(&[b"x"], 1, None).to_vec();
    bytes[12..16].copy_from_slice(&0i32.to_be_bytes());
    let mut batch = check_fetched(bytes.into()).0.remove(0);
    batch.stamp(Offset(base), Epoch(1));
    batch
}

fn set(pairs: &[(&str, &str)]) -> Set {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn told(configs: &Configs) -> (Set, Set) {
    (Set::clone(&configs.current()), Set::clone(&configs.committed(None)))
}

#[test]
fn the_last_word_counts_and_readers_hear_of_it_when_it_is_committed() {
    let mut configs = Configs::default();
    let (first, second) = ([("a", "1"), ("b", "2")], [("b", "3")]);
    configs.fold(&said(5, &first));
    configs.fold(&data(6));
    configs.fold(&said(7, &second));
    assert_eq!(told(&configs), (set(&second), Set::new()));
    let committed = |end: i64| Set::clone(&configs.committed(Some(HighWatermark(Offset(end)))));
    assert_eq!([committed(5), committed(7), committed(8)], [Set::new(), set(&first), set(&second)]);
    configs.settle(HighWatermark(Offset(5)));
    assert_eq!(told(&configs), (set(&second), Set::new()), "its offset is not below");
    configs.settle(HighWatermark(Offset(6)));
    assert_eq!(told(&configs), (set(&second), set(&first)));
    configs.cut(Offset(7));
    assert_eq!(told(&configs), (set(&first), set(&first)));
    configs.fold(&said(7, &[]));
    configs.settle(HighWatermark(Offset(8)));
    assert_eq!(told(&configs), (Set::new(), Set::new()), "all was taken back");
    configs.cut(Offset(7));
    assert_eq!(configs, Configs::default(), "below what was settled nothing is known any more");
}

/// Of a log of so many batches, in which somebody sets something now and then.
fn any_log(random: &mut Random, batches: i64) -> Vec<StampedBatch> {
    (0..batches)
        .map(|base| match random.below(3) {
            0 => said(base, &[("k", &base.to_string()[..]), ("l", "1")][..random.below(3) as usize]),
            1 => leader_change_batch(Offset(base), Epoch(1), 1, NodeId(1), &[NodeId(1)], &[NodeId(1)]),
            _ => data(base),
        })
        .collect()
}

fn settled(log: &[StampedBatch]) -> Configs {
    let mut configs = Configs::default();
    log.iter().for_each(|batch| configs.fold(batch));
    configs.settle(HighWatermark(log.last().map_or(Offset(0), StampedBatch::next_offset)));
    configs
}

fn decoded(configs: &Configs, offsets: &Range<Offset>) -> Option<Said> {
    let section = configs.encode(offsets);
    Configs::decode(section.as_deref(), offsets).expect("what was written can be read")
}

#[test]
fn the_fold_of_a_prefix_and_the_rest_are_the_fold_of_the_log_with_cuts_between() {
    let mut random = Random::new(17);
    for _ in 0..200 {
        let batches = 1 + random.below(12) as i64;
        let log = any_log(&mut random, batches);
        let whole = settled(&log);
        for cut in 0..=log.len() {
            let prefix = settled(&log[..cut]);
            let mut again = Configs::default();
            again.take(decoded(&prefix, &(Offset(0)..Offset(cut as i64))), Offset(0));
            assert_eq!(again, prefix);
            // Something else came behind it, and was cut off again.
            let others = any_log(&mut random, log.len() as i64);
            others[cut..].iter().for_each(|batch| again.fold(batch));
            let left = cut + random.below((log.len() - cut) as u64 + 1) as usize;
            again.cut(Offset(left as i64));
            let current = |log: &[StampedBatch]| settled(log).current();
            let kept = [&log[..cut], &others[cut..left]].concat();
            assert_eq!((again.current(), again.committed(None)), (current(&kept), prefix.committed(None)));
            again.cut(Offset(cut as i64));
            log[cut..].iter().for_each(|batch| again.fold(batch));
            assert_eq!(again.current(), whole.current());
            again.settle(HighWatermark(Offset(log.len() as i64)));
            assert_eq!(again, whole);
        }
    }
}

#[test]
fn sections_of_segments_give_the_fold_of_the_log_whenever_each_was_written() {
    let mut random = Random::new(18);
    for _ in 0..200 {
        let log = any_log(&mut random, 12);
        let mut again = Configs::default();
        for (from, to) in [(0, 4), (4, 5), (5, 12)] {
            let written_at = to + random.below(12 - to as u64 + 1) as usize;
            let offsets = Offset(from)..Offset(to as i64);
            again.take(decoded(&settled(&log[..written_at]), &offsets), Offset(0));
        }
        assert_eq!(again, settled(&log));
    }
}

#[test]
fn a_section_that_is_not_good_is_refused() {
    let offsets = Offset(5)..Offset(9);
    let good = settled(&[said(5, &[("a", "1")])]).encode(&offsets).expect("there is one");
    let decode = |section: &[u8]| Configs::decode(Some(section), &offsets).map(|said| said.is_some());
    assert_eq!((decode(&good), decode(&[])), (Ok(true), Ok(false)));
    assert_eq!(Configs::decode(None, &offsets), Err("there is none"));
    for length in 1..good.len() {
        assert_eq!(decode(&good[..length]), Err("it cannot be read"), "{length}");
    }
    assert_eq!(decode(&[&good[..], &[0]].concat()), Err("it cannot be read"));
    let elsewhere = [&9_i64.to_be_bytes()[..], &good[8..]].concat();
    assert_eq!(decode(&elsewhere), Err("it contradicts itself"));
    let newer = [&good[..8], &[0, 1], &good[10..]].concat();
    assert_eq!(decode(&newer), Err("it cannot be read"));
    let long = "x".repeat(CONFIG_BYTES_MAX);
    let too_long = settled(&[said(5, &[("a", &long)])]).encode(&offsets).expect("there is one");
    assert_eq!(decode(&too_long), Err("it contradicts itself"));
}

#[test]
fn what_a_newer_program_wrote_is_not_gone_by() {
    let configs = Configs::default();
    let key_of = |kind: i16, version: u8| {
        let mut batch = said(7, &[("a", "1")]).to_bytes().to_vec();
        let at = batch.windows(4).position(|four| four == [0, 0, 0x4b, 0x52]).expect("its key");
        batch[at + 2..at + 4].copy_from_slice(&kind.to_be_bytes());
        batch[at + 6] = version;
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        check_fetched(batch.into()).0.remove(0)
    };
    assert_eq!(configs.fits(&key_of(19_282, 0)), Ok(()));
    assert_eq!(configs.fits(&data(1)), Ok(()));
    let first = leader_change_batch(Offset(1), Epoch(1), 1, NodeId(1), &[NodeId(1)], &[NodeId(1)]);
    assert_eq!(configs.fits(&first), Ok(()));
    let why = |batch: &StampedBatch| configs.fits(batch).expect_err("it is not known");
    assert!(
        why(&key_of(19_283, 0))
            .contains("offset 7 holds what this version does not know (a control record of type 19283)")
    );
    assert!(why(&key_of(19_282, 1)).contains("configs of version 1"));
}

#[test]
fn more_than_the_bound_is_refused_and_never_stored() {
    let many: Vec<String> = (0..=CONFIG_KEYS_MAX).map(|i| format!("key{i}")).collect();
    let pairs: Vec<(&str, &str)> = many.iter().map(|name| (&name[..], "1")).collect();
    assert_eq!(check_room(&set(&pairs[1..])), Ok(()));
    assert_eq!(check_room(&set(&pairs)), Err("65 keys would be set; at most 64 can be".to_string()));
    let configs = Configs::default();
    assert!(configs.fits(&said(1, &pairs)).is_err() && configs.fits(&said(1, &pairs[1..])).is_ok());
    let value = "x".repeat(CONFIG_BYTES_MAX - 1);
    assert_eq!(check_room(&set(&[("a", &value)])), Ok(()));
    let why = check_room(&set(&[("ab", &value)])).expect_err("one byte more");
    assert!(why.contains("1025 bytes together"), "{why}");
}

//! The list of folds: what it gives and takes as one.

use super::*;
use crate::config::Voter;
use crate::log::{DiskError, LogSource, Recovered, SegmentId, SmallFile, recover};
use crate::record::{check_fetched, data_batch};
use crate::replica::log_config;
use bytes::Bytes;

pub(super) fn config() -> Config {
    let endpoint = Endpoint { host: "localhost".to_string(), port: 9091 };
    Config::for_tests(NodeId(1), vec![Voter { id: NodeId(1), endpoint }])
}

/// A batch of one record of this producer.
pub(super) fn batch(base: i64, producer_id: i64, sequence: i32) -> StampedBatch {
    batch_of(base, (producer_id, 0, sequence), 1)
}

/// Producer id, epoch and base sequence, and how many records.
pub(super) fn batch_of(base: i64, producer: (i64, i16, i32), records: usize) -> StampedBatch {
    let mut bytes = data_batch(&vec![&b"x"[..]; records], 1, Some(producer)).to_vec();
    bytes[12..16].copy_from_slice(&0i32.to_be_bytes());
    let mut batch = check_fetched(bytes.into()).0.remove(0);
    batch.stamp(Offset(base), Epoch(1));
    batch
}

/// Of so many batches of three producers in turn.
fn folded(batches: i64) -> Folds {
    let mut folds = Folds::new(&config());
    (0..batches).for_each(|i| folds.fold(&batch(i, i % 3, (i / 3) as i32)));
    folds
}

fn settled(batches: i64) -> Folds {
    let mut folds = folded(batches);
    folds.settle(HighWatermark(Offset(batches)));
    folds
}

fn offsets(from: i64, to: i64) -> Range<Offset> {
    Offset(from)..Offset(to)
}

#[test]
fn the_sections_of_a_log_give_its_folds() {
    let whole = settled(20);
    let mut again = Folds::new(&config());
    for (from, to) in [(0, 7), (7, 8), (8, 20)] {
        let sections = settled(to).sections(&offsets(from, to)).expect("it is settled");
        assert_eq!(again.take_sections(&sections, &offsets(from, to)), Ok(()));
    }
    assert_eq!(again, whole);
    // At once, as a snapshot would have it.
    let mut at_once = Folds::new(&config());
    let sections = whole.sections(&offsets(0, 20)).expect("it is settled");
    assert_eq!(at_once.take_sections(&sections, &offsets(0, 20)), Ok(()));
    assert_eq!(at_once, whole);
}

#[test]
fn what_is_not_settled_is_in_no_section() {
    let mut folds = folded(10);
    assert_eq!(folds.sections(&offsets(0, 1)), None);
    // More than there is: what comes later is not settled by it.
    folds.settle(HighWatermark(Offset(100)));
    folds.fold(&batch(10, 4, 0));
    assert!(folds.sections(&offsets(0, 10)).is_some());
    assert_eq!(folds.sections(&offsets(0, 11)), None);
    folds.settle(HighWatermark(Offset(11)));
    assert!(folds.sections(&offsets(0, 11)).is_some());
    // An earlier word of it takes nothing back.
    folds.settle(HighWatermark(Offset(3)));
    assert!(folds.sections(&offsets(0, 11)).is_some());
}

#[test]
fn a_cut_above_what_is_settled_leaves_the_folds_of_what_is_left() {
    let mut folds = settled(10);
    (10..15).for_each(|i| folds.fold(&batch(i, i % 3, (i / 3) as i32)));
    folds.cut(Offset(12));
    let mut expected = folded(12);
    expected.settle(HighWatermark(Offset(10)));
    assert_eq!(folds, expected);
    assert!(folds.sections(&offsets(0, 10)).is_some());
}

/// Lost with more disks than a quorum bears: the batches that it had displaced are not known, so a section would lack them.
#[test]
fn a_cut_below_what_was_settled_ends_all_sections() {
    let mut folds = settled(10);
    folds.cut(Offset(9));
    folds.fold(&batch(9, 1, 3));
    folds.settle(HighWatermark(Offset(10)));
    assert_eq!(folds.sections(&offsets(0, 5)), None);
}

#[test]
fn nothing_is_taken_of_sections_that_are_not_good() {
    let (before, span) = (settled(5), offsets(5, 9));
    let sections = settled(9).sections(&span).expect("it is settled");
    let [producers, configs] = &sections[..] else { panic!("constant voters need none: {sections:?}") };
    let told = |sections: &[Section]| {
        let mut folds = before.clone();
        let taken = folds.take_sections(sections, &span);
        assert_eq!(folds == before, taken.is_err());
        taken.err()
    };
    let unknown = Section { tag: 4711, version: 3, bytes: vec![1] };
    let both = |producers: Section| [producers, configs.clone()];
    let known = [producers.clone(), configs.clone(), unknown.clone()];
    assert_eq!(told(&known), None, "a newer program's is left alone");
    let why = "its section of configs: there is none".to_string();
    assert_eq!(told(std::slice::from_ref(producers)), Some(why), "an older program's may have hidden some");
    assert_eq!(told(&[unknown]), Some("its section of producers: there is none".to_string()));
    let newer = Section { version: 2, ..producers.clone() };
    assert_eq!(told(&both(newer)), Some("its section of producers is of version 2".to_string()));
    let voters = Section { tag: Voters::TAG, version: 1, bytes: Vec::new() };
    assert_eq!(
        told(&[producers.clone(), voters, configs.clone()]),
        Some("its section of voters: this program knows none".to_string())
    );
    let mut short = producers.clone();
    short.bytes.pop();
    assert_eq!(told(&both(short)), Some("its section of producers: it ends within a batch".to_string()));
}

#[test]
fn a_batch_that_holds_voters_does_not_fit() {
    let log = include_bytes!(
        "../../../tests/fixtures/golden/files/controller-kraft1-run/__cluster_metadata-0/00000000000000000000.log"
    );
    let (batches, _) = check_fetched(Bytes::from_static(log));
    let folds = Folds::new(&config());
    assert!(folds.fits(&batches[0]).is_err_and(|why| why.contains("kraft.version 1")));
    assert_eq!(folds.fits(&batches[1]), Ok(()));
}

/// A directory of one segment.
struct Files {
    log: &'static [u8],
    summary: Option<&'static [u8]>,
}

impl LogSource for Files {
    fn segments(&mut self) -> Result<Vec<(SegmentId, u64)>, DiskError> {
        Ok(vec![(SegmentId(Offset(0)), self.log.len() as u64)])
    }

    fn read(&mut self, _: SegmentId, position: u64, length: usize) -> Result<Bytes, DiskError> {
        let from = &self.log[position as usize..];
        Ok(Bytes::from_static(&from[..length.min(from.len())]))
    }

    fn small_file(&mut self, file: SmallFile) -> Result<Option<Vec<u8>>, DiskError> {
        let is_summary = matches!(file, SmallFile::Summary(_));
        Ok(self.summary.filter(|_| is_summary).map(<[u8]>::to_vec))
    }

    fn commit_mark(&mut self) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(None)
    }
}

/// Its program knew no configs, and may have stored some all the same.
#[test]
fn a_summary_that_was_written_long_ago_is_read_over_and_gives_the_folds_of_its_log() {
    let log = include_bytes!("../../../tests/fixtures/summaries/version-3.log");
    let summary = include_bytes!("../../../tests/fixtures/summaries/version-3.summary");
    let [by_summary, by_scan] = [Some(&summary[..]), None].map(|summary| {
        let (mut files, mut recovery) = (Files { log, summary }, Recovery::new(&config()));
        let log =
            recover(&mut files, &log_config(&config().limits), &mut |part| recovery.take(part)).unwrap();
        assert_eq!(log.effort.summaries, 0);
        let told = log.notes.iter().any(|note| note.contains("its section of configs: there is none"));
        assert_eq!(told, summary.is_some(), "{:?}", log.notes);
        let mut folds = recovery.into_folds();
        folds.settle(HighWatermark(log.log_end.0));
        folds
    });
    assert_eq!(by_summary, by_scan);
    assert_eq!((by_scan.producers().len(), by_scan.end), (2, Offset(7)));
}

#[test]
fn a_start_keeps_no_more_unsettled_than_may_be_uncommitted_twice() {
    let mut config = config();
    config.limits.uncommitted_bytes_max = 2 * batch(0, 0, 0).size_bytes() as u64;
    let mut recovery = Recovery::new(&config);
    (0..10).for_each(|i| assert_eq!(recovery.take(Recovered::Batch(&batch(i, 1, i as i32))), Ok(())));
    assert_eq!((recovery.folds().assumed, recovery.folds().settled), (Offset(6), Offset(0)));
}

/// Six batches of a producer behind one that is committed displace it; were they cut, a retry of it would be taken as new.
#[test]
fn what_is_only_assumed_to_be_committed_displaces_nothing_from_a_section() {
    let mut config = config();
    config.limits.uncommitted_bytes_max = 0;
    let start = || {
        let mut recovery = Recovery::new(&config);
        (0..7).for_each(|i| assert_eq!(recovery.take(Recovered::Batch(&batch(i, 1, i as i32))), Ok(())));
        let mut folds = recovery.into_folds();
        folds.settle(HighWatermark(Offset(1)));
        folds
    };
    let mut folds = start();
    assert_eq!(folds.sections(&offsets(0, 1)), None);
    folds.settle(HighWatermark(Offset(7)));
    assert!(folds.sections(&offsets(0, 1)).is_some(), "all of it is committed");
    let mut folds = start();
    folds.cut(Offset(1));
    (1..9).for_each(|i| folds.fold(&batch(i, 2, i as i32)));
    folds.settle(HighWatermark(Offset(9)));
    assert_eq!(folds.sections(&offsets(0, 1)), None, "what had been displaced is not known any more");
}

//! Starts with summaries: the same as a scan finds, with less read; and where one does not fit its segment, the scan.

use super::disk::SimDisk;
use super::harness::*;
use crate::log::*;
use crate::record::StampedBatch;
use crate::types::*;

/// Four segments of three epochs, all of it committed, stopped in good order: all four have summaries.
fn summarized_log() -> (SimDisk, Vec<StampedBatch>) {
    let mut node = Node::ready(SimDisk::new(1), config());
    let mut batches = Vec::new();
    for (epoch, value_bytes) in [(2, 100), (2, 300), (5, 50), (5, 60), (5, 150), (5, 400), (9, 30), (9, 90)] {
        node.epoch = epoch;
        batches.push(node.append(2, value_bytes));
        node.settle();
        node.log.on_committed(HighWatermark(node.log.log_end().0));
        node.settle();
    }
    (node.shut_down(), batches)
}

fn config() -> LogConfig {
    LogConfig { segment_bytes_max: 1000, tail_cache_bytes_max: 0, ..small_config() }
}

fn recovered(disk: &mut SimDisk, check: LogCheck) -> Result<RecoveredLog, RecoveryError> {
    recover(disk, &LogConfig { check, ..config() }, &mut |_| Ok(()))
}

/// The log as a start finds it, and how much of it was read.
fn started(disk: SimDisk, check: LogCheck) -> (Vec<Vec<u8>>, Effort, Vec<String>) {
    let mut node = Node::ready(disk, LogConfig { check, ..config() });
    let bytes = node.read_all().expect("the log can be read").iter().map(bytes_of).collect();
    (bytes, node.effort, node.notes)
}

fn summary_of(segment: SegmentId) -> SmallFile {
    SmallFile::Summary(segment)
}

#[test]
fn a_start_with_summaries_finds_what_a_scan_finds() {
    let (disk, batches) = summarized_log();
    let expected: Vec<_> = batches.iter().map(bytes_of).collect();
    let (by_summaries, effort, notes) = started(disk.image(), LogCheck::Tail);
    assert_eq!((effort.summaries, effort.segments), (4, 4), "{notes:?}");
    assert!(by_summaries == expected);
    let (by_scan, effort, _) = started(disk.image(), LogCheck::Whole);
    assert_eq!((effort.summaries, effort.bytes_read), (0, effort.log_bytes));
    assert!(by_scan == expected);
    let [tail, whole] = [LogCheck::Tail, LogCheck::Whole].map(|check| {
        let log = recovered(&mut disk.image(), check).unwrap();
        let node = Log::new(config(), log);
        let places: Vec<_> =
            (0..16).map(|at| node.segments.holding(Offset(at)).map(|s| s.run_of(Offset(at)))).collect();
        (
            node.epochs.clone(),
            node.log_end(),
            places,
            node.max_timestamp(),
            node.seek_timestamp(3, Offset(0), Offset(i64::MAX)),
        )
    });
    assert_eq!(tail, whole);
}

/// What the log's owner is given of a log, part by part; it refuses the summary of one segment.
#[derive(Default)]
struct Owner {
    refuses: Option<SegmentId>,
    sections: Vec<(SegmentId, Vec<Section>)>,
    batches: Vec<Offset>,
    next: Offset,
}

impl Owner {
    fn take(&mut self, part: Recovered) -> Result<(), String> {
        let offsets = match part {
            Recovered::Batch(batch) => {
                self.batches.push(batch.base_offset());
                batch.base_offset()..batch.next_offset()
            }
            Recovered::Segment(summary) => {
                let id = SegmentId(summary.offsets().start);
                if self.refuses == Some(id) {
                    return Err("its owner will not have it".to_string());
                }
                self.sections.push((id, summary.sections().to_vec()));
                summary.offsets()
            }
        };
        assert_eq!(offsets.start, self.next, "each part of the log is given once, in its order");
        self.next = offsets.end;
        Ok(())
    }
}

/// Bytes that mean nothing to the log, and of no program that is known.
fn opaque(of: u8) -> Vec<Section> {
    vec![
        Section { tag: 1, version: 77, bytes: vec![of; 5] },
        Section { tag: 60_000, version: 1, bytes: Vec::new() },
    ]
}

#[test]
fn what_its_owner_keeps_in_a_summary_is_given_back() {
    let mut node = Node::ready(SimDisk::new(6), config());
    for i in 0..6 {
        node.sections = Some(opaque(i));
        node.append(2, 300);
        node.settle();
        node.log.on_committed(HighWatermark(node.log.log_end().0));
        node.settle();
    }
    let closed = node.log.segments.0.len() - 1;
    assert!(closed > 1);
    node.sections = Some(opaque(99));
    let mut owner = Owner::default();
    let log = recover(&mut node.shut_down(), &config(), &mut |part| owner.take(part)).unwrap();
    assert_eq!((owner.batches.len(), owner.next), (0, log.log_end.0), "{:?}", log.notes);
    assert_eq!(owner.sections.len(), closed + 1);
    // Of a closed one as of when it was closed, of the last one as of the stop.
    for (at, (_, sections)) in owner.sections.iter().enumerate() {
        let of = if at == closed { 99 } else { sections[0].bytes[0] };
        assert_eq!(*sections, opaque(of));
    }
    assert!(owner.sections.is_sorted_by_key(|(_, sections)| sections[0].bytes[0]));
}

#[test]
fn a_segment_whose_summary_its_owner_refuses_is_scanned_and_gets_another_one() {
    let (disk, batches) = summarized_log();
    for (refused, _) in disk.sizes() {
        let mut owner = Owner { refuses: Some(refused), ..Owner::default() };
        let mut image = disk.image();
        let log = recover(&mut image, &config(), &mut |part| owner.take(part)).unwrap();
        assert_eq!((log.effort.summaries, owner.next), (3, log.log_end.0));
        let note = format!(
            "Scanning {}: its summary is not believed, its owner will not have it.",
            refused.file_name()
        );
        assert!(log.notes.contains(&note), "{:?}", log.notes);
        let sizes = disk.sizes();
        let holding = |at: Offset| sizes.iter().rev().find(|(id, _)| id.0 <= at).map(|(id, _)| *id);
        let inside = |b: &&StampedBatch| holding(b.base_offset()) == Some(refused);
        assert_eq!(owner.batches, batches.iter().filter(inside).map(|b| b.base_offset()).collect::<Vec<_>>());
        let node = Log::new(config(), log);
        let is_last = refused == node.segments.0[3].id;
        assert_eq!(node.summaries_due, if is_last { vec![] } else { vec![refused] });
    }
}

#[test]
fn who_can_give_nothing_of_a_segment_gets_no_summary_and_a_stop_all_the_same() {
    let mut node = Node::ready(SimDisk::new(7), config());
    for (i, gives) in [true, false, true, false].into_iter().enumerate() {
        node.sections = gives.then(Vec::new);
        // Each begins a segment, and so closes the one before.
        node.append(2, 400);
        node.settle();
        // The third one is due at the stop, which has nothing else to wait for.
        if i != 2 {
            node.log.on_committed(HighWatermark(node.log.log_end().0));
        }
    }
    let mut disk = node.shut_down();
    let has_summary = |(id, _): (SegmentId, usize)| disk.small(summary_of(id)).is_some();
    assert_eq!(disk.sizes().into_iter().map(has_summary).collect::<Vec<_>>(), [false, true, false, false]);
    let log = recovered(&mut disk, LogCheck::Tail).unwrap();
    assert_eq!(log.effort.summaries, 1);
    assert!(
        !log.notes.iter().any(|note| note.contains("summary")),
        "nothing is wrong with that: {:?}",
        log.notes
    );
}

#[test]
fn a_segment_that_was_cut_in_part_has_a_summary_of_what_is_left_and_what_followed() {
    let mut node = Node::ready(SimDisk::new(8), config());
    for _ in 0..3 {
        node.append(1, 200);
    }
    node.settle();
    node.log.truncate(Offset(2));
    node.settle();
    for _ in 0..6 {
        node.epoch = 2;
        node.append(1, 250);
        node.settle();
    }
    node.log.on_committed(HighWatermark(node.log.log_end().0));
    node.settle();
    let expected: Vec<_> = node.read_all().unwrap().iter().map(bytes_of).collect();
    let (read, effort, notes) = started(node.shut_down(), LogCheck::Tail);
    assert_eq!(effort.summaries, effort.segments, "{notes:?}");
    assert!(effort.segments > 1 && read == expected);
}

#[test]
fn a_damaged_or_missing_summary_costs_a_scan_of_its_segment_and_is_written_again() {
    let (disk, batches) = summarized_log();
    let expected: Vec<_> = batches.iter().map(bytes_of).collect();
    for (segment, _) in disk.sizes() {
        let summary = disk.small(summary_of(segment)).expect("each has one").to_vec();
        let mut rotten = summary.clone();
        rotten[summary.len() / 2] ^= 1;
        for contents in [None, Some(Vec::new()), Some(rotten), Some(summary[..summary.len() - 1].to_vec())] {
            let mut disk = disk.image();
            let is_missing = contents.is_none();
            disk.put_small(summary_of(segment), contents);
            let mut node = Node::ready(disk, config());
            assert_eq!(node.effort.summaries, 3, "{segment:?}");
            assert_eq!(node.notes.iter().any(|n| n.contains("summary")), !is_missing, "{:?}", node.notes);
            let read: Vec<_> = node.read_all().unwrap().iter().map(bytes_of).collect();
            assert!(read == expected);
            node.log.on_committed(HighWatermark(node.log.log_end().0));
            node.settle();
            assert_eq!(started(node.shut_down(), LogCheck::Tail).1.summaries, 4);
        }
    }
}

#[test]
fn a_summary_is_not_believed_of_another_segment() {
    let (disk, _) = summarized_log();
    let sizes = disk.sizes();
    let believed = |disk: &mut SimDisk| recovered(disk, LogCheck::Tail).map(|log| log.effort.summaries);
    // Another one of the same name: longer, shorter, with another first or last batch.
    for (segment, size) in sizes.iter().copied() {
        type Change = fn(&mut Vec<u8>, usize);
        let changes: [Change; 4] = [
            |bytes, _| bytes.push(0),
            |bytes, _| _ = bytes.pop(),
            |bytes, _| bytes[70] ^= 1,
            |bytes, size| bytes[size - 1] ^= 1,
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut other = disk.image();
            other.edit(segment, |bytes| change(bytes, size));
            // What the scan then says of it is not the summary's business.
            assert!(!matches!(believed(&mut other), Ok(4)), "change {i} of {}", segment.file_name());
        }
    }
    // The same bytes of another epoch, which lies outside of the CRC: the history after another election.
    let (segment, _) = sizes[3];
    let mut other = disk.image();
    other.mark_mut().fill(0);
    other.edit(segment, |bytes| bytes[15] += 1);
    assert_eq!(believed(&mut other).unwrap(), 3);
    // One that was copied from elsewhere.
    let mut other = disk.image();
    let copied = other.small(summary_of(sizes[1].0)).map(<[u8]>::to_vec);
    other.put_small(summary_of(sizes[0].0), copied);
    assert_eq!(believed(&mut other).unwrap(), 3);
}

/// The disk with this segment's summary changed, its checksum right again.
fn edited(disk: &SimDisk, segment: SegmentId, change: impl Fn(&mut Summary)) -> SimDisk {
    let mut summary = Summary::decode(disk.small(summary_of(segment)).expect("each has one")).unwrap();
    change(&mut summary);
    let mut other = disk.image();
    other.put_small(summary_of(segment), Some(summary.encode()));
    other
}

#[test]
fn a_summary_whose_epochs_do_not_follow_those_before_it_is_not_believed() {
    let mut node = Node::ready(SimDisk::new(3), config());
    for (epoch, value_bytes) in [(2, 50), (5, 50), (5, 250), (5, 50), (5, 50), (5, 250), (9, 50)] {
        node.epoch = epoch;
        node.append(2, value_bytes);
        node.settle();
        node.log.on_committed(HighWatermark(node.log.log_end().0));
        node.settle();
    }
    let disk = node.shut_down();
    let sizes = disk.sizes();
    let [first, second, _] = sizes[..] else { panic!("three segments are expected: {sizes:?}") };
    let wrong = [
        // The first batch is of epoch 2, the last one of epoch 5.
        edited(&disk, first.0, |s| s.epochs[0].epoch = Epoch(1)),
        edited(&disk, first.0, |s| s.epochs[1].epoch = Epoch(6)),
        // All of this segment is of epoch 5, so that 4 cannot begin in it.
        edited(&disk, second.0, |s| {
            s.epochs.insert(0, EpochStart { epoch: Epoch(4), start_offset: Offset(8) })
        }),
    ];
    for (i, mut wrong) in wrong.into_iter().enumerate() {
        let log = recovered(&mut wrong, LogCheck::Tail).unwrap();
        assert_eq!(log.effort.summaries, 2, "{i}: {:?}", log.notes);
        assert!(
            log.notes.iter().any(|note| note.contains("its epochs do not follow")),
            "{i}: {:?}",
            log.notes
        );
        let epochs: Vec<_> = log.epochs.iter().map(|e| (e.epoch.0, e.start_offset.0)).collect();
        assert_eq!(epochs, [(2, 0), (5, 2), (9, 12)], "{i}");
    }
}

#[test]
fn a_summary_that_ends_where_its_last_batch_does_not_is_not_believed() {
    let (mut disk, _) = summarized_log();
    // Without a commit mark: one within the segment would be reason enough.
    disk.mark_mut().fill(0);
    let last = disk.sizes()[3].0;
    let end = recovered(&mut disk.image(), LogCheck::Tail).unwrap().log_end;
    let log = recovered(&mut edited(&disk, last, |s| s.end.0 += 1), LogCheck::Tail).unwrap();
    assert_eq!((log.effort.summaries, log.log_end), (3, end), "{:?}", log.notes);
    assert!(log.notes.iter().any(|note| note.contains("is another one")), "{:?}", log.notes);
}

#[test]
fn the_last_segment_is_scanned_when_it_has_grown_since_its_summary() {
    let (disk, mut batches) = summarized_log();
    let mut node = Node::ready(disk, LogConfig { segment_bytes_max: 10_000, ..config() });
    node.epoch = 9;
    batches.push(node.append(1, 100));
    node.settle();
    let (read, effort, notes) = started(node.crash(), LogCheck::Tail);
    assert_eq!(effort.summaries, 3, "{notes:?}");
    assert!(!notes.iter().any(|note| note.contains("summary")), "nothing is wrong with that: {notes:?}");
    assert!(read == batches.iter().map(bytes_of).collect::<Vec<_>>());
}

#[test]
fn a_segment_in_which_the_commit_mark_ends_is_scanned() {
    let (disk, _) = summarized_log();
    let mut earlier = Node::ready(SimDisk::new(1), config());
    earlier.epoch = 2;
    earlier.append(2, 100);
    earlier.settle();
    earlier.pass_ms(1000);
    earlier.settle();
    let mut disk = disk;
    disk.mark_mut().clone_from(earlier.disk.mark_mut());
    let log = recovered(&mut disk, LogCheck::Tail).unwrap();
    assert_eq!(log.effort.summaries, 3);
    assert!(
        log.notes.iter().any(|note| note.contains("the commit mark lies within, at offset 2")),
        "{:?}",
        log.notes
    );
    // And a mark of another log is found out.
    disk.edit(SEGMENT_0, |bytes| bytes[15] = 1);
    assert!(matches!(recovered(&mut disk, LogCheck::Tail), Err(RecoveryError::Corrupt(_))));
}

#[test]
fn rot_behind_a_summary_is_found_by_whoever_reads_it_and_by_a_whole_check() {
    let (disk, batches) = summarized_log();
    // The second of three batches: neither the first nor the last of its segment.
    let segment = SegmentId(batches[2].base_offset());
    let position = batches[2].size_bytes() + 80;
    let mut rotten = disk.image();
    rotten.edit(segment, |bytes| bytes[position] ^= 1);
    let mut node = Node::ready(rotten.image(), config());
    assert_eq!(node.effort.summaries, 4, "{:?}", node.notes);
    let error = node.read_one(batches[3].base_offset()).unwrap_err();
    assert!(matches!(&error, ReadError::Corrupt(c) if c.segment == segment.file_name()), "{error}");
    // What lies before and behind is served.
    assert!(node.read_one(batches[2].base_offset()).unwrap().len() == 1);
    assert!(node.read_one(batches[6].base_offset()).is_ok());
    let refused = recovered(&mut rotten, LogCheck::Whole);
    assert!(matches!(refused, Err(RecoveryError::Corrupt(_))));
}

/// A log that began with sections behind it: four batches behind a leader's first one, and the summary that the program before
/// wrote of it, with the producers that version 2 ended with.
#[test]
fn a_summary_of_version_2_is_read_over_once() {
    let mut disk = Node::ready(SimDisk::new(9), config()).shut_down();
    let log = include_bytes!("../../../tests/fixtures/summaries/version-2.log");
    let summary = include_bytes!("../../../tests/fixtures/summaries/version-2.summary");
    disk.edit(SEGMENT_0, |bytes| *bytes = log.to_vec());
    disk.mark_mut().fill(0);
    disk.put_small(summary_of(SEGMENT_0), Some(summary.to_vec()));
    let mut node = Node::ready(disk, config());
    assert_eq!((node.effort.summaries, node.log.log_end().0), (0, Offset(6)));
    let line = "Scanning 00000000000000000000.log: its summary is not believed, another version wrote it.";
    assert!(node.notes.iter().any(|note| note == line), "{:?}", node.notes);
    node.log.on_committed(HighWatermark(Offset(6)));
    assert_eq!(started(node.shut_down(), LogCheck::Tail).1.summaries, 1);
}

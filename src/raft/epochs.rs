//! Where each epoch begins in the log, and with it where the log ends (Kafka: LeaderEpochFileCache, ReplicatedLog).
//!
//! The core keeps no record, only this list: enough to compare two logs and to find where they part. Called by every
//! role; never reads or writes the log itself.

use crate::types::*;

/// Offsets and epochs of a log that begins at `begin`, that is behind a record of this epoch: what is gone still counts when two logs
/// are compared. Consumers may find it to start further up.
#[derive(Clone, Debug)]
pub(super) struct Epochs {
    starts: Vec<EpochStart>,
    begin: OffsetAndEpoch,
    end: Offset,
}

impl Epochs {
    /// `starts`: first offset of each epoch, ascending in both.
    pub(super) fn new(begin: OffsetAndEpoch, end: LogEndOffset, starts: Vec<EpochStart>) -> Epochs {
        assert!(begin.offset <= end.0, "the log begins at {} behind its end {end}", begin.offset);
        assert!(
            starts.first().is_none_or(|first| first.epoch >= begin.epoch),
            "the log begins behind epoch {} with {starts:?}",
            begin.epoch
        );
        assert!(
            starts.windows(2).all(|w| w[0].epoch < w[1].epoch && w[0].start_offset < w[1].start_offset),
            "epoch starts must ascend: {starts:?}"
        );
        assert!(
            starts.last().is_none_or(|s| s.start_offset < end.0),
            "an epoch without a record: {starts:?}"
        );
        assert!(
            starts.is_empty() == (begin.offset == end.0),
            "a log of {}..{end} has the epochs {starts:?}",
            begin.offset
        );
        Epochs { starts, begin, end: end.0 }
    }

    pub(super) fn starts(&self) -> &[EpochStart] {
        &self.starts
    }

    pub(super) fn begin(&self) -> OffsetAndEpoch {
        self.begin
    }

    pub(super) fn log_end(&self) -> LogEndOffset {
        LogEndOffset(self.end)
    }

    /// Epoch of the last record, also of one that is gone; 0 for a log that never had any.
    pub(super) fn last_epoch(&self) -> Epoch {
        self.starts.last().map_or(self.begin.epoch, |s| s.epoch)
    }

    /// What a Vote says of a log, and what decides which of two logs is more up to date.
    pub(super) fn last(&self) -> OffsetAndEpoch {
        OffsetAndEpoch { epoch: self.last_epoch(), offset: self.end }
    }

    /// Records of `epoch` from the log end up to `new_end`.
    pub(super) fn append(&mut self, epoch: Epoch, new_end: Offset) {
        assert!(new_end > self.end, "append to {new_end}, the log ends at {}", self.end);
        assert!(epoch >= self.last_epoch(), "append in epoch {epoch} after {}", self.last_epoch());
        if self.starts.last().is_none_or(|s| s.epoch < epoch) {
            self.starts.push(EpochStart { epoch, start_offset: self.end });
        }
        self.end = new_end;
    }

    pub(super) fn truncate(&mut self, to: Offset) {
        let begin = self.begin.offset;
        assert!(begin <= to && to <= self.end, "cut to {to}, the log is {begin}..{}", self.end);
        self.starts.retain(|s| s.start_offset < to);
        self.end = to;
    }

    /// What lies before `at` is gone.
    pub(super) fn begin_at(&mut self, at: OffsetAndEpoch) {
        let (begin, end) = (self.begin.offset, self.end);
        assert!(
            begin <= at.offset && at.offset <= end,
            "to begin at {}, the log is {begin}..{end}",
            at.offset
        );
        assert_eq!(self.epoch_before(at.offset), at.epoch, "the epoch before {}", at.offset);
        self.starts = EpochStart::within(&self.starts, at.offset, end).collect();
        self.begin = at;
    }

    /// End of the largest epoch that is not above `epoch`, with that epoch. `None`: all that is known of this log is newer.
    pub(super) fn end_of_epoch(&self, epoch: Epoch) -> Option<OffsetAndEpoch> {
        let above = self.starts.partition_point(|s| s.epoch <= epoch);
        let found = match above.checked_sub(1) {
            Some(at) => self.starts[at].epoch,
            None => self.gone().filter(|gone| *gone <= epoch)?,
        };
        let end = self.starts.get(above).map_or(self.end, |s| s.start_offset);
        Some(OffsetAndEpoch { epoch: found, offset: end })
    }

    /// Epoch of the last record that is gone.
    fn gone(&self) -> Option<Epoch> {
        (self.begin.offset > Offset(0)).then_some(self.begin.epoch)
    }

    /// Where a consumer is told that an epoch ends (Kafka: LeaderEpochFileCache.endOffsetFor). `None`: it is newer than every
    /// epoch of this log, so a consumer that has read it stands in another one. One that is older than the first ends
    /// where that begins; of a log that is empty, and was not always, that is its begin.
    pub(super) fn told_end_of_epoch(&self, epoch: Epoch) -> Option<OffsetAndEpoch> {
        let gone = self.gone().map(|epoch| EpochStart { epoch, start_offset: self.begin.offset });
        let first = self.starts.first().copied().or(gone)?;
        if epoch < Epoch(0) || epoch > self.last_epoch() {
            return None;
        }
        match epoch < first.epoch {
            true => Some(OffsetAndEpoch { epoch, offset: first.start_offset }),
            false => self.end_of_epoch(epoch),
        }
    }

    /// Epoch of the record at this offset.
    pub(super) fn epoch_at(&self, offset: Offset) -> Option<Epoch> {
        if offset < self.begin.offset || offset >= self.end {
            return None;
        }
        let behind = self.starts.partition_point(|s| s.start_offset <= offset);
        self.starts.get(behind.checked_sub(1)?).map(|s| s.epoch)
    }

    /// Epoch of the record before this offset, 0 at the beginning of all logs: the `last fetched epoch` of a Fetch.
    pub(super) fn epoch_before(&self, offset: Offset) -> Epoch {
        match offset == self.begin.offset {
            true => self.begin.epoch,
            false => self.epoch_at(Offset(offset.0 - 1)).unwrap_or(Epoch(0)),
        }
    }

    /// Whether a log that holds a record of `epoch` before `offset` agrees with ours up to there; if not, where it
    /// must cut (Kafka: ReplicatedLog.validateOffsetAndEpoch).
    pub(super) fn check_position(&self, offset: Offset, epoch: Epoch) -> Result<(), OffsetAndEpoch> {
        if self.begin.offset == Offset(0) && offset == Offset(0) {
            return Ok(());
        }
        // An epoch older than all of ours: nothing of that log is ours. Kafka answers with the asked epoch.
        let Some(end) = self.end_of_epoch(epoch) else {
            return Err(OffsetAndEpoch { epoch, ..self.begin });
        };
        if end.epoch != epoch || end.offset < offset { Err(end) } else { Ok(()) }
    }

    /// Where to cut when the leader's log has `leader_end` as the end of its largest epoch that is not above ours
    /// (Kafka: ReplicatedLog.truncateToEndOffset). Never cuts what both logs share.
    pub(super) fn truncation_for(&self, leader_end: OffsetAndEpoch) -> Offset {
        match self.end_of_epoch(leader_end.epoch) {
            // The same leader wrote both, so its batches end at the same offsets in both.
            Some(own) if own.epoch == leader_end.epoch => {
                own.offset.min(leader_end.offset).max(self.begin.offset)
            }
            // Not `min` here: that could lie within one of our batches. The next answer cuts further.
            Some(own) => own.offset,
            None => self.begin.offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: i32, offset: i64) -> OffsetAndEpoch {
        OffsetAndEpoch { epoch: Epoch(epoch), offset: Offset(offset) }
    }

    #[test]
    fn a_consumer_is_told_no_end_of_an_epoch_that_is_not_of_this_log() {
        let log = log();
        assert_eq!(log.told_end_of_epoch(Epoch(4)), Some(at(4, 20)));
        assert_eq!(log.told_end_of_epoch(Epoch(2)), Some(at(1, 10)));
        for newer in [5, 6, 1000, i32::MAX] {
            assert_eq!(log.told_end_of_epoch(Epoch(newer)), None);
        }
        assert_eq!(log.told_end_of_epoch(Epoch(-1)), None, "Kafka's word for none");
        assert_eq!(
            log.told_end_of_epoch(Epoch(0)),
            Some(at(0, 0)),
            "older than the first: where that begins"
        );
        let empty = Epochs::new(at(3, 7), LogEndOffset(Offset(7)), Vec::new());
        assert_eq!(
            [0, 3, 4].map(|e| empty.told_end_of_epoch(Epoch(e))),
            [Some(at(0, 7)), Some(at(3, 7)), None]
        );
        let never = Epochs::new(at(0, 0), LogEndOffset(Offset(0)), Vec::new());
        assert_eq!(never.told_end_of_epoch(Epoch(0)), None);
    }

    /// Epoch 1: 0..10, epoch 3: 10..12, epoch 4: 12..20.
    fn log() -> Epochs {
        let mut epochs = Epochs::new(at(0, 0), LogEndOffset(Offset(0)), Vec::new());
        epochs.append(Epoch(1), Offset(4));
        epochs.append(Epoch(1), Offset(10));
        epochs.append(Epoch(3), Offset(12));
        epochs.append(Epoch(4), Offset(20));
        epochs
    }

    #[test]
    fn finds_the_end_of_an_epoch() {
        let log = log();
        assert_eq!(log.end_of_epoch(Epoch(0)), None);
        assert_eq!(log.end_of_epoch(Epoch(1)), Some(at(1, 10)));
        assert_eq!(log.end_of_epoch(Epoch(2)), Some(at(1, 10)));
        assert_eq!(log.end_of_epoch(Epoch(3)), Some(at(3, 12)));
        assert_eq!(log.end_of_epoch(Epoch(4)), Some(at(4, 20)));
        assert_eq!(log.end_of_epoch(Epoch(9)), Some(at(4, 20)));
    }

    #[test]
    fn finds_the_epoch_of_a_record() {
        let log = log();
        let epochs: Vec<Option<i32>> =
            [-1, 0, 9, 10, 11, 12, 19, 20].iter().map(|o| log.epoch_at(Offset(*o)).map(|e| e.0)).collect();
        assert_eq!(epochs, [None, Some(1), Some(1), Some(3), Some(3), Some(4), Some(4), None]);
        assert_eq!(log.epoch_before(Offset(0)), Epoch(0));
        assert_eq!(log.epoch_before(Offset(12)), Epoch(3));
    }

    /// All up to 10 is gone: the last of it was of epoch 4.
    #[test]
    fn what_is_gone_still_counts() {
        let mut log = Epochs::new(at(4, 10), LogEndOffset(Offset(10)), Vec::new());
        assert_eq!(log.last(), at(4, 10));
        assert!(log.last() > at(3, 900), "a log that ends in an older epoch has less");
        assert_eq!((log.epoch_before(Offset(10)), log.epoch_at(Offset(9))), (Epoch(4), None));
        assert_eq!(log.check_position(Offset(10), Epoch(4)), Ok(()));
        assert_eq!(log.check_position(Offset(10), Epoch(5)), Err(at(4, 10)));
        assert_eq!(log.check_position(Offset(10), Epoch(3)), Err(at(3, 10)), "nothing of that log is ours");
        log.append(Epoch(6), Offset(12));
        assert_eq!(log.end_of_epoch(Epoch(5)), Some(at(4, 10)));
        assert_eq!(log.end_of_epoch(Epoch(3)), None);
        assert_eq!([at(6, 30), at(5, 30), at(3, 9)].map(|end| log.truncation_for(end).0), [12, 10, 10]);
        log.truncate(Offset(10));
        assert_eq!(log.last(), at(4, 10));
        log.append(Epoch(4), Offset(11));
        assert_eq!(log.end_of_epoch(Epoch(4)), Some(at(4, 11)), "the same epoch goes on");
    }

    /// At each offset a log that was cut in front says of what is left what it said before, and no less of its end.
    #[test]
    fn what_is_left_of_a_log_that_starts_later_is_the_same() {
        for start in 0..=20 {
            let (whole, mut cut) = (log(), log());
            let at = OffsetAndEpoch { epoch: whole.epoch_before(Offset(start)), offset: Offset(start) };
            cut.begin_at(at);
            assert_eq!(
                (cut.begin().offset, cut.log_end(), cut.last()),
                (Offset(start), whole.log_end(), whole.last())
            );
            for offset in start..=20 {
                let offset = Offset(offset);
                assert_eq!(cut.epoch_at(offset), whole.epoch_at(offset), "{start}: at {offset}");
                assert_eq!(cut.epoch_before(offset), whole.epoch_before(offset), "{start}: before {offset}");
                for epoch in 0..=5 {
                    let [cut, whole] = [&cut, &whole].map(|log| log.check_position(offset, Epoch(epoch)));
                    assert_eq!(cut.is_ok(), whole.is_ok(), "{start}: {offset} in epoch {epoch}");
                }
            }
            let recovered = Epochs::new(at, whole.log_end(), cut.starts().to_vec());
            assert_eq!(recovered.last(), cut.last());
        }
    }

    #[test]
    #[should_panic(expected = "the epoch before 11")]
    fn a_log_does_not_start_behind_an_epoch_that_it_has_not() {
        log().begin_at(at(1, 11));
    }

    #[test]
    #[should_panic(expected = "the log begins behind epoch 4")]
    fn no_epoch_is_older_than_what_is_gone() {
        let starts = vec![EpochStart { epoch: Epoch(3), start_offset: Offset(10) }];
        Epochs::new(at(4, 10), LogEndOffset(Offset(12)), starts);
    }

    #[test]
    fn truncation_forgets_epochs_without_records() {
        let mut log = log();
        log.truncate(Offset(12));
        assert_eq!(log.last(), at(3, 12));
        log.truncate(Offset(5));
        assert_eq!(log.last(), at(1, 5));
        log.truncate(Offset(0));
        assert_eq!(log.last(), at(0, 0));
        log.append(Epoch(7), Offset(1));
        assert_eq!(log.starts(), [EpochStart { epoch: Epoch(7), start_offset: Offset(0) }]);
    }

    #[test]
    fn a_position_is_valid_or_names_the_end_to_cut_to() {
        let log = log();
        assert_eq!(log.check_position(Offset(0), Epoch(9)), Ok(()));
        assert_eq!(log.check_position(Offset(10), Epoch(1)), Ok(()));
        assert_eq!(log.check_position(Offset(5), Epoch(1)), Ok(()));
        assert_eq!(log.check_position(Offset(20), Epoch(4)), Ok(()));
        assert_eq!(log.check_position(Offset(21), Epoch(4)), Err(at(4, 20)));
        assert_eq!(log.check_position(Offset(11), Epoch(1)), Err(at(1, 10)));
        assert_eq!(log.check_position(Offset(14), Epoch(2)), Err(at(1, 10)));
        assert_eq!(log.check_position(Offset(5), Epoch(0)), Err(at(0, 0)));
        assert_eq!(log.check_position(Offset(30), Epoch(8)), Err(at(4, 20)));
    }

    #[test]
    fn truncation_keeps_what_both_logs_share() {
        let log = log();
        assert_eq!(log.truncation_for(at(4, 15)), Offset(15));
        assert_eq!(log.truncation_for(at(3, 50)), Offset(12));
        assert_eq!(log.truncation_for(at(2, 50)), Offset(10));
        assert_eq!(log.truncation_for(at(2, 7)), Offset(10), "7 may lie within a batch of ours");
        assert_eq!(log.truncation_for(at(0, 0)), Offset(0));
    }

    #[test]
    #[should_panic(expected = "append in epoch 3 after 4")]
    fn epochs_never_fall() {
        log().append(Epoch(3), Offset(21));
    }
}

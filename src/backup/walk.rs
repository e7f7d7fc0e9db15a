//! A walk along the batches of a log: each must be whole and valid, begin where the one before it ended, and be of no older epoch.

use bytes::Bytes;

use crate::record::{BATCH_HEADER_BYTES, BatchHeader, StampedBatch, check_fetched};
use crate::types::*;

/// What the head of some bytes of a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes of good batches.
    Taken(usize),
    /// The first batch is longer: so many bytes are needed to see it whole.
    Needs(usize),
}

/// Where a walk is, and which epochs have begun on its way.
#[derive(Clone, Debug)]
pub struct Walk {
    expected: Offset,
    epochs: Vec<EpochStart>,
}

impl Walk {
    /// From `from` on, behind batches of these epochs.
    pub fn new(from: Offset, epochs: &[EpochStart]) -> Walk {
        let before = epochs.iter().take_while(|start| Walk::is_before(start, from));
        Walk { expected: from, epochs: before.copied().collect() }
    }

    /// Has the epoch begun before `offset`?
    pub fn is_before(start: &EpochStart, offset: Offset) -> bool {
        start.start_offset < offset
    }

    /// Offset that the next batch must have.
    pub fn at(&self) -> Offset {
        self.expected
    }

    /// Of all that was walked, and of what was before it.
    pub fn epochs(&self) -> &[EpochStart] {
        &self.epochs
    }

    /// Epoch of the last batch; 0 where there was none.
    pub fn last_epoch(&self) -> Epoch {
        self.epochs.last().map_or(Epoch(0), |last| last.epoch)
    }

    /// Walk over the good batches at the head of `bytes`, none of which may go beyond `until`; what follows that is not looked at.
    /// `Err`: the first of them is not good, and why. Whether more follows than was given here, only the caller knows.
    pub fn take(&mut self, bytes: &Bytes, until: Offset) -> Result<Step, String> {
        if self.expected >= until {
            return Ok(Step::Taken(0));
        }
        let (batches, error) = check_fetched(bytes.clone());
        let mut taken = 0;
        for batch in batches {
            match self.check(&batch, until) {
                Ok(()) => taken += batch.size_bytes(),
                // The batches before it are good: the next call begins with this one.
                Err(_) if taken > 0 => return Ok(Step::Taken(taken)),
                Err(why) => return Err(why),
            }
            self.note(&batch);
            if self.expected == until {
                break;
            }
        }
        match (taken, error) {
            (1.., _) => Ok(Step::Taken(taken)),
            (_, Some(error)) => Err(error.to_string()),
            (_, None) => {
                let header = BatchHeader::decode(bytes);
                Ok(Step::Needs(header.map_or(BATCH_HEADER_BYTES, |header| header.size_bytes)))
            }
        }
    }

    fn check(&self, batch: &StampedBatch, until: Offset) -> Result<(), String> {
        let (base, next) = (batch.base_offset(), batch.next_offset());
        if base != self.expected {
            return Err(format!("a batch at offset {base} where {} is due", self.expected));
        }
        if batch.epoch() < self.last_epoch() {
            let (epoch, last) = (batch.epoch(), self.last_epoch());
            return Err(format!("the batch at {base} is of epoch {epoch}, the one before it of {last}"));
        }
        if next > until {
            return Err(format!("the batch at {base} ends at {next}, and one must end at {until}"));
        }
        Ok(())
    }

    fn note(&mut self, batch: &StampedBatch) {
        if self.epochs.last().is_none_or(|last| last.epoch < batch.epoch()) {
            self.epochs.push(EpochStart { epoch: batch.epoch(), start_offset: batch.base_offset() });
        }
        self.expected = batch.next_offset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::data_batch;

    /// Batches of so many records and this epoch each, from offset 0 on.
    fn log(batches: &[(i32, i32)]) -> Vec<Bytes> {
        let mut at = Offset(0);
        let mut stamped = |(records, epoch): &(i32, i32)| {
            let values: Vec<Vec<u8>> = (0..*records).map(|i| vec![i as u8; 20]).collect();
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let mut batch = data_batch(&values, 0, None).to_vec();
            batch[..8].copy_from_slice(&at.0.to_be_bytes());
            batch[12..16].copy_from_slice(&epoch.to_be_bytes());
            at = Offset(at.0 + i64::from(*records));
            Bytes::from(batch)
        };
        batches.iter().map(&mut stamped).collect()
    }

    fn all(batches: &[Bytes]) -> Bytes {
        Bytes::from(batches.concat())
    }

    #[test]
    fn a_walk_ends_where_it_must_and_looks_no_further() {
        let batches = log(&[(3, 1), (2, 1), (4, 5)]);
        let mut bytes = batches.concat();
        let committed = batches[0].len() + batches[1].len();
        bytes[committed + 30] ^= 1;
        let mut walk = Walk::new(Offset(0), &[]);
        assert_eq!(walk.take(&Bytes::from(bytes), Offset(5)), Ok(Step::Taken(committed)));
        assert_eq!((walk.at(), walk.last_epoch(), walk.epochs().len()), (Offset(5), Epoch(1), 1));
        assert_eq!(walk.take(&batches[2], Offset(5)), Ok(Step::Taken(0)));
        assert_eq!(walk.take(&batches[2], Offset(9)), Ok(Step::Taken(batches[2].len())));
        let starts: Vec<_> = walk.epochs().iter().map(|s| (s.epoch.0, s.start_offset.0)).collect();
        assert_eq!(starts, [(1, 0), (5, 5)]);
    }

    #[test]
    fn a_batch_that_is_cut_asks_for_the_rest() {
        let batches = log(&[(3, 1)]);
        let mut walk = Walk::new(Offset(0), &[]);
        for cut in 0..batches[0].len() {
            let needs = if cut < BATCH_HEADER_BYTES { BATCH_HEADER_BYTES } else { batches[0].len() };
            assert_eq!(walk.take(&batches[0].slice(..cut), Offset(3)), Ok(Step::Needs(needs)), "{cut}");
        }
        assert_eq!(walk.at(), Offset(0));
    }

    #[test]
    fn what_does_not_continue_is_refused_in_words() {
        let batches = log(&[(3, 2), (2, 2), (4, 5)]);
        let refused = |from: i64, before: &[EpochStart], bytes: &Bytes, until: i64| {
            Walk::new(Offset(from), before).take(bytes, Offset(until)).unwrap_err()
        };
        assert!(refused(0, &[], &batches[1], 9).contains("offset 3 where 0 is due"));
        let old = [EpochStart { epoch: Epoch(4), start_offset: Offset(0) }];
        assert!(refused(3, &old, &batches[1], 9).contains("is of epoch 2, the one before it of 4"));
        assert!(refused(0, &[], &all(&batches), 2).contains("ends at 3, and one must end at 2"));
        assert!(refused(0, &[], &Bytes::from(vec![0; 200]), 9).len() > 5);
        // Good ones before it are taken first.
        let gap = all(&[batches[0].clone(), batches[2].clone()]);
        let mut walk = Walk::new(Offset(0), &[]);
        assert_eq!(walk.take(&gap, Offset(9)), Ok(Step::Taken(batches[0].len())));
        assert!(walk.take(&batches[2], Offset(9)).unwrap_err().contains("offset 5 where 3 is due"));
    }

    #[test]
    fn every_flipped_bit_of_a_batch_is_noticed_but_those_of_its_epoch() {
        let batches = log(&[(3, 1)]);
        for bit in 0..batches[0].len() * 8 {
            let mut rotten = batches[0].to_vec();
            rotten[bit / 8] ^= 1 << (bit % 8);
            let step = Walk::new(Offset(0), &[]).take(&Bytes::from(rotten), Offset(3));
            // An epoch lies outside of the CRC; the file's checksum and the list of epochs see it. A flipped length may ask for more.
            let is_epoch = (12..16).contains(&(bit / 8));
            assert!(is_epoch || !matches!(step, Ok(Step::Taken(_))), "bit {bit}: {step:?}");
        }
    }
}

use super::super::{check_fetched, check_run, data_batch};
use super::*;

/// splitmix64, as `raft::random` has it.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Batches from offset 5 on, of one record to three each, of values up to so many bytes.
fn batches(random: &mut Random, count: usize, value_bytes_max: u64) -> Vec<StampedBatch> {
    let (mut next, mut epoch) = (Offset(5), Epoch(1));
    let mut make = || {
        let value = vec![random.below(251) as u8; 1 + random.below(value_bytes_max) as usize];
        let values = vec![&value[..]; 1 + random.below(3) as usize];
        let mut bytes = data_batch(&values, 1, None).to_vec();
        bytes[..8].copy_from_slice(&next.0.to_be_bytes());
        bytes[12..16].copy_from_slice(&epoch.0.to_be_bytes());
        let batch = check_fetched(bytes.into()).0.remove(0);
        (next, epoch) = (batch.next_offset(), Epoch(epoch.0 + random.below(2) as i32));
        batch
    };
    (0..count).map(|_| make()).collect()
}

fn bytes_of(batches: &[StampedBatch]) -> Bytes {
    batches.iter().flat_map(StampedBatch::to_bytes).collect()
}

fn run_of(batches: &[StampedBatch]) -> CheckedRun {
    let (run, error) = check_run(bytes_of(batches));
    assert_eq!(error, None);
    run.expect("there are batches")
}

/// What a reader is to get, found without a run.
fn expected(batches: &[StampedBatch], from: Offset, bound: Offset, max_bytes: usize) -> Vec<StampedBatch> {
    let mut bytes = 0;
    let wanted = batches.iter().skip_while(|batch| batch.next_offset() <= from).enumerate();
    let fits = wanted.take_while(|(index, batch)| {
        bytes += batch.size_bytes();
        batch.next_offset() <= bound && (bytes <= max_bytes || *index == 0)
    });
    fits.map(|(_, batch)| batch.clone()).collect()
}

fn check_slices(random: &mut Random, run: &CheckedRun, batches: &[StampedBatch], depth: usize) {
    let (base, end) = (batches[0].base_offset(), batches[batches.len() - 1].next_offset());
    assert_eq!((run.base_offset(), run.next_offset()), (base, end));
    assert_eq!(run.size_bytes(), batches.iter().map(StampedBatch::size_bytes).sum::<usize>());
    assert!(run.batches().eq(batches.iter().cloned()));
    for _ in 0..60 {
        let from = Offset(base.0 - 1 + random.below((end.0 - base.0 + 3) as u64) as i64);
        let bound = Offset(from.0 + random.below((end.0 - from.0 + 4).max(1) as u64) as i64);
        let max_bytes = random.below(2 * run.size_bytes() as u64) as usize / (1 + random.below(50) as usize);
        let slice = run.slice(from, bound, max_bytes);
        let wanted = if from < base { Vec::new() } else { expected(batches, from, bound, max_bytes) };
        let found: Vec<StampedBatch> = slice.iter().flat_map(CheckedRun::batches).collect();
        assert!(found == wanted, "{from} below {bound}, {max_bytes} bytes of {run:?}: {slice:?}");
        assert_eq!(slice.is_some(), !wanted.is_empty());
        let Some(slice) = slice else { continue };
        assert!(check_fetched(slice.bytes().clone()) == (wanted.clone(), None), "whole batches");
        if depth > 0 && random.below(10) == 0 {
            check_slices(random, &slice, &wanted, depth - 1);
        }
    }
}

#[test]
fn a_slice_is_what_a_list_of_its_batches_gives() {
    // The larger ones would take Miri a day.
    let seeds = if cfg!(miri) { 2 } else { 24 };
    for seed in 0..seeds {
        let mut random = Random(seed);
        let (count, value_bytes) = [(1, 100), (40, 300), (60, 20_000), (5, 90_000)][seed as usize % 4];
        let batches = batches(&mut random, count, value_bytes);
        let run = run_of(&batches);
        check_slices(&mut random, &run, &batches, 2);
        let mut copied = RunBuilder::new(vec![7; run.size_bytes() + 100]);
        assert!(batches.iter().all(|batch| copied.push(batch)));
        assert_eq!(copied.next_offset(), batches.last().map(StampedBatch::next_offset));
        check_slices(&mut random, &copied.finish().expect("a run"), &batches, 1);
    }
}

/// Places spare the walk: else whoever reads the end of a long run of small batches would look at each of them.
#[test]
fn places_are_noted_about_each_64_kib() {
    let mut random = Random(1);
    let batches = batches(&mut random, 3_000, 100);
    let run = run_of(&batches);
    let places = run.places.as_deref().expect("it is long");
    let steps: Vec<usize> = places.windows(2).map(|two| two[1].position - two[0].position).collect();
    assert!(steps.len() >= 3 && steps.iter().all(|step| (PLACE_BYTES..PLACE_BYTES + 500).contains(step)));
    for place in places {
        let at =
            batches.iter().position(|batch| batch.base_offset() == place.offset).expect("a batch begins");
        assert_eq!(place.position, batches[..at].iter().map(StampedBatch::size_bytes).sum::<usize>());
    }
}

#[test]
fn a_flipped_bit_ends_the_run_before_it() {
    let batches = batches(&mut Random(3), 3, 40);
    let whole = bytes_of(&batches);
    let mut ends = vec![0];
    batches.iter().for_each(|batch| ends.push(ends[ends.len() - 1] + batch.size_bytes()));
    let step = if cfg!(miri) { 41 } else { 1 };
    for bit in (0..whole.len() * 8).step_by(step) {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (run, error) = check_run(bytes.clone().into());
        let (listed, listed_error) = check_fetched(bytes.into());
        assert!(run.iter().flat_map(CheckedRun::batches).eq(listed), "bit {bit}");
        assert_eq!(error, listed_error);
        let hit = ends.partition_point(|end| *end <= bit / 8) - 1;
        // No CRC covers offset and epoch: they are compared with what is known of the log.
        if !matches!(bit / 8 - ends[hit], 0..8 | 12..16) {
            let left = run.as_ref().map_or(0, CheckedRun::size_bytes);
            assert_eq!(left, ends[hit], "bit {bit}: {error:?}");
            // A length that reaches over the end is a batch that is not there as a whole.
            assert!(error.is_some() || (8..12).contains(&(bit / 8 - ends[hit])), "bit {bit}");
        }
    }
}

#[test]
fn only_what_follows_and_fits_is_copied() {
    let batches = batches(&mut Random(5), 3, 40);
    let bytes: usize = batches[..2].iter().map(StampedBatch::size_bytes).sum();
    let mut run = RunBuilder::new(vec![0; bytes + batches[2].size_bytes() - 1]);
    assert!(run.push(&batches[0]) && !run.push(&batches[0]) && !run.push(&batches[2]));
    let mut older = batches[1].clone();
    older.stamp(older.base_offset(), Epoch(0));
    assert!(!run.push(&older), "epochs do not fall");
    assert!(run.push(&batches[1]) && !run.push(&batches[2]));
    assert_eq!((run.size_bytes(), run.next_offset()), (bytes, Some(batches[1].next_offset())));
    let run = run.finish().expect("two batches");
    assert_eq!(*run.bytes(), bytes_of(&batches[..2]), "nothing of the memory behind them");
    let memory = RunBuilder::new(vec![9; 10]).finish().expect_err("nothing was copied");
    assert_eq!(memory, [9; 10]);
}

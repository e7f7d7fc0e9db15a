//! Answers to Fetch whose records are runs, and batches beside them.

use super::super::fetch::shared_bytes;
use super::*;
use crate::record::{BatchLists, CheckedRun, check_run};
use proptest::collection::btree_set;

/// The batches up to each of these places behind each other in a run, those behind the last one by one.
fn in_runs(batches: &[StampedBatch], ends: &[usize]) -> BatchList {
    let mut from = 0;
    let runs = ends.iter().map(|end| {
        let batches = &batches[std::mem::replace(&mut from, *end)..*end];
        check_run(batches.iter().flat_map(StampedBatch::to_bytes).collect()).0.expect("a run")
    });
    let runs: Vec<_> = runs.collect();
    BatchLists::default().fill(runs.into_iter(), batches[from..].iter().cloned())
}

proptest! {
    #[test]
    fn an_answer_of_runs_is_that_of_their_batches(
        sizes in vec(prop_oneof![1_usize..300, 3_900_usize..4_200, 4_200_usize..40_000], 1..12),
        ends in btree_set(1_usize..12, 0..4),
        version in 4_i16..=18,
    ) {
        let batches: Vec<_> = (0..).zip(&sizes).map(|(offset, size)| batch(*size, offset)).collect();
        let ends: Vec<usize> = ends.into_iter().filter(|end| *end <= batches.len()).collect();
        let encode = |records: BatchList| {
            let answer = Response::Fetch(fetch_answer(records));
            encode_response(&header(key::FETCH, version), &answer).chunks
        };
        let runs = in_runs(&batches, &ends);
        let (in_runs, one_by_one) = (encode(runs.clone()), encode(batches.into()));
        prop_assert_eq!(in_runs.concat(), one_by_one.concat());
        let is_shared = |run: &&CheckedRun| run.size_bytes() >= COPY_BELOW_BYTES;
        for run in runs.runs().iter().filter(is_shared) {
            let at = in_runs.iter().filter(|chunk| chunk.as_ptr() == run.bytes().as_ptr());
            prop_assert!(at.map(|chunk| chunk.len()).eq([run.size_bytes()]), "one chunk for a run, and no copy");
        }
    }
}

#[test]
fn large_batches_stay_shared_and_small_ones_are_copied() {
    let (small, large) = (batch(10, 0), batch(100_000, 1));
    let records = BatchList::from(vec![small, large.clone(), batch(5, 2)]);
    let shared_bytes = shared_bytes(&records);
    let frame = encode_response(&header(key::FETCH, 18), &Response::Fetch(fetch_answer(records)));
    assert_eq!(frame.chunks.len(), 3, "head with the small batch and a stamp, the large one, tail");
    assert_eq!(frame.chunks[1].as_ptr(), large.rest().as_ptr());
    assert_eq!(frame.chunks[1].len(), shared_bytes);
    assert!(frame.chunks[0].ends_with(large.prefix()));
    let errors = FetchResponse { error: 104, ..FetchResponse::default() };
    assert_eq!(encode_response(&header(key::FETCH, 18), &Response::Fetch(errors)).chunks.len(), 1);
}

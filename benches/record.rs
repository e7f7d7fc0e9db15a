//! What checking a batch costs: the CRC, the walk over its records, and splitting a leader's answer.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kraft::log::{Section, Snapshot, SnapshotDecoder, SnapshotEncoder};
use kraft::record::{ProduceLimits, check_fetched, check_produced, data_batch};
use kraft::types::*;
use std::hint::black_box;

const LIMITS: ProduceLimits = ProduceLimits {
    message_bytes_max: 1 << 20,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: 3_600_000,
    now_wall_ms: 1_700_000_000_000,
};

/// A batch of about 16 KiB, as producers send it at their default batch size.
fn batch_of(record_bytes: usize) -> Bytes {
    let value = vec![b'x'; record_bytes];
    let values = vec![&value[..]; 16 * 1024 / (record_bytes + 7)];
    data_batch(&values, LIMITS.now_wall_ms, None)
}

fn check_batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("check_produced");
    for record_bytes in [10, 100, 1024, 15_000] {
        let batch = batch_of(record_bytes);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(format!("records of {record_bytes} B"), |bencher| {
            bencher.iter(|| check_produced(black_box(batch.clone()), &LIMITS).expect("valid"));
        });
    }
    group.finish();
}

fn split_fetched(criterion: &mut Criterion) {
    let mut log = Vec::new();
    for i in 0..64 {
        let mut batch = check_produced(batch_of(100), &LIMITS).expect("valid");
        let records = i64::from(batch.header().record_count);
        batch.stamp(Offset(i * records), Epoch(1));
        log.extend_from_slice(&batch.to_bytes());
    }
    let log = Bytes::from(log);
    let mut group = criterion.benchmark_group("check_fetched");
    group.throughput(Throughput::Bytes(log.len() as u64));
    group.bench_function("64 batches of 16 KiB", |bencher| {
        bencher.iter_batched(|| log.clone(), check_fetched, BatchSize::SmallInput);
    });
    group.finish();
}

/// The last five batches of each of 10,000 producers.
const SNAPSHOT_SECTION_BYTES: usize = 10_000 * 5 * 34;

fn snapshot_file(snapshot: &Snapshot) -> Vec<u8> {
    let (mut encoder, mut file) = (SnapshotEncoder::new(snapshot.clone()), Vec::new());
    while let Some(batch) = encoder.next_batch() {
        file.extend_from_slice(&batch.to_bytes());
    }
    file
}

fn snapshots(criterion: &mut Criterion) {
    let section =
        Section { tag: 1, version: 1, bytes: (0..SNAPSHOT_SECTION_BYTES).map(|n| n as u8).collect() };
    let snapshot = Snapshot { sections: vec![section], ..Snapshot::default() };
    let file = snapshot_file(&snapshot);
    let mut group = criterion.benchmark_group("snapshot of 10,000 producers");
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("written", |bencher| bencher.iter(|| snapshot_file(black_box(&snapshot))));
    group.bench_function("read in pieces of 64 KiB", |bencher| {
        bencher.iter(|| {
            let mut decoder = SnapshotDecoder::new(snapshot.id, u64::MAX);
            file.chunks(64 << 10).for_each(|piece| decoder.push(black_box(piece)).expect("good"));
            decoder.finish().expect("whole")
        });
    });
    group.finish();
}

criterion_group!(benches, check_batches, split_fetched, snapshots);
criterion_main!(benches);

//! What checking a batch costs: the CRC, the walk over its records, and splitting a leader's answer.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
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

criterion_group!(benches, check_batches, split_fetched);
criterion_main!(benches);

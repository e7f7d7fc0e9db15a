//! What a request and its answer cost on their way through the codec, without a network.

#[path = "../tests/fixtures/frames.rs"]
mod fixtures;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kraft::protocol::{
    FetchPartition, FetchResponse, FetchTopic, RequestHeader, Response, decode_request, encode_response,
};
use kraft::record::{StampedBatch, check_fetched, data_batch};
use kraft::types::*;
use std::hint::black_box;

fn decode_requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode_request");
    let frames = fixtures::frames();
    for name in [
        "producer-performance/produce-v13-request",
        "voters/fetch-v18-request-data",
        "voters/vote-v2-request-granted",
        "producer-performance/metadata-v13-request-named",
    ] {
        let file = format!("frames/{name}.bin");
        let frame = frames.iter().find(|frame| frame.name == file).expect("it is among the fixtures");
        group.throughput(Throughput::Bytes(frame.bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| decode_request(black_box(frame.bytes.clone())).expect("decodes"));
        });
    }
    group.finish();
}

fn encode_fetch(criterion: &mut Criterion) {
    let header = RequestHeader { api_key: 1, api_version: 18, correlation_id: 1, client_id: None };
    let mut group = criterion.benchmark_group("encode Fetch answer of 64 batches");
    for bytes in [100, 16 * 1024] {
        let (batches, _) = check_fetched(stamped(bytes));
        let records: Vec<StampedBatch> = vec![batches[0].clone(); 64];
        group.throughput(Throughput::Bytes(64 * records[0].size_bytes() as u64));
        let partition = FetchPartition {
            index: 0,
            error: ErrorCode::NONE,
            high_watermark: 1,
            last_stable_offset: 1,
            log_start_offset: 0,
            diverging: None,
            current_leader: Some((Some(NodeId(1)), Epoch(1))),
            snapshot: None,
            lagging: 0,
            records: records.into(),
        };
        let topic = FetchTopic { partitions: [partition].into_iter().collect(), ..FetchTopic::default() };
        let answer = Response::Fetch(FetchResponse {
            topics: [topic].into_iter().collect(),
            ..FetchResponse::default()
        });
        group.bench_function(format!("{bytes} B each"), |bencher| {
            bencher.iter(|| encode_response(black_box(&header), black_box(&answer)));
        });
    }
    group.finish();
}

/// A batch as a leader has it: of epoch 0, not -1.
fn stamped(value_bytes: usize) -> bytes::Bytes {
    let mut batch = data_batch(&[&vec![7; value_bytes]], 1, None).to_vec();
    batch[12..16].fill(0);
    batch.into()
}

criterion_group!(benches, decode_requests, encode_fetch);
criterion_main!(benches);

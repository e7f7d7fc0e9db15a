use super::super::session::tests::limits;
use super::*;
use crate::protocol::produce::{ProducePartition, ProduceTopic};
use crate::record::data_batch;

const NOW: Now = Now { monotonic_ns: 0, wall_ms: 1_700_000_000_000 };

fn produce(topics: Vec<ProduceTopic>) -> protocol::Request {
    let topics = SmallVec::from_vec(topics);
    protocol::Request::Produce(ProduceRequest { acks: -1, timeout_ms: 1500, topics, transactional_id: None })
}

fn partition(index: i32, records: Option<Bytes>) -> ProducePartition {
    ProducePartition { index, records }
}

fn named(name: &str, partitions: Vec<ProducePartition>) -> ProduceTopic {
    let name = m::StrBytes::from_string(name.to_string());
    ProduceTopic { name, id: Uuid::ZERO, partitions: SmallVec::from_vec(partitions) }
}

fn by_id(id: Uuid, partitions: Vec<ProducePartition>) -> ProduceTopic {
    ProduceTopic { id, partitions: SmallVec::from_vec(partitions), ..Default::default() }
}

fn admitted(request: protocol::Request, api_version: i16) -> AdmittedProduce {
    match admit(request, api_version, &limits(), NOW, 0) {
        Admitted::Produce(produce) => produce,
        other => panic!("admitted as {other:?}"),
    }
}

fn batch() -> Option<Bytes> {
    Some(data_batch(&[b"a", b"b"], NOW.wall_ms, None))
}

fn error_of(partition: &AdmittedPartition) -> ErrorCode {
    partition.batch.as_ref().expect_err("no batch").error()
}

#[test]
fn a_batch_for_our_partition_is_checked_and_the_rest_kept_by_name() {
    let request = produce(vec![
        named("__cluster_metadata", vec![partition(0, batch()), partition(1, batch())]),
        named("other", vec![partition(0, Some(Bytes::from_static(b"never looked at")))]),
    ]);
    let produce = admitted(request, 12);
    assert_eq!((produce.acks, produce.timeout_ms, produce.transactional), (-1, 1500, false));
    let seen: Vec<_> = produce.partitions.iter().map(|p| (p.topic_name.as_str(), p.index, p.ours)).collect();
    assert_eq!(
        seen,
        [("__cluster_metadata", 0, true), ("__cluster_metadata", 1, false), ("other", 0, false)]
    );
    assert_eq!(produce.partitions[0].batch.as_ref().expect("a batch").header().record_count, 2);
    assert!(produce.partitions[1].batch.is_err() && produce.partitions[2].batch.is_err());
}

#[test]
fn version_13_names_the_topic_by_id_alone() {
    let topics = || {
        vec![
            by_id(Uuid::METADATA_TOPIC_ID, vec![partition(0, batch())]),
            by_id(Uuid(9), vec![partition(0, batch())]),
            named("__cluster_metadata", vec![partition(0, batch())]),
        ]
    };
    let ours = |version| -> Vec<bool> {
        admitted(produce(topics()), version).partitions.iter().map(|p| p.ours).collect()
    };
    assert_eq!(ours(13), [true, false, false]);
    assert_eq!(ours(12), [false, false, true]);
    assert_eq!(admitted(produce(topics()), 13).partitions[1].topic_id, Uuid(9));
}

#[test]
fn missing_and_broken_records_get_kafkas_error() {
    let mut rotten = batch().expect("a batch").to_vec();
    *rotten.last_mut().expect("bytes") ^= 1;
    let error = |records| {
        let request = produce(vec![named("__cluster_metadata", vec![partition(0, records)])]);
        error_of(&admitted(request, 11).partitions[0])
    };
    let errors = [None, Some(Bytes::new()), Some(rotten.into())].map(error);
    let expected = [ErrorCode::INVALID_RECORD, ErrorCode::INVALID_RECORD, ErrorCode::CORRUPT_MESSAGE];
    assert_eq!(errors, expected);
}

#[test]
fn zstd_needs_produce_version_7() {
    let mut zstd = batch().expect("a batch").to_vec();
    zstd[22] |= ZSTD;
    let crc = crc32c(&zstd[21..]);
    zstd[17..21].copy_from_slice(&crc.to_be_bytes());
    let request =
        || produce(vec![named("__cluster_metadata", vec![partition(0, Some(zstd.clone().into()))])]);
    let refused = admitted(request(), 6);
    assert_eq!(error_of(&refused.partitions[0]), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    let taken = admitted(request(), 7);
    assert_eq!(taken.partitions[0].batch.as_ref().expect("a batch").header().compression(), ZSTD);
}

#[test]
fn a_small_batch_does_not_pin_a_large_receive_buffer() {
    let buffer = batch().expect("a batch");
    let start = buffer.as_ptr() as usize;
    let shares = |allocation_bytes: usize| {
        let topics = vec![named("__cluster_metadata", vec![partition(0, Some(buffer.clone()))])];
        let Admitted::Produce(p) = admit(produce(topics), 12, &limits(), NOW, allocation_bytes) else {
            panic!("admitted as something else")
        };
        let rest = p.partitions[0].batch.as_ref().expect("a batch").rest().as_ptr() as usize;
        (start..start + buffer.len()).contains(&rest)
    };
    assert!(shares(buffer.len()) && !shares(100 * buffer.len()));
}

#[test]
fn a_batch_does_not_pin_what_came_with_it_and_is_more() {
    let buffer = batch().expect("a batch");
    let shares = |beside: usize| {
        let beside = named("padding", vec![partition(0, Some(vec![0; beside].into()))]);
        let topics = vec![beside, named("__cluster_metadata", vec![partition(0, Some(buffer.clone()))])];
        let Admitted::Produce(p) = admit(produce(topics), 12, &limits(), NOW, 0) else {
            panic!("admitted as something else")
        };
        let rest = p.partitions[1].batch.as_ref().expect("a batch").rest().as_ptr() as usize;
        (buffer.as_ptr() as usize..buffer.as_ptr() as usize + buffer.len()).contains(&rest)
    };
    assert!(shares(0) && !shares(2 * buffer.len()));
}

#[test]
fn other_requests_pass_as_they_are() {
    let request = protocol::Request::Metadata(m::MetadataRequest::default());
    let admitted = admit(request, 1, &limits(), NOW, 0);
    assert!(matches!(admitted, Admitted::Other(protocol::Request::Metadata(_))));
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

/// A request costs as much as one batch, however often it names the partition.
#[test]
fn our_partition_is_looked_at_once() {
    let ours = || partition(0, batch());
    let request = produce(vec![
        named("__cluster_metadata", vec![ours(), ours()]),
        named("__cluster_metadata", vec![ours()]),
    ]);
    let produce = admitted(request, 12);
    assert!(produce.partitions[0].batch.is_ok());
    let again: Vec<_> = produce.partitions[1..].iter().map(error_of).collect();
    assert_eq!(again, [ErrorCode::INVALID_REQUEST; 2]);
}

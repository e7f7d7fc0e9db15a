//! Whatever a frame holds, decoding it allocates at most four times its size and a little more; admitting a Produce allocates
//! nothing for a record, and a busy connection and a Fetch between voters nothing at all.
//!
//! A binary of its own, because it counts what the global allocator hands out.

#[path = "fixtures/frames.rs"]
mod fixtures;
#[path = "fixtures/pair.rs"]
mod pair;

use bytes::Bytes;
use fixtures::{Frame, Seeded, frames};
use kraft::memory::ZeroedBlocks;
use kraft::protocol::check::memory_allowed;
use kraft::protocol::messages::StrBytes;
use kraft::protocol::produce::{ProducedPartition, ProducedTopic};
use kraft::protocol::quorum::{QuorumContext, decode_api_versions_response, decode_response};
use kraft::protocol::{ProduceResponse, Response, advertised, decode_request};
use kraft::raft::RequestKind;
use kraft::record::{ProduceLimits, check_produced, data_batch};
use kraft::replica::admit::Admitted;
use kraft::replica::receive::{ReceiveBuffer, Sender};
use kraft::replica::receive_pool::ReceivePool;
use kraft::replica::session::{Session, SessionLimits};
use kraft::types::*;
use pair::{Counter, Pair};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;

const SLACK_BYTES: usize = 64 * 1024;

struct Counting;

thread_local! {
    /// All that this thread has asked for, freed or not.
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
    /// How often it has asked.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|bytes| bytes.set(bytes.get().saturating_add(layout.size())));
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocated_by<T>(action: impl FnOnce() -> T) -> usize {
    let before = ALLOCATED.get();
    drop(action());
    ALLOCATED.get() - before
}

fn anyone() -> QuorumContext {
    QuorumContext {
        cluster_id: Default::default(),
        topic: "__raft_performance_test".into(),
        topic_id: Uuid(2),
        local: ReplicaKey { id: NodeId(1), directory_id: Uuid::ZERO },
        listener_name: "CONTROLLER".to_string(),
        data_mode: kraft::types::DataMode::Interop,
        endpoint: std::sync::Arc::new(Endpoint { host: "localhost".to_string(), port: 1 }),
        voters: Vec::new(),
    }
}

fn decode(context: &QuorumContext, api_key: i16, version: i16, is_request: bool, bytes: Bytes) {
    let kind = match api_key {
        _ if is_request => return drop(decode_request(bytes)),
        1 => RequestKind::Fetch,
        18 => return drop(decode_api_versions_response(bytes)),
        52 => RequestKind::Vote,
        53 => RequestKind::BeginQuorumEpoch,
        54 => RequestKind::EndQuorumEpoch,
        _ => return,
    };
    drop(decode_response(context, kind, version, bytes));
}

fn check_bounded(context: &QuorumContext, frame: &Frame, bytes: Vec<u8>) {
    let limit = memory_allowed(bytes.len()) + SLACK_BYTES;
    let bytes = Bytes::from(bytes);
    let shown = bytes.clone();
    let allocated = allocated_by(|| decode(context, frame.api_key, frame.version, frame.is_request, bytes));
    assert!(allocated <= limit, "{}: {allocated} bytes for {shown:?}", frame.name);
}

#[test]
fn truncated_and_corrupted_frames_allocate_boundedly() {
    let mut seeded = Seeded(9);
    let context = anyone();
    for frame in frames() {
        check_bounded(&context, &frame, frame.bytes.to_vec());
        for cut in 0..frame.bytes.len() {
            check_bounded(&context, &frame, frame.bytes[..cut].to_vec());
        }
        for at in 0..frame.bytes.len() {
            let mut bytes = frame.bytes.to_vec();
            bytes[at] = [0xff, 0x7f, 0x80, seeded.next() as u8][seeded.below(4)];
            check_bounded(&context, &frame, bytes);
        }
    }
}

#[test]
fn frames_made_to_fill_memory_do_not() {
    let context = anyone();
    // Every request, with a body of small counts, of huge counts, and of the pattern that cost the crate 3.6 GiB.
    let eight = [0x03, 0x00, 0x00, 0x03, 0x3c, 0x0c, 0x00, 0xb6];
    for (api_key, min, max) in advertised() {
        for version in *min..=*max {
            for fill in [&[0x00][..], &[0x01], &[0x02], &[0x7f], &[0xff], &eight] {
                let mut frame = [api_key.to_be_bytes(), version.to_be_bytes()].concat();
                frame.extend_from_slice(&[0, 0, 0, 1, 0xff, 0xff, 0]);
                frame.extend(fill.iter().cycle().take(100_000));
                for bytes in [frame.clone(), frame[..19].to_vec()] {
                    let limit = memory_allowed(bytes.len()) + SLACK_BYTES;
                    let bytes = Bytes::from(bytes);
                    let allocated = allocated_by(|| decode(&context, *api_key, version, true, bytes));
                    assert!(allocated <= limit, "api {api_key} version {version} {fill:?}: {allocated}");
                }
            }
        }
    }
}

#[test]
fn well_formed_frames_of_many_small_elements_do_not_either() {
    let context = anyone();
    // Metadata 1: so many topics with empty names; DescribeConfigs 4: so many empty keys of one resource.
    for count in [100_u32, 1_000, 4_000, 100_000] {
        let mut metadata = vec![0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff];
        metadata.extend_from_slice(&count.to_be_bytes());
        metadata.extend(vec![0; 2 * count as usize]);
        let mut configs = vec![0, 32, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 1, 2, 0, 0];
        configs.extend_from_slice(&count.to_be_bytes());
        configs.extend(vec![0; 2 * count as usize + 1]);
        for frame in [metadata, configs] {
            let limit = memory_allowed(frame.len()) + SLACK_BYTES;
            let bytes = Bytes::from(frame);
            let allocated = allocated_by(|| decode(&context, 3, 1, true, bytes));
            assert!(allocated <= limit, "{count}: {allocated}, more than {limit}");
        }
    }
    let few = Bytes::from([&[0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 100][..], &[0; 200]].concat());
    decode_request(few).expect("a hundred topics are no attack");
}

fn limits() -> SessionLimits {
    SessionLimits {
        data_mode: kraft::types::DataMode::Native,
        compressed_check: kraft::types::CompressedCheck::Always,
        decompressed_bytes_max: 1 << 20,
        request_bytes_max: 1 << 20,
        output_bytes_max: 1 << 20,
        requests_max: 64,
        request_entries_max: 1000,
        idle_ms_max: 600_000,
        message_bytes_max: 1 << 20,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        topic_name: "t".into(),
        topic_id: Uuid(2),
    }
}

/// Produce 7 with one batch of so many records of 100 bytes.
fn produce_frame(records: usize) -> Vec<u8> {
    produce_frame_of("t", records, 100)
}

fn produce_frame_of(topic: &str, records: usize, record_bytes: usize) -> Vec<u8> {
    produce_frame_with(topic, &data_batch(&vec![&vec![7; record_bytes][..]; records], 0, None))
}

fn produce_frame_with(topic: &str, batch: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 7, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x75, 0x30];
    frame.extend_from_slice(&[0, 0, 0, 1, 0, topic.len() as u8]);
    frame.extend_from_slice(topic.as_bytes());
    frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
    frame.extend_from_slice(&(batch.len() as u32).to_be_bytes());
    frame.extend_from_slice(batch);
    [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat()
}

/// Allocations from the last byte of a Produce in the receive buffer to the checked batch.
fn admission_allocations(records: usize) -> usize {
    let mut session = Session::new(limits());
    let frame = produce_frame(records);
    let mut pool = ReceivePool::default();
    for part in frame.chunks(4096) {
        session.receive_buffer(&mut pool).extend_from_slice(part);
    }
    let before = ALLOCATIONS.get();
    let arrived = session.poll_request(Now::default()).expect("whole").expect("a good frame");
    let count = ALLOCATIONS.get() - before;
    let Admitted::Produce(produce) = arrived.request else { panic!("not a Produce") };
    let batch = produce.partitions[0].batch.as_ref().expect("a good batch");
    assert_eq!(batch.header().record_count as usize, records);
    count
}

/// What a request costs is the same for one record and for thousands: none is allocated for a record.
#[test]
fn admission_allocates_nothing_for_a_record() {
    let one = admission_allocations(1);
    assert!(one > 0 && one < 32, "{one} allocations for a request");
    for records in [2, 64, 5_000] {
        let many = admission_allocations(records);
        assert!(many <= one, "{many} allocations for {records} records, {one} for one");
    }
}

fn answer_at(base_offset: i64) -> Response {
    let partition = ProducedPartition {
        index: 0,
        error: ErrorCode::NONE,
        base_offset,
        log_start_offset: 0,
        record_errors: Vec::new(),
        error_message: None,
        current_leader: None,
    };
    let partitions = [partition].into_iter().collect();
    let topic = ProducedTopic { name: StrBytes::from_static_str("t"), id: Uuid::ZERO, partitions };
    Response::Produce(ProduceResponse { topics: [topic].into_iter().collect(), ..ProduceResponse::default() })
}

/// Batches of 11 to 66 KiB (kafka-producer-perf-test's have 16) that come as fast as they are read, kept for a while where
/// they were received, as the log's tail does.
#[test]
fn a_batch_is_taken_and_answered_in_the_buffers_of_its_connection() {
    for records in [100, 150, 300, 600] {
        assert_eq!(
            allocations_for_batches(1000, records),
            0,
            "allocations for 1000 batches of {records} records"
        );
    }
}

/// Of a busy connection, after its first batches.
fn allocations_for_batches(requests: usize, records: usize) -> usize {
    const WARM_UP: usize = 100;
    const KEPT: usize = 32;
    let (mut session, mut pool) = (Session::new(limits()), ReceivePool::default());
    let stream = produce_frame(records).repeat(WARM_UP + requests);
    let mut kept = VecDeque::with_capacity(KEPT + 1);
    let (mut left, mut taken, mut before) = (&stream[..], 0, 0);
    while !left.is_empty() {
        let buffer = session.receive_buffer(&mut pool);
        let (read, rest) = left.split_at(left.len().min(buffer.capacity() - buffer.len()));
        buffer.extend_from_slice(read);
        left = rest;
        while let Some(arrived) = session.poll_request(Now::default()) {
            let arrived = arrived.expect("a good frame");
            session.answer(arrived.seq, Some(answer_at(7))).expect("a good answer");
            kept.push_back(arrived.request);
            kept.drain(..kept.len().saturating_sub(KEPT));
            taken += 1;
            if taken == WARM_UP {
                before = ALLOCATIONS.get();
            }
        }
        while let Some(chunk) = session.poll_output() {
            session.sent(chunk.len());
        }
    }
    let allocations = ALLOCATIONS.get() - before;
    assert_eq!(taken, WARM_UP + requests);
    allocations
}

/// Allocations of each node.
#[derive(Default)]
struct Allocations([usize; 2]);

impl Counter for Allocations {
    fn count<T>(&mut self, node: usize, work: impl FnOnce() -> T) -> T {
        let before = ALLOCATIONS.get();
        let value = work();
        self.0[node] += ALLOCATIONS.get() - before;
        value
    }
}

/// One batch of 64 records after the other, each committed before the next one comes: so each is a Fetch of the follower's,
/// which the leader answers with the batch, which the follower appends, flushes, and acknowledges with its next Fetch.
#[test]
fn a_fetch_between_voters_allocates_nothing() {
    /// More than the tail cache holds: from there on what goes makes room for what comes.
    const WARM_UP: usize = 600;
    const CYCLES: usize = 1000;
    let mut pair = Pair::new(Allocations::default());
    let leader = pair.elect();
    let client = pair.connect(leader);
    let frame = produce_frame_of("__cluster_metadata", 64, 1024);
    (0..WARM_UP).for_each(|_| pair.send(leader, client, &frame));
    let answer_bytes = pair.answered_bytes / WARM_UP;
    pair.counter = Allocations::default();
    (0..CYCLES).for_each(|_| pair.send(leader, client, &frame));
    assert_eq!(
        pair.answered_bytes,
        (WARM_UP + CYCLES) * answer_bytes,
        "each batch is committed and answered"
    );
    let Allocations(counted) = pair.counter;
    let (of_leader, of_follower) = (counted[leader], counted[1 - leader]);
    // What grows with the log now and then.
    const REST: usize = CYCLES / 20;
    assert!(of_leader <= REST, "{of_leader} allocations of the leader for {CYCLES} batches");
    assert!(of_follower <= REST, "{of_follower} allocations of the follower for {CYCLES} batches");
}

/// What a snapshot is made of is copied in steps: one for each producer here.
#[test]
fn a_turn_with_a_part_of_a_copy_of_the_folds_allocates_nothing() {
    const PRODUCERS: i64 = 80;
    let mut pair = Pair::new(Allocations::default());
    let leader = pair.elect();
    let client = pair.connect(leader);
    for id in 0..PRODUCERS {
        let batch = data_batch(&[&[7; 100]], 0, Some((id, 0, 0)));
        pair.send(leader, client, &produce_frame_with("__cluster_metadata", &batch));
    }
    let now = pair.now;
    let replica = pair.replica(leader);
    replica.end_turn(now);
    replica.copy_folds().expect("all is committed");
    for turn in 0..PRODUCERS {
        assert!(replica.poll_folded().is_none(), "turn {turn}");
        let before = ALLOCATIONS.get();
        replica.end_turn(now);
        assert_eq!(ALLOCATIONS.get() - before, 0, "turn {turn}");
    }
    // What is set for the topic, and nothing more.
    (0..2).for_each(|_| replica.end_turn(now));
    let folded = replica.poll_folded().expect("it is whole").expect("nothing gave it up");
    assert_eq!(folded.into_sections()[0].bytes.len(), PRODUCERS as usize * 34);
}

/// Or the heap has holes in it that the next one does not fit in.
#[test]
fn what_the_disk_is_read_into_does_not_come_from_the_heap() {
    let before = ALLOCATED.get();
    for bytes in [1, 4096, 8 << 20] {
        let mut blocks = ZeroedBlocks::new(bytes);
        assert!(blocks.as_slice().len() >= bytes && blocks.as_slice().iter().all(|byte| *byte == 0));
        assert!(blocks.as_mut_ptr().addr().is_multiple_of(4096));
        blocks.as_mut_slice().fill(7);
    }
    assert_eq!(ALLOCATED.get(), before);
}

/// Under load answers have few batches or many, and the log's tail shares the newest 16 MiB of them.
#[test]
fn what_a_follower_receives_under_load_comes_into_buffers_that_are_used_again() {
    const ANSWERS: usize = 5000;
    type Batches = fn(&mut Seeded) -> usize;
    let some: Batches = |dice| 1 + dice.below(4);
    let seldom_many: Batches = |dice| if dice.below(8) == 0 { 16 } else { 1 + dice.below(3) };
    let often_one: Batches = |dice| if dice.below(4) == 0 { 1 + dice.below(16) } else { 1 };
    for (batch_bytes, batches) in [5_000, 16_500, 33_000, 66_000]
        .into_iter()
        .flat_map(|bytes| [some, seldom_many, often_one].map(|batches| (bytes, batches)))
    {
        let mut follower = FollowersAnswers::default();
        let mut dice = Seeded(7);
        (0..ANSWERS).for_each(|_| follower.receive(batch_bytes * batches(&mut dice)));
        let before = ALLOCATIONS.get();
        (0..ANSWERS).for_each(|_| follower.receive(batch_bytes * batches(&mut dice)));
        let allocations = ALLOCATIONS.get() - before;
        assert!(
            allocations <= ANSWERS / 500,
            "{allocations} for {ANSWERS} answers of batches of {batch_bytes}"
        );
    }
}

/// What a follower is sent, read as fast as it has room for, and kept as by the log's tail.
struct FollowersAnswers {
    received: ReceiveBuffer,
    pool: ReceivePool,
    tail: VecDeque<Bytes>,
    tail_bytes: usize,
}

impl Default for FollowersAnswers {
    fn default() -> FollowersAnswers {
        FollowersAnswers {
            received: ReceiveBuffer::new(Sender::Voter),
            pool: ReceivePool::default(),
            tail: VecDeque::new(),
            tail_bytes: 0,
        }
    }
}

impl FollowersAnswers {
    const TAIL_BYTES: usize = 16 << 20;

    fn receive(&mut self, frame_bytes: usize) {
        let length = (frame_bytes as i32).to_be_bytes();
        let mut arrived = 0;
        while arrived < length.len() + frame_bytes {
            let room = self.received.room(&mut self.pool);
            let read = (room.capacity() - room.len()).min(length.len() + frame_bytes - arrived);
            let of_length = &length[arrived.min(length.len())..(arrived + read).min(length.len())];
            room.extend_from_slice(of_length);
            room.resize(room.len() + read - of_length.len(), 7);
            arrived += read;
        }
        let frame = self.received.next_frame(frame_bytes).unwrap().expect("it is there as a whole");
        self.tail_bytes += frame.len();
        self.tail.push_back(frame);
        while self.tail_bytes > Self::TAIL_BYTES {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |frame| frame.len());
        }
    }
}

/// Of the records that are too late a hundred are named, whatever their number.
#[test]
fn a_batch_of_late_records_is_refused_in_few_words() {
    let values: Vec<&[u8]> = vec![b""; 50_000];
    let limits = ProduceLimits {
        message_bytes_max: 1 << 20,
        timestamp_before_max_ms: 1_000,
        timestamp_after_max_ms: 1_000,
        now_wall_ms: 1_700_000_000_000,
    };
    let late = data_batch(&values, 1_600_000_000_000, None);
    let allocated = allocated_by(|| check_produced(late, &limits).expect_err("too late"));
    assert!(allocated < 100 << 10, "{allocated} bytes for a refusal");
}

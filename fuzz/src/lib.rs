//! What every decoder of a foreign byte must hold, whatever the bytes are: it returns, it does not panic, and it
//! allocates at most what `memory_allowed` says for so many bytes, and a little more.
//!
//! Each function here is one fuzz target. libFuzzer calls them (`fuzz_targets/`), and so does a test on a stable
//! compiler (`tests/fuzz.rs` in the repository's root), which mutates the same seeds from a number.

use bytes::Bytes;
use kraft::config::{Config, Settings, load};
use kraft::io::directory::{Owner, read_meta};
use kraft::log::{
    DiskError, LogConfig, LogSource, Recovered, SegmentId, SmallFile, SnapshotDecoder, SnapshotEncoder,
    recover,
};
use kraft::protocol::check::memory_allowed;
use kraft::protocol::quorum::{self, QuorumContext, decode_response};
use kraft::protocol::{Request, advertised, decode_request, encode_response, frame_length};
use kraft::raft::RequestKind;
use kraft::record::compression::Codec;
use kraft::record::{
    self, BATCH_HEADER_BYTES, BatchBuilder, CheckedRun, Inspector, LOG_OVERHEAD_BYTES, ProduceLimits,
    RunBuilder, StampedBatch, check_fetched, check_interop, check_produced, check_run, make_interop,
};
use kraft::replica::folds::{Folds, origin_section};
use kraft::replica::receive_pool::ReceivePool;
use kraft::replica::session::{Session, SessionLimits};
use kraft::types::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// This many bytes more than decoding may allocate: error texts, and what a session or a log has before the first byte.
pub const SLACK_BYTES: usize = 64 * 1024;

/// The global allocator of a program that calls the targets.
pub struct Counting;

thread_local! {
    /// All that this thread has asked for, freed or not.
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|bytes| bytes.set(bytes.get().saturating_add(layout.size())));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `action` and sees that it allocated no more than it may for so many bytes. Returns what it returned.
fn bounded<T>(bytes: usize, action: impl FnOnce() -> T) -> T {
    let before = ALLOCATED.get();
    let value = action();
    let allocated = ALLOCATED.get() - before;
    assert!(allocated <= memory_allowed(bytes) + SLACK_BYTES, "{allocated} bytes were allocated for {bytes}");
    value
}

/// What is fuzzed by one function.
pub struct Target {
    /// Of the binary in `fuzz_targets/`, and of its folder of seeds.
    pub name: &'static str,
    /// Panics where it finds something.
    pub run: fn(&[u8]),
    /// What fits it.
    pub seeds: Seeds,
}

/// What a target begins with, before mutations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeds {
    /// Requests, without their length.
    Requests,
    /// Answers, without their length.
    Answers,
    /// Segments, and the batches of Produce requests and Fetch answers.
    Batches,
    /// A byte that says how many records, one that says which codec, and a compressed stream.
    Streams,
    /// quorum-state, meta.properties, checkpoints.
    Texts,
    /// A byte that says in what pieces it comes, and a snapshot.
    Snapshots,
}

/// Every target of `fuzz_targets/`.
pub const TARGETS: [Target; 8] = [
    Target { name: "requests", run: requests, seeds: Seeds::Requests },
    Target { name: "session", run: session, seeds: Seeds::Requests },
    Target { name: "answers", run: answers, seeds: Seeds::Answers },
    Target { name: "batches", run: batches, seeds: Seeds::Batches },
    Target { name: "compressed", run: compressed, seeds: Seeds::Streams },
    Target { name: "segments", run: segments, seeds: Seeds::Batches },
    Target { name: "files", run: files, seeds: Seeds::Texts },
    Target { name: "snapshots", run: snapshots, seeds: Seeds::Snapshots },
];

fn context() -> QuorumContext {
    let endpoint = Endpoint { host: "localhost".to_string(), port: 9092 };
    let voter = |id| (NodeId(id), Arc::new(endpoint.clone()));
    QuorumContext {
        cluster_id: "AAAAAAAAAAAAAAAAAAAAAA".into(),
        topic: "__raft_performance_test".into(),
        topic_id: Uuid(2),
        local: ReplicaKey { id: NodeId(1), directory_id: Uuid::ZERO },
        listener_name: "CONTROLLER".to_string(),
        data_mode: DataMode::Interop,
        endpoint: Arc::new(endpoint.clone()),
        voters: vec![voter(1), voter(2), voter(3)],
    }
}

/// One request: its header, its body, and what a voter's request means for raft.
pub fn requests(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    let Ok((header, request)) = bounded(data.len(), || decode_request(frame)) else { return };
    assert!(advertised().iter().any(|(key, ..)| *key == header.api_key), "{header:?} is not served");
    let context = context();
    bounded(data.len(), || match &request {
        Request::Vote(m) => quorum::vote_request(&context, m).err(),
        Request::BeginQuorumEpoch(m) => quorum::begin_quorum_epoch_request(&context, m).err(),
        Request::EndQuorumEpoch(m) => quorum::end_quorum_epoch_request(&context, m).err(),
        Request::Fetch(m) if m.is_of_replica() => {
            quorum::fetch_request(&context, m, header.api_version).err()
        }
        _ => None,
    })
    // What refuses it can be said in its version.
    .into_iter()
    .for_each(|refusal| assert!(!encode_response(&header, &refusal).is_empty(), "{header:?}: {refusal:?}"));
}

fn session_limits(data_mode: DataMode) -> SessionLimits {
    SessionLimits {
        data_mode,
        request_bytes_max: 1 << 20,
        output_bytes_max: 1 << 20,
        requests_max: 64,
        request_entries_max: 50_000,
        idle_ms_max: 600_000,
        message_bytes_max: 1 << 20,
        compressed_check: CompressedCheck::Always,
        decompressed_bytes_max: 1 << 20,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        topic_name: "__cluster_metadata".into(),
        topic_id: Uuid::METADATA_TOPIC_ID,
    }
}

/// A connection's bytes, in pieces of the size that the first byte says: one request twice, and then whatever follows.
pub fn session(data: &[u8]) {
    let Some((piece, request)) = data.split_first() else { return };
    let length = u32::try_from(request.len()).unwrap_or(u32::MAX).to_be_bytes();
    let stream = [&length[..], request, &length, request, request].concat();
    for data_mode in [DataMode::Native, DataMode::Interop] {
        let (mut session, mut pool) = (Session::new(session_limits(data_mode)), ReceivePool::default());
        // The receive buffer grows by doubling, and a batch may be copied out of it once.
        bounded(2 * stream.len(), || {
            for part in stream.chunks(usize::from(*piece) + 1) {
                session.receive_buffer(&mut pool).extend_from_slice(part);
                while let Some(arrived) = session.poll_request(Now::default()) {
                    if arrived.is_err() {
                        return;
                    }
                }
            }
        });
    }
    let _ = frame_length(request, 1 << 20);
}

/// A peer's answer: the first byte chooses what was asked, the second the version.
pub fn answers(data: &[u8]) {
    let [kind, version, frame @ ..] = data else { return };
    let version = i16::from(version % 19);
    let context = context();
    let bytes = Bytes::copy_from_slice(frame);
    let _ = quorum::response_correlation_id(frame);
    bounded(frame.len(), || {
        let kind = match kind % 6 {
            // It came later: what the corpus means stays.
            _ if *kind == 6 => {
                return drop(quorum::decode_fetch_snapshot_response(&context, version, bytes));
            }
            0 => RequestKind::Vote,
            1 => RequestKind::BeginQuorumEpoch,
            2 => RequestKind::EndQuorumEpoch,
            3 => RequestKind::Fetch,
            4 => return drop(quorum::decode_api_versions_response(bytes)),
            _ => return drop(quorum::decode_describe_quorum_response(bytes)),
        };
        if let Ok((_, records)) = decode_response(&context, kind, version, bytes) {
            drop(check_fetched(records));
        }
    });
}

/// Puts lengths and CRCs right, so that what is wrong with a batch is found by the checks behind them.
fn repair(data: &mut [u8]) {
    let mut rest = data;
    while rest.len() >= BATCH_HEADER_BYTES {
        let length = i32::from_be_bytes([rest[8], rest[9], rest[10], rest[11]]);
        let wanted =
            usize::try_from(length).map_or(usize::MAX, |length| length.saturating_add(LOG_OVERHEAD_BYTES));
        let whole = wanted.clamp(BATCH_HEADER_BYTES, rest.len());
        let (batch, behind) = rest.split_at_mut(whole);
        batch[8..12].copy_from_slice(&((whole - LOG_OVERHEAD_BYTES) as u32).to_be_bytes());
        batch[16] = 2;
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        rest = behind;
    }
}

fn repaired(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    repair(&mut data);
    data
}

/// Record batches as clients and as leaders send them, raw and with their CRCs put right.
pub fn batches(data: &[u8]) {
    for bytes in [Bytes::copy_from_slice(data), Bytes::from(repaired(data))] {
        let limits = ProduceLimits {
            message_bytes_max: 1 << 20,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
            now_wall_ms: 0,
        };
        let size = bytes.len();
        if let Ok(batch) = bounded(size, || check_produced(bytes.clone(), &limits)) {
            assert_eq!(batch.size_bytes(), size, "a produced batch is all that was sent");
            look_through(&batch);
            if let Ok(fit) = bounded(size, || make_interop(batch)) {
                check_interop(&fit).expect("what was made to fit fits");
            }
        }
        let (fetched, why) = bounded(size, || check_fetched(bytes.clone()));
        assert!(fetched.iter().map(StampedBatch::size_bytes).sum::<usize>() <= size);
        fetched.iter().for_each(look_through);
        let (run, run_why) = bounded(size, || check_run(bytes));
        assert!(why == run_why && run.iter().flat_map(CheckedRun::batches).eq(fetched.iter().cloned()));
        let mut copied = RunBuilder::new(vec![0; size]);
        assert!(fetched.iter().all(|batch| copied.push(batch)), "what was checked can be copied");
        let copied = copied.finish().ok();
        assert_eq!(copied.as_ref().map(CheckedRun::bytes), run.as_ref().map(CheckedRun::bytes));
    }
}

/// More than the buffers of a codec, whatever a stream claims: what it says is 4 GiB must not be asked for.
const CODEC_BYTES: usize = 24 << 20;
const DECOMPRESSED_BYTES_MAX: u64 = 4 << 20;

/// A compressed batch: its stream is whatever it is, its header right. (What zstd allocates is C's, and not seen here.)
pub fn compressed(data: &[u8]) {
    let [count, codec, stream @ ..] = data else { return };
    let batch =
        BatchBuilder::new(0).attributes(i16::from(codec % 5)).raw_records(stream, i32::from(*count) + 1);
    let limits = ProduceLimits {
        message_bytes_max: 1 << 20,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        now_wall_ms: 0,
    };
    let Ok(mut batch) = check_produced(batch.build(), &limits) else { return };
    let mut inspector = Inspector::default();
    let before = ALLOCATED.get();
    let verdict = inspector.check(&mut batch, &limits, DECOMPRESSED_BYTES_MAX);
    let _ = inspector.find(&batch, Offset(0), 0, DECOMPRESSED_BYTES_MAX);
    let allocated = ALLOCATED.get() - before;
    assert!(allocated <= 2 * CODEC_BYTES, "{allocated} bytes were allocated");
    if verdict.is_ok() {
        let plain = Codec::decompress_batch(&batch, DECOMPRESSED_BYTES_MAX).expect("it was read");
        let records: Vec<_> = record::records(&plain).collect::<Result<_, _>>().expect("they were walked");
        assert_eq!(records.len(), usize::from(*count) + 1);
        let latest = record::record_timestamps(&plain).map(|(_, timestamp)| timestamp).max();
        assert_eq!(Some(batch.header().max_timestamp), latest.map(|latest| latest.max(-1)));
    }
}

fn look_through(batch: &StampedBatch) {
    let size = batch.size_bytes();
    bounded(size, || {
        let _ = record::control_records(batch);
        let _ = record::check_static_voters(batch);
        let _ = check_interop(batch);
        for record in record::records(batch).flatten() {
            record.headers().for_each(drop);
        }
        record::record_timestamps(batch).for_each(drop);
    });
}

/// A directory in memory.
#[derive(Default)]
struct Files {
    segments: Vec<(SegmentId, Bytes)>,
    quorum_state: Option<Vec<u8>>,
    checkpoint: Option<Vec<u8>>,
    commit_mark: Option<Vec<u8>>,
    /// Of whichever segment is asked for.
    summary: Option<Vec<u8>>,
}

impl LogSource for Files {
    fn segments(&mut self) -> Result<Vec<(SegmentId, u64)>, DiskError> {
        Ok(self.segments.iter().map(|(id, bytes)| (*id, bytes.len() as u64)).collect())
    }

    fn read(&mut self, segment: SegmentId, position: u64, length: usize) -> Result<Bytes, DiskError> {
        let (_, bytes) =
            self.segments.iter().find(|(id, _)| *id == segment).expect("a segment that was listed");
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes.slice(from..from.saturating_add(length).min(bytes.len())))
    }

    fn small_file(&mut self, file: SmallFile) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(match file {
            SmallFile::QuorumState => self.quorum_state.clone(),
            SmallFile::LeaderEpochCheckpoint => self.checkpoint.clone(),
            SmallFile::Summary(_) => self.summary.clone(),
        })
    }

    fn commit_mark(&mut self) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.commit_mark.clone())
    }
}

fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes_max: 1 << 20,
        segment_ms_max: i64::MAX,
        zero_ahead_bytes: 1 << 16,
        write_buffer_bytes: 1 << 16,
        write_buffers: 4,
        group_bytes_max: 1 << 16,
        tail_cache_bytes_max: 1 << 16,
        read_cache_bytes_max: 1 << 18,
        copies_unread: false,
        read_piece_bytes: 1 << 16,
        unflushed_bytes_max: 1 << 20,
        commit_mark_idle_ms: 1000,
        index_interval_bytes: 4096,
        check: LogCheck::Tail,
    }
}

fn recover_from(mut files: Files) {
    let bytes = files.segments.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
        + [&files.quorum_state, &files.checkpoint, &files.commit_mark, &files.summary]
            .into_iter()
            .flatten()
            .map(Vec::len)
            .sum::<usize>();
    let mut next = None;
    let found = bounded(bytes, || {
        recover(&mut files, &log_config(), &mut |part| match part {
            Recovered::Batch(batch) => {
                assert!(next.is_none_or(|next| next == batch.base_offset()), "recovery left a gap");
                next = Some(batch.next_offset());
                Ok(())
            }
            Recovered::Segment(summary) => {
                next = Some(summary.offsets().end);
                Ok(())
            }
        })
    });
    if let Ok(found) = found {
        assert_eq!(next.unwrap_or(found.start.offset), found.log_end.0, "the log ends behind its last batch");
    }
}

/// Recovery of a segment: the first byte says where it is cut in two, whether there is a mark of nothing but these
/// bytes, and whether lengths and CRCs are put right.
pub fn segments(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let bytes = if how & 1 == 0 { Bytes::copy_from_slice(bytes) } else { Bytes::from(repaired(bytes)) };
    let cut = if how & 2 == 0 { bytes.len() } else { bytes.len() * usize::from(how >> 3) / 32 };
    let base = bytes.first_chunk::<8>().map_or(0, |base| i64::from_be_bytes(*base)).max(0);
    let mut files =
        Files { segments: vec![(SegmentId(Offset(base)), bytes.slice(..cut))], ..Files::default() };
    if let Some(next) = bytes.get(cut..cut + 8).and_then(|base| base.first_chunk::<8>()) {
        let next = i64::from_be_bytes(*next);
        // Names ascend, and are no negative numbers: a directory shows no others.
        if next > base {
            files.segments.push((SegmentId(Offset(next)), bytes.slice(cut..)));
        }
    }
    if how & 4 != 0 {
        files.commit_mark = Some(bytes.iter().rev().take(8192).copied().collect());
    }
    recover_from(files);
}

/// The golden meta.properties are this node's.
fn owner() -> Owner {
    Owner {
        cluster_id: "Z29sZGVuLWthZmthLTQzMA".to_string(),
        node_id: NodeId(1),
        directory_id: None,
        topic_name: "__cluster_metadata".to_string(),
        topic_id: Uuid::METADATA_TOPIC_ID,
        data_mode: DataMode::Interop,
    }
}

/// The small files, each of the same bytes in turn, and a file of properties.
pub fn files(data: &[u8]) {
    let text = || Some(data.to_vec());
    recover_from(Files { quorum_state: text(), ..Files::default() });
    recover_from(Files { checkpoint: text(), ..Files::default() });
    recover_from(Files { commit_mark: text(), ..Files::default() });
    // A summary is read only where there is a segment, and only with its checksum.
    let sealed = [data, &crc32c::crc32c(data).to_be_bytes()].concat();
    let segments = vec![(SegmentId(Offset(0)), Bytes::copy_from_slice(data))];
    recover_from(Files { segments, summary: Some(sealed), ..Files::default() });
    // Read once, at the start, from this node's own disk: what their parsers allocate is not counted.
    let _ = Settings::new().read_properties("a file", data);
    if let Ok(meta) = read_meta(Path::new("meta.properties"), data, &owner()) {
        assert_ne!(meta.directory_id, Some(Uuid::ZERO), "that is no directory's id");
    }
}

/// Puts base offsets and epochs in the order of a snapshot, behind `repair`.
fn lay_out(data: &mut [u8]) {
    let (mut rest, mut next) = (data, 0_i64);
    while rest.len() >= BATCH_HEADER_BYTES {
        let length = u32::from_be_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize + LOG_OVERHEAD_BYTES;
        let (batch, behind) = rest.split_at_mut(length.min(rest.len()));
        batch[..8].copy_from_slice(&next.to_be_bytes());
        batch[12..16].copy_from_slice(&7_u32.to_be_bytes());
        let delta = i32::from_be_bytes([batch[23], batch[24], batch[25], batch[26]]);
        next = next.saturating_add(i64::from(delta)).saturating_add(1);
        rest = behind;
    }
}

/// Whose snapshots are looked at.
static SOLE_VOTER: LazyLock<Config> = LazyLock::new(|| {
    let mut settings = Settings::new();
    let properties = "node.id=1\nlog.dirs=/nowhere\ncontroller.quorum.voters=1@localhost:1\nlisteners=PLAINTEXT://localhost:1\n";
    settings.read_properties("a file", properties.as_bytes()).expect("properties");
    load(&settings).expect("a configuration").config
});

/// A snapshot in pieces of the size that the first byte says, as it is and with all in order but what lies in its records.
/// What was read of one is written and read again, and what it holds is taken where it is this log's.
pub fn snapshots(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let mut in_order = repaired(bytes);
    lay_out(&mut in_order);
    let id = OffsetAndEpoch { epoch: Epoch(7), offset: Offset(4711) };
    let read = |bytes: &[u8]| {
        let mut decoder = SnapshotDecoder::new(id, 1 << 20);
        bytes.chunks(usize::from(*piece) + 1).try_for_each(|part| decoder.push(part))?;
        decoder.finish()
    };
    for bytes in [bytes, &in_order] {
        let Ok(found) = bounded(bytes.len(), || read(bytes)) else { continue };
        let mut encoder = SnapshotEncoder::new(found.snapshot.clone());
        let written: Vec<u8> =
            std::iter::from_fn(|| encoder.next_batch()).flat_map(|b| b.to_bytes()).collect();
        assert_eq!(read(&written).map(|again| again.snapshot), Ok(found.snapshot.clone()));
        let config = &*SOLE_VOTER;
        let mut ours = found.clone();
        ours.snapshot.sections.retain(|section| section.tag != 0);
        ours.snapshot.sections.insert(0, origin_section(config));
        for read in [found, ours] {
            let _ = Folds::of_snapshot(config, &read);
        }
    }
}

//! What the parts of the produce path cost without sockets and without a disk: Raft's step, the log's append, and a whole
//! node from an admitted Produce to its answer, with the purgatory in between. The device answers at once.

#[path = "../tests/fixtures/empty_disk.rs"]
mod empty_disk;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use empty_disk::{EmptyDisk, completed};
use kraft::config::{Config, Limits, Retention, Voter, Wait};
use kraft::log::{Log, LogEvent, recover};
use kraft::protocol::messages::StrBytes;
use kraft::protocol::produce::{ProducePartition, ProduceTopic};
use kraft::protocol::{ProduceRequest, Request, Response};
use kraft::raft::{Effects, Event, Raft, RaftConfig, RecoveredState};
use kraft::record::{StampedBatch, check_fetched, data_batch};
use kraft::replica::admit::{Admitted, admit};
use kraft::replica::folds::Folds;
use kraft::replica::session::SessionLimits;
use kraft::replica::{Action, ConnectionId, Input, Replica, log_config};
use kraft::types::*;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const TOPIC: &str = "__cluster_metadata";
const PRODUCE_VERSION: i16 = 9;
const NOW: Now = Now { monotonic_ns: 1_000_000_000_000, wall_ms: 1_700_000_000_000 };
/// Whose state is copied.
const PRODUCERS: i64 = 10_000;
const BATCH_OF_PRODUCER_BYTES: i64 = 34;
/// (batches of a turn, bytes of each).
const LOADS: [(usize, usize); 3] = [(1, 256), (16, 64 << 10), (4, 1 << 20)];

fn config() -> Config {
    let endpoint = Endpoint { host: "localhost".to_string(), port: 1 };
    Config {
        node_id: NodeId(1),
        directory_id: None,
        cluster_id: Uuid::ZERO.to_string(),
        topic_name: TOPIC.to_string(),
        topic_id: Uuid::METADATA_TOPIC_ID,
        data_mode: DataMode::Native,
        voters: vec![Voter { id: NodeId(1), endpoint: endpoint.clone() }],
        listener_name: "PLAINTEXT".to_string(),
        listener: endpoint.clone(),
        advertised: endpoint,
        log_dir: PathBuf::new(),
        http_listener: None,
        cpus: None,
        wait: Wait::Sleep,
        log_check: LogCheck::Tail,
        compressed_check: CompressedCheck::Always,
        first_leader: FirstLeader::All,
        log_doubt: LogDoubt::Wait,
        election_timeout_ms: 1_000,
        fetch_timeout_ms: 2_000,
        election_backoff_max_ms: 1_000,
        request_timeout_ms: 2_000,
        retry_backoff_ms: 20,
        retention: Retention::default(),
        limits: Limits::default(),
    }
}

/// A node that is its own quorum, and leads it.
struct Node {
    replica: Replica,
    limits: SessionLimits,
    connection: u64,
    seq: u64,
}

impl Node {
    fn start() -> Node {
        let config = config();
        let recovered = recover(&mut EmptyDisk, &log_config(&config.limits), &mut |_| Ok(()))
            .expect("nothing to recover");
        let folds = Folds::new(&config);
        let replica = Replica::new(&config, Uuid(7), recovered, folds, 1, NOW);
        let limits = SessionLimits {
            message_bytes_max: 2 << 20,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
            ..SessionLimits::of(&config)
        };
        let mut node = Node { replica, limits, connection: 1, seq: 0 };
        node.run(NOW, 0);
        // Alone it stands for election when its timeout has passed.
        for s in 1..10 {
            node.run(Now { monotonic_ns: NOW.monotonic_ns + s * 1_000_000_000, ..NOW }, 0);
        }
        node
    }

    /// Turn after turn until nothing is left to do. Returns the answers.
    fn run(&mut self, now: Now, mut inputs: usize) -> usize {
        let mut answers = 0;
        self.replica.handle(now, Input::Tick);
        loop {
            self.replica.end_turn(now);
            let mut completions = Vec::new();
            while let Some(action) = self.replica.poll_action() {
                match action {
                    Action::Disk(op) => completions.push(completed(op)),
                    Action::Answer { response, .. } => {
                        assert!(matches!(&response, Some(Response::Produce(_))), "{response:?}");
                        answers += 1;
                    }
                    _ => {}
                }
            }
            if completions.is_empty() && inputs == 0 {
                return answers;
            }
            inputs = 0;
            completions.into_iter().for_each(|completion| self.replica.handle(now, Input::Disk(completion)));
        }
    }

    /// Each in a request of its own, all in one turn.
    fn produce(&mut self, batches: &[Bytes]) {
        let now = Now { monotonic_ns: NOW.monotonic_ns + 20_000_000_000, ..NOW };
        for batch in batches {
            let request = admit(produce_request(batch.clone()), PRODUCE_VERSION, &self.limits, now, 0);
            assert!(matches!(request, Admitted::Produce(_)));
            self.seq += 1;
            let (connection, received_ns) = (ConnectionId(self.connection), now.monotonic_ns);
            self.replica.handle(
                now,
                Input::Request {
                    connection,
                    seq: self.seq,
                    api_version: PRODUCE_VERSION,
                    is_forwarded: false,
                    request,
                    received_ns,
                    decoded_ns: received_ns,
                },
            );
        }
        assert_eq!(self.run(now, batches.len()), batches.len(), "every Produce is answered");
    }
}

fn produce_request(records: Bytes) -> Request {
    let partitions = [ProducePartition { index: 0, records: Some(records) }].into_iter().collect();
    let topic = ProduceTopic { name: StrBytes::from_static_str(TOPIC), id: Uuid::ZERO, partitions };
    let topics = [topic].into_iter().collect();
    Request::Produce(ProduceRequest { acks: -1, timeout_ms: 30_000, topics, transactional_id: None })
}

/// One record in a batch of about this size.
fn batch_of(bytes: usize) -> Bytes {
    data_batch(&[&vec![7; bytes.saturating_sub(80)]], NOW.wall_ms, None)
}

fn produce_to_answer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replica: Produce, append, flush, purgatory, answer");
    for (count, bytes) in LOADS {
        let batches = vec![batch_of(bytes); count];
        group.throughput(Throughput::Bytes((count * bytes) as u64));
        let mut node = Node::start();
        group.bench_function(format!("{count} of {bytes} B"), |bencher| {
            bencher.iter(|| node.produce(black_box(&batches)));
        });
    }
    group.finish();
}

fn open_log() -> Log {
    let config = log_config(&Limits::default());
    let recovered = recover(&mut EmptyDisk, &config, &mut |_| Ok(())).expect("nothing to recover");
    let mut log = Log::new(config, recovered);
    flush(&mut log);
    log
}

/// Returns the flushed events.
fn flush(log: &mut Log) -> usize {
    let mut flushed = 0;
    loop {
        log.end_turn(NOW);
        let ops: Vec<_> = std::iter::from_fn(|| log.poll_op()).collect();
        flushed +=
            std::iter::from_fn(|| log.poll_event()).filter(|e| matches!(e, LogEvent::Flushed(_))).count();
        if ops.is_empty() {
            return flushed;
        }
        ops.into_iter().for_each(|op| log.complete(completed(op)));
    }
}

fn append_to_log(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log: append and flush");
    for (count, bytes) in LOADS {
        let batch = stamped(bytes);
        group.throughput(Throughput::Bytes((count * bytes) as u64));
        let mut log = open_log();
        group.bench_function(format!("{count} of {bytes} B"), |bencher| {
            bencher.iter(|| {
                for _ in 0..count {
                    let mut batch = batch.clone();
                    batch.stamp(log.log_end().0, Epoch(1));
                    log.append(batch);
                }
                assert!(flush(&mut log) > 0);
            });
        });
    }
    group.finish();
}

fn stamped(bytes: usize) -> StampedBatch {
    let mut raw = batch_of(bytes).to_vec();
    // A produced batch is of epoch -1; one that was fetched is not.
    raw[12..16].copy_from_slice(&[0; 4]);
    let (batches, bad) = check_fetched(Bytes::from(raw));
    assert_eq!(bad, None);
    batches[0].clone()
}

/// A voter that is its own quorum, as leader.
fn leading_raft() -> Raft {
    let local = ReplicaKey { id: NodeId(1), directory_id: Uuid::ZERO };
    let config = RaftConfig {
        local,
        voters: vec![local],
        election_timeout_ms: 1_000,
        fetch_timeout_ms: 2_000,
        election_backoff_max_ms: 1_000,
        request_timeout_ms: 2_000,
        retry_backoff_ms: 20,
        fetch_wait_ms_max: 500,
        first_leader: FirstLeader::All,
        log_doubt: LogDoubt::Wait,
        keeps_own_start: false,
        seed: 1,
    };
    let (quorum_state, epochs) = (QuorumState::EMPTY, Vec::new());
    let recovered = RecoveredState {
        quorum_state,
        log_start: OffsetAndEpoch::default(),
        log_begin: OffsetAndEpoch::default(),
        log_end: LogEndOffset(Offset(0)),
        committed: OffsetAndEpoch::default(),
        epochs,
        snapshot: None,
    };
    let mut raft = Raft::new(config, recovered, NOW);
    for s in 1..10 {
        let now = Now { monotonic_ns: NOW.monotonic_ns + s * 1_000_000_000, ..NOW };
        let mut effects = Effects::default();
        raft.step(now, Event::Tick, &mut effects);
        while effects.quorum_state.is_some() {
            effects.clear();
            raft.step(now, Event::QuorumStateDurable, &mut effects);
        }
    }
    let mut effects = Effects::default();
    raft.step(NOW, Event::Flushed(FlushedOffset(Offset(1))), &mut effects);
    assert!(raft.can_append(), "it leads");
    raft
}

fn raft_step(criterion: &mut Criterion) {
    let mut raft = leading_raft();
    let mut end = 1;
    criterion.bench_function("raft: step of an append, and of its flush", |bencher| {
        bencher.iter_batched_ref(
            Effects::default,
            |effects| {
                raft.step(NOW, Event::Append { offsets: 64 }, effects);
                end += 64;
                raft.step(NOW, Event::Flushed(FlushedOffset(Offset(end))), effects);
                assert!(!effects.at_once.is_empty(), "the high watermark moves");
            },
            BatchSize::SmallInput,
        );
    });
}

/// What a snapshot costs each turn of the replica core, the one that begins it too.
fn copy_folds(criterion: &mut Criterion) {
    let mut node = Node::start();
    let first = |id: i64| data_batch(&[b"x"], NOW.wall_ms, Some((id, 0, 0)));
    let batches: Vec<Bytes> = (0..PRODUCERS).map(first).collect();
    for chunk in batches.chunks(64) {
        // One connection may not bring all of them.
        node.connection += 1;
        node.produce(chunk);
    }
    // The longest turn of the copy under way, and of that copy whose longest was the shortest: the others show who else wanted the CPU.
    let (mut longest, mut quietest, mut is_whole) = (Duration::ZERO, Duration::MAX, true);
    let name = format!("replica: a turn with a part of the copy of what {PRODUCERS} producers left");
    criterion.bench_function(&name, |bencher| {
        bencher.iter_custom(|turns| {
            let mut spent = Duration::ZERO;
            for _ in 0..turns {
                let start = Instant::now();
                if is_whole {
                    node.replica.copy_folds().expect("all is committed");
                }
                node.replica.end_turn(NOW);
                let turn = start.elapsed();
                (spent, longest) = (spent + turn, longest.max(turn));
                // Another thread has it from here on.
                if let Some(folded) = node.replica.poll_folded() {
                    let sections = folded.expect("nothing gives it up").into_sections();
                    assert_eq!(sections[0].bytes.len() as i64, PRODUCERS * BATCH_OF_PRODUCER_BYTES);
                    quietest = quietest.min(std::mem::take(&mut longest));
                    is_whole = true;
                } else {
                    is_whole = false;
                }
            }
            spent
        });
    });
    println!("the longest turn of a copy that nothing disturbed: {quietest:?}");
}

criterion_group!(benches, raft_step, append_to_log, produce_to_answer, copy_folds);
criterion_main!(benches);

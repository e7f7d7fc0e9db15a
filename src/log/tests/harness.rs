//! A log on a simulated disk, with the few steps that tests take again and again.

use super::disk::SimDisk;
use crate::log::*;
use crate::record::{StampedBatch, check_fetched, data_batch};
use crate::types::*;

pub(super) const SEGMENT_0: SegmentId = SegmentId(Offset(0));

pub(crate) fn small_config() -> LogConfig {
    LogConfig {
        segment_bytes_max: 20_000,
        segment_ms_max: i64::MAX,
        zero_ahead_bytes: 8192,
        write_buffer_bytes: 4096,
        write_buffers: 3,
        group_bytes_max: 12_288,
        tail_cache_bytes_max: 6000,
        read_cache_bytes_max: 0,
        copies_unread: false,
        read_piece_bytes: 2 << 20,
        unflushed_bytes_max: 50_000,
        commit_mark_idle_ms: 10,
        index_interval_bytes: 4096,
        check: LogCheck::Tail,
    }
}

/// A value that makes a batch of one record exactly 4096 bytes.
pub(super) const WHOLE_BLOCK: usize = 4026;

/// A batch of `records` values of `value_bytes` each, told apart from others by `tag`.
pub(crate) fn batch(base: Offset, epoch: i32, tag: u64, records: usize, value_bytes: usize) -> StampedBatch {
    let mut value = vec![(tag % 251) as u8; value_bytes.max(8)];
    value[..8].copy_from_slice(&tag.to_be_bytes());
    let values = vec![&value[..]; records];
    let (mut batches, error) = check_fetched(data_batch_of(&values, tag as i64));
    assert_eq!(error, None);
    let mut batch = batches.remove(0);
    batch.stamp(base, Epoch(epoch));
    batch
}

/// Built batches carry epoch -1, which no log takes: stamp it before the check.
fn data_batch_of(values: &[&[u8]], wall_ms: i64) -> bytes::Bytes {
    let mut bytes = data_batch(values, wall_ms, None).to_vec();
    bytes[12..16].copy_from_slice(&0i32.to_be_bytes());
    bytes.into()
}

/// The same as a control batch: with no other does a leader begin its epoch.
fn as_leaders_first(batch: &StampedBatch) -> StampedBatch {
    let mut bytes = bytes_of(batch);
    bytes[22] |= 0x20;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let (mut batches, error) = check_fetched(bytes.into());
    assert_eq!(error, None);
    batches.remove(0)
}

pub(super) fn bytes_of(batch: &StampedBatch) -> Vec<u8> {
    [&batch.prefix()[..], &batch.rest()[..]].concat()
}

pub(super) struct Node {
    pub(crate) disk: SimDisk,
    pub(crate) log: Log,
    pub(crate) now: Now,
    pub(crate) epoch: i32,
    pub(super) next_tag: u64,
    pub(crate) quorum_state: QuorumState,
    pub(crate) notes: Vec<String>,
    pub(crate) effort: Effort,
    /// The log was in doubt, and it went on as one of several voters does.
    pub(crate) doubt: Option<Doubt>,
    /// What the owner keeps in the summaries that are due. `None`: it can give nothing.
    pub(crate) sections: Option<Vec<Section>>,
}

impl Node {
    pub(super) fn open(disk: SimDisk, config: LogConfig) -> Result<Node, RecoveryError> {
        Node::try_open(disk, config).map_err(|refused| refused.0)
    }

    pub(super) fn try_open(
        mut disk: SimDisk,
        config: LogConfig,
    ) -> Result<Node, Box<(RecoveryError, SimDisk)>> {
        let mut recovered = match recover(&mut disk, &config, &mut |_| Ok(())) {
            Ok(recovered) => recovered,
            Err(error) => return Err(Box::new((error, disk))),
        };
        let doubt = recovered.doubt.clone();
        if doubt.is_some() {
            recovered.go_on_in_doubt();
        }
        let quorum_state = recovered.quorum_state;
        let (notes, effort) = (recovered.notes.clone(), recovered.effort);
        // A log that begins where it ends has no epochs, and goes on in that of what is gone.
        let epoch = recovered.epochs.last().map_or(1, |e| e.epoch.0).max(recovered.start.epoch.0);
        let log = Log::new(config, recovered);
        let (now, next_tag, sections) = (Now::default(), 1, Some(Vec::new()));
        Ok(Node { disk, log, now, epoch, next_tag, quorum_state, notes, effort, doubt, sections })
    }

    /// Opened, with all opening operations done.
    pub(super) fn ready(disk: SimDisk, config: LogConfig) -> Node {
        let mut node = Node::open(disk, config).expect("the log recovers");
        let events = node.settle();
        assert!(matches!(events[..], [LogEvent::Ready]), "{events:?}");
        node
    }

    pub(super) fn append(&mut self, records: usize, value_bytes: usize) -> StampedBatch {
        let mut batch = batch(self.log.log_end().0, self.epoch, self.next_tag, records, value_bytes);
        if self.log.epochs.last().is_none_or(|last| last.epoch != Epoch(self.epoch)) {
            batch = as_leaders_first(&batch);
        }
        self.next_tag += 1;
        self.log.append(batch.clone());
        batch
    }

    /// End the turn and hand the new operations to the disk.
    pub(super) fn turn(&mut self) {
        self.log.end_turn(self.now);
        while let Some(due) = self.log.summary_due() {
            self.log.write_summary(due, self.sections.clone());
        }
        while let Some(op) = self.log.poll_op() {
            self.disk.submit(op);
        }
    }

    /// Complete one operation, whichever, and end the turn. False where none is in flight.
    pub(super) fn complete_any(&mut self) -> bool {
        let Some(completion) = self.disk.complete_any() else { return false };
        self.log.complete(completion);
        self.turn();
        true
    }

    pub(super) fn events(&mut self) -> Vec<LogEvent> {
        std::iter::from_fn(|| self.log.poll_event()).collect()
    }

    /// Let the disk do all there is to do.
    pub(super) fn settle(&mut self) -> Vec<LogEvent> {
        self.turn();
        while self.complete_any() {}
        self.events()
    }

    pub(super) fn pass_ms(&mut self, ms: u64) {
        self.now.monotonic_ns += ms * NS_PER_MS;
    }

    /// Let it start there; all before is committed.
    pub(super) fn start_at(&mut self, to: i64) {
        let to = Offset(to);
        self.log.on_committed(HighWatermark(to));
        let epoch = self.log.epoch_before(&self.log.epochs, to);
        self.log.advance_start(OffsetAndEpoch { epoch, offset: to });
    }

    /// Everything in the log, through `read`, or the first error.
    pub(super) fn read_all(&mut self) -> Result<Vec<StampedBatch>, ReadError> {
        let (mut at, mut all) = (self.log.log_start(), Vec::new());
        while at < self.log.log_end().0 {
            let batches = self.read_one(at)?;
            at = batches.last().expect("a read below the log end gives a batch").next_offset();
            all.extend(batches);
        }
        Ok(all)
    }

    pub(super) fn read_one(&mut self, from: Offset) -> Result<Vec<StampedBatch>, ReadError> {
        match self.log.read(from, self.log.log_end().0, 5000, 7) {
            ReadOutcome::Batches(batches) => return Ok(batches.iter().collect()),
            ReadOutcome::OnDevice => {}
            other => panic!("{other:?}"),
        }
        let events = self.settle();
        let done = events.into_iter().find_map(|event| match event {
            LogEvent::ReadDone { token: 7, result } => Some(result),
            _ => None,
        });
        done.expect("the read ends").map(|batches| batches.iter().collect())
    }

    /// The process dies and the power goes; what is left of the disk.
    pub(super) fn crash(mut self) -> SimDisk {
        self.disk.kill();
        self.disk.cut_power();
        self.disk
    }

    pub(super) fn shut_down(mut self) -> SimDisk {
        self.log.shutdown();
        let events = self.settle();
        assert!(matches!(events.last(), Some(LogEvent::ShutDown)), "{events:?}");
        self.disk
    }
}

//! An executor that lies: each kind breaks one promise that the system rests on, and the checker must notice.
//!
//! Kinds of the disk are carried out by `SimDisk`, the others by the executor of actions. Without `--lie` nothing here
//! is ever used.

use super::dice::Dice;
use super::marks::moved;
use crate::config::Config;
use crate::log::{FileId, OpKind, SmallFile};
use crate::record::{BATCH_HEADER_BYTES, BATCH_PREFIX_BYTES, BatchHeader, restamp_producer};

macro_rules! lies {
    ($($name:ident $word:literal $what:literal),* $(,)?) => {
        /// A kind of lie: the promise that it breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Lie { $(#[doc = $what] $name),* }

        impl Lie {
            /// In the order of the table above.
            pub const ALL: &[Lie] = &[$(Lie::$name),*];

            /// One word, as the flags and the story have it.
            pub fn name(self) -> &'static str {
                match self { $(Lie::$name => $word),* }
            }

            /// A sentence for people.
            pub fn what(self) -> &'static str {
                match self { $(Lie::$name => $what),* }
            }
        }
    };
}

lies! {
    FlushNotDone "flush-not-done" "a durable write stays in the device's cache",
    WriteLost "write-lost" "a write is reported and never made",
    WriteTorn "write-torn" "a write is reported and only some of its sectors are written",
    WriteMisplaced "write-misplaced" "a write goes to the next block",
    VoteForgotten "vote-forgotten" "quorum-state is reported as replaced and is not",
    VoteRestored "vote-restored" "a node finds an older quorum-state when it starts",
    OpeningFlushSkipped "opening-flush-skipped" "recovery's flush does nothing",
    DirectoryEntryLost "directory-entry-lost" "a new segment's name is not durable",
    TruncationLost "truncation-lost" "zeros behind a cut are not written",
    TruncationLate "truncation-late" "zeros behind a cut are written after what is appended there",
    CompletionSwapped "completion-swapped" "an operation's completion is handed to another one",
    CompletionEarly "completion-early" "a durable write is reported when it is submitted",
    TailForgotten "tail-forgotten" "a node finds its log without the last batch when it starts",
    AnswerSwapped "answer-swapped" "an answer goes to another connection's request",
    AckMoved "ack-moved" "a Produce is answered with the next offset",
    AckOfFailure "ack-of-failure" "a Produce that failed is answered as if it had not",
    AckBeforeCommit "ack-before-commit" "a Produce with acks=-1 is taken as one with acks=1",
    PastHighWatermark "past-high-watermark" "a consumer is shown a higher high watermark",
    UncommittedShown "uncommitted-shown" "a consumer is given batches from the leader's tail",
    ConsumerMoved "consumer-moved" "a consumer is given a batch at another offset",
    FetchAhead "fetch-ahead" "a follower's Fetch says that it has more than it has",
    FollowerEpoch "follower-epoch" "a follower is given a batch with another epoch",
    VoteGranted "vote-granted" "a refused vote is answered as granted",
    ProducersForgotten "producers-forgotten" "a node starts without the state of its producers",
    ConfigsForgotten "configs-forgotten" "a node starts without what was set for the topic",
    AlterationOfFailure "alteration-of-failure" "an alteration that failed is answered as if it had not",
    NamesBelieved "names-believed" "a start believes names that a dead process has not made durable",
    SmallFileHollow "small-file-hollow" "a small file is renamed before its bytes are durable",
    RotBelieved "rot-believed" "a rotten quorum-state is stripped of its checksum",
    RotServed "rot-served" "a consumer is given a batch with a flipped bit",
    EpochEarly "epoch-early" "an answer tells the epoch that comes next",
    SummaryIgnored "summary-ignored" "a start takes no producers from the summaries that it believes",
    LimitsIgnored "limits-ignored" "a node is started with larger limits than it was told",
    PlacesUnbounded "places-unbounded" "a node has places for all connections that come",
    RoundEndless "round-endless" "clients are read as if a round had no end",
    MemoryUnasked "memory-unasked" "large requests are read without asking for the memory",
    ReadsUnbounded "reads-unbounded" "the device is read for clients without an end",
    ParkedUnbounded "parked-unbounded" "Fetches are parked without an end",
    OutputUnbounded "output-unbounded" "answers are kept for who does not read them",
    EpochsBelieved "epochs-believed" "whoever names an epoch is believed",
    CheckSkipped "check-skipped" "what is read and is rotten is given a CRC that fits",
    BlockOfAnotherPlace "block-of-another-place" "of what is read two batches have changed places, each as if it belonged there",
    SnapshotLacksProducer "snapshot-lacks-producer" "a snapshot is without one of its producers",
    SilentFirst "silent-first" "of a voter's connections the one goes that has been silent the longest",
    StartUnmarked "start-unmarked" "the mark of a log whose start moves is reported and not written",
    StartAboveCommit "start-above-commit" "the mark of a log whose start moves says a later one",
    StartBeforeSnapshot "start-before-snapshot" "a node takes what it folded for kept, and it is not",
    StartForgotten "start-forgotten" "a node finds the mark from before its start moved when it starts",
}

impl Lie {
    /// By the name that `--lie` takes.
    pub fn parse(name: &str) -> Option<Lie> {
        Lie::ALL.iter().find(|lie| lie.name() == name).copied()
    }

    /// How often it is told, where there is an occasion.
    fn permille(self) -> u64 {
        match self {
            Lie::WriteLost | Lie::WriteTorn | Lie::WriteMisplaced | Lie::CompletionSwapped => 50,
            Lie::AnswerSwapped | Lie::AckMoved | Lie::ConsumerMoved | Lie::FollowerEpoch => 50,
            Lie::BlockOfAnotherPlace => 50,
            Lie::FetchAhead | Lie::EpochEarly | Lie::RotServed => 100,
            Lie::FlushNotDone | Lie::CompletionEarly => 300,
            _ => 1000,
        }
    }
}

/// The lie of this run, if any.
#[derive(Debug)]
pub(super) struct Liar {
    kind: Option<Lie>,
    dice: Dice,
    pub(super) told: u64,
}

impl Liar {
    pub(super) fn new(kind: Option<Lie>, dice: Dice) -> Liar {
        Liar { kind, dice, told: 0 }
    }

    pub(super) fn is(&self, lie: Lie) -> bool {
        self.kind == Some(lie)
    }

    /// Is this the occasion?
    pub(super) fn tells(&mut self, lie: Lie) -> bool {
        if self.kind != Some(lie) || !self.dice.permille(lie.permille()) {
            return false;
        }
        self.told += 1;
        true
    }

    /// What a node is started with.
    pub(super) fn config_of(&mut self, config: &Config) -> Config {
        let mut config = config.clone();
        let limits = &mut config.limits;
        if self.tells(Lie::LimitsIgnored) {
            limits.unflushed_bytes_max *= 1_000;
            limits.uncommitted_bytes_max *= 1_000;
            limits.tail_cache_bytes_max = (limits.tail_cache_bytes_max + 1) * 1_000;
        }
        if self.is(Lie::LimitsIgnored) || self.tells(Lie::ParkedUnbounded) {
            limits.parked_requests_max *= 1_000;
        }
        if self.tells(Lie::ReadsUnbounded) {
            limits.device_reads_bytes_max *= 1_000;
        }
        config
    }

    /// A lie about this operation, if it is one that such a lie can be told of.
    pub(super) fn about(&mut self, op: &OpKind) -> Option<Lie> {
        let lie = self.kind?;
        let fits = match op {
            OpKind::Write { durable, buffer, file, .. } => match lie {
                Lie::StartUnmarked | Lie::StartAboveCommit => {
                    *file == FileId::CommitMark && moved(buffer.as_slice())
                }
                Lie::FlushNotDone | Lie::CompletionEarly => *durable,
                Lie::WriteLost | Lie::WriteTorn | Lie::WriteMisplaced => true,
                _ => false,
            },
            OpKind::ReplaceFile { file: SmallFile::QuorumState, .. } => {
                matches!(lie, Lie::VoteForgotten | Lie::SmallFileHollow)
            }
            OpKind::ZeroSegment { .. } => matches!(lie, Lie::TruncationLost | Lie::TruncationLate),
            OpKind::Read { .. } => matches!(lie, Lie::CheckSkipped | Lie::BlockOfAnotherPlace),
            OpKind::FlushSegment { .. } => lie == Lie::OpeningFlushSkipped,
            OpKind::CreateSegment { .. } => lie == Lie::DirectoryEntryLost,
            _ => false,
        };
        (fits && self.tells(lie)).then_some(lie)
    }
}

/// What a read has brought, with this lie told of it.
pub(super) fn falsify_read(lie: Lie, bytes: &mut [u8]) {
    match lie {
        Lie::CheckSkipped => {
            for (at, header) in batches_of(bytes) {
                let batch = &mut bytes[at..at + header.size_bytes];
                restamp_producer(batch, (header.producer_id, header.producer_epoch, header.base_sequence));
            }
        }
        Lie::BlockOfAnotherPlace => swap_two(bytes),
        _ => {}
    }
}

/// Two that are of one size: all of them but what a leader has stamped.
fn swap_two(bytes: &mut [u8]) {
    let all = batches_of(bytes);
    let shape = |header: &BatchHeader| (header.size_bytes, header.record_count, header.is_control());
    for (i, (first, of_first)) in all.iter().enumerate() {
        if let Some((second, _)) = all[i + 1..].iter().find(|(_, other)| shape(other) == shape(of_first)) {
            let rest = of_first.size_bytes - BATCH_PREFIX_BYTES;
            let (before, behind) = bytes.split_at_mut(second + BATCH_PREFIX_BYTES);
            let first = first + BATCH_PREFIX_BYTES;
            return before[first..first + rest].swap_with_slice(&mut behind[..rest]);
        }
    }
}

fn batches_of(bytes: &[u8]) -> Vec<(usize, BatchHeader)> {
    let (mut at, mut all) = (0, Vec::new());
    while let Some(header) = BatchHeader::decode(&bytes[at..])
        && header.size_bytes >= BATCH_HEADER_BYTES
        && header.size_bytes <= bytes.len() - at
    {
        all.push((at, header));
        at += header.size_bytes;
    }
    all
}

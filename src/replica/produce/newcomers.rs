//! Which producers that nobody knows may begin to write: a bound that refuses them, and never forgets who is active.
//!
//! The leader asks before it appends the first batch of a producer id. The fold itself (`folds::producers`) keeps what the log
//! says, on every replica alike: over its bound it forgets who has not written for longest. So a newcomer is admitted
//! while there is room, or when that one has been silent for so long that it will not send a batch again.
//!
//! How long that is says this node's own clock, which remembers where the log ended when. What was written before the node was
//! started it has not seen; there it believes the time that the silent producer itself gave its last batch (Kafka lets producers
//! expire by that alone). A client may write any time, but only into its own batches: whoever invents producers
//! can make those look old, and so let them be pushed out, and cannot touch another's. Who copies old records with their times
//! could be taken for silent only as the one who has waited for longest of all, within this time of a start, with the table full.

use crate::config::Limits;
use crate::record::BatchHeader;
use crate::replica::connection_id::ConnectionId;
use crate::replica::folds::{Fold, Producers};
use crate::types::*;
use std::collections::{BTreeMap, VecDeque};

/// The log's end is remembered so often within `producer_id_idle_ms_min`.
const SAMPLES: u64 = 16;

#[derive(Debug, Default)]
pub(super) struct Newcomers {
    /// Producer ids that each open connection has brought.
    by_connection: BTreeMap<ConnectionId, usize>,
    /// (monotonic ns, where the log ended then), the oldest first: the age of what lies below, by our own clock. What clients
    /// write into their batches says nothing about it.
    ends: VecDeque<(u64, Offset)>,
}

impl Newcomers {
    pub(super) fn on_turn(&mut self, now: Now, end: LogEndOffset, limits: &Limits) {
        let idle_ns = limits.producer_id_idle_ms_min * NS_PER_MS;
        let is_due = |(at, _): &(u64, Offset)| now.monotonic_ns >= at + idle_ns / SAMPLES;
        if self.ends.back().is_none_or(is_due) {
            self.ends.push_back((now.monotonic_ns, end.0));
        }
        // Of those that are old enough the newest says it.
        while self.ends.get(1).is_some_and(|(at, _)| at + idle_ns <= now.monotonic_ns) {
            self.ends.pop_front();
        }
    }

    pub(super) fn on_closed(&mut self, connection: ConnectionId) {
        self.by_connection.remove(&connection);
    }

    /// May this connection bring one more producer? `Err`: why not.
    pub(super) fn admit(
        &mut self,
        now: Now,
        connection: ConnectionId,
        producers: &Producers,
        header: &BatchHeader,
        limits: &Limits,
    ) -> Result<(), String> {
        let brought = self.by_connection.get(&connection).copied().unwrap_or(0);
        if brought >= limits.connection_producer_ids_max {
            return Err(format!(
                "this connection has brought {brought} producer ids (kraft.connection.max.producer.ids): use one producer \
                 for a connection, and keep it"
            ));
        }
        let is_silent =
            |(last, timestamp)| self.is_silent(now, last, timestamp, limits.producer_id_idle_ms_min);
        if !producers.has_room(header) && !producers.next_to_go().is_some_and(is_silent) {
            return Err(format!(
                "{} idempotent producers are active (kraft.max.producer.ids), and none has been silent for {} ms \
                 (kraft.producer.id.idle.min.ms): a new one must wait, or do without enable.idempotence; or raise \
                 kraft.max.producer.ids on all nodes (400 bytes each)",
                producers.len(),
                limits.producer_id_idle_ms_min
            ));
        }
        *self.by_connection.entry(connection).or_default() += 1;
        Ok(())
    }

    /// Of a producer whose last batch has this offset and this time.
    fn is_silent(&self, now: Now, last: Offset, timestamp: i64, idle_ms: u64) -> bool {
        let Some((at, _)) = self.ends.front().filter(|(_, end)| last < *end) else { return false };
        if at + idle_ms * NS_PER_MS <= now.monotonic_ns {
            return true;
        }
        // The first that was remembered: the end at the start.
        let age_ms = now.wall_ms.saturating_sub(timestamp);
        timestamp >= 0 && u64::try_from(age_ms).is_ok_and(|age_ms| age_ms >= idle_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { monotonic_ns: ms * NS_PER_MS, wall_ms: 0 }
    }

    fn batch(producer_id: i64, base: i64) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(base),
            size_bytes: 100,
            leader_epoch: Epoch(1),
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            // As an attacker would have it.
            base_timestamp: i64::MAX,
            max_timestamp: i64::MAX,
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            record_count: 1,
        }
    }

    fn limits() -> Limits {
        Limits { producer_id_idle_ms_min: 1_600, connection_producer_ids_max: 3, ..Limits::default() }
    }

    #[test]
    fn who_is_active_is_never_pushed_out_and_who_was_silent_for_long_makes_room() {
        let (limits, mut newcomers, mut producers) = (limits(), Newcomers::default(), Producers::new(2));
        let connection = ConnectionId(1);
        newcomers.on_turn(at(0), LogEndOffset(Offset(0)), &limits);
        for (id, base) in [(7, 0), (8, 1)] {
            assert_eq!(newcomers.admit(at(0), connection, &producers, &batch(10, 9), &limits), Ok(()));
            producers.on_append(&batch(id, base));
        }
        for ms in (0..=1_600).step_by(50) {
            newcomers.on_turn(at(ms), LogEndOffset(Offset(2)), &limits);
            let told = newcomers.admit(at(ms), ConnectionId(2), &producers, &batch(10, 9), &limits);
            let why = told.expect_err("both have written less than the time ago");
            assert!(why.contains("raise kraft.max.producer.ids"), "{ms}: {why}");
        }
        newcomers.on_turn(at(1_750), LogEndOffset(Offset(2)), &limits);
        assert_eq!(newcomers.admit(at(1_750), ConnectionId(2), &producers, &batch(10, 9), &limits), Ok(()));
        producers.on_append(&batch(9, 2));
        assert!(!producers.contains(7) && producers.contains(8));
        assert!(newcomers.ends.len() as u64 <= SAMPLES + 2);
    }

    /// Its own time counts, and nobody else's: neither that of other producers, nor one that is in the future or left out.
    #[test]
    fn right_after_a_start_a_producer_is_as_old_as_it_says_itself() {
        let (limits, wall_ms) = (limits(), 1_700_000_000_000);
        let now = Now { monotonic_ns: NS_PER_MS, wall_ms };
        let idle_ms = limits.producer_id_idle_ms_min as i64;
        let admitted = |times: [i64; 2], end: i64| {
            let (mut newcomers, mut producers) = (Newcomers::default(), Producers::new(2));
            for (place, max_timestamp) in times.into_iter().enumerate() {
                let header = batch(7 + place as i64, place as i64);
                producers.on_append(&BatchHeader { max_timestamp, ..header });
            }
            newcomers.on_turn(now, LogEndOffset(Offset(end)), &limits);
            newcomers.admit(now, ConnectionId(1), &producers, &batch(10, 9), &limits).is_ok()
        };
        assert!(admitted([wall_ms - idle_ms, wall_ms], 2), "as without the restart");
        assert!(
            !admitted([wall_ms - idle_ms + 1, wall_ms - idle_ms], 2),
            "the other one is not the next to go"
        );
        assert!(!admitted([-1, -1], 2) && !admitted([i64::MAX, 0], 2), "times that say nothing");
        assert!(!admitted([0, 0], 0), "it has written since the start");
    }

    #[test]
    fn one_connection_cannot_take_all_of_it() {
        let (limits, mut newcomers, producers) = (limits(), Newcomers::default(), Producers::new(100));
        let admitted = |newcomers: &mut Newcomers, id| {
            (0..10)
                .filter(|_| {
                    newcomers.admit(at(0), ConnectionId(id), &producers, &batch(10, 9), &limits).is_ok()
                })
                .count()
        };
        assert_eq!((admitted(&mut newcomers, 1), admitted(&mut newcomers, 2)), (3, 3));
        newcomers.on_closed(ConnectionId(1));
        assert_eq!(newcomers.by_connection.len(), 1);
    }
}

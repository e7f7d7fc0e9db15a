//! One producer on one connection: which batches are under way, and what becomes of them when the leader changes.
//!
//! After a failure nothing new is sent. Once all that was under way has been answered (or the connection is gone), the
//! leader is looked up, and what failed is sent again in its old order, so that an idempotent producer stays one.

use std::collections::VecDeque;

use kraft::types::ErrorCode;

use crate::link::Link;

/// Short, so that the time without a leader is seen to the hundredth of a second.
const BACKOFF_MIN_NS: u64 = 5_000_000;
const BACKOFF_MAX_NS: u64 = 20_000_000;
/// Kafka's codes that `ErrorCode` has no name for.
const REPLICA_NOT_AVAILABLE: ErrorCode = ErrorCode(9);
const NETWORK_EXCEPTION: ErrorCode = ErrorCode(13);
const NOT_ENOUGH_REPLICAS: ErrorCode = ErrorCode(19);
const NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorCode = ErrorCode(20);

/// A batch that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) correlation_id: i32,
    pub(crate) template: usize,
    /// Of an idempotent producer's first record.
    pub(crate) sequence: i32,
    /// From when latency counts: in the open loop the due time, else when it was first sent.
    pub(crate) due_ns: u64,
    pub(crate) sent_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// A batch failed: wait for the answers to the rest.
    Draining,
    /// Look for the leader at this time.
    Waiting {
        until_ns: u64,
    },
}

/// Producer id and epoch from the broker, and the sequence of the next new record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) next_sequence: i32,
}

pub(crate) struct Connection {
    pub(crate) link: Option<Link>,
    pub(crate) address: String,
    /// Of the leader that this connection was opened for.
    pub(crate) leader_version: u64,
    pub(crate) in_flight: VecDeque<Sent>,
    /// To be sent again, oldest first.
    pub(crate) again: VecDeque<Sent>,
    pub(crate) state: State,
    /// `None`: not idempotent, or a new id is needed.
    pub(crate) producer: Option<Producer>,
    pub(crate) next_correlation_id: i32,
    /// Batches while it was measured.
    pub(crate) acknowledged: u64,
    /// Among those that may have a batch to send.
    pub(crate) is_queued: bool,
    backoff_ns: u64,
}

/// What an answer means for its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Acknowledged,
    /// The leader changed, or a majority is missing: send it again.
    Again,
    /// Send it again, as a new producer: the leader does not know the sequences of the old one.
    AgainAsNewProducer,
    /// It will never be accepted.
    Failed,
}

impl Connection {
    pub(crate) fn new() -> Connection {
        Connection {
            link: None,
            address: String::new(),
            leader_version: 0,
            in_flight: VecDeque::new(),
            again: VecDeque::new(),
            state: State::Waiting { until_ns: 0 },
            producer: None,
            next_correlation_id: 0,
            acknowledged: 0,
            is_queued: false,
            backoff_ns: BACKOFF_MIN_NS,
        }
    }

    pub(crate) fn has_room(&self, in_flight: usize) -> bool {
        self.state == State::Open && self.in_flight.len() < in_flight
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.again.is_empty()
    }

    pub(crate) fn on_answer(&mut self, sent: Sent, error: ErrorCode, now_ns: u64) -> Verdict {
        let verdict = self.verdict(error);
        match verdict {
            Verdict::Acknowledged => self.backoff_ns = BACKOFF_MIN_NS,
            Verdict::Again => self.again.push_back(sent),
            Verdict::AgainAsNewProducer => {
                self.again.push_back(sent);
                self.producer = None;
            }
            // Its sequences are missing now: an idempotent producer begins anew.
            Verdict::Failed => self.producer = None,
        }
        if verdict != Verdict::Acknowledged {
            self.state = State::Draining;
        }
        if self.state == State::Draining && self.in_flight.is_empty() {
            self.back_off(now_ns);
        }
        verdict
    }

    fn verdict(&self, error: ErrorCode) -> Verdict {
        match error {
            // A batch that was sent again after its first answer was lost.
            ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Verdict::Acknowledged,
            // The batch before it has failed, and this one follows it.
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER if self.state == State::Draining => Verdict::Again,
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::INVALID_PRODUCER_EPOCH => Verdict::AgainAsNewProducer,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::BROKER_NOT_AVAILABLE
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | REPLICA_NOT_AVAILABLE
            | NETWORK_EXCEPTION
            | NOT_ENOUGH_REPLICAS
            | NOT_ENOUGH_REPLICAS_AFTER_APPEND => Verdict::Again,
            _ => Verdict::Failed,
        }
    }

    /// The socket is gone: all that was under way is sent again, and the leader is looked for at once.
    pub(crate) fn on_lost(&mut self, now_ns: u64) {
        self.link = None;
        self.again.extend(self.in_flight.drain(..));
        self.state = State::Waiting { until_ns: now_ns };
    }

    /// Looked for without luck, or refused by whom it found: wait, longer each time, up to a limit.
    pub(crate) fn back_off(&mut self, now_ns: u64) {
        self.state = State::Waiting { until_ns: now_ns + self.backoff_ns };
        self.backoff_ns = (self.backoff_ns * 2).min(BACKOFF_MAX_NS);
    }

    /// Sequences for a batch of so many records; -1 without idempotence. Wraps at 2^31 as Kafka's do.
    pub(crate) fn take_sequence(&mut self, records: u64) -> i32 {
        let Some(producer) = &mut self.producer else { return -1 };
        let sequence = producer.next_sequence;
        producer.next_sequence = ((sequence as u64 + records) % (1 << 31)) as i32;
        sequence
    }

    pub(crate) fn take_correlation_id(&mut self) -> i32 {
        self.next_correlation_id = (self.next_correlation_id + 1) & i32::MAX;
        self.next_correlation_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(correlation_id: i32) -> Sent {
        Sent { correlation_id, template: 0, sequence: correlation_id, due_ns: 0, sent_ns: 0 }
    }

    fn open(in_flight: i32) -> Connection {
        let mut connection = Connection::new();
        connection.state = State::Open;
        connection.producer = Some(Producer { id: 1, epoch: 0, next_sequence: in_flight });
        connection.in_flight = (0..in_flight).map(sent).collect();
        connection
    }

    fn answer(connection: &mut Connection, error: ErrorCode) -> Verdict {
        let sent = connection.in_flight.pop_front().unwrap();
        connection.on_answer(sent, error, 1000)
    }

    fn again(connection: &Connection) -> Vec<i32> {
        connection.again.iter().map(|sent| sent.correlation_id).collect()
    }

    #[test]
    fn after_not_leader_the_rest_is_awaited_and_all_is_sent_again_in_order() {
        let mut connection = open(4);
        assert_eq!(answer(&mut connection, ErrorCode::NONE), Verdict::Acknowledged);
        assert_eq!(answer(&mut connection, ErrorCode::NOT_LEADER_OR_FOLLOWER), Verdict::Again);
        assert!(!connection.has_room(5));
        assert_eq!(answer(&mut connection, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER), Verdict::Again);
        assert_eq!(connection.state, State::Draining);
        assert_eq!(answer(&mut connection, ErrorCode::NOT_LEADER_OR_FOLLOWER), Verdict::Again);
        assert_eq!(connection.state, State::Waiting { until_ns: 1000 + BACKOFF_MIN_NS });
        assert_eq!(again(&connection), [1, 2, 3]);
        assert!(connection.producer.is_some() && !connection.is_idle());
    }

    #[test]
    fn a_lost_connection_looks_for_the_leader_at_once() {
        let mut connection = open(3);
        answer(&mut connection, ErrorCode::REQUEST_TIMED_OUT);
        connection.on_lost(5);
        assert_eq!((connection.state, again(&connection)), (State::Waiting { until_ns: 5 }, vec![0, 1, 2]));
    }

    #[test]
    fn sequences_that_nobody_knows_need_a_new_producer() {
        for error in [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::UNKNOWN_PRODUCER_ID] {
            let mut connection = open(1);
            assert_eq!(answer(&mut connection, error), Verdict::AgainAsNewProducer);
            assert_eq!((connection.producer, again(&connection)), (None, vec![0]));
        }
    }

    #[test]
    fn what_is_refused_for_good_is_not_sent_again() {
        let mut connection = open(1);
        assert_eq!(answer(&mut connection, ErrorCode::MESSAGE_TOO_LARGE), Verdict::Failed);
        assert!(connection.is_idle() && connection.producer.is_none());
        assert!(
            matches!(connection.state, State::Waiting { .. }),
            "and the next does not follow at full speed"
        );
    }

    #[test]
    fn a_duplicate_was_acknowledged_before() {
        assert_eq!(answer(&mut open(1), ErrorCode::DUPLICATE_SEQUENCE_NUMBER), Verdict::Acknowledged);
    }

    #[test]
    fn waits_grow_to_a_limit_and_end_with_an_answer() {
        let mut connection = open(0);
        let mut waits = Vec::new();
        for _ in 0..4 {
            connection.back_off(0);
            let State::Waiting { until_ns } = connection.state else { panic!() };
            waits.push(until_ns / 1_000_000);
        }
        assert_eq!(waits, [5, 10, 20, 20]);
        connection.on_answer(sent(1), ErrorCode::NONE, 0);
        assert_eq!(connection.backoff_ns, BACKOFF_MIN_NS);
    }

    #[test]
    fn sequences_wrap_as_kafkas_do() {
        let mut connection = open(0);
        connection.producer = Some(Producer { id: 1, epoch: 0, next_sequence: i32::MAX - 1 });
        assert_eq!([2, 1].map(|records| connection.take_sequence(records)), [i32::MAX - 1, 0]);
        connection.producer = None;
        assert_eq!(connection.take_sequence(1), -1);
    }
}

//! What only the leader can answer, at a node that does not lead: asked of the leader on the client's behalf.
//!
//! Kafka's admin client asks any node, and a broker forwards too (KafkaApis, `DESCRIBE_QUORUM`, `INCREMENTAL_ALTER_CONFIGS`): only
//! the leader knows how far the others are, and only it appends. For each kind of question one connection, to the leader of the
//! moment, opened when it is needed. A forwarded request is never forwarded again, so that two nodes that each take the other for
//! the leader do not play ball.

use std::collections::VecDeque;

use bytes::Bytes;

use super::input::{Action, FORWARD_CLIENT_ID, Lane, PeerLink, Ticket};
use crate::protocol::frame::EncodedFrame;
use crate::protocol::{FrameError, messages as m, quorum};
use crate::types::*;

/// Requests that wait for the leader at once; more get the error that a client retries.
const FORWARDED_MAX: usize = 100;

/// What is asked of the leader, on a connection of its own: none stands before another that may be answered sooner.
pub(super) trait Question {
    type Answer;
    const LANE: Lane;

    fn encode(&self, correlation_id: i32, client_id: &str) -> EncodedFrame;
    /// The frame is without its length.
    fn decode(frame: Bytes) -> Result<Self::Answer, FrameError>;
}

impl Question for m::DescribeQuorumRequest {
    type Answer = m::DescribeQuorumResponse;
    const LANE: Lane = Lane::Forward;

    fn encode(&self, correlation_id: i32, client_id: &str) -> EncodedFrame {
        quorum::encode_describe_quorum_request(correlation_id, client_id, self)
    }

    fn decode(frame: Bytes) -> Result<Self::Answer, FrameError> {
        quorum::decode_describe_quorum_response(frame)
    }
}

/// One client's request, on its way.
pub(super) struct Forwarded<Q> {
    pub(super) ticket: Ticket,
    pub(super) question: Q,
    deadline_ns: u64,
}

pub(super) enum ForwardEvent<Q: Question> {
    Answered(Forwarded<Q>, Q::Answer),
    /// No answer: the client is to be told what this node knows.
    Failed {
        forwarded: Forwarded<Q>,
        /// The leader may have heard it.
        was_sent: bool,
    },
}

#[derive(PartialEq, Eq)]
enum State {
    Idle,
    Connecting,
    Open,
    Closing,
}

pub(super) struct Forwarding<Q: Question> {
    timeout_ms: u64,
    /// The node that the connection goes to.
    to: Option<NodeId>,
    state: State,
    /// In the order in which they were taken: the first `sent` of them are with the leader.
    waiting: VecDeque<Forwarded<Q>>,
    sent: usize,
    next_correlation_id: i32,
    actions: VecDeque<Action>,
    events: VecDeque<ForwardEvent<Q>>,
}

impl<Q: Question> Forwarding<Q> {
    pub(super) fn new(timeout_ms: u64) -> Forwarding<Q> {
        Forwarding {
            timeout_ms,
            to: None,
            state: State::Idle,
            waiting: VecDeque::new(),
            sent: 0,
            next_correlation_id: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Ask this node; the answer, or that there is none, comes as an event.
    pub(super) fn forward(
        &mut self,
        now: Now,
        (to, endpoint): (NodeId, Endpoint),
        ticket: Ticket,
        question: Q,
    ) {
        let forwarded = Forwarded { ticket, question, deadline_ns: now.plus_ms(self.timeout_ms) };
        // While the connection to an older leader closes, nothing can be sent to the new one.
        let closing = self.state == State::Closing || self.to.is_some_and(|old| old != to);
        if self.state != State::Idle && self.to != Some(to) {
            self.close();
        }
        if closing || self.waiting.len() >= FORWARDED_MAX {
            return self.events.push_back(ForwardEvent::Failed { forwarded, was_sent: false });
        }
        self.waiting.push_back(forwarded);
        match self.state {
            State::Idle => {
                self.to = Some(to);
                self.state = State::Connecting;
                let link = PeerLink { node: to, lane: Q::LANE };
                self.actions.push_back(Action::PeerConnect { link, endpoint });
            }
            State::Open => self.send_waiting(),
            State::Connecting | State::Closing => {}
        }
    }

    pub(super) fn on_connected(&mut self) {
        if self.state == State::Connecting {
            self.state = State::Open;
            self.send_waiting();
        }
    }

    pub(super) fn on_frame(&mut self, frame: Bytes) {
        if self.state != State::Open {
            return;
        }
        match self.take_answer(frame) {
            Ok(event) => self.events.push_back(event),
            Err(_) => self.close(),
        }
    }

    /// Answers come in the order of the requests.
    fn take_answer(&mut self, frame: Bytes) -> Result<ForwardEvent<Q>, String> {
        let due = self.next_correlation_id.wrapping_sub(self.sent as i32) & i32::MAX;
        if quorum::response_correlation_id(&frame) != Some(due) || self.sent == 0 {
            return Err("an answer to nothing that was asked".to_string());
        }
        let answer = Q::decode(frame).map_err(|e| e.to_string())?;
        let forwarded = self.waiting.pop_front().ok_or("an answer that nobody waits for")?;
        self.sent -= 1;
        Ok(ForwardEvent::Answered(forwarded, answer))
    }

    /// The connection is gone, or was never made.
    pub(super) fn on_closed(&mut self) {
        self.fail_all();
        self.state = State::Idle;
        self.to = None;
    }

    pub(super) fn on_tick(&mut self, now: Now) {
        if self.deadline().is_some_and(|deadline| deadline <= now.monotonic_ns) {
            self.close();
        }
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.waiting.front().map(|forwarded| forwarded.deadline_ns)
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<ForwardEvent<Q>> {
        self.events.pop_front()
    }

    fn send_waiting(&mut self) {
        let Some(node) = self.to else { return };
        while let Some(forwarded) = self.waiting.get(self.sent) {
            let id = self.next_correlation_id;
            let frame = forwarded.question.encode(id, FORWARD_CLIENT_ID);
            self.next_correlation_id = id.wrapping_add(1) & i32::MAX;
            self.sent += 1;
            let link = PeerLink { node, lane: Q::LANE };
            self.actions.push_back(Action::PeerSend { link, chunks: frame.chunks });
        }
    }

    fn close(&mut self) {
        self.fail_all();
        if let Some(node) = self.to
            && self.state != State::Closing
        {
            self.state = State::Closing;
            let link = PeerLink { node, lane: Q::LANE };
            self.actions.push_back(Action::PeerClose { link });
        }
    }

    fn fail_all(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        let failed = self.waiting.drain(..).enumerate();
        self.events.extend(
            failed.map(|(place, forwarded)| ForwardEvent::Failed { forwarded, was_sent: place < sent }),
        );
    }
}

#[cfg(test)]
mod tests;

//! IncrementalAlterConfigs and AlterConfigs: what is set for the topic, kept in the log.
//!
//! Called by `Replica`. The leader appends one control batch that says all that is set from there on, and answers when it is
//! committed; any other node asks the leader in its client's place, as Kafka's brokers do (clients ask any node). What may be set
//! is judged in `requests`, what is set is folded from the log (`folds`).

use super::desk::{Desk, Engine};
use super::folds::{Set, check_room};
use super::forward::{ForwardEvent, Forwarded, Forwarding, Question};
use super::input::{Lane, Ticket};
use super::notice::Level;
use super::requests::{Alteration, Asked, Judged};
use crate::protocol::frame::EncodedFrame;
use crate::protocol::{FrameError, messages as m, quorum};
use crate::record::configs_batch;
use crate::types::*;
use bytes::Bytes;
use std::collections::VecDeque;

/// As Produce has it: at so many bounds nothing more is appended.
const UNCOMMITTED_BOUNDS_MAX: u64 = 2;
/// Who asks the leader in another's place waits so many times as long as the leader does.
const FORWARDED_TIMES: u64 = 2;

const WHETHER_IS_NOT_KNOWN: &str =
    "What was asked for may have been set, or may be set yet: describe the topic to see";

pub(super) struct AlterConfigs {
    /// Appended in this node's epoch, in the order of the log.
    parked: VecDeque<Parked>,
    forwarding: Forwarding<Judged>,
    wait_ms: u64,
    data_mode: DataMode,
}

struct Parked {
    ticket: Ticket,
    judged: Judged,
    /// Answered when the high watermark is there.
    needs: Offset,
    epoch: Epoch,
    deadline_ns: u64,
    set: Set,
}

impl Question for Judged {
    type Answer = m::IncrementalAlterConfigsResponse;
    const LANE: Lane = Lane::Alter;

    fn encode(&self, correlation_id: i32, client_id: &str) -> EncodedFrame {
        quorum::encode_alter_configs_request(correlation_id, client_id, &self.for_leader())
    }

    fn decode(frame: Bytes) -> Result<Self::Answer, FrameError> {
        quorum::decode_alter_configs_response(frame)
    }
}

impl AlterConfigs {
    pub(super) fn new(request_timeout_ms: u64, data_mode: DataMode) -> AlterConfigs {
        AlterConfigs {
            parked: VecDeque::new(),
            forwarding: Forwarding::new(request_timeout_ms.saturating_mul(FORWARDED_TIMES)),
            wait_ms: request_timeout_ms,
            data_mode,
        }
    }

    pub(super) fn on_request(
        &mut self,
        engine: &mut Engine,
        desk: &mut Desk,
        ticket: Ticket,
        is_forwarded: bool,
        alteration: Alteration,
    ) {
        let asked = Asked {
            topic_name: &desk.context.topic,
            local: desk.context.local.id,
            data_mode: self.data_mode,
        };
        let mut judged = alteration.judge(&asked);
        if !judged.is_for_leader() {
            return desk.answer(&ticket, judged.into_response());
        }
        if engine.raft().is_leader() {
            return self.lead(engine, desk, ticket, judged);
        }
        match desk.leader_endpoint(engine).filter(|_| !is_forwarded) {
            Some((leader, endpoint)) => {
                let endpoint = Endpoint::clone(&endpoint);
                self.forwarding.forward(desk.now, (leader, endpoint), ticket, judged);
            }
            None => {
                let why = "No leader is known here: ask again when there is one. Nothing was set";
                judged.refuse(ErrorCode::NOT_CONTROLLER, Some(m::StrBytes::from_static_str(why)));
                desk.answer(&ticket, judged.into_response());
            }
        }
    }

    fn lead(&mut self, engine: &mut Engine, desk: &mut Desk, ticket: Ticket, mut judged: Judged) {
        let set = judged.apply(&engine.folds().configs().current());
        if let Err((error, why)) = self.check_append(engine, desk, &set) {
            judged.refuse(error, Some(m::StrBytes::from_string(why)));
            return desk.answer(&ticket, judged.into_response());
        }
        if judged.validate_only {
            return desk.answer(&ticket, judged.into_response());
        }
        // Also where nothing changes: a leader that was deposed unheard must not say that it is so.
        let pairs: Vec<(&str, &str)> = set.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let (_, needs) = engine.append(desk.now, configs_batch(desk.now.wall_ms, &pairs));
        desk.take_notes(engine);
        let deadline_ns = desk.now.plus_ms(self.wait_ms);
        let epoch = engine.raft().epoch();
        self.parked.push_back(Parked { ticket, judged, needs, epoch, deadline_ns, set });
    }

    fn check_append(&self, engine: &Engine, desk: &Desk, set: &Set) -> Result<(), (ErrorCode, String)> {
        check_room(set).map_err(|why| (ErrorCode::INVALID_CONFIG, why))?;
        let too_old = desk.peers.too_old_for_configs().or(engine.raft().too_old_for_starts());
        if let Some(node) = too_old {
            let why = format!(
                "node {node} runs an older version, which would store it and not go by it: start it with this one. Nothing was set"
            );
            return Err((ErrorCode::POLICY_VIOLATION, why));
        }
        let limits = &desk.limits;
        let refusal = match () {
            _ if !engine.raft().can_append() => {
                (ErrorCode::NOT_CONTROLLER, "this node is about to lead no more")
            }
            _ if !engine.has_disk_room() => (
                ErrorCode::KAFKA_STORAGE_ERROR,
                "the disk is full: fewer bytes are free than kraft.disk.free.min.bytes",
            ),
            _ if engine.uncommitted_bytes() >= limits.uncommitted_bytes_max * UNCOMMITTED_BOUNDS_MAX => (
                ErrorCode::REQUEST_TIMED_OUT,
                "no majority has taken what came before: kraft.uncommitted.max.bytes has been reached twice over",
            ),
            _ if self.parked.len() >= limits.parked_requests_max => {
                (ErrorCode::REQUEST_TIMED_OUT, "too many requests wait for a commit")
            }
            _ => return Ok(()),
        };
        Err((refusal.0, format!("{}. Nothing was set", refusal.1)))
    }

    pub(super) fn end_turn(&mut self, engine: &Engine, desk: &mut Desk) {
        if self.parked.is_empty() {
            return;
        }
        if engine.has_role_changed() {
            let leading = engine.raft().is_leader().then(|| engine.raft().epoch());
            let why = "This node lost the lead before a majority had it";
            self.give_up(desk, ErrorCode::NOT_CONTROLLER, why, |parked| Some(parked.epoch) != leading);
        }
        if let Some(high_watermark) = engine.raft().high_watermark() {
            while self.parked.front().is_some_and(|parked| parked.needs <= high_watermark.0) {
                if let Some(parked) = self.parked.pop_front() {
                    desk.note(Level::Info, told(desk.context.topic.as_str(), &parked));
                    desk.answer(&parked.ticket, parked.judged.into_response());
                }
            }
        }
        let now_ns = desk.now.monotonic_ns;
        let why = "No majority had it within controller.quorum.request.timeout.ms";
        self.give_up(desk, ErrorCode::REQUEST_TIMED_OUT, why, |parked| parked.deadline_ns <= now_ns);
    }

    fn give_up(&mut self, desk: &mut Desk, error: ErrorCode, why: &str, is_over: impl Fn(&Parked) -> bool) {
        // They came in the order of their deadlines and epochs.
        while self.parked.front().is_some_and(&is_over)
            && let Some(Parked { ticket, mut judged, .. }) = self.parked.pop_front()
        {
            judged.refuse(error, Some(m::StrBytes::from_string(format!("{why}. {WHETHER_IS_NOT_KNOWN}"))));
            desk.answer(&ticket, judged.into_response());
        }
    }

    pub(super) fn forwarding(&mut self) -> &mut Forwarding<Judged> {
        &mut self.forwarding
    }

    /// What the leader has said, or that it could not be asked.
    pub(super) fn on_forwarded(&self, desk: &mut Desk, event: ForwardEvent<Judged>) {
        let (Forwarded { ticket, question: mut judged, .. }, error, why) = match event {
            ForwardEvent::Answered(forwarded, answer) => match answer.responses.into_iter().next() {
                Some(line) => (forwarded, ErrorCode(line.error_code), line.error_message),
                // An answer that does not speak of the topic must not be told as that it is done.
                None => {
                    let why =
                        format!("The leader's answer says nothing of the topic. {WHETHER_IS_NOT_KNOWN}");
                    (forwarded, ErrorCode::REQUEST_TIMED_OUT, Some(m::StrBytes::from_string(why)))
                }
            },
            ForwardEvent::Failed { forwarded, was_sent: true } => {
                let why = format!("The leader did not answer this node. {WHETHER_IS_NOT_KNOWN}");
                (forwarded, ErrorCode::REQUEST_TIMED_OUT, Some(m::StrBytes::from_string(why)))
            }
            ForwardEvent::Failed { forwarded, was_sent: false } => {
                let why = "This node cannot ask the leader: ask again. Nothing was set";
                (forwarded, ErrorCode::NOT_CONTROLLER, Some(m::StrBytes::from_static_str(why)))
            }
        };
        judged.refuse(error, why);
        desk.answer(&ticket, judged.into_response());
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        let parked = self.parked.front().map(|parked| parked.deadline_ns);
        [parked, self.forwarding.deadline()].into_iter().flatten().min()
    }

    /// Requests that wait.
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }
}

/// Who runs the node hears what is set, and what does not come of it.
fn told(topic: &str, parked: &Parked) -> String {
    let list: Vec<String> = parked.set.iter().map(|(name, value)| format!("{name}={value}")).collect();
    match list.is_empty() {
        true => format!("nothing is set for {topic} any more: what the nodes' files say counts"),
        false => format!(
            "set for {topic}, and kept in the log: {}. This version keeps these keys and shows them; it deletes no records yet",
            list.join(", ")
        ),
    }
}

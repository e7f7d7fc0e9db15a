use super::*;
use crate::protocol::frame::LENGTH_BYTES;
use crate::protocol::{self, RequestHeader, Response};
use crate::replica::ConnectionId;

const TIMEOUT_MS: u64 = 2000;

fn at(ms: u64) -> Now {
    Now { monotonic_ns: ms * NS_PER_MS, wall_ms: ms as i64 }
}

type Forwarding = super::Forwarding<m::DescribeQuorumRequest>;

fn ask(forwarding: &mut Forwarding, now: Now, to: i32, seq: u64) {
    let ticket = Ticket { connection: ConnectionId(1), seq, api_version: 2, received_ns: 0, decoded_ns: 0 };
    let endpoint = Endpoint { host: "localhost".to_string(), port: 9092 };
    forwarding.forward(now, (NodeId(to), endpoint), ticket, m::DescribeQuorumRequest::default());
}

/// The leader's answer to our request of this correlation id.
fn answer(correlation_id: i32) -> Bytes {
    let header = RequestHeader { api_key: 55, api_version: 2, correlation_id, client_id: None };
    let response = Response::DescribeQuorum(m::DescribeQuorumResponse::default());
    Bytes::from(protocol::encode_response(&header, &response).chunks.concat()).slice(LENGTH_BYTES..)
}

/// What it does and tells, in short.
fn look(forwarding: &mut Forwarding) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(action) = forwarding.poll_action() {
        seen.push(match action {
            Action::PeerConnect { link, .. } => format!("connect {}", link.node),
            Action::PeerSend { link, .. } => format!("send {}", link.node),
            Action::PeerClose { link } => format!("close {}", link.node),
            other => panic!("{other:?}"),
        });
    }
    while let Some(event) = forwarding.poll_event() {
        seen.push(match event {
            ForwardEvent::Answered(forwarded, _) => format!("answered {}", forwarded.ticket.seq),
            ForwardEvent::Failed { forwarded, .. } => format!("failed {}", forwarded.ticket.seq),
        });
    }
    seen
}

/// Connected to node 1, with so many requests sent.
fn connected(requests: u64) -> Forwarding {
    let mut forwarding = Forwarding::new(TIMEOUT_MS);
    (0..requests).for_each(|seq| ask(&mut forwarding, at(0), 1, seq));
    forwarding.on_connected();
    look(&mut forwarding);
    forwarding
}

#[test]
fn requests_wait_for_the_connection_and_answers_come_in_their_order() {
    let mut forwarding = Forwarding::new(TIMEOUT_MS);
    ask(&mut forwarding, at(0), 1, 0);
    ask(&mut forwarding, at(0), 1, 1);
    assert_eq!(look(&mut forwarding), ["connect 1"]);
    forwarding.on_connected();
    assert_eq!(look(&mut forwarding), ["send 1", "send 1"]);
    ask(&mut forwarding, at(1), 1, 2);
    assert_eq!(look(&mut forwarding), ["send 1"]);
    forwarding.on_frame(answer(0));
    forwarding.on_frame(answer(1));
    assert_eq!(look(&mut forwarding), ["answered 0", "answered 1"]);
    forwarding.on_frame(answer(2));
    assert_eq!(look(&mut forwarding), ["answered 2"]);
    assert_eq!(forwarding.deadline(), None);
}

#[test]
fn an_answer_to_nothing_that_was_asked_closes_the_connection() {
    for wrong in [answer(1), answer(7), Bytes::from_static(&[0, 0, 0, 1, 9]), Bytes::from_static(&[0xff; 4])]
    {
        let mut forwarding = connected(1);
        forwarding.on_frame(wrong);
        assert_eq!(look(&mut forwarding), ["close 1", "failed 0"]);
        forwarding.on_frame(answer(0));
        assert_eq!(look(&mut forwarding), [] as [&str; 0], "nothing more is believed");
    }
    // Nothing is asked, and the number would be right.
    let mut forwarding = connected(0);
    ask(&mut forwarding, at(0), 1, 0);
    forwarding.on_connected();
    forwarding.on_frame(answer(0));
    look(&mut forwarding);
    forwarding.on_frame(answer(1));
    assert_eq!(look(&mut forwarding), ["close 1"]);
}

#[test]
fn a_closed_connection_is_made_anew_and_does_not_wait_for_old_answers() {
    let mut forwarding = connected(2);
    forwarding.on_closed();
    assert_eq!(look(&mut forwarding), ["failed 0", "failed 1"]);
    ask(&mut forwarding, at(5), 1, 2);
    assert_eq!(look(&mut forwarding), ["connect 1"]);
    forwarding.on_connected();
    assert_eq!(look(&mut forwarding), ["send 1"]);
    forwarding.on_frame(answer(2));
    assert_eq!(look(&mut forwarding), ["answered 2"]);
}

#[test]
fn time_ends_the_wait_and_the_connection() {
    let mut forwarding = connected(1);
    assert_eq!(forwarding.deadline(), Some(TIMEOUT_MS * NS_PER_MS));
    forwarding.on_tick(at(TIMEOUT_MS - 1));
    assert_eq!(look(&mut forwarding), [] as [&str; 0]);
    forwarding.on_tick(at(TIMEOUT_MS));
    assert_eq!(look(&mut forwarding), ["close 1", "failed 0"]);
    forwarding.on_tick(at(TIMEOUT_MS + 1));
    assert_eq!(look(&mut forwarding), [] as [&str; 0]);
    // Until the server says that it is closed nothing can be sent.
    ask(&mut forwarding, at(TIMEOUT_MS + 2), 1, 1);
    assert_eq!(look(&mut forwarding), ["failed 1"]);
    forwarding.on_closed();
    ask(&mut forwarding, at(TIMEOUT_MS + 3), 1, 2);
    assert_eq!(look(&mut forwarding), ["connect 1"]);
}

#[test]
fn a_new_leader_is_asked_when_the_connection_to_the_old_one_is_closed() {
    let mut forwarding = connected(1);
    ask(&mut forwarding, at(1), 2, 1);
    assert_eq!(look(&mut forwarding), ["close 1", "failed 0", "failed 1"]);
    forwarding.on_closed();
    ask(&mut forwarding, at(2), 2, 2);
    assert_eq!(look(&mut forwarding), ["connect 2"]);
}

#[test]
fn what_was_never_sent_is_told_apart() {
    let was_sent = |forwarding: &mut Forwarding| -> Vec<bool> {
        let events = std::iter::from_fn(|| forwarding.poll_event());
        events.map(|event| matches!(event, ForwardEvent::Failed { was_sent: true, .. })).collect()
    };
    let mut forwarding = connected(2);
    ask(&mut forwarding, at(0), 1, 2);
    forwarding.sent = 2;
    forwarding.on_closed();
    assert_eq!(was_sent(&mut forwarding), [true, true, false]);
    ask(&mut forwarding, at(0), 1, 0);
    forwarding.on_closed();
    assert_eq!(was_sent(&mut forwarding), [false], "it was never connected");
}

#[test]
fn only_so_many_wait() {
    let mut forwarding = connected(FORWARDED_MAX as u64);
    ask(&mut forwarding, at(1), 1, 777);
    assert_eq!(look(&mut forwarding), ["failed 777"]);
}

use super::super::receive::{RECEIVE_BYTES_MAX, RECEIVE_BYTES_MIN};
use super::*;
use crate::protocol::frame::LENGTH_BYTES;
use crate::protocol::messages as m;
use crate::record::data_batch;
use crate::replica::receive_pool::ReceivePool;
use bytes::Buf;

pub(crate) fn limits() -> SessionLimits {
    SessionLimits {
        request_bytes_max: 1 << 20,
        output_bytes_max: 1 << 20,
        requests_max: 8,
        request_entries_max: 1000,
        idle_ms_max: 600_000,
        message_bytes_max: 1 << 19,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        topic_name: "__cluster_metadata".into(),
        topic_id: Uuid::METADATA_TOPIC_ID,
        data_mode: DataMode::Native,
        compressed_check: CompressedCheck::Always,
        decompressed_bytes_max: 64 << 20,
    }
}

const NOW: Now = Now { monotonic_ns: 1, wall_ms: 1_700_000_000_000 };

/// A request frame with header version 1, or 2 where the body is flexible.
fn frame(key: i16, version: i16, correlation_id: i32, is_flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut bytes = [key.to_be_bytes(), version.to_be_bytes()].concat();
    bytes.extend(correlation_id.to_be_bytes());
    bytes.extend(string("tester"));
    bytes.extend(is_flexible.then_some(0));
    bytes.extend(body);
    [&(bytes.len() as i32).to_be_bytes(), bytes.as_slice()].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as i16).to_be_bytes(), text.as_bytes()].concat()
}

fn ints(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// Metadata of no topics.
fn metadata(correlation_id: i32) -> Vec<u8> {
    frame(3, 4, correlation_id, false, &[0, 0, 0, 0, 1])
}

/// Produce of one record to our partition, without a transactional id.
fn produce(correlation_id: i32, acks: i16, value: &[u8]) -> Vec<u8> {
    let batch = data_batch(&[value], NOW.wall_ms, None);
    let body = [
        [(-1_i16).to_be_bytes(), acks.to_be_bytes()].concat(),
        ints(&[1500, 1]),
        string("__cluster_metadata"),
        ints(&[1, 0, batch.len() as i32]),
        batch.to_vec(),
    ];
    frame(0, 7, correlation_id, false, &body.concat())
}

fn answer() -> Option<Response> {
    Some(Response::Metadata(m::MetadataResponse::default()))
}

fn large_answer(bytes: usize) -> Option<Response> {
    let cluster_id = m::StrBytes::from_string("x".repeat(bytes));
    Some(Response::Metadata(m::MetadataResponse::default().with_cluster_id(Some(cluster_id))))
}

fn receive(session: &mut Session, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let buffer = session.receive_buffer(&mut ReceivePool::default());
        let room = (buffer.capacity() - buffer.len()).min(bytes.len());
        assert!(room > 0, "a read without room would look like the end of the stream");
        buffer.extend_from_slice(&bytes[..room]);
        bytes = &bytes[room..];
    }
}

fn poll(session: &mut Session) -> Vec<Arrived> {
    std::iter::from_fn(|| session.poll_request(NOW)).map(|r| r.expect("a good frame")).collect()
}

fn output(session: &mut Session) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = session.poll_output() {
        session.sent(bytes.len());
        all.extend_from_slice(&bytes);
    }
    all
}

/// Correlation ids of the answers in a byte stream.
fn correlation_ids(mut stream: &[u8]) -> Vec<i32> {
    let mut ids = Vec::new();
    while !stream.is_empty() {
        let length = stream.get_i32() as usize;
        ids.push(i32::from_be_bytes(stream[..4].try_into().expect("4 bytes")));
        stream.advance(length);
    }
    ids
}

fn describe(arrived: &Arrived) -> (u64, i16, Option<Vec<u8>>) {
    let value = match &arrived.request {
        Admitted::Produce(p) => {
            Some(p.partitions[0].batch.as_ref().expect("a good batch").to_bytes().to_vec())
        }
        Admitted::Other(Request::Metadata(_)) => None,
        other => panic!("arrived as {other:?}"),
    };
    (arrived.seq, arrived.api_version, value)
}

#[test]
fn a_stream_cut_at_every_position_gives_the_same_requests() {
    let stream = [metadata(1), produce(2, -1, b"first"), produce(3, 1, b"second"), metadata(4)].concat();
    let mut whole = Session::new(limits());
    receive(&mut whole, &stream);
    let expected = poll(&mut whole);
    assert_eq!(expected.len(), 4);
    let expected: Vec<_> = expected.iter().map(describe).collect();
    assert_eq!(expected.iter().map(|e| e.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    for cut in 0..=stream.len() {
        let mut session = Session::new(limits());
        receive(&mut session, &stream[..cut]);
        let mut arrived = poll(&mut session);
        receive(&mut session, &stream[cut..]);
        arrived.extend(poll(&mut session));
        assert_eq!(arrived.iter().map(describe).collect::<Vec<_>>(), expected, "cut at {cut}");
    }
}

#[test]
fn a_stream_byte_by_byte_gives_the_same_requests() {
    let mut session = Session::new(limits());
    let mut arrived = Vec::new();
    for byte in [metadata(1), produce(2, -1, b"value"), metadata(3)].concat() {
        receive(&mut session, &[byte]);
        arrived.extend(poll(&mut session));
    }
    assert_eq!(arrived.iter().map(|a| a.seq).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn answers_come_in_request_order_whatever_the_order_in_which_they_are_given() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut session = Session::new(limits());
        receive(&mut session, &[metadata(10), metadata(11), metadata(12)].concat());
        poll(&mut session);
        let mut stream = Vec::new();
        for seq in order {
            session.answer(seq, answer()).expect("room");
            stream.extend(output(&mut session));
        }
        assert_eq!(correlation_ids(&stream), [10, 11, 12], "answered in the order {order:?}");
        assert_eq!((session.requests_under_way(), session.output_bytes()), (0, 0));
    }
}

#[test]
fn a_request_without_an_answer_keeps_its_place() {
    let mut session = Session::new(limits());
    receive(&mut session, &[produce(1, 0, b"x"), metadata(2)].concat());
    poll(&mut session);
    session.answer(1, answer()).expect("room");
    assert_eq!(session.poll_output(), None, "the first request is not settled");
    session.answer(0, None).expect("room");
    assert_eq!(correlation_ids(&output(&mut session)), [2]);
}

#[test]
fn a_second_answer_is_refused() {
    let mut session = Session::new(limits());
    receive(&mut session, &[metadata(1), metadata(2)].concat());
    poll(&mut session);
    session.answer(1, answer()).expect("room");
    assert!(session.answer(1, answer()).is_err());
    assert!(session.answer(2, answer()).is_err());
    session.answer(0, answer()).expect("room");
    assert!(session.answer(0, answer()).is_err());
}

#[test]
fn at_the_limit_of_requests_the_next_one_waits_in_the_buffer() {
    let mut session = Session::new(SessionLimits { requests_max: 2, ..limits() });
    receive(&mut session, &[metadata(1), metadata(2), metadata(3)].concat());
    assert_eq!(poll(&mut session).len(), 2);
    assert!(session.is_blocked());
    session.answer(0, answer()).expect("room");
    assert!(!session.is_blocked());
    assert_eq!(poll(&mut session).iter().map(|a| a.seq).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_client_that_does_not_read_is_blocked_and_then_closed() {
    let mut session = Session::new(SessionLimits { output_bytes_max: 10_000, ..limits() });
    receive(&mut session, &[metadata(1), metadata(2), metadata(3)].concat());
    poll(&mut session);
    // An answer that waits for its turn is charged like any other.
    session.answer(1, large_answer(6_000)).expect("room");
    assert!(session.is_blocked() && session.output_bytes() > 6_000);
    let refused = session.answer(0, large_answer(6_000)).expect_err("over the limit");
    assert!(refused.0.contains("10000 are allowed"), "{refused}");
}

#[test]
fn polled_bytes_count_until_they_are_sent() {
    let mut session = Session::new(limits());
    receive(&mut session, &metadata(1));
    poll(&mut session);
    session.answer(0, answer()).expect("room");
    let bytes = session.poll_output().expect("an answer");
    assert_eq!(session.output_bytes(), bytes.len());
    session.sent(bytes.len() - 1);
    assert_eq!(session.output_bytes(), 1);
    session.sent(1);
    assert_eq!(session.output_bytes(), 0);
}

#[test]
fn small_answers_are_one_chunk_and_a_large_one_its_own() {
    let mut session = Session::new(limits());
    receive(&mut session, &(0..6).flat_map(metadata).collect::<Vec<u8>>());
    poll(&mut session);
    for seq in 0..4 {
        session.answer(seq, answer()).expect("room");
    }
    let chunk = session.poll_output().expect("answers");
    assert_eq!(correlation_ids(&chunk), [0, 1, 2, 3]);
    assert_eq!(session.poll_output(), None);
    session.answer(4, answer()).expect("room");
    session.answer(5, large_answer(30_000)).expect("room");
    let chunks: Vec<_> = std::iter::from_fn(|| session.poll_output()).collect();
    assert_eq!(chunks.iter().map(|c| correlation_ids(c)).collect::<Vec<_>>(), [[4], [5]]);
    assert!(chunks[1].len() > 30_000);
}

#[test]
fn what_is_not_kafka_fails_once_and_for_ever() {
    for bad in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 2, 0, 1], &[0xff; 8], &[0x7f, 0xff, 0xff, 0xff]]
    {
        let mut session = Session::new(limits());
        receive(&mut session, &metadata(1));
        receive(&mut session, bad);
        assert!(session.poll_request(NOW).expect("the good frame").is_ok());
        assert!(session.poll_request(NOW).expect("the bad frame").is_err(), "{bad:?}");
        assert!(session.poll_request(NOW).is_none());
        assert!(session.received.buffer.capacity() <= RECEIVE_BYTES_MIN);
    }
}

#[test]
fn memory_grows_as_bytes_arrive_and_not_as_they_are_announced() {
    let announced = 1 << 20;
    let mut session = Session::new(limits());
    receive(&mut session, &(announced as i32).to_be_bytes());
    let mut received = LENGTH_BYTES;
    while received < announced {
        assert!(session.poll_request(NOW).is_none());
        let buffer = session.receive_buffer(&mut ReceivePool::default());
        let capacity = buffer.capacity();
        assert!(capacity <= (4 * received).max(2 * RECEIVE_BYTES_MIN), "{capacity} for {received}");
        let room = (capacity - buffer.len()).min(announced - received);
        buffer.extend_from_slice(&vec![0; room]);
        received += room;
    }
    assert!(session.receive_buffer(&mut ReceivePool::default()).capacity() <= 4 * announced);
}

#[test]
fn a_large_frame_is_taken_without_a_copy_and_leaves_no_large_buffer() {
    let value = vec![7; 300_000];
    let mut session = Session::new(limits());
    receive(&mut session, &produce(1, -1, &value));
    let start = session.received.buffer.as_ptr() as usize;
    let range = start..start + session.received.buffer.len();
    let arrived = poll(&mut session);
    let Admitted::Produce(produce) = &arrived[0].request else { panic!("not a Produce") };
    let batch = produce.partitions[0].batch.as_ref().expect("a good batch");
    assert!(range.contains(&(batch.rest().as_ptr() as usize)), "the records were copied");
    drop(arrived);
    assert!(session.receive_buffer(&mut ReceivePool::default()).capacity() <= RECEIVE_BYTES_MAX);
}

#[test]
fn a_frame_no_larger_than_the_last_is_received_into_one_place() {
    let mut session = Session::new(limits());
    let frame = produce(1, -1, &vec![7; 300_000]);
    receive(&mut session, &frame);
    let first = poll(&mut session);
    let (head, rest) = frame.split_at(10_000);
    receive(&mut session, head);
    session.receive_buffer(&mut ReceivePool::default());
    let start = session.received.buffer.as_ptr();
    for part in rest.chunks(10_000) {
        let buffer = session.receive_buffer(&mut ReceivePool::default());
        assert!(buffer.capacity() - buffer.len() >= part.len(), "no room is left");
        buffer.extend_from_slice(part);
        assert_eq!(session.received.buffer.as_ptr(), start, "what had arrived was copied");
    }
    assert_eq!((first.len(), poll(&mut session).len()), (1, 1));
}

#[test]
fn a_busy_connection_gets_a_larger_buffer_and_a_quiet_one_gives_it_back() {
    let mut session = Session::new(limits());
    let stream: Vec<u8> = (0..20_000).flat_map(metadata).collect();
    for part in stream.chunks(100_000) {
        receive(&mut session, part);
        while let Some(arrived) = session.poll_request(NOW) {
            session.answer(arrived.expect("a good frame").seq, None).expect("room");
        }
    }
    assert!(session.received.room_bytes > RECEIVE_BYTES_MIN);
    for i in 0..10 {
        receive(&mut session, &metadata(i));
        poll(&mut session).iter().for_each(|a| session.answer(a.seq, None).expect("room"));
    }
    assert!(session.receive_buffer(&mut ReceivePool::default()).capacity() <= 2 * RECEIVE_BYTES_MIN);
}

#[test]
fn a_voter_is_known_by_its_requests() {
    let fetch = |replica: i32| {
        let body = [ints(&[replica, 500, 1, 1 << 20]), vec![0], ints(&[0, -1, 0, 0]), string("")];
        frame(1, 11, 1, false, &body.concat())
    };
    // No cluster id, no topics.
    let begin = frame(53, 0, 1, false, &[0xff, 0xff, 0, 0, 0, 0]);
    let end = frame(54, 0, 1, false, &[0xff, 0xff, 0, 0, 0, 0]);
    let vote = frame(52, 0, 1, true, &[0, 1, 0]);
    let expected = [
        (metadata(1), false),
        (fetch(-1), false),
        (fetch(2), true),
        (end, true),
        (begin, true),
        (vote, true),
    ];
    for (i, (bytes, is_peer)) in expected.into_iter().enumerate() {
        let mut session = Session::new(limits());
        receive(&mut session, &bytes);
        assert_eq!(poll(&mut session).len(), 1);
        assert_eq!(session.is_peer(), is_peer, "case {i}");
    }
}

/// A voter's requests wait for nobody: whoever has forged one has nothing else of it.
#[test]
fn who_holds_a_voters_place_asks_for_what_voters_ask_for() {
    let vote = frame(52, 0, 1, true, &[0, 1, 0]);
    let as_voter = |bytes: &[u8]| {
        let mut session = Session::new(limits());
        receive(&mut session, &vote);
        assert_eq!(poll(&mut session).len(), 1);
        session.hold_to_voters();
        receive(&mut session, bytes);
        std::iter::from_fn(|| session.poll_request(NOW)).collect::<Vec<_>>()
    };
    let many = [vote_of("kraft", "1.0-native"), vote.clone(), vote.clone(), vote.clone()].concat();
    let taken = as_voter(&many);
    assert!(taken.iter().all(Result::is_ok));
    assert_eq!(taken.len() + 1, VOTER_REQUESTS_MAX, "the others stay in the buffer");
    for (bytes, why) in [
        (metadata(2), "what clients ask for"),
        (produce(2, 0, b"x"), "what clients ask for"),
        (produce(2, 0, &[0; 9_000]), "no voter's request has"),
    ] {
        let end = as_voter(&bytes).pop().expect("something came").expect_err("it is closed");
        assert!(end.0.contains(why), "{end}");
    }
}

/// ApiVersions 3 from this program, and a Vote of version 0 of nobody.
fn vote_of(software: &str, version: &str) -> Vec<u8> {
    let compact = |text: &str| [&[text.len() as u8 + 1], text.as_bytes()].concat();
    let hello = [compact(software), compact(version), vec![0]].concat();
    [frame(18, 3, 1, true, &hello), frame(52, 0, 2, true, &[0, 1, 0])].concat()
}

#[test]
fn voters_that_cannot_read_the_log_are_closed_and_clients_are_not() {
    let last = |mode: DataMode, bytes: &[u8]| {
        let mut session = Session::new(SessionLimits { data_mode: mode, ..limits() });
        receive(&mut session, bytes);
        std::iter::from_fn(|| session.poll_request(NOW)).last().expect("something came").err()
    };
    let java = vote_of("apache-kafka-java", "4.3.0");
    let why = last(DataMode::Native, &java).expect("it is closed").to_string();
    assert!(why.contains("the voter tester is apache-kafka-java 4.3.0"), "{why}");
    assert!(last(DataMode::Interop, &java).is_none());
    assert!(last(DataMode::Native, &vote_of("kraft", "1.0-native")).is_none());
    assert!(last(DataMode::Interop, &vote_of("kraft", "1.0-native")).is_some());
    // Without ApiVersions nobody knows who it is, and Java's clients are no voters.
    assert!(last(DataMode::Native, &frame(52, 0, 2, true, &[0, 1, 0])).is_none());
    let hello_bytes = 4 + u32::from_be_bytes([java[0], java[1], java[2], java[3]]) as usize;
    let client = [&java[..hello_bytes], &metadata(3)].concat();
    assert!(last(DataMode::Native, &client).is_none());
}

#[test]
fn a_fetch_that_waits_does_not_pin_the_receive_buffer() {
    let name = [&[0, 30][..], &[b't'; 30]].concat();
    let header = [0, 1, 0, 4, 0, 0, 0, 1, 0xff, 0xff];
    let body = [&[0xff; 4][..], &[0; 13], &[0, 0, 0, 1], &name, &[0, 0, 0, 1], &[0; 16]].concat();
    let frame = [&header[..], &body].concat();
    let mut session = Session::new(limits());
    session
        .receive_buffer(&mut ReceivePool::default())
        .extend_from_slice(&[&(frame.len() as u32).to_be_bytes()[..], &frame].concat());
    let arrived = session.poll_request(NOW).expect("whole").expect("a good frame");
    let Admitted::Other(Request::Fetch(fetch)) = &arrived.request else { panic!("{arrived:?}") };
    assert_eq!(&*fetch.topics[0].name, "t".repeat(30));
    let allocation_bytes = session.received.allocation_bytes();
    assert!(
        session.received.buffer.try_reclaim(allocation_bytes),
        "all of it is free, though the Fetch waits"
    );
}

#[test]
fn over_half_of_its_unsent_output_no_more_requests_are_taken() {
    let mut session = Session::new(SessionLimits { output_bytes_max: 1000, ..limits() });
    session.output_bytes = 500;
    assert!(!session.is_blocked());
    session.output_bytes = 501;
    assert!(session.is_blocked());
    assert_eq!(session.requests_under_way(), 0);
    session.output_bytes = 0;
    session.receive_buffer(&mut ReceivePool::default()).extend_from_slice(&metadata(1));
    session.receive_buffer(&mut ReceivePool::default()).extend_from_slice(&metadata(2));
    while session.poll_request(NOW).is_some() {}
    assert_eq!(session.requests_under_way(), 2);
}

/// Metadata of so many topics with different names.
fn metadata_of(correlation_id: i32, names: usize) -> Vec<u8> {
    let topics: Vec<u8> =
        (0..names).flat_map(|i| string(&format!("a topic of a longer name that is not here {i}"))).collect();
    frame(3, 4, correlation_id, false, &[ints(&[names as i32]), topics, vec![1]].concat())
}

#[test]
fn a_question_with_many_answers_stands_alone_and_one_with_too_many_closes() {
    let mut session = Session::new(limits());
    receive(&mut session, &[metadata_of(1, 600), metadata(2)].concat());
    let arrived = poll(&mut session);
    assert!(
        matches!(&arrived[..], [Arrived { request: Admitted::Heavy(heavy), .. }]
            if matches!(&*heavy.request, Admitted::Other(Request::Metadata(_)))),
        "{arrived:?}"
    );
    assert!(session.is_blocked());
    session.answer(0, Some(Response::Metadata(m::MetadataResponse::default()))).expect("an answer");
    assert!(!session.is_blocked());
    assert!(matches!(&poll(&mut session)[..], [Arrived { request: Admitted::Other(_), .. }]));

    let mut session = Session::new(limits());
    receive(&mut session, &metadata_of(1, 1001));
    let why = session.poll_request(NOW).expect("a verdict").expect_err("too many").0;
    assert!(why.contains("kraft.request.max.entries"), "{why}");
}

#[test]
fn a_search_stands_alone_and_ends_with_the_connection() {
    let offsets = |correlation_id, timestamp: i64| {
        let asked = [ints(&[-1, 1]), string("a"), ints(&[1, 0]), timestamp.to_be_bytes().to_vec()].concat();
        frame(2, 1, correlation_id, false, &asked)
    };
    for (timestamp, is_alone) in [(-1, false), (-2, false), (-3, true), (0, true), (i64::MAX, true)] {
        let mut session = Session::new(limits());
        receive(&mut session, &[offsets(1, timestamp), metadata(2)].concat());
        assert_eq!(poll(&mut session).len(), 2 - usize::from(is_alone), "{timestamp}");
        assert_eq!(session.is_blocked(), is_alone, "{timestamp}");
    }
    let session = Session::new(limits());
    let wanted = session.asker.wanted();
    assert!(!wanted.is_over());
    drop(session);
    assert!(wanted.is_over());
}

/// Whatever it is that there are many of.
#[test]
fn each_kind_of_request_for_many_things_is_put_off_and_bounded() {
    // OffsetFetch 2, DeleteGroups 0, Vote 0 is flexible; ListOffsets 1; each for so many things.
    let offset_fetch =
        |n: usize| (9, [string("g"), ints(&[1]), string("t"), ints(&[n as i32]), vec![0; 4 * n]].concat());
    let delete_groups = |n: usize| (42, [ints(&[n as i32]), vec![0; 2 * n]].concat());
    let list_offsets = |n: usize| {
        let one = [ints(&[7]), vec![0xff; 8]].concat();
        (2, [ints(&[-1, 1]), string("t"), ints(&[n as i32]), one.repeat(n)].concat())
    };
    let kinds: [&dyn Fn(usize) -> (i16, Vec<u8>); 3] = [&offset_fetch, &delete_groups, &list_offsets];
    for of in kinds {
        let ask = |n: usize| {
            let (api_key, body) = of(n);
            let version = if api_key == 42 {
                0
            } else if api_key == 9 {
                2
            } else {
                1
            };
            let mut session = Session::new(limits());
            receive(&mut session, &frame(api_key, version, 1, false, &body));
            session.poll_request(NOW).expect("a whole frame").map(|arrived| arrived.request)
        };
        assert!(matches!(ask(10), Ok(Admitted::Other(_))));
        let Ok(Admitted::Heavy(heavy)) = ask(600) else { panic!("not put off") };
        assert!(heavy.bytes >= 600 * 2 && heavy.bytes < 600 * 200, "{}", heavy.bytes);
        assert!(ask(1_001).expect_err("too many").0.contains("kraft.request.max.entries"));
    }
}

//! Real sockets and sessions on a real executor; the test takes the replica's place and gives the answers.

use super::closing::SEND_STALL_MS_MAX;
use super::*;
use crate::config::Settings;
use crate::io::doorbell::Doorbell;
use crate::io::executor::tests::{run, sleep};
use crate::io::listener::{Acceptor, Listener};
use crate::io::ring::tests::driven_ring;
use crate::protocol::messages as m;
use crate::replica::Input;
use crate::replica::room::answers::AnswerLimits;
use crate::replica::room::frames::FrameLimits;
use crate::replica::room::places::{PlaceLimits, Places};
use crate::replica::room::turns::RoundLimits;
use crate::server::doors::Doors;
use crate::server::inputs::{Inputs, Next};
use crate::server::mesh::{CREDITS_PER_CORE, CoreSender, ReplicaSender, Standing, ToNetwork, ToReplica};
use crate::types::{Endpoint, NodeId};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

fn limits() -> SessionLimits {
    SessionLimits { output_bytes_max: 4 << 20, ..crate::replica::session::tests::limits() }
}

fn control(directory: &std::path::Path) -> Control {
    let text = format!(
        "node.id=1\ncontroller.quorum.voters=1@localhost:9092\nlisteners=PLAINTEXT://localhost:9092\nlog.dirs={}",
        directory.display()
    );
    let mut settings = Settings::new();
    settings.read_properties("test", text.as_bytes()).unwrap();
    Control::start(&crate::config::load(&settings).unwrap().config, Box::new(std::io::sink())).unwrap()
}

struct Rig {
    arrivals: Receiver<Accepted>,
    doors: Doors,
    control: Control,
    port: u16,
    _acceptor: Acceptor,
    _directory: tempfile::TempDir,
}

fn rig() -> Rig {
    let listener = Listener::bind(&Endpoint { host: "127.0.0.1".into(), port: 0 }).unwrap();
    let port = listener.addresses()[0].port();
    let (sender, arrivals) = mpsc::channel();
    let acceptor = listener.start(move |accepted| drop(sender.send(accepted))).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let places =
        PlaceLimits { clients_max: 100, guests_max: 10, voter_connections_max: 4, guest_ms_max: 1_000 };
    let doors = Doors::new(Places::new(places, [NodeId(2)]));
    let control = control(directory.path());
    Rig { arrivals, doors, control, port, _acceptor: acceptor, _directory: directory }
}

impl Rig {
    /// Connect and let `client` talk on a thread of its own.
    fn client<T: Send + 'static>(
        &self,
        client: impl FnOnce(TcpStream) -> T + Send + 'static,
    ) -> (JoinHandle<T>, Entered) {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let accepted = self.arrivals.recv().unwrap();
        let (place, _) = self.doors.arrive(clock::monotonic_ns());
        (std::thread::spawn(move || client(stream)), Entered { accepted, place })
    }
}

/// The network of the replica's core, and what it hands on.
fn replica_core(control: Control) -> (Rc<Inputs>, Rc<NetworkCore>) {
    let inputs = Rc::new(Inputs::new(1));
    let sink = RequestSink::Local(inputs.clone());
    (inputs, NetworkCore::new(0, limits(), room(), control, sink, Inspectors::new().0, driven_ring()))
}

fn room() -> CoreRoom {
    let answers = AnswerLimits { bytes_max: 8 << 20, device_bytes_max: 0, stall_ms_max: 500 };
    CoreRoom::new(
        RoundLimits { bytes_max: 4 << 20, ns_max: 10 * NS_PER_MS },
        FrameLimits { bytes_max: 2 << 20, stall_ms_max: 500 },
        answers,
        AnswerLimits { bytes_max: 1 << 20, ..answers },
    )
}

/// End a turn.
fn send(network: &NetworkCore) {
    network.flush();
    network.ring.submit().unwrap();
    network.begin_round(clock::monotonic_ns());
}

fn pop(inputs: &Inputs) -> Option<Input> {
    inputs.pop(true).map(|(Next::Voter(input) | Next::Client(_, input))| input)
}

async fn next_input(inputs: &Inputs, network: &NetworkCore) -> Input {
    for _ in 0..20_000 {
        if let Some(input) = pop(inputs) {
            return input;
        }
        network.begin_round(clock::monotonic_ns());
        sleep(Duration::from_millis(1)).await;
    }
    panic!("no input within 20 s");
}

/// Metadata 4 of no topics.
fn metadata(correlation_id: i32) -> Vec<u8> {
    let mut frame = vec![0, 3, 0, 4];
    frame.extend(correlation_id.to_be_bytes());
    frame.extend([0, 1, b'c', 0, 0, 0, 0, 1]);
    [&(frame.len() as u32).to_be_bytes(), frame.as_slice()].concat()
}

/// Vote 0 without topics: enough to show a peer.
fn vote(correlation_id: i32) -> Vec<u8> {
    let mut frame = vec![0, 52, 0, 0];
    frame.extend(correlation_id.to_be_bytes());
    // Client id, no tags; cluster id null, topics empty, no tags.
    frame.extend([0, 1, b'p', 0, 0, 1, 0]);
    [&(frame.len() as u32).to_be_bytes(), frame.as_slice()].concat()
}

/// Produce 9 of one batch.
fn produce(correlation_id: i32, batch: bytes::Bytes) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 9];
    frame.extend(correlation_id.to_be_bytes());
    // Client id, no tags; no transaction, acks -1, a timeout of a second, one topic.
    frame.extend([0, 1, b'c', 0, 0, 0xff, 0xff, 0, 0, 3, 0xe8, 2]);
    let name = b"__cluster_metadata";
    frame.push(name.len() as u8 + 1);
    frame.extend(name);
    // One partition, 0; its records; no tags.
    frame.extend([2, 0, 0, 0, 0]);
    let mut length = batch.len() + 1;
    while length >= 0x80 {
        frame.push(length as u8 | 0x80);
        length >>= 7;
    }
    frame.push(length as u8);
    frame.extend(&batch);
    frame.extend([0, 0, 0]);
    [&(frame.len() as u32).to_be_bytes(), frame.as_slice()].concat()
}

/// Fetch 4 of topics that nobody has, with names as long as names may be: so many bytes or a little less.
fn padded_fetch(correlation_id: i32, bytes: usize) -> Vec<u8> {
    const NAME_BYTES: usize = 32_000;
    let topics = bytes / (2 + NAME_BYTES + 4);
    let mut frame = vec![0, 1, 0, 4];
    frame.extend(correlation_id.to_be_bytes());
    frame.extend([0, 1, b'c']);
    frame.extend([-1i32, 300_000, 1, 1 << 20].map(i32::to_be_bytes).concat());
    frame.push(0);
    frame.extend((topics as i32).to_be_bytes());
    for topic in 0..topics {
        frame.extend((NAME_BYTES as i16).to_be_bytes());
        frame.extend([b'a' + (topic % 26) as u8; NAME_BYTES]);
        frame.extend(0i32.to_be_bytes());
    }
    [&(frame.len() as u32).to_be_bytes(), frame.as_slice()].concat()
}

/// Fetch 4 of no topics, in this voter's name.
fn fetch_of(voter: i32) -> Vec<u8> {
    let mut frame = padded_fetch(1, 0);
    // Behind the frame's length and its header.
    frame[15..19].copy_from_slice(&voter.to_be_bytes());
    frame
}

/// A Metadata answer of about so many bytes.
fn large_answer(bytes: usize) -> Option<Response> {
    const HOST_BYTES: usize = 30_000;
    let broker =
        m::metadata_response::MetadataResponseBroker::default().with_host("x".repeat(HOST_BYTES).into());
    Some(Response::Metadata(
        m::MetadataResponse::default().with_brokers(vec![broker; bytes.div_ceil(HOST_BYTES)]),
    ))
}

fn answer_with(node: i32) -> Option<Response> {
    Some(Response::Metadata(m::MetadataResponse::default().with_controller_id(node.into())))
}

/// Correlation id and size of the next answer.
fn read_answer(stream: &mut TcpStream) -> (i32, usize) {
    let mut head = [0; 8];
    stream.read_exact(&mut head).unwrap();
    let word = |at: usize| i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let mut rest = vec![0; word(0) as usize - 4];
    stream.read_exact(&mut rest).unwrap();
    (word(4), rest.len())
}

#[test]
fn answers_go_out_in_request_order_and_a_close_is_reported_once() {
    let rig = rig();
    let (client, accepted) = rig.client(|mut stream| {
        stream.write_all(&[metadata(1), metadata(2), metadata(3)].concat()).unwrap();
        (1..=3).map(|_| read_answer(&mut stream).0).collect::<Vec<_>>()
    });
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted);
        let mut connection = None;
        for expected in 0..3 {
            let Input::Request { connection: id, seq, received_ns, decoded_ns, .. } =
                next_input(&inputs, &network).await
            else {
                panic!("not a request")
            };
            assert_eq!(seq, expected);
            assert!(received_ns <= decoded_ns);
            connection = Some(id);
        }
        let id = connection.unwrap();
        for seq in [2, 0, 1] {
            network.answer(id, seq, answer_with(1), None);
        }
        send(&network);
        assert_eq!(client.join().unwrap(), [1, 2, 3]);
        let Input::ConnectionClosed { connection } = next_input(&inputs, &network).await else {
            panic!("not closed")
        };
        assert_eq!(connection, id);
        // An answer that comes too late is dropped.
        network.answer(id, 3, answer_with(1), None);
        send(&network);
        assert!(inputs.is_empty(true) && network.clients.borrow().is_empty());
    });
}

#[test]
fn other_protocols_are_closed_and_nobody_else_notices() {
    let rig = rig();
    let (good, accepted_good) = rig.client(|mut stream| {
        stream.write_all(&metadata(9)).unwrap();
        read_answer(&mut stream).0
    });
    let (bad, accepted_bad) = rig.client(|mut stream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        // Closed, or reset because of bytes that nobody read.
        let _ = stream.read_to_end(&mut rest);
        rest.len()
    });
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted_bad);
        assert!(matches!(next_input(&inputs, &network).await, Input::ConnectionClosed { .. }));
        assert_eq!(bad.join().unwrap(), 0);
        network.accept(accepted_good);
        let Input::Request { connection, seq, .. } = next_input(&inputs, &network).await else {
            panic!("no request")
        };
        network.answer(connection, seq, answer_with(1), None);
        send(&network);
        assert_eq!(good.join().unwrap(), 9);
    });
}

#[test]
fn a_session_with_enough_under_way_is_not_read_until_it_is_answered() {
    let rig = rig();
    let (client, accepted) = rig.client(|mut stream| {
        for id in 0..20 {
            stream.write_all(&metadata(id)).unwrap();
        }
        (0..20).map(|_| read_answer(&mut stream).0).collect::<Vec<_>>()
    });
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted);
        let mut seen = 0;
        while seen < 20 {
            let mut batch = vec![next_input(&inputs, &network).await];
            sleep(Duration::from_millis(30)).await;
            batch.extend(std::iter::from_fn(|| pop(&inputs)));
            assert!(batch.len() <= limits().requests_max, "{} under way", batch.len());
            for input in batch {
                let Input::Request { connection, seq, .. } = input else { panic!("not a request") };
                network.answer(connection, seq, answer_with(1), None);
                seen += 1;
            }
            send(&network);
        }
        assert_eq!(client.join().unwrap(), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_reader_that_never_reads_is_closed_at_its_bound() {
    let rig = rig();
    let (client, accepted) = rig.client(|mut stream| {
        let mut sent = 0;
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        while stream.write_all(&metadata(sent)).is_ok() && sent < 1_000_000 {
            sent += 1;
        }
        sent
    });
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted);
        let host = "x".repeat(1 << 20);
        loop {
            match next_input(&inputs, &network).await {
                Input::ConnectionClosed { .. } => break,
                Input::Request { connection, seq, .. } => {
                    let large = m::MetadataResponse::default()
                        .with_cluster_id(Some(host[..30_000].to_string().into()));
                    network.answer(connection, seq, Some(Response::Metadata(large)), None);
                    send(&network);
                    let held: usize =
                        network.clients.borrow().values().map(|c| c.connection.unsent_bytes()).sum();
                    assert!(held <= limits().output_bytes_max);
                    if network.clients.borrow().values().any(|c| c.session.borrow().is_blocked()) {
                        // It is not read any more; the sweep finds it gone.
                        network.close_idle(clock::monotonic_ns() + (SEND_STALL_MS_MAX + 1_000) * NS_PER_MS);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(client.join().unwrap() > 0);
    });
}

/// More than the bound in all, but never at a time: the answers to all that may be under way fit into the half of the bound
/// below which requests are read.
#[test]
fn who_reads_late_gets_everything_and_is_served_on() {
    const ANSWER_BYTES: usize = 240_000;
    const REQUESTS: i32 = 100;
    assert!(limits().requests_max * (ANSWER_BYTES + 100) < limits().output_bytes_max / 2);
    let rig = rig();
    let (blocked, is_blocked) = mpsc::channel();
    let (client, accepted) = rig.client(move |mut stream| {
        (0..REQUESTS).for_each(|id| stream.write_all(&metadata(id)).unwrap());
        is_blocked.recv().unwrap();
        (0..REQUESTS).map(|_| read_answer(&mut stream).0).collect::<Vec<_>>()
    });
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted);
        let mut blocked = Some(blocked);
        let mut taken = 0;
        while taken < REQUESTS {
            let Input::Request { connection, seq, .. } = next_input(&inputs, &network).await else {
                panic!("closed")
            };
            taken += 1;
            network.answer(connection, seq, large_answer(ANSWER_BYTES), None);
            send(&network);
            let is_blocked = || network.clients.borrow().values().all(|c| c.session.borrow().is_blocked());
            if blocked.is_some() && inputs.is_empty(true) && is_blocked() {
                sleep(Duration::from_millis(20)).await;
                assert!(is_blocked() && inputs.is_empty(true), "read although its answers are unsent");
                blocked.take().unwrap().send(()).unwrap();
            }
        }
        assert!(blocked.is_none(), "all answers fitted into the socket: the test shows nothing");
        assert_eq!(client.join().unwrap(), (0..REQUESTS).collect::<Vec<_>>());
    });
}

#[test]
fn answers_count_against_the_bound_until_they_are_sent_and_no_longer() {
    let rig = rig();
    let requests = limits().requests_max;
    let (client, accepted) = rig.client(move |mut stream| {
        (0..requests).for_each(|id| stream.write_all(&metadata(id as i32)).unwrap());
        (0..requests).map(|_| read_answer(&mut stream).1).sum::<usize>()
    });
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted);
        let mut connection = None;
        for _ in 0..requests {
            let Input::Request { connection: id, .. } = next_input(&inputs, &network).await else {
                panic!("closed")
            };
            connection = Some(id);
        }
        let connection = connection.unwrap();
        let client_state = network.clients.borrow()[&connection].clone();
        // Nothing is read from it meanwhile: only the answers themselves see what was sent.
        for seq in 0..requests as u64 {
            network.answer(connection, seq, large_answer(1_000_000), None);
            send(&network);
            for _ in 0..20_000 {
                if client_state.connection.unsent_bytes() == 0 {
                    break;
                }
                sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(client.join().unwrap() > limits().output_bytes_max);
    });
}

#[test]
fn producers_wait_while_the_replica_is_full() {
    let rig = rig();
    let (client, accepted) = rig.client(|mut stream| {
        stream.write_all(&metadata(1)).unwrap();
        read_answer(&mut stream);
        stream.write_all(&metadata(2)).unwrap();
        read_answer(&mut stream).0
    });
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted);
        let Input::Request { connection, seq, .. } = next_input(&inputs, &network).await else {
            panic!("no request")
        };
        network.clients.borrow()[&connection].produces.set(true);
        network.set_full(true);
        network.answer(connection, seq, answer_with(1), None);
        send(&network);
        sleep(Duration::from_millis(100)).await;
        network.begin_round(clock::monotonic_ns());
        sleep(Duration::from_millis(20)).await;
        // The read that was under way may still bring one request in; it must not be taken.
        assert!(inputs.is_empty(true), "a producer was read while the replica was full");
        network.set_full(false);
        let Input::Request { seq, .. } = next_input(&inputs, &network).await else { panic!("no request") };
        network.answer(connection, seq, answer_with(1), None);
        send(&network);
        assert_eq!(client.join().unwrap(), 2);
    });
}

#[test]
fn idle_connections_are_closed_and_their_places_freed() {
    let rig = rig();
    let doors = rig.doors.clone();
    let (client, accepted) = rig.client(|mut stream| stream.read(&mut [0; 1]).unwrap());
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted);
        let now_ns = clock::monotonic_ns();
        network.close_idle(now_ns + limits().idle_ms_max * NS_PER_MS / 2);
        sleep(Duration::from_millis(20)).await;
        assert!(inputs.is_empty(true));
        network.close_idle(now_ns + (limits().idle_ms_max + 1_000) * NS_PER_MS);
        let is_quiet = |client: &Rc<Client>| client.is_idle.get();
        assert!(network.clients.borrow().values().all(is_quiet), "it is normal, and no line for an operator");
        assert!(matches!(next_input(&inputs, &network).await, Input::ConnectionClosed { .. }));
        assert_eq!(client.join().unwrap(), 0);
    });
    assert!(doors.taken().sum() == 0);
}

#[test]
fn idle_connections_are_looked_for_as_often_as_their_time_is_short() {
    let rig = rig();
    let interval_ms = |idle_ms_max: u64| {
        let limits = SessionLimits { idle_ms_max, ..limits() };
        let sink = RequestSink::Local(Rc::new(Inputs::new(1)));
        let (inspectors, control) = (Inspectors::new().0, rig.control.clone());
        let network = NetworkCore::new(0, limits, room(), control, sink, inspectors, driven_ring());
        network.idle_interval_ns() / NS_PER_MS
    };
    run(async move {
        let times = [1, 1_000, 4_000, 40_000, 600_000, u64::MAX];
        assert_eq!(times.map(interval_ms), [250, 250, 1_000, 10_000, 10_000, 10_000]);
    });
}

/// Nobody reads from it while it has enough under way, and nobody may ever answer it.
#[test]
fn a_client_that_goes_with_all_its_requests_under_way_is_noticed() {
    for unread in [0, 3] {
        let rig = rig();
        let doors = rig.doors.clone();
        let (goes, go) = mpsc::channel();
        let (client, accepted) = rig.client(move |mut stream| {
            (0..8 + unread).for_each(|id| stream.write_all(&metadata(id)).unwrap());
            go.recv().unwrap();
        });
        run(async move {
            let (inputs, network) = replica_core(rig.control);
            network.accept(accepted);
            for _ in 0..8 {
                assert!(matches!(next_input(&inputs, &network).await, Input::Request { .. }));
            }
            sleep(Duration::from_millis(20)).await;
            assert!(inputs.is_empty(true), "it is blocked");
            goes.send(()).unwrap();
            assert!(
                matches!(next_input(&inputs, &network).await, Input::ConnectionClosed { .. }),
                "{unread} unread"
            );
            client.join().unwrap();
        });
        assert!(doors.taken().sum() == 0);
    }
}

/// What a network core says, and a peer that moves with its unanswered vote.
#[test]
fn a_peer_moves_to_the_replica_core_as_a_whole() {
    let rig = rig();
    let (client, accepted) = rig.client(|mut stream| {
        stream.write_all(&[metadata(1), vote(2)].concat()).unwrap();
        let first = read_answer(&mut stream).0;
        let second = read_answer(&mut stream).0;
        stream.write_all(&vote(3)).unwrap();
        (first, second, read_answer(&mut stream).0)
    });
    run(async move {
        let (edge, from_core) = ReplicaSender::new(Doorbell::new().unwrap());
        let network = NetworkCore::new(
            1,
            limits(),
            room(),
            rig.control.clone(),
            RequestSink::Mesh(edge),
            Inspectors::new().0,
            driven_ring(),
        );
        network.accept(accepted);
        let next = async || {
            for _ in 0..20_000 {
                if let Ok(message) = from_core.try_recv() {
                    return message;
                }
                sleep(Duration::from_millis(1)).await;
            }
            panic!("no message within 20 s");
        };
        let ToReplica::Request(request) = next().await else { panic!("not a request") };
        assert_eq!(request.connection.core(), 1);
        network.answer(request.connection, request.arrived.seq, answer_with(1), None);
        send(&network);
        let ToReplica::Closed(closed) = next().await else { panic!("the old connection has not ended") };
        assert_eq!(closed, request.connection);
        network.on_taken(1);
        let ToReplica::Peer(moved) = next().await else { panic!("not moved") };
        let RequestSink::Mesh(edge) = &network.sink else { panic!("a mesh was given") };
        assert_eq!(edge.credits(), CREDITS_PER_CORE);

        let (inputs, replica_core) = replica_core(rig.control);
        replica_core.accept_moved(*moved);
        for expected in 1..=2 {
            let Input::Request { connection, seq, .. } = next_input(&inputs, &replica_core).await else {
                panic!("no vote")
            };
            assert_eq!((connection.core(), seq), (0, expected));
            replica_core.answer(connection, seq, Some(Response::Vote(m::VoteResponse::default())), None);
            send(&replica_core);
        }
        assert_eq!(client.join().unwrap(), (1, 2, 3));
    });
}

/// Three of them compressed: one good, one that is none, one that grows so much that it goes on to the other thread.
#[test]
fn compressed_batches_are_judged_elsewhere_and_keep_their_place() {
    use crate::record::{BatchBuilder, compression::Codec, data_batch};
    let now_ms = clock::now().wall_ms;
    let plain = data_batch(&[b"a", b"b"], now_ms, None);
    let good = Codec::Zstd.compress_batch(plain.clone()).unwrap();
    let broken = BatchBuilder::new(now_ms).attributes(4).raw_records(b"this is no zstd", 2).build();
    let zeros = vec![0; 16 << 20];
    let growing = Codec::Zstd.compress_batch(data_batch(&[&zeros], now_ms, None)).unwrap();
    let rig = rig();
    let requests =
        [produce(1, good), produce(2, growing), produce(3, broken), metadata(4), produce(5, plain)];
    let (client, accepted) = rig.client(move |mut stream| {
        stream.write_all(&requests.concat()).unwrap();
        (1..=5).map(|_| read_answer(&mut stream).0).collect::<Vec<_>>()
    });
    run(async move {
        let (sender, from_inspectors) = CoreSender::new(Doorbell::new().unwrap());
        let (inspectors, queue) = Inspectors::new();
        queue.start(1, &[sender]).unwrap();
        let inputs = Rc::new(Inputs::new(1));
        let sink = RequestSink::Local(inputs.clone());
        let network = NetworkCore::new(0, limits(), room(), rig.control, sink, inspectors, driven_ring());
        network.accept(accepted);
        let (mut seen, mut rounds) = (Vec::new(), 0);
        while seen.len() < 5 {
            rounds += 1;
            assert!(rounds < 60_000, "only {seen:?} have come within a minute");
            network.begin_round(clock::monotonic_ns());
            for message in from_inspectors.try_iter() {
                let ToNetwork::Inspected(request) = message else { panic!("not a request") };
                network.on_inspected(*request);
            }
            while let Some(input) = pop(&inputs) {
                let Input::Request { connection, seq, request, .. } = input else { panic!("not a request") };
                let refused = match &request {
                    Admitted::Produce(produce) => produce.partitions[0].batch.is_err(),
                    Admitted::Other(_) | Admitted::Heavy(_) => false,
                };
                seen.push((seq, refused));
                network.answer(connection, seq, answer_with(1), None);
                send(&network);
            }
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(seen, [(0, false), (1, false), (2, true), (3, false), (4, false)]);
        assert_eq!(client.join().unwrap(), [1, 2, 3, 4, 5]);
    });
}

/// Its verdict comes when nobody waits for it any more.
#[test]
fn a_connection_may_end_while_its_batch_is_judged() {
    let batch = crate::record::data_batch(&[b"a"], clock::now().wall_ms, None);
    let batch = crate::record::compression::Codec::Gzip.compress_batch(batch).unwrap();
    let rig = rig();
    let (client, accepted) = rig.client(move |mut stream| {
        stream.write_all(&produce(1, batch)).unwrap();
        stream.read(&mut [0; 16])
    });
    run(async move {
        let (inspectors, queue) = Inspectors::new();
        let (sender, from_inspectors) = CoreSender::new(Doorbell::new().unwrap());
        let inputs = Rc::new(Inputs::new(1));
        let sink = RequestSink::Local(inputs.clone());
        let network = NetworkCore::new(0, limits(), room(), rig.control, sink, inspectors, driven_ring());
        network.accept(accepted);
        let is_waiting = || network.clients.borrow().values().any(|c| c.waker.borrow().is_some());
        while !is_waiting() {
            sleep(Duration::from_millis(1)).await;
        }
        let id = *network.clients.borrow().keys().next().unwrap();
        network.close(id, "the test ends it".into(), None);
        let Input::ConnectionClosed { connection } = next_input(&inputs, &network).await else {
            panic!("not closed")
        };
        assert_eq!(connection, id);
        // The threads begin only now.
        queue.start(1, &[sender]).unwrap();
        let ToNetwork::Inspected(request) = from_inspectors.recv_timeout(Duration::from_secs(60)).unwrap()
        else {
            panic!("not a request")
        };
        network.on_inspected(*request);
        sleep(Duration::from_millis(5)).await;
        assert!(inputs.is_empty(true), "nothing comes after the end of a connection");
        drop(client.join().unwrap());
    });
}

#[path = "room_tests.rs"]
mod room_tests;

#[path = "decoding_tests.rs"]
mod decoding_tests;

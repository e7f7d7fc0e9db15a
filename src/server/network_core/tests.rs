//! Real sockets and sessions on a real executor; the test takes the replica's place and gives the answers.

use super::*;
use crate::config::Settings;
use crate::io::doorbell::Doorbell;
use crate::io::listener::{Acceptor, Listener, Offer};
use crate::io::ring::tests::driven_ring;
use crate::protocol::messages as m;
use crate::server::mesh::{CREDITS_PER_CORE, ToReplica, core_of};
use crate::types::Endpoint;
use glommio::LocalExecutorBuilder;
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

fn limits() -> SessionLimits {
    SessionLimits {
        request_bytes_max: 1 << 20,
        output_bytes_max: 4 << 20,
        requests_max: 8,
        message_bytes_max: 1 << 19,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        topic_name: "__cluster_metadata".into(),
        topic_id: crate::types::Uuid::METADATA_TOPIC_ID,
        data_mode: crate::types::DataMode::Native,
    }
}

fn control(directory: &std::path::Path) -> Control {
    let text = format!(
        "node.id=1\ncontroller.quorum.voters=1@localhost:9092\nlisteners=PLAINTEXT://localhost:9092\nlog.dirs={}",
        directory.display()
    );
    let mut settings = Settings::new();
    settings.read_properties("test", text.as_bytes()).unwrap();
    Control::start(&crate::config::load(&settings).unwrap().config).unwrap()
}

struct Rig {
    offers: Receiver<Offer>,
    control: Control,
    port: u16,
    _acceptor: Acceptor,
    _directory: tempfile::TempDir,
}

fn rig() -> Rig {
    let listener = Listener::bind(&Endpoint { host: "127.0.0.1".into(), port: 0 }).unwrap();
    let port = listener.addresses()[0].port();
    let (sender, offers) = mpsc::channel();
    let acceptor = listener.start(100, move |offer| drop(sender.send(offer))).unwrap();
    let directory = tempfile::tempdir().unwrap();
    Rig { offers, control: control(directory.path()), port, _acceptor: acceptor, _directory: directory }
}

impl Rig {
    /// Connect and let `client` talk on a thread of its own.
    fn client<T: Send + 'static>(
        &self,
        client: impl FnOnce(TcpStream) -> T + Send + 'static,
    ) -> (JoinHandle<T>, Accepted) {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let Offer::Accepted(accepted) = self.offers.recv().unwrap() else { panic!("refused") };
        (std::thread::spawn(move || client(stream)), accepted)
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    LocalExecutorBuilder::default().io_memory(64 << 10).make().unwrap().run(future)
}

/// The network of the replica's core, and what it hands on.
fn replica_core(control: Control) -> (Rc<Inputs>, Rc<NetworkCore>) {
    let inputs = Rc::new(Inputs::default());
    let sink = RequestSink::Local(inputs.clone());
    (inputs, NetworkCore::new(0, limits(), control, sink, driven_ring()))
}

/// End a turn.
fn send(network: &NetworkCore) {
    network.flush();
    network.ring.submit().unwrap();
}

async fn next_input(inputs: &Inputs) -> Input {
    for _ in 0..20_000 {
        if let Some(input) = inputs.pop() {
            return input;
        }
        glommio::timer::sleep(Duration::from_millis(1)).await;
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
                next_input(&inputs).await
            else {
                panic!("not a request")
            };
            assert_eq!(seq, expected);
            assert!(received_ns <= decoded_ns);
            connection = Some(id);
        }
        let id = connection.unwrap();
        for seq in [2, 0, 1] {
            network.answer(id, seq, answer_with(1));
        }
        send(&network);
        assert_eq!(client.join().unwrap(), [1, 2, 3]);
        let Input::ConnectionClosed { connection } = next_input(&inputs).await else { panic!("not closed") };
        assert_eq!(connection, id);
        // An answer that comes too late is dropped.
        network.answer(id, 3, answer_with(1));
        send(&network);
        assert!(inputs.is_empty() && network.clients.borrow().is_empty());
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
        assert!(matches!(next_input(&inputs).await, Input::ConnectionClosed { .. }));
        assert_eq!(bad.join().unwrap(), 0);
        network.accept(accepted_good);
        let Input::Request { connection, seq, .. } = next_input(&inputs).await else { panic!("no request") };
        network.answer(connection, seq, answer_with(1));
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
            let mut batch = vec![next_input(&inputs).await];
            glommio::timer::sleep(Duration::from_millis(30)).await;
            batch.extend(std::iter::from_fn(|| inputs.pop()));
            assert!(batch.len() <= limits().requests_max, "{} under way", batch.len());
            for input in batch {
                let Input::Request { connection, seq, .. } = input else { panic!("not a request") };
                network.answer(connection, seq, answer_with(1));
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
            match next_input(&inputs).await {
                Input::ConnectionClosed { .. } => break,
                Input::Request { connection, seq, .. } => {
                    let large = m::MetadataResponse::default()
                        .with_cluster_id(Some(host[..30_000].to_string().into()));
                    network.answer(connection, seq, Some(Response::Metadata(large)));
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

/// More than the bound in all, but never at a time.
#[test]
fn who_reads_late_gets_everything_and_is_served_on() {
    const ANSWER_BYTES: usize = 300_000;
    const REQUESTS: i32 = 100;
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
            let Input::Request { connection, seq, .. } = next_input(&inputs).await else { panic!("closed") };
            taken += 1;
            network.answer(connection, seq, large_answer(ANSWER_BYTES));
            send(&network);
            let is_blocked = || network.clients.borrow().values().all(|c| c.session.borrow().is_blocked());
            if blocked.is_some() && inputs.is_empty() && is_blocked() {
                glommio::timer::sleep(Duration::from_millis(20)).await;
                assert!(is_blocked() && inputs.is_empty(), "read although its answers are unsent");
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
            let Input::Request { connection: id, .. } = next_input(&inputs).await else { panic!("closed") };
            connection = Some(id);
        }
        let connection = connection.unwrap();
        let client_state = network.clients.borrow()[&connection].clone();
        // Nothing is read from it meanwhile: only the answers themselves see what was sent.
        for seq in 0..requests as u64 {
            network.answer(connection, seq, large_answer(1_000_000));
            send(&network);
            for _ in 0..20_000 {
                if client_state.connection.unsent_bytes() == 0 {
                    break;
                }
                glommio::timer::sleep(Duration::from_millis(1)).await;
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
        let Input::Request { connection, seq, .. } = next_input(&inputs).await else { panic!("no request") };
        network.clients.borrow()[&connection].produces.set(true);
        network.set_full(true);
        network.answer(connection, seq, answer_with(1));
        send(&network);
        glommio::timer::sleep(Duration::from_millis(100)).await;
        network.wake_waiting();
        glommio::timer::sleep(Duration::from_millis(20)).await;
        // The read that was under way may still bring one request in; it must not be taken.
        assert!(inputs.is_empty(), "a producer was read while the replica was full");
        network.set_full(false);
        let Input::Request { seq, .. } = next_input(&inputs).await else { panic!("no request") };
        network.answer(connection, seq, answer_with(1));
        send(&network);
        assert_eq!(client.join().unwrap(), 2);
    });
}

#[test]
fn idle_connections_are_closed_and_their_places_freed() {
    let rig = rig();
    let open = rig._acceptor.open_connections();
    let (client, accepted) = rig.client(|mut stream| stream.read(&mut [0; 1]).unwrap());
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted);
        let now_ns = clock::monotonic_ns();
        network.close_idle(now_ns + CONNECTION_IDLE_MS_MAX * NS_PER_MS / 2);
        glommio::timer::sleep(Duration::from_millis(20)).await;
        assert!(inputs.is_empty());
        network.close_idle(now_ns + (CONNECTION_IDLE_MS_MAX + 1_000) * NS_PER_MS);
        assert!(matches!(next_input(&inputs).await, Input::ConnectionClosed { .. }));
        assert_eq!(client.join().unwrap(), 0);
    });
    assert_eq!(open.load(std::sync::atomic::Ordering::Relaxed), 0);
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
        let network =
            NetworkCore::new(1, limits(), rig.control.clone(), RequestSink::Mesh(edge), driven_ring());
        network.accept(accepted);
        let next = async || {
            for _ in 0..20_000 {
                if let Ok(message) = from_core.try_recv() {
                    return message;
                }
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
            panic!("no message within 20 s");
        };
        let ToReplica::Request(request) = next().await else { panic!("not a request") };
        assert_eq!(core_of(request.connection), 1);
        network.answer(request.connection, request.arrived.seq, answer_with(1));
        send(&network);
        let ToReplica::Closed(closed) = next().await else { panic!("the old connection has not ended") };
        assert_eq!(closed, request.connection);
        network.on_closed_seen(closed);
        let ToReplica::Peer(moved) = next().await else { panic!("not moved") };
        let RequestSink::Mesh(edge) = &network.sink else { panic!("a mesh was given") };
        assert_eq!(edge.credits(), CREDITS_PER_CORE);

        let (inputs, replica_core) = replica_core(rig.control);
        replica_core.accept_moved(*moved);
        for expected in 1..=2 {
            let Input::Request { connection, seq, .. } = next_input(&inputs).await else { panic!("no vote") };
            assert_eq!((core_of(connection), seq), (0, expected));
            replica_core.answer(connection, seq, Some(Response::Vote(m::VoteResponse::default())));
            send(&replica_core);
        }
        assert_eq!(client.join().unwrap(), (1, 2, 3));
    });
}

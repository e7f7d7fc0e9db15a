//! What clients may take, on real sockets.

use super::*;
use crate::replica::room::frames::Hold;
use crate::replica::room::taken::RoomTaken;
use crate::replica::room::turns::Turn;
use std::os::fd::AsRawFd;
use std::task::Waker;

#[test]
fn fetches_that_wait_keep_no_memory_from_producers() {
    let rig = rig();
    let (fetchers, accepted): (Vec<_>, Vec<_>) = (0..2)
        .map(|_| {
            rig.client(|mut stream| {
                stream.write_all(&padded_fetch(1, 1_000_000)).unwrap();
                stream.read(&mut [0; 1]).unwrap()
            })
        })
        .unzip();
    let batch = crate::record::data_batch(&[&vec![7; 300_000]], clock::now().wall_ms, None);
    let requests = [produce(1, batch.clone()), produce(2, batch)].concat();
    let (producer, producer_accepted) = rig.client(move |mut stream| {
        stream.write_all(&requests).unwrap();
        (read_answer(&mut stream).0, read_answer(&mut stream).0)
    });
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        accepted.into_iter().for_each(|accepted| network.accept(accepted));
        for _ in 0..2 {
            let Input::Request { request: Admitted::Other(Request::Fetch(_)), .. } =
                next_input(&inputs, &network).await
            else {
                panic!("not a Fetch")
            };
            network.on_taken(1);
        }
        assert_eq!(network.frames.borrow().used_bytes(), 0, "nobody has answered them");
        network.accept(producer_accepted);
        let mut seen = Vec::new();
        for _ in 0..2 {
            let Input::Request { connection, seq, request: Admitted::Produce(_), .. } =
                next_input(&inputs, &network).await
            else {
                panic!("not a Produce")
            };
            seen.push((connection, seq));
        }
        assert!(network.frames.borrow().used_bytes() > 600_000, "their records are nowhere else");
        network.on_taken(1);
        assert!(network.frames.borrow().used_bytes() < 310_000);
        network.on_taken(1);
        assert_eq!(network.frames.borrow().used_bytes(), 0, "the log has them, and nobody has answered");
        seen.into_iter().for_each(|(connection, seq)| network.answer(connection, seq, answer_with(1), None));
        send(&network);
        assert_eq!(producer.join().unwrap(), (1, 2));
        let left: Vec<_> = network.clients.borrow().keys().copied().collect();
        for id in left {
            network.close(id, "the test is over".into(), None);
        }
        assert!(fetchers.into_iter().all(|fetcher| fetcher.join().unwrap() == 0));
    });
}

/// What is handed on stands before every record that comes later.
#[test]
fn few_requests_wait_for_the_replica_while_some_pipeline_and_others_do_not() {
    const CLIENTS: i32 = 40;
    const EACH: i32 = 30;
    let rig = rig();
    let (clients, accepted): (Vec<_>, Vec<_>) = (0..CLIENTS)
        .map(|_| {
            rig.client(|mut stream| {
                stream.write_all(&(0..EACH).flat_map(metadata).collect::<Vec<_>>()).unwrap();
                (0..EACH).for_each(|_| _ = read_answer(&mut stream));
            })
        })
        .unzip();
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        // Both were there, and will be.
        for under_way in [1, 64] {
            let (mut turns, mut turn) = (network.turns.borrow_mut(), Turn::default());
            turns.has_under_way(&mut turn, under_way, u64::MAX);
        }
        network.begin_round(clock::monotonic_ns());
        accepted.into_iter().for_each(|accepted| network.accept(accepted));
        let (mut answered, mut waiting_max) = (0, 0);
        while answered < CLIENTS * EACH {
            let mut next = Some(next_input(&inputs, &network).await);
            waiting_max = waiting_max.max(1 + inputs.own_requests());
            while let Some(input) = next {
                // Clients that have all their answers leave.
                if let Input::Request { connection, seq, .. } = input {
                    let response = Response::Metadata(m::MetadataResponse::default());
                    network.answer(connection, seq, Some(response), None);
                    answered += 1;
                }
                next = pop(&inputs);
            }
            send(&network);
        }
        assert!((17..=64).contains(&waiting_max), "{waiting_max} of {}", CLIENTS * EACH);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

/// Whoever claims to be a voter: what one sends is small.
#[test]
fn a_large_frame_of_a_voter_needs_memory_as_a_clients_does() {
    let rig = rig();
    let (half, accepted) = rig.client(|mut stream| {
        stream.write_all(&vote(1)).unwrap();
        read_answer(&mut stream);
        stream.write_all(&(1i32 << 20).to_be_bytes()).unwrap();
        stream.write_all(&[0; 100_000]).unwrap();
        stream.read(&mut [0; 1]).unwrap()
    });
    let (small, small_accepted) = rig.client(|mut stream| {
        stream.write_all(&vote(1)).unwrap();
        read_answer(&mut stream).0
    });
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        let answer = |input| {
            let Input::Request { connection, seq, .. } = input else { panic!("not a vote") };
            network.answer(connection, seq, Some(Response::Vote(m::VoteResponse::default())), None);
            send(&network);
            connection
        };
        network.accept(accepted);
        let forger = answer(next_input(&inputs, &network).await);
        let forger = network.clients.borrow()[&forger].clone();
        forger.standing.set(Standing::Voter);
        // All memory is taken.
        let mut hold = Hold::default();
        assert!(network.frames.borrow_mut().may_read(forger.id, &mut hold, 2 << 20, false, 0));
        for _ in 0..20_000 {
            if network.frames.borrow().has_line() {
                break;
            }
            sleep(Duration::from_millis(1)).await;
            network.begin_round(clock::monotonic_ns());
        }
        assert!(network.frames.borrow().has_line(), "it stands in the line");
        assert!(forger.session.borrow().awaited_bytes() > (1 << 20) - 40_000);
        network.close_stalled(clock::monotonic_ns());
        let told = RoomTaken::of(&[CoreRoom { gauges: network.gauges.clone(), ..room() }]);
        assert_eq!((told.wait_for_memory, told.wait_for_turn), (1, 0));
        assert!(
            told.large_bytes.taken >= 2 << 20 && told.large_wanted_bytes > (1 << 20) - 40_000,
            "{told:?}"
        );
        network.accept(small_accepted);
        answer(next_input(&inputs, &network).await);
        assert_eq!(small.join().unwrap(), 1, "what voters say is not held up");
        network.close(forger.id, "the test is over".into(), None);
        assert_eq!(half.join().unwrap(), 0);
    });
}

/// Its answers lie in the core: nobody reads them.
fn sits(requests: i32) -> impl FnOnce(TcpStream) -> TcpStream + Send + 'static {
    move |mut stream| {
        (0..requests).for_each(|id| stream.write_all(&metadata(id)).unwrap());
        stream
    }
}

/// Those who read are answered on.
#[test]
fn when_all_memory_for_answers_is_used_who_has_been_stuck_the_longest_goes() {
    const STUCK: usize = 12;
    let rig = rig();
    let (healthy, healthy_accepted) = rig.client(|mut stream| {
        (0..100).all(|id| stream.write_all(&metadata(id)).is_ok() && read_answer(&mut stream).0 == id)
    });
    let (stuck, accepted): (Vec<_>, Vec<_>) = (0..STUCK).map(|_| rig.client(sits(3))).unzip();
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(healthy_accepted);
        let healthy_id = *network.clients.borrow().keys().next().unwrap();
        let mut accepted = accepted.into_iter();
        let (mut closed, mut healthy_left) = (0, 100);
        // It was read for from the device, all but fields of our own, and has been stuck longer than all others.
        let mut cold = None;
        while healthy_left > 0 || closed < 3 {
            accepted.next().into_iter().for_each(|entered| network.accept(entered));
            match next_input(&inputs, &network).await {
                Input::Request { connection, seq, .. } => {
                    let bytes = if connection == healthy_id { 100 } else { 1_900_000 };
                    healthy_left -= (connection == healthy_id) as usize;
                    let is_cold = connection != healthy_id && *cold.get_or_insert(connection) == connection;
                    let given = is_cold.then(|| network.answers.give(1_920_000, 1_920_000));
                    network.answer(connection, seq, large_answer(bytes), given);
                    send(&network);
                    assert_eq!(network.answers.over_bytes(), 0);
                }
                Input::ConnectionClosed { connection } => {
                    assert!(healthy_left == 0 || connection != healthy_id, "it reads");
                    assert_ne!(Some(connection), cold, "nobody has its memory");
                    closed += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(healthy.join().unwrap());
        let left: Vec<_> = network.clients.borrow().keys().copied().collect();
        left.into_iter().for_each(|id| network.close(id, "the test is over".into(), None));
        for _ in 0..20_000 {
            if network.answers.held_bytes() == 0 {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(network.answers.held_bytes(), 0);
    });
    stuck.into_iter().for_each(|stuck| drop(stuck.join().unwrap()));
}

#[test]
fn while_a_fetch_waits_for_memory_who_takes_nothing_goes() {
    let rig = rig();
    let (stuck, accepted) = rig.client(sits(40));
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted);
        let mut answers = 0;
        // Until the socket takes no more.
        while network.answers.held_bytes() == 0 {
            answers += 1;
            assert!(answers < 40, "the socket has taken them all");
            let Input::Request { connection, seq, .. } = next_input(&inputs, &network).await else {
                panic!("not a request")
            };
            network.answer(connection, seq, large_answer(1_900_000), None);
            send(&network);
            // Many short ones: the ring is looked at in between, however late this thread gets its time.
            for _ in 0..10 {
                sleep(Duration::from_millis(1)).await;
            }
            network.clients.borrow()[&connection].note_sent();
        }
        let now_ns = clock::monotonic_ns();
        network.close_stalled(now_ns + 100_000 * NS_PER_MS);
        assert!(!network.clients.borrow().values().any(|client| client.is_closing()), "nobody waits");
        network.answers.set_wanted(Some(now_ns));
        network.close_stalled(now_ns + 100 * NS_PER_MS);
        assert!(!network.clients.borrow().values().any(|client| client.is_closing()), "nobody has for long");
        network.close_stalled(now_ns + 600 * NS_PER_MS);
        while let Input::Request { .. } = next_input(&inputs, &network).await {}
        assert_eq!(network.answers.held_bytes(), 0);
    });
    drop(stuck.join().unwrap());
}

/// It has sent half a frame, and something has woken its task, or has not, before that.
#[test]
fn half_a_frame_is_given_up_whatever_its_connection_waited_for_before() {
    let rig = rig();
    let (half, accepted) = rig.client(|mut stream| {
        stream.write_all(&(1_000_000i32).to_be_bytes()).unwrap();
        stream.write_all(&[0; 100_000]).unwrap();
        stream.read(&mut [0; 1]).unwrap()
    });
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted);
        while network.frames.borrow().used_bytes() == 0 {
            network.begin_round(clock::monotonic_ns());
            sleep(Duration::from_millis(1)).await;
        }
        let client = network.clients.borrow().values().next().unwrap().clone();
        // Left over from a wait for something else.
        *client.waker.borrow_mut() = Some(Waker::noop().clone());
        assert!(!network.frames.borrow_mut().may_read(
            ConnectionId(9),
            &mut Hold::default(),
            2 << 20,
            false,
            0
        ));
        while !client.awaits_bytes.get() {
            sleep(Duration::from_millis(1)).await;
        }
        network.close_stalled(clock::monotonic_ns() + 10_000 * NS_PER_MS);
        assert!(matches!(next_input(&inputs, &network).await, Input::ConnectionClosed { .. }));
        assert_eq!(half.join().unwrap(), 0);
    });
}

/// It may be a voter's that connects again.
#[test]
fn a_new_connection_says_what_it_is_though_clients_stand_in_line() {
    let rig = rig();
    let (client, accepted) = rig.client(|mut stream| {
        stream.write_all(&metadata(1)).unwrap();
        read_answer(&mut stream);
        stream.write_all(&metadata(2)).unwrap();
        stream.read(&mut [0; 1]).unwrap()
    });
    let (voter, voter_accepted) = rig.client(|mut stream| {
        stream.write_all(&vote(1)).unwrap();
        read_answer(&mut stream).0
    });
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted);
        let Input::Request { connection, seq, .. } = next_input(&inputs, &network).await else {
            panic!("not a request")
        };
        // The round is over from here on, and no other one begins.
        let mut turn = Turn::default();
        network.turns.borrow_mut().took_bytes(&mut turn, 1 << 30, 0);
        network.answer(connection, seq, answer_with(1), None);
        network.flush();
        network.ring.submit().unwrap();
        network.accept(voter_accepted);
        for _ in 0..20_000 {
            if !inputs.is_empty(true) {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        let Some(Input::Request { connection: of_voter, seq, .. }) = pop(&inputs) else {
            panic!("the vote waits in the clients' line")
        };
        assert_ne!(of_voter, connection);
        network.answer(of_voter, seq, Some(Response::Vote(m::VoteResponse::default())), None);
        network.flush();
        network.ring.submit().unwrap();
        assert_eq!(voter.join().unwrap(), 1);
        sleep(Duration::from_millis(20)).await;
        assert!(!matches!(pop(&inputs), Some(Input::Request { .. })), "the client waits for the next round");
        network.close(connection, "the test is over".into(), None);
        assert_eq!(client.join().unwrap(), 0);
    });
}

/// It was accepted before all others that claim to be the voter, and claims it after them.
#[test]
fn who_claims_late_to_be_a_voter_is_judged_by_the_time_of_its_claim() {
    let rig = rig();
    let (go, is_to_claim) = mpsc::channel();
    let (late, late_accepted) = rig.client(move |mut stream| {
        stream.write_all(&metadata(1)).unwrap();
        read_answer(&mut stream);
        is_to_claim.recv().unwrap();
        stream.write_all(&fetch_of(2)).unwrap();
        stream.read(&mut [0; 1]).unwrap()
    });
    // With it as many as a voter has places, and one more.
    let (others, accepted): (Vec<_>, Vec<_>) = (0..4)
        .map(|_| {
            rig.client(|mut stream| {
                stream.write_all(&fetch_of(2)).unwrap();
                stream.read(&mut [0; 1]).unwrap()
            })
        })
        .unzip();
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        let asked = async || match next_input(&inputs, &network).await {
            Input::Request { connection, seq, .. } => (connection, seq),
            other => panic!("{other:?}"),
        };
        network.accept(late_accepted);
        let (late_id, seq) = asked().await;
        network.answer(late_id, seq, answer_with(1), None);
        send(&network);
        let mut accepted = accepted.into_iter();
        let mut claimed = Vec::new();
        for _ in 0..3 {
            accepted.next().into_iter().for_each(|entered| network.accept(entered));
            claimed.push(asked().await.0);
        }
        go.send(()).unwrap();
        assert_eq!(asked().await.0, late_id);
        accepted.next().into_iter().for_each(|entered| network.accept(entered));
        asked().await;
        let Input::ConnectionClosed { connection } = next_input(&inputs, &network).await else {
            panic!("nobody has made room")
        };
        assert_eq!(connection, claimed[0], "it has been silent for the longest time");
        let left: Vec<_> = network.clients.borrow().keys().copied().collect();
        left.into_iter().for_each(|id| network.close(id, "the test is over".into(), None));
        assert_eq!(late.join().unwrap(), 0);
        assert!(others.into_iter().all(|other| other.join().unwrap() == 0));
    });
}

/// The kernel clears memory for what is read at once, and everybody waits for it.
#[test]
fn of_who_asks_for_much_little_is_read_at_once_while_others_ask_for_little() {
    const THERE: usize = 150 << 10;
    let rig = rig();
    let batch = crate::record::data_batch(&[&vec![7; 900_000]], clock::now().wall_ms, None);
    let (sender, accepted) = rig.client(move |mut stream| {
        let _ = stream.write_all(&produce(1, batch));
        stream
    });
    run(async move {
        let (_inputs, network) = replica_core(rig.control);
        let Entered { accepted: Accepted { socket, remote }, place } = accepted;
        // Else less than that is on its way.
        let (level, name, bytes) = (libc::SOL_SOCKET, libc::SO_RCVBUF, 200 << 10);
        // SAFETY: an int to read, of the size told.
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const bytes).cast(), 4) };
        let client = network.adopt(socket, remote, place, Session::new(limits())).unwrap();
        client.steps_left.set(0);
        let mut brought = Vec::new();
        for is_mixed in [false, true, false] {
            let mut rounds = 0;
            while client.connection.unread_bytes() < THERE {
                rounds += 1;
                assert!(rounds < 20_000, "{} bytes have come in 20 s", client.connection.unread_bytes());
                sleep(Duration::from_millis(1)).await;
            }
            // Somebody asks for much, and others for little; or that was an hour ago.
            network.may_go(&client, client.session.borrow().announced());
            network.rest(&client);
            let now_ns = clock::monotonic_ns();
            network.turns.borrow_mut().voter_went(now_ns);
            network.begin_round(if is_mixed { now_ns } else { now_ns + 3_600_000 * NS_PER_MS });
            let bytes_max = network.turns.borrow().read_bytes_max(false);
            let before = client.session.borrow().buffered_bytes();
            assert!(network.read(&client).await);
            brought.push((bytes_max, client.session.borrow().buffered_bytes() - before));
        }
        let [(_, first), (mixed_max, mixed), (alone_max, alone)] = brought[..] else { panic!("three") };
        assert!(first <= 8 << 10, "it brings the length: {first}");
        assert!(mixed == mixed_max && mixed < THERE && alone_max > THERE && alone >= THERE, "{brought:?}");
        drop(sender.join().unwrap());
    });
}

/// docs/limits.md counts with it.
#[test]
fn a_connection_is_small() {
    assert!(size_of::<Client>() <= 1312, "{}", size_of::<Client>());
}

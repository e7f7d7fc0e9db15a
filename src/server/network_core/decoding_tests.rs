//! Large requests, and the thread that decodes them.

use super::*;
use crate::replica::room::taken::RoomTaken;

/// Metadata 4 of so many names.
fn names(correlation_id: i32, count: usize) -> Vec<u8> {
    let mut frame = vec![0, 3, 0, 4];
    frame.extend(correlation_id.to_be_bytes());
    frame.extend([0, 1, b'c']);
    frame.extend((count as u32).to_be_bytes());
    for number in 0..count {
        frame.extend([0, 8]);
        frame.extend(format!("{number:08}").bytes());
    }
    frame.push(1);
    [&(frame.len() as u32).to_be_bytes(), frame.as_slice()].concat()
}

struct Node {
    inputs: Rc<Inputs>,
    network: Rc<NetworkCore>,
    from_decoder: Receiver<ToNetwork>,
}

impl Node {
    fn new(rig: &Rig) -> Node {
        let (sender, from_decoder) = CoreSender::new(Doorbell::new().unwrap());
        let (inspectors, queue) = Inspectors::new();
        queue.start(1, &[sender]).unwrap();
        let inputs = Rc::new(Inputs::new(1));
        let sink = RequestSink::Local(inputs.clone());
        let control = rig.control.clone();
        let network = NetworkCore::new(0, limits(), room(), control, sink, inspectors, driven_ring());
        Node { inputs, network, from_decoder }
    }

    async fn next(&self) -> Option<Input> {
        for _ in 0..300 {
            if let Some(input) = self.look() {
                return Some(input);
            }
            sleep(Duration::from_millis(1)).await;
        }
        None
    }

    fn look(&self) -> Option<Input> {
        self.network.begin_round(clock::monotonic_ns());
        for message in self.from_decoder.try_iter() {
            let ToNetwork::Decoded(connection, decoded) = message else { panic!("not a request") };
            self.network.on_decoded(connection, decoded);
        }
        pop(&self.inputs)
    }

    /// The next request, with the number of things that it names.
    async fn request(&self) -> (ConnectionId, u64, usize) {
        for _ in 0..100 {
            match self.next().await {
                Some(Input::Request { connection, seq, request, .. }) => {
                    let Admitted::Other(Request::Metadata(asked)) = request.asked() else { panic!("not it") };
                    return (connection, seq, asked.topics.as_ref().map_or(0, Vec::len));
                }
                Some(Input::ConnectionClosed { .. }) | None => {}
                Some(other) => panic!("{other:?}"),
            }
        }
        panic!("no request within half a minute")
    }

    fn answer(&self, connection: ConnectionId, seq: u64) {
        self.network.answer(connection, seq, answer_with(1), None);
        send(&self.network);
    }
}

#[test]
fn a_large_request_is_decoded_elsewhere_and_keeps_its_place() {
    let rig = rig();
    let (client, accepted) = rig.client(|mut stream| {
        stream.write_all(&[metadata(1), names(2, 900), metadata(3)].concat()).unwrap();
        (1..=3).map(|_| read_answer(&mut stream).0).collect::<Vec<_>>()
    });
    run(async move {
        let node = Node::new(&rig);
        node.network.accept(accepted);
        for (things, is_on_its_way) in [(0, false), (900, true), (0, true)] {
            let (connection, seq, named) = node.request().await;
            assert_eq!(named, things);
            node.network.close_stalled(clock::monotonic_ns());
            let gauges = node.network.gauges.clone();
            let taken = RoomTaken::of(&[CoreRoom { gauges, ..room() }]);
            assert_eq!(taken.heavy_handed_bytes.taken > 0, is_on_its_way, "until it is said to be taken");
            node.answer(connection, seq);
        }
        assert_eq!(client.join().unwrap(), [1, 2, 3]);
    });
}

#[test]
fn one_large_request_is_under_way_at_a_time_and_smaller_ones_pass_it() {
    let rig = rig();
    let ask = |count: usize| {
        move |mut stream: TcpStream| {
            stream.write_all(&names(1, count)).unwrap();
            stream.read(&mut [0; 4]).unwrap_or(0)
        }
    };
    // More than 16 KiB is not allowed more than 1,000 names here: three of the small kind, which wait for one another too.
    let clients: Vec<_> = [300, 400, 500].into_iter().map(|count| rig.client(ask(count))).collect();
    let (plain, plain_accepted) = rig.client(|mut stream| {
        stream.write_all(&metadata(9)).unwrap();
        read_answer(&mut stream).0
    });
    run(async move {
        let node = Node::new(&rig);
        let (threads, entered): (Vec<_>, Vec<_>) = clients.into_iter().unzip();
        let mut ids = Vec::new();
        for entered in entered {
            node.network.accept(entered);
        }
        let first = node.request().await;
        assert_eq!(node.next().await.map(|_| ()), None, "the others wait until it is answered");
        node.network.accept(plain_accepted);
        let (connection, seq, things) = node.request().await;
        assert_eq!(things, 0, "who asks for little does not");
        node.answer(connection, seq);
        assert_eq!(plain.join().unwrap(), 9);
        // Its connection ends instead.
        node.network.close(first.0, "the test ends it".into(), None);
        let second = node.request().await;
        assert_ne!(second.0, first.0);
        node.answer(second.0, second.1);
        let third = node.request().await;
        node.answer(third.0, third.1);
        ids.extend([first.2, second.2, third.2]);
        ids.sort_unstable();
        assert_eq!(ids, [300, 400, 500]);
        threads.into_iter().for_each(|thread| assert!(thread.join().unwrap() <= 4));
    });
}

#[test]
fn a_large_request_that_says_nothing_closes_its_connection_and_frees_the_way() {
    let rig = rig();
    let (bad, bad_accepted) = rig.client(|mut stream| {
        let mut frame = names(1, 900);
        let length = frame.len();
        frame[length - 5_000..].fill(0xff);
        stream.write_all(&frame).unwrap();
        stream.read(&mut [0; 1]).unwrap_or(0)
    });
    let (good, good_accepted) = rig.client(|mut stream| {
        stream.write_all(&names(7, 900)).unwrap();
        read_answer(&mut stream).0
    });
    run(async move {
        let node = Node::new(&rig);
        node.network.accept(bad_accepted);
        node.network.accept(good_accepted);
        let (connection, seq, things) = node.request().await;
        assert_eq!(things, 900);
        node.answer(connection, seq);
        assert_eq!((bad.join().unwrap(), good.join().unwrap()), (0, 7));
    });
}

/// Its frame lies with the thread: until that has looked at it nothing else is given away, and then it goes on.
#[test]
fn who_leaves_while_it_waits_for_the_thread_keeps_nobody_waiting() {
    let rig = rig();
    let ask = |id: i32| {
        move |mut stream: TcpStream| {
            stream.write_all(&names(id, 900)).unwrap();
            read_answer_or_end(&mut stream)
        }
    };
    let (gone, gone_accepted) = rig.client(ask(1));
    let (stays, stays_accepted) = rig.client(ask(2));
    run(async move {
        let (sender, from_decoder) = CoreSender::new(Doorbell::new().unwrap());
        let (inspectors, queue) = Inspectors::new();
        let inputs = Rc::new(Inputs::new(1));
        let sink = RequestSink::Local(inputs.clone());
        let control = rig.control.clone();
        let network = NetworkCore::new(0, limits(), room(), control, sink, inspectors, driven_ring());
        let node = Node { inputs, network, from_decoder };
        node.network.accept(gone_accepted);
        let first = *node.network.clients.borrow().keys().next().unwrap();
        let is_given = || node.network.clients.borrow().get(&first).is_some_and(|c| c.is_decoding.get());
        while !is_given() {
            assert!(node.look().is_none());
            sleep(Duration::from_millis(1)).await;
        }
        node.network.close(first, "the test ends it".into(), None);
        node.network.accept(stays_accepted);
        assert!(matches!(node.next().await, Some(Input::ConnectionClosed { .. })));
        assert!(node.next().await.is_none());
        assert_eq!(node.network.decoding.borrow().waiting(), 1, "one frame lies with the thread at a time");
        queue.start(1, &[sender]).unwrap();
        let (connection, seq, things) = node.request().await;
        assert!(connection != first && things == 900);
        node.answer(connection, seq);
        assert_eq!((gone.join().unwrap(), stays.join().unwrap()), (None, Some(2)));
    });
}

fn read_answer_or_end(stream: &mut TcpStream) -> Option<i32> {
    let mut head = [0; 8];
    stream.read_exact(&mut head).ok()?;
    Some(i32::from_be_bytes(head[4..].try_into().unwrap()))
}

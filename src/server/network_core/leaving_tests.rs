//! Who closes its connection at once: what it wrote before has arrived.

use super::*;

/// It waits for nothing, and all that it wrote has arrived before its end.
#[test]
fn what_came_whole_before_the_end_is_written_whatever_is_under_way() {
    let rig = rig();
    let batch = crate::record::data_batch(&[b"a"], clock::now().wall_ms, None);
    let (goes, go) = mpsc::channel();
    let (client, accepted) = rig.client(move |mut stream| {
        (0..8).for_each(|id| stream.write_all(&metadata(id)).unwrap());
        go.recv().unwrap();
        let produce = |id| produce_and_go(id, batch.clone());
        let half = &produce(13)[..40];
        let behind =
            [produce(9), metadata(10), padded_fetch(11, 40_000), produce(12), half.to_vec()].concat();
        stream.write_all(&behind).unwrap();
    });
    run(async move {
        let (inputs, network) = replica_core(rig.control);
        network.accept(accepted);
        for _ in 0..8 {
            assert!(matches!(next_input(&inputs, &network).await, Input::Request { .. }));
        }
        goes.send(()).unwrap();
        client.join().unwrap();
        for _ in 0..2 {
            let next = next_input(&inputs, &network).await;
            assert!(is_produce(&next), "{next:?}");
            let Input::Request { connection, seq, .. } = next else { panic!("not a request") };
            network.answer(connection, seq, None, None);
            network.answer(connection, 3, answer_with(1), None);
        }
        assert!(matches!(next_input(&inputs, &network).await, Input::ConnectionClosed { .. }));
    });
}

#[test]
fn a_large_produce_that_waits_for_memory_is_written_though_its_sender_has_gone() {
    let rig = rig();
    let (leaves, leave) = mpsc::channel();
    let (holder, holder_accepted) = rig.client(move |mut stream| {
        let frame = padded_fetch(1, 70_000);
        stream.write_all(&frame[..frame.len() - 1]).unwrap();
        leave.recv().unwrap();
    });
    let record = vec![7; 30_000];
    let batch = crate::record::data_batch(&[&record[..]], clock::now().wall_ms, None);
    let (sender, accepted) =
        rig.client(move |mut stream| stream.write_all(&produce_and_go(2, batch)).unwrap());
    run(async move {
        let inputs = Rc::new(Inputs::new(1));
        let sink = RequestSink::Local(inputs.clone());
        let frames = FrameLimits { bytes_max: 80_000, stall_ms_max: 60_000 };
        let room = CoreRoom { frames, ..room() };
        let network =
            NetworkCore::new(0, limits(), room, rig.control, sink, Inspectors::new().0, driven_ring());
        let rounds = async |is_over: &dyn Fn() -> bool| {
            for _ in 0..10_000 {
                if is_over() {
                    return;
                }
                network.begin_round(clock::monotonic_ns());
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
            panic!("not within 10 s");
        };
        network.accept(holder_accepted);
        rounds(&|| network.frames.borrow().used_bytes() > 60_000).await;
        network.accept(accepted);
        sender.join().unwrap();
        let is_gone = |client: &Rc<Client>| client.end_seen.get();
        rounds(&|| network.clients.borrow().values().any(is_gone)).await;
        assert!(inputs.is_empty(true) && network.frames.borrow().has_line(), "it waits for memory");
        leaves.send(()).unwrap();
        holder.join().unwrap();
        assert!(matches!(next_input(&inputs, &network).await, Input::ConnectionClosed { .. }));
        let next = next_input(&inputs, &network).await;
        assert!(is_produce(&next), "{next:?}");
        assert!(matches!(next_input(&inputs, &network).await, Input::ConnectionClosed { .. }));
        assert_eq!(network.frames.borrow().used_bytes(), 0);
    });
}

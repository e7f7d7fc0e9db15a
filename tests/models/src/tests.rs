//! Threads that share lanes and doorbells, in every order in which they may run. A core that sleeps although something was put
//! for it is a deadlock, and loom says so.

use crate::io::doorbell::Doorbell;
use crate::io::sync::Receiver;
use crate::lanes::{Asked, Asking, Lane};
use loom::thread;

/// All orders in which a thread is interrupted no more than so often where it could go on; a wait for another one does
/// not count. More find no more and take hours.
const INTERRUPTIONS_MAX: usize = 3;

fn in_every_order(threads: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(INTERRUPTIONS_MAX);
    model.check(threads);
}

/// Takes what is there and sleeps for the doorbell, as a core does, until it has had enough.
fn take_until<T>(bell: &Doorbell, receiver: &Receiver<T>, mut is_over: impl FnMut(T) -> bool) {
    loop {
        for message in receiver.try_iter() {
            if is_over(message) {
                return;
            }
        }
        bell.hear();
    }
}

#[test]
fn what_two_threads_send_comes_once_and_in_the_order_of_each() {
    in_every_order(|| {
        let bell = Doorbell::new().unwrap();
        let (lane, receiver) = Lane::new(bell.clone());
        let threads: Vec<_> = [10, 20]
            .into_iter()
            .map(|first| {
                let lane = lane.clone();
                thread::spawn(move || {
                    lane.send(first);
                    lane.send(first + 1);
                })
            })
            .collect();
        let mut came = Vec::new();
        take_until(&bell, &receiver, |message| {
            came.push(message);
            came.len() == 4
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(receiver.try_iter().count(), 0);
        let of = |first| came.iter().copied().filter(|n| n / 10 == first).collect::<Vec<i32>>();
        assert_eq!((of(1), of(2)), (vec![10, 11], vec![20, 21]), "{came:?}");
    });
}

#[test]
fn one_ring_for_many_wakes_for_all_of_them() {
    in_every_order(|| {
        let bell = Doorbell::new().unwrap();
        let (lane, receiver) = Lane::new(bell.clone());
        let thread = thread::spawn(move || {
            lane.put(1);
            lane.put(2);
            lane.ring();
            lane.put(3);
            lane.ring();
        });
        let mut came = Vec::new();
        take_until(&bell, &receiver, |message| {
            came.push(message);
            message == 3
        });
        thread.join().unwrap();
        assert_eq!(came, [1, 2, 3]);
    });
}

enum ToReplica {
    Request(usize),
    /// Needs no credit.
    Closed,
}

enum ToNetwork {
    Answer(usize),
    Taken(usize),
    Stop,
}

const CREDITS: usize = 1;

/// A network core with so few credits that it has to wait for them: it stops asking, as it stops reading its sockets.
fn ask(
    bell: &Doorbell,
    edge: &Asking<ToReplica>,
    answers: &Receiver<ToNetwork>,
    requests: usize,
) -> Vec<usize> {
    let (mut next, mut answered) = (0, Vec::new());
    let mut go_on = |edge: &Asking<ToReplica>| {
        while next < requests && edge.credits() > 0 {
            edge.ask(ToReplica::Request(next));
            next += 1;
        }
        if next == requests {
            next += 1;
            edge.tell(ToReplica::Closed);
        }
    };
    go_on(edge);
    take_until(bell, answers, |message| {
        match message {
            ToNetwork::Answer(n) => answered.push(n),
            ToNetwork::Taken(n) => edge.on_taken(n),
            ToNetwork::Stop => return true,
        }
        assert!(edge.credits() <= CREDITS, "a credit came back twice");
        go_on(edge);
        false
    });
    answered
}

/// The replica core: takes, answers, and tells both at the end of its turn. It stops the other core when that has closed.
fn answer(bell: &Doorbell, edge: &mut Asked<ToReplica, ToNetwork>) -> usize {
    let (mut taken, mut most_waiting) = (0, 0);
    loop {
        let came: Vec<_> = edge.receiver.try_iter().collect();
        most_waiting = most_waiting.max(came.len());
        let mut is_over = false;
        for message in came {
            match message {
                ToReplica::Request(n) => {
                    assert_eq!(n, taken, "out of order");
                    taken += 1;
                    edge.put(ToNetwork::Answer(n));
                    edge.note_taken();
                }
                ToReplica::Closed => is_over = true,
            }
        }
        edge.end_turn(ToNetwork::Taken);
        if is_over {
            edge.lane().send(ToNetwork::Stop);
            return most_waiting;
        }
        bell.hear();
    }
}

#[test]
fn requests_wait_for_credits_and_each_credit_comes_back_once() {
    const REQUESTS: usize = 2;
    in_every_order(|| {
        let (network_bell, replica_bell) = (Doorbell::new().unwrap(), Doorbell::new().unwrap());
        let (asking, requests) = Asking::new(replica_bell.clone(), CREDITS);
        let (lane, answers) = Lane::new(network_bell.clone());
        let network = thread::spawn(move || {
            let answered = ask(&network_bell, &asking, &answers, REQUESTS);
            (answered, asking.credits())
        });
        let most_waiting = answer(&replica_bell, &mut Asked::new(requests, lane));
        let (answered, credits) = network.join().unwrap();
        assert_eq!(answered, [0, 1], "each request has its answer, before the core stops");
        assert_eq!(credits, CREDITS, "all of them are back");
        assert!(most_waiting <= CREDITS + 1, "{most_waiting} messages waited");
    });
}

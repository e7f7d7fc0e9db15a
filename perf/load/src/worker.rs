//! One thread and its connections: sends what is due, takes what comes, and records how long it took.
//!
//! It waits in epoll until the next thing is due; nothing here blocks but the search for a new leader.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::batch::{Random, Templates};
use crate::cluster::{self, Cluster};
use crate::connection::{Connection, Producer, Sent, State, Verdict};
use crate::epoll::Epoll;
use crate::flags::Wait;
use crate::link::Link;
use crate::options::Plan;
use crate::pace::Schedule;
use crate::recording::{Recording, Spread};
use crate::wire::{self, ProduceAnswer, ProduceHead};

const NS_PER_S: u64 = 1_000_000_000;
/// How often timeouts and a wish to stop are looked for.
const TICK_NS: u64 = 100_000_000;
/// How long answers are awaited after the end.
const DRAIN_NS_MAX: u64 = 10 * NS_PER_S;
/// A cluster that has just been started may have no leader yet.
const FIRST_LEADER_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_LEADER_BACKOFF: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 64 << 10;

/// What all threads share.
pub(crate) struct Shared<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) templates: &'a Templates,
    pub(crate) cluster: &'a Cluster,
    pub(crate) stop: &'a AtomicBool,
}

/// A second that is over.
pub(crate) struct Interval {
    pub(crate) second: u64,
    pub(crate) recording: Recording,
    /// Batches that were never answered; only in a thread's last interval.
    pub(crate) unanswered: u64,
    pub(crate) is_last: bool,
}

pub(crate) struct Worker<'a> {
    shared: &'a Shared<'a>,
    epoll: Epoll,
    connections: Vec<Connection>,
    /// Those that may have room for a batch, in turn.
    queue: VecDeque<usize>,
    waiting: Vec<usize>,
    schedule: Option<Schedule>,
    /// Batches still to be sent, where a number of them was asked for.
    remaining: u64,
    start: Instant,
    warmup_ns: u64,
    end_ns: u64,
    next_tick_ns: u64,
    second: u64,
    previous_ack_ns: u64,
    recording: Recording,
    head: ProduceHead,
    scratch: Vec<u8>,
    stamped: Vec<u8>,
    answers: Vec<Option<ProduceAnswer>>,
    random: Random,
}

impl<'a> Worker<'a> {
    /// Connects; thread `index` of `plan.threads`. `Err`: a sentence.
    pub(crate) fn connect(shared: &'a Shared<'a>, index: usize) -> Result<Worker<'a>, String> {
        let plan = shared.plan;
        let share = |whole: u64| (whole + (plan.threads - 1 - index) as u64) / plan.threads as u64;
        let end_ns = plan.end.after.map_or(u64::MAX, |duration| nanos(plan.warmup + duration));
        let remaining = plan.end.batches.map_or(u64::MAX, share);
        let schedule = plan.rate.map(|rate| Schedule::new(rate, plan.records_per_batch, index, plan.threads));
        let timeout_ms = plan.request_timeout.as_millis().min(i32::MAX as u128) as i32;
        let mut worker = Worker {
            shared,
            epoll: Epoll::new().map_err(|e| format!("epoll: {e}"))?,
            connections: (0..share(plan.clients as u64)).map(|_| Connection::new()).collect(),
            queue: VecDeque::new(),
            waiting: Vec::new(),
            schedule,
            remaining,
            start: Instant::now(),
            warmup_ns: nanos(plan.warmup),
            end_ns,
            next_tick_ns: 0,
            second: 0,
            previous_ack_ns: 0,
            recording: Recording::new(),
            head: ProduceHead::new(&plan.topic, plan.acks, timeout_ms),
            scratch: vec![0; READ_BYTES],
            stamped: Vec::new(),
            answers: Vec::new(),
            random: Random::new(index as u64),
        };
        for c in 0..worker.connections.len() {
            worker.connect_first(c)?;
        }
        Ok(worker)
    }

    fn connect_first(&mut self, c: usize) -> Result<(), String> {
        let deadline = Instant::now() + FIRST_LEADER_TIMEOUT;
        while let Err(why) = self.open(c) {
            if Instant::now() >= deadline {
                return Err(why);
            }
            std::thread::sleep(FIRST_LEADER_BACKOFF);
        }
        Ok(())
    }

    /// Until the end and the last answer. `start` is the same for all threads.
    pub(crate) fn run(mut self, start: Instant, intervals: &Sender<Interval>) -> io::Result<()> {
        self.start = start;
        sharpen_timer();
        if let Some(early) = start.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        loop {
            let now_ns = self.now_ns();
            if now_ns >= self.next_tick_ns {
                self.on_tick(now_ns, intervals);
            }
            self.recover_waiting(now_ns);
            self.send_due();
            if self.is_done(now_ns) {
                break;
            }
            let timeout = self.timeout(now_ns);
            for i in 0..self.wait(timeout)? {
                let ready = self.epoll.ready(i);
                if ready.is_writable {
                    self.flush(ready.token);
                }
                if ready.is_readable {
                    self.on_readable(ready.token);
                }
            }
        }
        let under_way = |connection: &Connection| connection.in_flight.len() + connection.again.len();
        let unanswered = self.connections.iter().map(under_way).sum::<usize>() as u64;
        let mut recording = mem::replace(&mut self.recording, Recording::new());
        recording.of_each = Spread::of(self.connections.iter().map(|connection| connection.acknowledged));
        // The receiver lives as long as all threads.
        let _ = intervals.send(Interval { second: self.second, recording, unanswered, is_last: true });
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        match self.shared.plan.wait {
            Wait::Sleep => self.epoll.wait(Some(timeout)),
            Wait::Yield => {
                let ready = self.epoll.wait(Some(Duration::ZERO))?;
                if ready == 0 {
                    std::thread::yield_now();
                }
                Ok(ready)
            }
        }
    }

    fn timeout(&self, now_ns: u64) -> Duration {
        let mut wake_ns = self.next_tick_ns;
        if let Some(schedule) =
            self.schedule.as_ref().filter(|_| !self.queue.is_empty() && self.is_sending(now_ns))
        {
            wake_ns = wake_ns.min(schedule.next_due_ns());
        }
        for c in &self.waiting {
            if let State::Waiting { until_ns } = self.connections[*c].state {
                wake_ns = wake_ns.min(until_ns);
            }
        }
        if self.is_sending(now_ns) {
            wake_ns = wake_ns.min(self.end_ns);
        }
        Duration::from_nanos(wake_ns.saturating_sub(self.now_ns()))
    }

    fn is_sending(&self, now_ns: u64) -> bool {
        now_ns < self.end_ns && self.remaining > 0
    }

    fn is_done(&self, now_ns: u64) -> bool {
        !self.is_sending(now_ns)
            && (self.connections.iter().all(Connection::is_idle)
                || now_ns >= self.end_ns.saturating_add(DRAIN_NS_MAX))
    }

    fn on_tick(&mut self, now_ns: u64, intervals: &Sender<Interval>) {
        self.next_tick_ns = (now_ns / TICK_NS + 1) * TICK_NS;
        if self.shared.stop.load(Ordering::Relaxed) {
            self.end_ns = self.end_ns.min(now_ns);
        }
        let second = now_ns / NS_PER_S;
        if second > self.second {
            let recording = self.recording.clone();
            let _ =
                intervals.send(Interval { second: self.second, recording, unanswered: 0, is_last: false });
            self.recording.reset();
            self.second = second;
        }
        let timeout_ns = nanos(self.shared.plan.request_timeout);
        for c in 0..self.connections.len() {
            let oldest = self.connections[c].in_flight.front();
            if oldest.is_some_and(|sent| now_ns > sent.sent_ns.saturating_add(timeout_ns)) {
                self.lose(c, "no answer in time");
            }
        }
    }

    /// When the next batch counts from, if one is to be sent now.
    fn take_due(&mut self) -> Option<u64> {
        let now_ns = self.now_ns();
        if !self.is_sending(now_ns) {
            return None;
        }
        let due_ns = match &mut self.schedule {
            Some(schedule) => schedule.take_due(now_ns)?,
            None => now_ns,
        };
        if self.remaining < u64::MAX && due_ns >= self.warmup_ns {
            self.remaining -= 1;
        }
        Some(due_ns)
    }

    /// Closed loop: each connection in turn is filled. Open loop: each in turn gets one batch.
    fn send_due(&mut self) {
        while let Some(c) = self.queue.front().copied() {
            if !self.connections[c].has_room(self.shared.plan.in_flight) {
                self.queue.pop_front();
                self.connections[c].is_queued = false;
                self.flush(c);
                continue;
            }
            let Some(due_ns) = self.take_due() else {
                self.flush(c);
                return;
            };
            let template = self.shared.templates.pick(&mut self.random);
            let records = self.shared.templates.get(template).records;
            let connection = &mut self.connections[c];
            let sequence = connection.take_sequence(records);
            let sent = Sent { correlation_id: 0, template, sequence, due_ns, sent_ns: 0 };
            self.send(c, sent);
            if self.schedule.is_some() {
                self.flush(c);
                self.queue.rotate_left(1);
            }
        }
    }

    fn send(&mut self, c: usize, mut sent: Sent) {
        let template = self.shared.templates.get(sent.template);
        sent.sent_ns = self.now_ns();
        let connection = &mut self.connections[c];
        sent.correlation_id = connection.take_correlation_id();
        let batch: &[u8] = match connection.producer {
            Some(producer) => {
                template.stamp_into(&mut self.stamped, (producer.id, producer.epoch, sent.sequence));
                &self.stamped
            }
            None => &template.batch,
        };
        let head = self.head.stamp(sent.correlation_id, batch.len());
        connection.in_flight.push_back(sent);
        let Some(link) = &mut connection.link else { return };
        if let Err(e) = link.push(&self.epoll, head, batch) {
            self.lose_by(c, &e);
        }
    }

    fn flush(&mut self, c: usize) {
        let Some(link) = &mut self.connections[c].link else { return };
        if let Err(e) = link.flush(&self.epoll) {
            self.lose_by(c, &e);
        }
    }

    fn on_readable(&mut self, c: usize) {
        let Some(link) = &mut self.connections[c].link else { return };
        let mut answers = mem::take(&mut self.answers);
        let result = link.read(&mut self.scratch, |frame| answers.push(wire::decode_produce_answer(frame)));
        let now_ns = self.now_ns();
        for answer in answers.drain(..) {
            self.on_answer(c, answer, now_ns);
        }
        self.answers = answers;
        if let Err(e) = result {
            self.lose_by(c, &e);
        }
        self.enqueue(c);
    }

    fn enqueue(&mut self, c: usize) {
        let connection = &mut self.connections[c];
        if !connection.is_queued && connection.has_room(self.shared.plan.in_flight) {
            connection.is_queued = true;
            self.queue.push_back(c);
        }
    }

    fn on_answer(&mut self, c: usize, answer: Option<ProduceAnswer>, now_ns: u64) {
        let connection = &mut self.connections[c];
        // Answers come in the order of their requests.
        let expected = connection.in_flight.front().map(|sent| sent.correlation_id);
        let Some(answer) = answer.filter(|answer| Some(answer.correlation_id) == expected) else {
            return self.lose(c, "an answer that belongs to no request");
        };
        let Some(sent) = connection.in_flight.pop_front() else { return };
        let verdict = connection.on_answer(sent, answer.error, now_ns);
        if matches!(connection.state, State::Waiting { .. }) {
            self.waiting.push(c);
        }
        let template = self.shared.templates.get(sent.template);
        match verdict {
            Verdict::Acknowledged => self.record(c, sent, now_ns),
            Verdict::Failed => self.recording.counts.failed_records += template.records,
            Verdict::Again | Verdict::AgainAsNewProducer => {}
        }
        if verdict != Verdict::Acknowledged {
            self.recording.add_error(&cluster::error_name(answer.error));
        }
    }

    fn record(&mut self, c: usize, sent: Sent, now_ns: u64) {
        let template = self.shared.templates.get(sent.template);
        let recording = &mut self.recording;
        recording.all_records += template.records;
        recording.add_pause(self.previous_ack_ns, now_ns);
        self.previous_ack_ns = now_ns;
        // Of a number of records those are counted that it is made of, of a time what it saw.
        let counts_from = if self.remaining == u64::MAX { now_ns } else { sent.due_ns };
        if (self.warmup_ns..self.end_ns).contains(&counts_from) {
            recording.counts.batches += 1;
            self.connections[c].acknowledged += 1;
            recording.counts.records += template.records;
            recording.counts.value_bytes += template.value_bytes;
        }
        if (self.warmup_ns..self.end_ns).contains(&sent.due_ns) {
            recording.last_ack_ns = now_ns;
            // Without an upper bound it takes every value.
            let _ = recording.latency.record(now_ns.saturating_sub(sent.due_ns));
            if self.schedule.is_some() {
                let _ = recording.service.record(now_ns.saturating_sub(sent.sent_ns));
            }
        }
    }

    fn lose_by(&mut self, c: usize, error: &io::Error) {
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof => "connection closed by the broker".to_string(),
            _ => format!("connection: {error}"),
        };
        self.lose(c, &what);
    }

    fn lose(&mut self, c: usize, what: &str) {
        if self.connections[c].link.is_none() {
            return;
        }
        self.recording.add_error(what);
        let now_ns = self.now_ns();
        self.connections[c].on_lost(now_ns);
        self.waiting.push(c);
    }

    /// Connections whose wait is over look for the leader.
    fn recover_waiting(&mut self, now_ns: u64) {
        if self.waiting.is_empty() {
            return;
        }
        let mut waiting = mem::take(&mut self.waiting);
        waiting.sort_unstable();
        waiting.dedup();
        for c in waiting {
            match self.connections[c].state {
                State::Waiting { until_ns } if until_ns <= now_ns => self.recover(c),
                State::Waiting { .. } => self.waiting.push(c),
                State::Open | State::Draining => {}
            }
        }
    }

    fn recover(&mut self, c: usize) {
        if let Err(why) = self.open(c) {
            self.recording.add_error(&why);
            let now_ns = self.now_ns();
            self.connections[c].back_off(now_ns);
            self.waiting.push(c);
            return;
        }
        let again = mem::take(&mut self.connections[c].again);
        self.recording.counts.retries += again.len() as u64;
        for sent in again {
            self.send(c, sent);
        }
        self.flush(c);
    }

    /// Connects to the leader, unless the connection leads there already, and gets a producer id where one is needed.
    fn open(&mut self, c: usize) -> Result<(), String> {
        let connection = &mut self.connections[c];
        let leader = self.shared.cluster.leader(connection.leader_version)?;
        connection.leader_version = leader.version;
        let is_elsewhere = connection.address != leader.address;
        let needs_producer = self.shared.plan.is_idempotent && connection.producer.is_none();
        if connection.link.is_none() || is_elsewhere || needs_producer {
            connection.link = None;
            let mut stream = cluster::connect(&leader.address)?;
            if needs_producer {
                let (id, epoch) = cluster::ask_producer_id(&mut stream)?;
                connection.producer = Some(Producer { id, epoch, next_sequence: 0 });
                renumber(connection, self.shared.templates);
            }
            connection.address = leader.address;
            connection.link = Some(Link::new(stream, &self.epoll, c).map_err(|e| format!("epoll: {e}"))?);
        }
        connection.state = State::Open;
        self.enqueue(c);
        Ok(())
    }
}

/// A new producer's sequences begin at 0, with what is to be sent again.
fn renumber(connection: &mut Connection, templates: &Templates) {
    let mut again = mem::take(&mut connection.again);
    for sent in &mut again {
        sent.sequence = connection.take_sequence(templates.get(sent.template).records);
    }
    connection.again = again;
}

/// The kernel lets a sleeper oversleep by 50 us unless it is told otherwise: in the open loop that would count as latency.
fn sharpen_timer() {
    // SAFETY: a system call without pointers, for this thread alone. Where it fails the driver is merely less sharp.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().min(u128::from(u64::MAX)) as u64
}

//! Clients: producers (idempotent and plain), consumers (tailing and scanning) and admin tools, each on one connection
//! at a time, with retries and timeouts as real ones have them.
//!
//! The simulation tells a client what arrives and when it wanted to be woken; the client sends on the network and
//! reports to the checker what it was told. It believes nothing that it cannot decode.

use super::alterations::ALTERED_KEY;
use super::checker::Checker;
use super::clock::wall_ms;
use super::dice::Dice;
use super::history::Value;
use super::kafka::{self, Api};
use super::network::{End, Host, Network, Parcel, WireId};
use crate::record::compression::Codec;
use crate::record::{BATCH_HEADER_BYTES, BatchBuilder, check_fetched, data_batch};
use crate::types::*;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as km;
use std::collections::VecDeque;

const REQUEST_TIMEOUT_NS: u64 = 3_000 * NS_PER_MS;
const FETCH_WAIT_MS: i32 = 300;
/// Kafka's own bound for idempotent producers.
const IN_FLIGHT_MAX: u64 = 5;

#[derive(Debug)]
pub(crate) enum Role {
    Producer(Producer),
    Consumer(Consumer),
    Admin,
}

#[derive(Debug)]
pub(super) struct Producer {
    pub(super) idempotent: bool,
    acks: i16,
    id: Option<(i64, i16)>,
    /// A batch of this producer id has been acknowledged: every leader knows the id from here on. Before that a
    /// second batch in flight could be taken as its first (Kafka takes any first sequence).
    is_known: bool,
    in_flight_max: u64,
    next_number: u64,
    next_sequence: i32,
    unacknowledged: VecDeque<Batch>,
    next_at_ns: u64,
    interval_ns: u64,
    /// An answer said no: wait for the rest, then send all again in order.
    is_failing: bool,
    pub(super) acknowledged: u64,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    count: u64,
    bytes: Bytes,
    is_sent: bool,
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) offset: i64,
    /// Reads from the start again and again.
    scans: bool,
    max_bytes: i32,
    not_before_ns: u64,
}

/// What a request on the way was.
#[derive(Clone, Copy, Debug)]
enum Asked {
    InitProducerId,
    Produce {
        number: u64,
    },
    Fetch,
    ListOffsets,
    /// Where the log starts.
    Earliest,
    /// To this number; `None`: back to the default.
    Alter(Option<u64>),
    DescribeConfigs,
    /// A Produce that must be refused.
    Broken,
    Other(Api),
}

#[derive(Debug)]
struct Waiting {
    correlation_id: i32,
    asked: Asked,
    deadline_ns: u64,
    /// The start of its log that the node had told when it was asked.
    start_told: Offset,
}

#[derive(Debug)]
pub(crate) struct Client {
    host: Host,
    dice: Dice,
    nodes: Vec<Host>,
    pub(crate) role: Role,
    target: Host,
    wire: Option<WireId>,
    /// Where that leads to.
    called: Host,
    is_connected: bool,
    /// Connect by then, or try again from then on.
    connect_ns: u64,
    received: BytesMut,
    waiting: VecDeque<Waiting>,
    next_correlation_id: i32,
    /// What it has wanted to be set.
    alterations: u64,
    /// Producers: no new records any more.
    pub(super) is_draining: bool,
}

/// What a client works with in one step.
pub(super) struct Around<'a> {
    pub(super) now_ns: u64,
    /// Until then producers have nothing new; 0: they have.
    pub(super) lull_ends_ns: u64,
    pub(super) network: &'a mut Network,
    pub(super) checker: &'a mut Checker,
}

impl Client {
    pub(crate) fn new(host: Host, mut dice: Dice, nodes: Vec<Host>, role: Role) -> Client {
        let target = dice.pick(&nodes).unwrap_or(1);
        Client {
            host,
            dice,
            nodes,
            role,
            target,
            wire: None,
            called: target,
            is_connected: false,
            connect_ns: 0,
            received: BytesMut::new(),
            waiting: VecDeque::new(),
            next_correlation_id: 0,
            alterations: 0,
            is_draining: false,
        }
    }

    pub(crate) fn producer(dice: &mut Dice) -> Role {
        let idempotent = dice.permille(700);
        Role::Producer(Producer {
            idempotent,
            acks: if idempotent || dice.permille(700) { -1 } else { 1 },
            id: None,
            is_known: false,
            in_flight_max: dice.between(1, IN_FLIGHT_MAX),
            next_number: 0,
            next_sequence: 0,
            unacknowledged: VecDeque::new(),
            next_at_ns: 0,
            interval_ns: dice.between(5, 150) * NS_PER_MS,
            is_failing: false,
            acknowledged: 0,
        })
    }

    pub(crate) fn consumer(dice: &mut Dice) -> Role {
        let max_bytes = dice.pick(&[500, 4_000, 60_000]).unwrap_or(4_000);
        Role::Consumer(Consumer { offset: 0, scans: dice.permille(400), max_bytes, not_before_ns: 0 })
    }

    /// Reads everything once, quickly.
    pub(super) fn final_reader() -> Role {
        Role::Consumer(Consumer { offset: 0, scans: false, max_bytes: 200_000, not_before_ns: 0 })
    }

    pub(crate) fn is_drained(&self) -> bool {
        !matches!(&self.role, Role::Producer(p) if !p.unacknowledged.is_empty())
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        match &self.role {
            Role::Producer(p) => p.acknowledged,
            _ => 0,
        }
    }

    /// Something came, or it was woken. Returns when to wake it next.
    pub(crate) fn step(&mut self, around: &mut Around, parcel: Option<(WireId, Parcel)>) -> u64 {
        if let Some((wire, parcel)) = parcel
            && self.wire == Some(wire)
        {
            match parcel {
                Parcel::Accepted => self.is_connected = true,
                Parcel::Bytes(bytes) => self.on_bytes(around, &bytes),
                Parcel::Closed(_) | Parcel::Call => self.disconnect(around, false),
            }
        }
        self.advance(around)
    }

    fn on_bytes(&mut self, around: &mut Around, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        while let Some(frame) = kafka::next_frame(&mut self.received) {
            let Some(waiting) = self.waiting.pop_front() else {
                return self.disconnect(around, true);
            };
            if self.on_answer(around, &waiting, &frame).is_none() {
                // Not what was asked for: whoever said it is not to be trusted.
                return self.disconnect(around, true);
            }
        }
    }

    fn disconnect(&mut self, around: &mut Around, is_ours: bool) {
        if let Some(wire) = self.wire.take().filter(|_| is_ours) {
            around.network.close(around.now_ns, wire, End::Caller, "closed by the client");
        }
        self.is_connected = false;
        self.received.clear();
        self.waiting.clear();
        if let Role::Producer(p) = &mut self.role {
            p.unacknowledged.iter_mut().for_each(|batch| batch.is_sent = false);
            p.is_failing = false;
        }
        self.connect_ns = around.now_ns + self.dice.around(80 * NS_PER_MS);
        if self.dice.permille(500) {
            self.target = self.dice.pick(&self.nodes).unwrap_or(self.target);
        }
    }

    /// Send what can be sent now.
    fn advance(&mut self, around: &mut Around) -> u64 {
        let now_ns = around.now_ns;
        let is_late = self.waiting.front().is_some_and(|w| w.deadline_ns <= now_ns);
        let gives_up = self.wire.is_some() && !self.is_connected && self.connect_ns <= now_ns;
        if is_late || gives_up {
            self.disconnect(around, true);
            self.target = self.dice.pick(&self.nodes).unwrap_or(self.target);
        }
        if self.wire.is_none() {
            if now_ns < self.connect_ns {
                return self.connect_ns;
            }
            self.wire = Some(around.network.call(now_ns, self.host, self.target));
            self.called = self.target;
            self.connect_ns = now_ns + 1_000 * NS_PER_MS;
        }
        if !self.is_connected {
            return self.connect_ns;
        }
        let next = match &self.role {
            Role::Producer(_) => self.advance_producer(around),
            Role::Consumer(_) => self.advance_consumer(around),
            Role::Admin => self.advance_admin(around),
        };
        let deadline = self.waiting.front().map_or(u64::MAX, |w| w.deadline_ns);
        next.min(deadline).max(now_ns + 1)
    }

    fn ask<R: kafka_protocol::protocol::Encodable>(
        &mut self,
        around: &mut Around,
        api: Api,
        asked: Asked,
        request: &R,
    ) {
        let Some(wire) = self.wire else { return };
        self.next_correlation_id += 1;
        let frame = kafka::encode(api, self.next_correlation_id, request);
        around.network.send(around.now_ns, wire, End::Caller, frame);
        let deadline_ns = around.now_ns + REQUEST_TIMEOUT_NS;
        let start_told = around.checker.start_told_by(self.called);
        let correlation_id = self.next_correlation_id;
        self.waiting.push_back(Waiting { correlation_id, asked, deadline_ns, start_told });
    }

    fn advance_producer(&mut self, around: &mut Around) -> u64 {
        let Role::Producer(p) = &mut self.role else { return u64::MAX };
        if p.is_failing {
            if self.waiting.is_empty() {
                // Leadership may have moved: again, from the first that is not acknowledged.
                self.disconnect(around, true);
                return self.connect_ns;
            }
            return u64::MAX;
        }
        if p.idempotent && p.id.is_none() {
            if self.waiting.is_empty() {
                let request = kafka::init_producer_id();
                self.ask(around, kafka::INIT_PRODUCER_ID, Asked::InitProducerId, &request);
            }
            return u64::MAX;
        }
        self.make_batch(around);
        self.send_batches(around);
        let Role::Producer(p) = &self.role else { return u64::MAX };
        let is_full = p.unacknowledged.len() as u64 >= p.in_flight_max;
        let next_at_ns = p.next_at_ns.max(around.lull_ends_ns);
        if is_full || self.is_draining { u64::MAX } else { next_at_ns.max(around.now_ns + 1) }
    }

    fn make_batch(&mut self, around: &mut Around) {
        let Role::Producer(p) = &mut self.role else { return };
        let is_full = p.unacknowledged.len() as u64 >= p.in_flight_max;
        if is_full || self.is_draining || around.now_ns < p.next_at_ns.max(around.lull_ends_ns) {
            return;
        }
        let count = self.dice.between(1, 4);
        let padding = if self.dice.permille(30) { 6_000 } else { self.dice.below(200) as usize };
        let values: Vec<Vec<u8>> = (0..count)
            .map(|i| Value { client: self.host, number: p.next_number + i }.encode(padding))
            .collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let producer = p.id.map(|(id, epoch)| (id, epoch, p.next_sequence));
        let bytes = self.compressed(data_batch(&values, wall_ms(around.now_ns), producer));
        let Role::Producer(p) = &mut self.role else { return };
        p.unacknowledged.push_back(Batch { number: p.next_number, count, bytes, is_sent: false });
        p.next_number += count;
        p.next_sequence += count as i32;
        p.next_at_ns = around.now_ns + self.dice.around(p.interval_ns);
    }

    /// A third of the batches are, each codec as often as the others.
    fn compressed(&mut self, batch: Bytes) -> Bytes {
        if !self.dice.permille(333) {
            return batch;
        }
        let codec = self.dice.pick(&Codec::ALL).unwrap_or(Codec::None);
        codec.compress_batch(batch.clone()).unwrap_or(batch)
    }

    /// A compressed batch whose stream is not what its header says: changed anywhere, cut, or with other records than it counts.
    fn broken_batch(&mut self, wall_ms: i64) -> Bytes {
        let values: Vec<Vec<u8>> =
            (0..3).map(|number| Value { client: self.host, number }.encode(50)).collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let records = &data_batch(&values, wall_ms, None)[BATCH_HEADER_BYTES..];
        let codec = self.dice.pick(&Codec::ALL[1..]).unwrap_or(Codec::Gzip);
        let mut stream = codec.compress(records).unwrap_or_default();
        let (mut count, at) = (3, self.dice.below(stream.len().max(1) as u64) as usize);
        match self.dice.below(4) {
            0 => count = self.dice.pick(&[1, 2, 4, i32::MAX]).unwrap_or(4),
            1 => stream.truncate(at),
            2 => stream = b"never compressed".to_vec(),
            _ => stream = codec.compress(&stream).unwrap_or_default(),
        }
        BatchBuilder::new(wall_ms).attributes(i16::from(codec.id())).raw_records(&stream, count).build()
    }

    fn send_batches(&mut self, around: &mut Around) {
        let host = self.host;
        loop {
            let Role::Producer(p) = &mut self.role else { return };
            let limit = if p.is_known || !p.idempotent { p.in_flight_max as usize } else { 1 };
            let next = p.unacknowledged.iter_mut().take(limit).find(|batch| !batch.is_sent);
            let Some(batch) = next else { return };
            batch.is_sent = true;
            let (number, acks) = (batch.number, p.acks);
            (0..batch.count).for_each(|i| around.checker.history.on_sent(host, number + i));
            let request = kafka::produce(acks, 1_500, batch.bytes.clone());
            self.ask(around, kafka::PRODUCE, Asked::Produce { number }, &request);
        }
    }

    fn advance_consumer(&mut self, around: &mut Around) -> u64 {
        let Role::Consumer(c) = &self.role else { return u64::MAX };
        if !self.waiting.is_empty() {
            return u64::MAX;
        }
        if around.now_ns < c.not_before_ns {
            return c.not_before_ns;
        }
        let request = kafka::fetch(c.offset, FETCH_WAIT_MS, c.max_bytes);
        self.ask(around, kafka::FETCH, Asked::Fetch, &request);
        u64::MAX
    }

    fn advance_admin(&mut self, around: &mut Around) -> u64 {
        if !self.waiting.is_empty() {
            return u64::MAX;
        }
        if around.now_ns < self.connect_ns {
            return self.connect_ns;
        }
        // Not before that it asks again.
        self.connect_ns = around.now_ns + self.dice.around(400 * NS_PER_MS);
        match self.dice.below(9) {
            6 | 7 => self.alter(around),
            8 => {
                let request = kafka::describe_configs(ALTERED_KEY);
                self.ask(around, kafka::DESCRIBE_CONFIGS, Asked::DescribeConfigs, &request)
            }
            5 => {
                let batch = self.broken_batch(wall_ms(around.now_ns));
                self.ask(around, kafka::PRODUCE, Asked::Broken, &kafka::produce(1, 1_500, batch))
            }
            0 => self.ask(around, kafka::METADATA, Asked::Other(kafka::METADATA), &kafka::metadata()),
            1 => {
                let request = kafka::describe_quorum();
                self.ask(around, kafka::DESCRIBE_QUORUM, Asked::Other(kafka::DESCRIBE_QUORUM), &request)
            }
            2 => {
                let request = kafka::api_versions();
                self.ask(around, kafka::API_VERSIONS, Asked::Other(kafka::API_VERSIONS), &request)
            }
            3 => {
                let time = wall_ms(self.dice.below(around.now_ns));
                self.ask(around, kafka::LIST_OFFSETS, Asked::ListOffsets, &kafka::list_offsets(time))
            }
            _ if self.next_correlation_id % 2 == 0 => {
                self.ask(around, kafka::LIST_OFFSETS, Asked::Earliest, &kafka::list_offsets(-2))
            }
            _ => self.ask(around, kafka::LIST_OFFSETS, Asked::ListOffsets, &kafka::list_offsets(-1)),
        }
        u64::MAX
    }

    /// To a number that nobody else sets, and now and then back.
    fn alter(&mut self, around: &mut Around) {
        self.alterations += 1;
        let number = self.host as u64 * 1_000_000 + self.alterations;
        let number = (!self.dice.permille(200)).then_some(number);
        let value = number.map(|number| number.to_string());
        let request = kafka::alter_configs(ALTERED_KEY, value.as_deref());
        self.ask(around, kafka::INCREMENTAL_ALTER_CONFIGS, Asked::Alter(number), &request);
    }

    fn on_altered(&mut self, around: &mut Around, frame: &Bytes, id: i32, number: Option<u64>) -> Option<()> {
        let body: km::IncrementalAlterConfigsResponse = answer(kafka::INCREMENTAL_ALTER_CONFIGS, frame, id)?;
        match (body.responses.first()?.error_code, number) {
            (0, Some(number)) => around.checker.on_altered(self.host, &number.to_string()),
            (0, None) => {}
            _ => self.target = self.dice.pick(&self.nodes).unwrap_or(self.target),
        }
        Some(())
    }

    fn on_described(&mut self, around: &mut Around, frame: &Bytes, id: i32) -> Option<()> {
        let body: km::DescribeConfigsResponse = answer(kafka::DESCRIBE_CONFIGS, frame, id)?;
        let entry = body.results.first()?.configs.first()?;
        around.checker.on_described(self.host, entry.value.as_deref()?);
        Some(())
    }

    /// `None`: it is not an answer to what was asked.
    fn on_answer(&mut self, around: &mut Around, waiting: &Waiting, frame: &Bytes) -> Option<()> {
        let id = waiting.correlation_id;
        match waiting.asked {
            Asked::InitProducerId => {
                let body: km::InitProducerIdResponse = answer(kafka::INIT_PRODUCER_ID, frame, id)?;
                let Role::Producer(p) = &mut self.role else { return None };
                p.is_failing = body.error_code != 0;
                if body.error_code == 0 {
                    p.id = Some((body.producer_id.0, body.producer_epoch));
                    (p.is_known, p.next_sequence) = (false, 0);
                }
            }
            Asked::Produce { number } => {
                let body: km::ProduceResponse = answer(kafka::PRODUCE, frame, id)?;
                let partition = body.responses.first()?.partition_responses.first()?;
                self.on_produced(around, number, partition.error_code, partition.base_offset);
            }
            Asked::Fetch => {
                let body: km::FetchResponse = answer(kafka::FETCH, frame, id)?;
                self.on_fetched(around, waiting.start_told, body.responses.first()?.partitions.first()?);
            }
            Asked::ListOffsets | Asked::Earliest => {
                let body: km::ListOffsetsResponse = answer(kafka::LIST_OFFSETS, frame, id)?;
                let line = body.topics.first()?.partitions.first()?;
                if line.error_code == 0 && matches!(waiting.asked, Asked::Earliest) {
                    let node = (self.called, waiting.start_told);
                    around.checker.on_start_told(self.host, node, Offset(line.offset), &[]);
                } else if line.error_code == 0 {
                    around.checker.on_consumed(self.host, line.offset, &[]);
                } else {
                    self.try_elsewhere();
                }
            }
            Asked::Alter(number) => self.on_altered(around, frame, id, number)?,
            Asked::DescribeConfigs => self.on_described(around, frame, id)?,
            Asked::Broken => {
                let body: km::ProduceResponse = answer(kafka::PRODUCE, frame, id)?;
                let partition = body.responses.first()?.partition_responses.first()?;
                if partition.error_code == 0 {
                    let detail = format!("client {} was told {}", self.host, partition.base_offset);
                    around.checker.violate("what cannot be decompressed is not appended", detail);
                }
            }
            Asked::Other(kafka::METADATA) => {
                let body: km::MetadataResponse = answer(kafka::METADATA, frame, id)?;
                let leader = body.topics.first()?.partitions.first()?.leader_id.0;
                self.target = if leader > 0 { leader } else { self.target };
            }
            Asked::Other(kafka::DESCRIBE_QUORUM) => {
                _ = answer::<km::DescribeQuorumResponse>(kafka::DESCRIBE_QUORUM, frame, id)?;
            }
            Asked::Other(_) => _ = answer::<km::ApiVersionsResponse>(kafka::API_VERSIONS, frame, id)?,
        }
        Some(())
    }

    fn try_elsewhere(&mut self) {
        self.target = self.dice.pick(&self.nodes).unwrap_or(self.target);
        if let Role::Consumer(c) = &mut self.role {
            c.not_before_ns = 0;
        }
        // The next request times out at once, which connects anew.
        self.waiting.push_front(Waiting {
            correlation_id: -1,
            asked: Asked::Fetch,
            deadline_ns: 0,
            start_told: Offset(0),
        });
    }

    fn on_produced(&mut self, around: &mut Around, number: u64, error: i16, base: i64) {
        let host = self.host;
        let Role::Producer(p) = &mut self.role else { return };
        let Some(at) = p.unacknowledged.iter().position(|batch| batch.number == number) else { return };
        match ErrorCode(error) {
            ErrorCode::NONE => {
                if let Some(batch) = p.unacknowledged.remove(at) {
                    p.acknowledged += 1;
                    p.is_known = true;
                    if p.acks == -1 {
                        around.checker.on_acknowledged(host, number, batch.count, base);
                    }
                }
            }
            // Acknowledged before, so long ago that its offset is not known any more.
            ErrorCode::DUPLICATE_SEQUENCE_NUMBER => _ = p.unacknowledged.remove(at),
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER | ErrorCode::INVALID_PRODUCER_EPOCH if at == 0 => {
                // Nothing that is under way can be told apart any more: begin anew, with a new id.
                p.unacknowledged.clear();
                p.id = None;
                p.is_failing = true;
            }
            _ => p.is_failing = true,
        }
    }

    fn on_fetched(
        &mut self,
        around: &mut Around,
        start_told: Offset,
        partition: &km::fetch_response::PartitionData,
    ) {
        let (now_ns, start, node) = (around.now_ns, partition.log_start_offset, (self.called, start_told));
        if partition.error_code == ErrorCode::OFFSET_OUT_OF_RANGE.0
            && let Role::Consumer(c) = &mut self.role
            && c.offset < start
        {
            // As a real consumer: it goes on at the earliest.
            around.checker.on_start_told(self.host, node, Offset(start), &[]);
            (c.offset, c.not_before_ns) = (start, 0);
            return;
        }
        if partition.error_code != 0 {
            return self.try_elsewhere();
        }
        let (batches, bad) = check_fetched(partition.records.clone().unwrap_or_default());
        if let Some(bad) = bad {
            if self.wire.is_some_and(|wire| around.network.has_flipped(wire)) {
                // As a real consumer: its CRC says so, and it asks again.
                return self.disconnect(around, true);
            }
            let detail = format!("client {} was given a bad batch: {bad}", self.host);
            return around.checker.violate("no rot is ever served", detail);
        }
        around.checker.on_consumed(self.host, partition.high_watermark, &batches);
        // -1: it does not know yet what others have told.
        if start >= 0 {
            around.checker.on_start_told(self.host, node, Offset(start), &batches);
        }
        let pause_ns = self.dice.around(20 * NS_PER_MS);
        let Role::Consumer(c) = &mut self.role else { return };
        if let Some(first) = batches.first()
            && (first.base_offset().0 > c.offset || first.next_offset().0 <= c.offset)
        {
            let detail =
                format!("client {} asked for {} and got {}", self.host, c.offset, first.base_offset());
            around.checker.violate("a fetch begins where it was asked to", detail);
        }
        match batches.last() {
            Some(last) => c.offset = last.next_offset().0,
            None if c.scans => c.offset = 0,
            None => {}
        }
        c.not_before_ns = now_ns + pause_ns;
    }
}

fn answer<R: kafka_protocol::protocol::Decodable>(api: Api, frame: &Bytes, correlation_id: i32) -> Option<R> {
    let (id, body) = kafka::decode(api, frame)?;
    (id == correlation_id).then_some(body)
}

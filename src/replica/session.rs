//! One client connection without its socket: a byte stream becomes requests in order, answers become bytes in that order.
//!
//! The server's core that owns the socket reads into `receive_buffer`, hands each request of `poll_request` to the
//! replica, gives the answers back in whatever order they come, and writes what `poll_output` yields. A session is pure:
//! no socket, no clock, no knowledge of Raft. It never waits for its client and never holds more than its limits say:
//! a frame is stored only as its bytes arrive, and a client that does not read is closed.
//!
//! Here is the order: which request is next, which answer may go. `decode` makes a request of a frame, `admit` checks what it
//! brings, `outgoing` has the bytes of the answers.

use super::admit::{self, Admitted};
use super::cost::Announced;
use super::input::FORWARD_CLIENT_ID;
use super::inspection::Inspection;
use super::receive::{ReceiveBuffer, Sender};
use super::receive_pool::ReceivePool;
use super::room::frames::SMALL_FRAME_BYTES;
pub use super::session_limits::SessionLimits;
use super::times::needs_search;
use crate::protocol::quorum::PeerSoftware;
use crate::protocol::{self, ClientId, EncodedFrame, FrameError, Request, RequestHeader, Response};
use crate::record::Asker;
use crate::types::*;
use bytes::{Bytes, BytesMut};
pub(crate) use decode::{DecodedRequest, LargeFrame};
use decode::{LARGE_FRAME_BYTES, decode};
use outgoing::Outgoing;
use std::collections::VecDeque;

mod decode;
mod outgoing;

/// What a voter has under way on one connection: a Fetch that is parked and a heartbeat behind it, or one request of each other kind.
pub(crate) const VOTER_REQUESTS_MAX: usize = 4;
/// None of its requests is larger.
const VOTER_REQUEST_BYTES_MAX: usize = SMALL_FRAME_BYTES;

/// A whole request, decoded and admitted.
#[derive(Debug)]
pub struct Arrived {
    /// Counted from 0 on each connection.
    pub seq: u64,
    /// Of the request, as its sender speaks it.
    pub api_version: i16,
    /// Another node of ours passes it on (`forward`).
    pub is_forwarded: bool,
    /// Decoded, with its batches checked.
    pub request: Admitted,
    /// It has compressed batches, which must be looked into before anybody believes them.
    pub(crate) to_inspect: Option<Inspection>,
}

/// A request whose answer has not been handed out.
#[derive(Debug)]
enum Slot {
    UnderWay(RequestHeader),
    /// Waits for the answers of earlier requests.
    Answered(EncodedFrame),
}

/// One client connection: a byte stream becomes requests in order, answers become bytes in request order. Pure.
#[derive(Debug)]
pub struct Session {
    limits: SessionLimits,
    received: ReceiveBuffer,
    failed: bool,
    is_peer: bool,
    /// In whose name the first voter RPC came; `None` where it named nobody.
    peer_id: Option<NodeId>,
    /// It has the voters' way: nobody counts what it asks for, so it may ask for what voters ask for and for nothing else.
    is_voters: bool,
    /// As ApiVersions named it; `None` where that did not come.
    software: Option<PeerSoftware>,
    /// Sequence number of the first slot.
    first_seq: u64,
    slots: VecDeque<Slot>,
    /// A request for many things, one that searches, or for a piece of a snapshot: nothing behind it is taken before it has been answered.
    alone_seq: Option<u64>,
    /// What is looked into for this connection ends with it.
    asker: Asker,
    outgoing: Outgoing,
    /// Encoded and not reported as sent, those in `slots` among them.
    output_bytes: usize,
}

impl Session {
    /// For a connection that has just been accepted.
    pub fn new(limits: SessionLimits) -> Session {
        Session {
            limits,
            received: ReceiveBuffer::new(Sender::Client),
            failed: false,
            is_peer: false,
            peer_id: None,
            is_voters: false,
            software: None,
            first_seq: 0,
            slots: VecDeque::new(),
            alone_seq: None,
            asker: Asker::default(),
            outgoing: Outgoing::default(),
            output_bytes: 0,
        }
    }

    /// The receive buffer with room reserved for the next read (grows as bytes arrive, up to the frame announced). The pool is
    /// that of the core which reads.
    pub fn receive_buffer(&mut self, pool: &mut ReceivePool) -> &mut BytesMut {
        self.received.room(pool)
    }

    /// Bytes missing of the request that is arriving; 0 where that is not known yet.
    pub(crate) fn awaited_bytes(&self) -> usize {
        self.received.missing_bytes()
    }

    /// Size of the frame that is arriving; 0 where that is not known yet.
    pub fn arriving_bytes(&self) -> usize {
        self.received.arriving_bytes()
    }

    /// Received, and not taken as a request.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.received.buffered_bytes()
    }

    /// The next request, complete or not, if enough of it is there to know.
    pub(crate) fn announced(&self) -> Option<Announced> {
        self.received.announced()
    }

    /// There is memory for the whole of it.
    pub fn believe(&mut self) {
        self.received.believe();
    }

    /// Size of the frame that the last request came in.
    pub(crate) fn whole_bytes(&self) -> usize {
        self.received.whole_bytes()
    }

    /// The next whole request in the buffer; none while `is_blocked`. Err: close the connection, one rate-limited line;
    /// nothing comes after it.
    pub fn poll_request(&mut self, now: Now) -> Option<Result<Arrived, FrameError>> {
        if self.failed || self.is_blocked() {
            return None;
        }
        let arrived = self.next_request(now).transpose()?;
        self.failed = arrived.is_err();
        Some(arrived)
    }

    fn next_request(&mut self, now: Now) -> Result<Option<Arrived>, FrameError> {
        let Some(frame) = self.next_frame()? else { return Ok(None) };
        let decoded = decode(frame, self.limits.request_entries_max)?;
        self.arrive(decoded, now).map(Some)
    }

    /// The next whole frame.
    fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let bytes = self.announced().map_or(0, |next| next.bytes);
        if self.is_voters && bytes > VOTER_REQUEST_BYTES_MAX {
            return Err(FrameError(format!(
                "it speaks in a voter's name, and no voter's request has {bytes} bytes"
            )));
        }
        self.received.next_frame(self.limits.request_bytes_max)
    }

    fn arrive(&mut self, decoded: DecodedRequest, now: Now) -> Result<Arrived, FrameError> {
        let DecodedRequest { mut header, request, weight, frame_bytes } = decoded;
        let searches = may_search(&request);
        let copies = matches!(request, Request::FetchSnapshot(_));
        let (api_key, api_version) = (header.api_key, header.api_version);
        let client_id = header.client_id.take().unwrap_or_default();
        self.check_peer(&request, &client_id)?;
        let request = admit::admit(request, api_version, &self.limits, now, self.received.allocation_bytes());
        let seq = self.first_seq + self.slots.len() as u64;
        if weight.stands_alone() || searches || copies {
            self.alone_seq = Some(seq);
        }
        self.slots.push_back(Slot::UnderWay(header));
        let is_forwarded = client_id.is(FORWARD_CLIENT_ID);
        let to_inspect = self.to_inspect(&request, now);
        let request = match weight.is_heavy() {
            true => {
                // Its texts are slices of the frame; those of a Fetch are not.
                let is_fetch = matches!(request, Admitted::Other(Request::Fetch(_)));
                request.heavy(api_key, weight.bytes + if is_fetch { 0 } else { frame_bytes })
            }
            false => request,
        };
        Ok(Arrived { seq, api_version, is_forwarded, request, to_inspect })
    }

    /// A voter whose software cannot read this log must not begin to copy it, nor have a say in who writes it.
    fn check_peer(&mut self, request: &Request, client_id: &ClientId) -> Result<(), FrameError> {
        if let Request::ApiVersions(request) = request {
            self.software = Some(PeerSoftware::of(request));
        }
        if !is_voter_rpc(request) {
            let is_greeting = matches!(request, Request::ApiVersions(_) | Request::ApiVersionsUnsupported);
            return match self.is_voters && !is_greeting {
                true => Err(FrameError(
                    "it speaks in a voter's name, and asks for what clients ask for".to_string(),
                )),
                false => Ok(()),
            };
        }
        self.is_peer = true;
        self.peer_id = self.peer_id.or_else(|| sender_of(request));
        match &self.software {
            Some(software) => software.check(self.limits.data_mode, client_id).map_err(FrameError),
            None => Ok(()),
        }
    }

    fn to_inspect(&self, request: &Admitted, now: Now) -> Option<Inspection> {
        match request {
            Admitted::Produce(produce) if self.limits.compressed_check == CompressedCheck::Always => {
                produce.is_compressed().then(|| Inspection {
                    limits: self.limits.produce_limits(now),
                    decompressed_bytes_max: self.limits.decompressed_bytes_max as u64,
                    wanted: self.asker.wanted(),
                })
            }
            _ => None,
        }
    }

    /// Before `poll_request`: the next whole request as it came, if decoding it takes longer than a core has for one connection:
    /// to be decoded elsewhere and given to `take_decoded`. Nothing else is taken from this connection meanwhile.
    pub(crate) fn poll_large(&mut self) -> Option<Result<LargeFrame, FrameError>> {
        let announced = self.announced().filter(|next| next.bytes > LARGE_FRAME_BYTES)?;
        if announced.may_cost_more() || self.failed || self.is_blocked() {
            return None;
        }
        let frame = self.next_frame().transpose()?;
        self.failed = frame.is_err();
        let entries_max = self.limits.request_entries_max;
        let wanted = self.asker.wanted();
        Some(frame.map(|frame| LargeFrame { frame, announced, entries_max, wanted }))
    }

    /// As `poll_request`, of a request that was decoded elsewhere.
    pub(crate) fn take_decoded(
        &mut self,
        decoded: Result<DecodedRequest, FrameError>,
        now: Now,
    ) -> Result<Arrived, FrameError> {
        let arrived = decoded.and_then(|decoded| self.arrive(decoded, now));
        self.failed = arrived.is_err();
        arrived
    }

    /// It holds a voter's place from here on, whose requests wait for nobody: whoever has forged one must not have clients'
    /// requests served before those of all others.
    pub(crate) fn hold_to_voters(&mut self) {
        self.is_voters = true;
    }

    /// No more requests should be read: too many under way, or too much output unsent.
    pub(crate) fn is_blocked(&self) -> bool {
        let requests_max = if self.is_voters { VOTER_REQUESTS_MAX } else { self.limits.requests_max };
        self.slots.len() >= requests_max
            || self.alone_seq.is_some_and(|seq| seq >= self.first_seq)
            || self.output_bytes > self.limits.output_bytes_max / 2
    }

    /// Answer request `seq` (any order; released in request order). Err: the reader is too slow, close.
    pub fn answer(&mut self, seq: u64, response: Option<Response>) -> Result<(), FrameError> {
        let is_next = seq == self.first_seq;
        let index = seq.checked_sub(self.first_seq).and_then(|index| usize::try_from(index).ok());
        let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) else {
            return Err(FrameError(format!("request {seq} of the connection is not waiting for an answer")));
        };
        let Slot::UnderWay(header) = slot else {
            return Err(FrameError(format!("request {seq} of the connection was answered twice")));
        };
        // The hot path: straight into what is sent next.
        match &response {
            Some(Response::Produce(response)) if is_next => {
                self.output_bytes += self.outgoing.push_produced(header, response);
                return self.release_next();
            }
            Some(Response::Fetch(response)) if is_next => {
                self.output_bytes += self.outgoing.push_fetched(header, response);
                return self.release_next();
            }
            _ => {}
        }
        // Encoded at once: an answer that waits for an earlier one is charged like any other.
        let frame = match &response {
            Some(response) => protocol::encode_response(header, response),
            None => EncodedFrame::default(),
        };
        if frame.is_empty() && response.is_some() {
            return Err(FrameError(format!(
                "version {} of api {} cannot say the answer to request {seq}",
                header.api_version, header.api_key
            )));
        }
        let frame_bytes = frame.len();
        *slot = Slot::Answered(frame);
        self.output_bytes += frame_bytes;
        self.release();
        self.check_output()
    }

    /// The first slot's answer is on its way; with it those that have waited for it.
    fn release_next(&mut self) -> Result<(), FrameError> {
        self.slots.pop_front();
        self.first_seq += 1;
        self.release();
        self.check_output()
    }

    fn release(&mut self) {
        while let Some(Slot::Answered(_)) = self.slots.front() {
            if let Some(Slot::Answered(frame)) = self.slots.pop_front() {
                self.outgoing.push(frame);
            }
            self.first_seq += 1;
        }
    }

    fn check_output(&self) -> Result<(), FrameError> {
        if self.output_bytes <= self.limits.output_bytes_max {
            return Ok(());
        }
        Err(FrameError(format!(
            "the client does not read its answers: {} bytes are unsent, {} are allowed",
            self.output_bytes, self.limits.output_bytes_max
        )))
    }

    /// Next bytes to send; they count as unsent until `sent`.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        self.outgoing.pop()
    }

    /// So many bytes of what `poll_output` gave are with the kernel.
    pub fn sent(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.output_bytes);
        self.output_bytes = self.output_bytes.saturating_sub(bytes);
    }

    /// Bytes of answers not reported as sent.
    pub(crate) fn output_bytes(&self) -> usize {
        self.output_bytes
    }

    /// Requests whose answers have not been handed out; an answer may be there and wait for an earlier one.
    pub(crate) fn requests_under_way(&self) -> usize {
        self.slots.len()
    }

    /// A voter RPC (Vote, Begin/EndQuorumEpoch, replica Fetch) has arrived on it.
    pub(crate) fn is_peer(&self) -> bool {
        self.is_peer
    }

    /// In whose name the first one came. Nothing proves it.
    pub(crate) fn peer_id(&self) -> Option<NodeId> {
        self.peer_id
    }
}

/// Its answer may need a search through the log: by a time, or for the latest.
fn may_search(request: &Request) -> bool {
    let Request::ListOffsets(request) = request else { return false };
    let mut partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.any(|partition| needs_search(partition.timestamp))
}

fn is_voter_rpc(request: &Request) -> bool {
    match request {
        Request::Vote(_)
        | Request::BeginQuorumEpoch(_)
        | Request::EndQuorumEpoch(_)
        | Request::UpdateRaftVoter(_) => true,
        Request::Fetch(fetch) => fetch.is_of_replica(),
        Request::FetchSnapshot(fetch) => fetch.replica_id.0 >= 0,
        _ => false,
    }
}

fn sender_of(request: &Request) -> Option<NodeId> {
    let id = match request {
        Request::Vote(vote) => vote.topics.first()?.partitions.first()?.replica_id.0,
        Request::BeginQuorumEpoch(begin) => begin.topics.first()?.partitions.first()?.leader_id.0,
        Request::EndQuorumEpoch(end) => end.topics.first()?.partitions.first()?.leader_id.0,
        Request::UpdateRaftVoter(update) => update.voter_id,
        Request::Fetch(fetch) => fetch.replica_id,
        Request::FetchSnapshot(fetch) => fetch.replica_id.0,
        _ => return None,
    };
    (id >= 0).then_some(NodeId(id))
}

#[cfg(test)]
pub(crate) mod tests;

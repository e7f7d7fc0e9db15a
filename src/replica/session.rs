//! (contract; the owner replaces this file)
use super::admit::Admitted;
use crate::protocol::{FrameError, Response};
use crate::types::*;
use bytes::{Bytes, BytesMut};

#[derive(Clone, Debug)]
pub struct SessionLimits {
    pub request_bytes_max: usize,
    pub output_bytes_max: usize,
    pub requests_max: usize,
    pub message_bytes_max: usize,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub topic_name: String,
    pub topic_id: Uuid,
}
#[derive(Debug)]
pub struct Arrived {
    pub seq: u64,
    pub api_version: i16,
    pub client_id: Option<String>,
    pub request: Admitted,
}

/// One client connection: a byte stream becomes requests in order, answers become bytes in request order. Pure.
pub struct Session {}
impl Session {
    pub fn new(_limits: SessionLimits) -> Session {
        unimplemented!()
    }
    /// The receive buffer with room reserved for the next read (grows as bytes arrive, up to the frame announced).
    pub fn receive_buffer(&mut self) -> &mut BytesMut {
        unimplemented!()
    }
    /// The next whole request in the buffer. Err: close the connection, one rate-limited line.
    pub fn poll_request(&mut self, _now: Now) -> Option<Result<Arrived, FrameError>> {
        unimplemented!()
    }
    /// No more requests should be read: too many under way, or too much output unsent.
    pub fn is_blocked(&self) -> bool {
        unimplemented!()
    }
    /// Answer request `seq` (any order; released in request order). Err: the reader is too slow, close.
    pub fn answer(&mut self, _seq: u64, _response: Option<Response>) -> Result<(), FrameError> {
        unimplemented!()
    }
    /// Next bytes to send; they count as unsent until `sent`.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        unimplemented!()
    }
    pub fn sent(&mut self, _bytes: usize) {
        unimplemented!()
    }
    pub fn output_bytes(&self) -> usize {
        unimplemented!()
    }
    pub fn requests_under_way(&self) -> usize {
        unimplemented!()
    }
    /// A voter RPC (Vote, Begin/EndQuorumEpoch, replica Fetch) has arrived on it.
    pub fn is_peer(&self) -> bool {
        unimplemented!()
    }
}

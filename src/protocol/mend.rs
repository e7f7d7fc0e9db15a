//! What the kafka-protocol crate's decoders would stumble over, and Kafka's do not, taken out of a request before they
//! read it: tagged fields that nobody here knows (the crate keeps each in a map of its own), and text that is not UTF-8
//! (Kafka replaces what is malformed). Called by `check`, whose walk finds such places. A request that needs none of it,
//! as nearly all do, is not copied.

use super::wire::PutFields;
use bytes::{BufMut, Bytes, BytesMut};

/// A body and, from the first place that was mended on, its copy.
pub(super) struct Mend<'a> {
    body: &'a [u8],
    /// So much of the body stands in `copy`, changed where it had to be.
    copied: usize,
    copy: BytesMut,
}

impl<'a> Mend<'a> {
    pub(super) fn new(body: &'a [u8]) -> Mend<'a> {
        Mend { body, copied: 0, copy: BytesMut::new() }
    }

    /// What the first change costs: the copy of all. 0: it has been made.
    pub(super) fn first_bytes(&self) -> usize {
        if self.copied == 0 { self.body.len() } else { 0 }
    }

    /// A text and its length, between the places from which so many bytes are left, become this.
    pub(super) fn text(&mut self, left_before: usize, left_behind: usize, readable: &str, is_compact: bool) {
        self.copy_up_to(left_before);
        self.copy.put_text(is_compact, readable);
        self.copied = self.body.len() - left_behind;
    }

    /// The tagged fields between these two places go.
    pub(super) fn no_tagged_fields(&mut self, left_before: usize, left_behind: usize) {
        self.copy_up_to(left_before);
        self.copy.put_u8(0);
        self.copied = self.body.len() - left_behind;
    }

    fn copy_up_to(&mut self, left: usize) {
        let up_to = self.body.len() - left;
        if self.copied == 0 {
            self.copy.reserve(self.body.len());
        }
        self.copy.put_slice(&self.body[self.copied..up_to]);
    }

    /// The first so many bytes of the body as they are to be read; `None`: as they stand.
    pub(super) fn finish(mut self, bytes: usize) -> Option<Bytes> {
        if self.copied == 0 {
            return None;
        }
        self.copy.put_slice(&self.body[self.copied..bytes]);
        Some(self.copy.freeze())
    }
}

//! Kafka's primitive types, written: what the codecs of our own (`produce`, `fetch`) share.

use super::LENGTH_BYTES;
use crate::types::{Endpoint, NodeId};
use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;
use std::sync::Arc;

/// Where nodes are, as an answer tells it: nearly always nobody, or the leader. Shared, because each Fetch of a voter is
/// told.
pub(crate) type NodeEndpoints = SmallVec<[(NodeId, Arc<Endpoint>); 1]>;

/// `is_flexible`: the version has compact lengths and tagged fields (KIP-482).
pub(crate) trait PutFields: BufMut {
    fn put_unsigned_varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }

    /// Count of an array, or length of bytes.
    fn put_count(&mut self, is_flexible: bool, count: usize) {
        if is_flexible { self.put_unsigned_varint(count + 1) } else { self.put_i32(count as i32) }
    }

    fn put_text(&mut self, is_flexible: bool, text: &str) {
        if is_flexible {
            self.put_unsigned_varint(text.len() + 1)
        } else {
            self.put_i16(text.len() as i16)
        }
        self.put_slice(text.as_bytes());
    }

    fn put_nullable_text(&mut self, is_flexible: bool, text: Option<&str>) {
        match text {
            Some(text) => self.put_text(is_flexible, text),
            None if is_flexible => self.put_unsigned_varint(0),
            None => self.put_i16(-1),
        }
    }

    /// Announce a tagged field of so many bytes.
    fn put_tag(&mut self, tag: usize, bytes: usize) {
        self.put_unsigned_varint(tag);
        self.put_unsigned_varint(bytes);
    }

    fn put_no_tags(&mut self, is_flexible: bool) {
        if is_flexible {
            self.put_unsigned_varint(0);
        }
    }
}

impl<B: BufMut> PutFields for B {}

/// What `put_unsigned_varint` takes for it: seven bits a byte.
pub(crate) fn varint_bytes(value: usize) -> usize {
    (value.max(1).ilog2() as usize) / 7 + 1
}

/// Tag 0 at the end of an answer, of Produce and of Fetch alike (KIP-951); nothing where there is none.
pub(crate) fn put_node_endpoints(out: &mut impl BufMut, endpoints: &[(NodeId, Arc<Endpoint>)]) {
    if endpoints.is_empty() {
        return out.put_unsigned_varint(0);
    }
    let of_one =
        |(_, e): &(NodeId, Arc<Endpoint>)| 4 + varint_bytes(e.host.len() + 1) + e.host.len() + 4 + 1 + 1;
    out.put_unsigned_varint(1);
    out.put_tag(0, varint_bytes(endpoints.len() + 1) + endpoints.iter().map(of_one).sum::<usize>());
    out.put_count(true, endpoints.len());
    for (id, endpoint) in endpoints {
        out.put_i32(id.0);
        out.put_text(true, &endpoint.host);
        out.put_i32(i32::from(endpoint.port));
        out.put_unsigned_varint(0); // No rack: null.
        out.put_unsigned_varint(0);
    }
}

/// Write the length of the frame that begins at `start` and ends with `out`, and with so many bytes that stand elsewhere.
pub(crate) fn patch_length(out: &mut BytesMut, start: usize, bytes_elsewhere: usize) {
    let length = (out.len() - start - LENGTH_BYTES + bytes_elsewhere) as u32;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
}

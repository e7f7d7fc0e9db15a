//! Kafka's primitive types, read from a slice: whatever is announced must be there.

use super::FrameError;
use crate::types::Uuid;

/// Tagged fields of a header at most, none of which anybody has named yet: a core reads them in one go.
const HEADER_TAGS_MAX: u32 = 10_000;
const VARINT_BYTES_MAX: usize = 5;

/// Reads the primitive types of the protocol from a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, bytes: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or_else(|| {
            FrameError(format!("{bytes} bytes are announced, but only {} follow", self.0.len()))
        })?;
        self.0 = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(|| {
            FrameError(format!("it ends inside a field of {N} bytes, {} of them there", self.0.len()))
        })?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, FrameError> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, FrameError> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FrameError> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FrameError> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, FrameError> {
        self.fixed().map(|bytes| Uuid(u128::from_be_bytes(bytes)))
    }

    pub(crate) fn unsigned_varint(&mut self) -> Result<u32, FrameError> {
        let mut value = 0;
        for i in 0..VARINT_BYTES_MAX {
            let byte = self.fixed::<1>()?[0];
            value |= u32::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(FrameError("a varint has more than five bytes".to_string()))
    }

    /// Those of a header, of which nobody has found the frame too large for what it says.
    pub(crate) fn skip_header_tags(&mut self) -> Result<(), FrameError> {
        let count = Cursor(self.0).unsigned_varint()?;
        if count > HEADER_TAGS_MAX {
            return Err(FrameError(format!(
                "a header has {count} tagged fields, more than {HEADER_TAGS_MAX}"
            )));
        }
        self.skip_tagged_fields()
    }

    /// Each is a number, a length and that many bytes.
    pub(crate) fn skip_tagged_fields(&mut self) -> Result<(), FrameError> {
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let bytes = self.unsigned_varint()?;
            self.take(bytes as usize)?;
        }
        Ok(())
    }
}

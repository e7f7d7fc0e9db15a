//! A bounded walk over a message before anything is allocated for it.
//!
//! The decoders of the kafka-protocol crate reserve whatever a count on the wire asks for: eight bytes can make them
//! ask for gigabytes. So every request, and every answer that we read as a client, is walked here first along its
//! schema: each count, length, varint and tagged field must fit into the bytes that are there, no byte may be left
//! over, and what the decoded structs will occupy must stay within [`MEMORY_RATIO`] times the frame. Recursion is as
//! deep as the schema, never as deep as the input says.

use super::frame::FrameError;
use super::schema::{Field, Kind, Message, Struct};
use crate::types::Uuid;
use std::fmt;

/// Decoding may allocate this many times the bytes of a frame …
pub const MEMORY_RATIO: usize = 4;
/// … and this many more, so that a small frame of small elements passes.
pub const MEMORY_SLACK_BYTES: usize = 16 * 1024;

/// Longest string that Kafka reads, compact or not.
const STRING_BYTES_MAX: usize = i16::MAX as usize;
/// What a map that keeps unknown tagged fields costs with its first entry, and for each entry.
const TAG_MAP_BYTES: usize = 512;
const TAG_ENTRY_BYTES: usize = 128;
const VARINT_BYTES_MAX: usize = 5;

/// Check the body of a message of this version; `frame_bytes` is the size of the whole frame.
pub fn check_message(
    message: &Message,
    version: i16,
    body: &[u8],
    frame_bytes: usize,
) -> Result<(), FrameError> {
    let budget = frame_bytes.saturating_mul(MEMORY_RATIO).saturating_add(MEMORY_SLACK_BYTES);
    let is_flexible = message.is_flexible(version);
    let mut walk = Walk { cursor: Cursor(body), version, is_flexible, budget };
    walk.structure(&message.body)
        .and_then(|()| walk.nothing_left(format_args!("the message")))
        .map_err(|error| FrameError(format!("{} version {version}: {error}", message.name)))
}

/// Reads the primitive types of the protocol from a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], FrameError> {
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

    pub fn i8(&mut self) -> Result<i8, FrameError> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, FrameError> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, FrameError> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, FrameError> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<Uuid, FrameError> {
        self.fixed().map(|bytes| Uuid(u128::from_be_bytes(bytes)))
    }

    pub fn unsigned_varint(&mut self) -> Result<u32, FrameError> {
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

    /// Each is a number, a length and that many bytes.
    pub fn skip_tagged_fields(&mut self) -> Result<(), FrameError> {
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let bytes = self.unsigned_varint()?;
            self.take(bytes as usize)?;
        }
        Ok(())
    }
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    version: i16,
    is_flexible: bool,
    /// Bytes that decoding may still allocate.
    budget: usize,
}

impl Walk<'_> {
    fn structure(&mut self, structure: &Struct) -> Result<(), FrameError> {
        let version = self.version;
        for field in structure.fields.iter().filter(|field| field.exists_in(version)) {
            self.field(field)?;
        }
        if self.is_flexible { self.tagged_fields(structure) } else { Ok(()) }
    }

    fn field(&mut self, field: &Field) -> Result<(), FrameError> {
        let is_nullable = field.is_nullable_in(self.version);
        match field.kind {
            Kind::Fixed(bytes) => self.cursor.take(bytes).map(|_| ()),
            Kind::String => self.string(is_nullable),
            Kind::Bytes => match self.length(self.is_flexible, is_nullable)? {
                Some(bytes) => self.cursor.take(bytes).map(|_| ()),
                None => Ok(()),
            },
            Kind::FixedArray { element_bytes } => {
                let count = self.array(element_bytes, is_nullable)?;
                self.cursor.take(count.saturating_mul(element_bytes)).map(|_| ())
            }
            Kind::StringArray { memory_bytes } => {
                let count = self.array(memory_bytes, is_nullable)?;
                (0..count).try_for_each(|_| self.string(false))
            }
            Kind::Array(element) => {
                let count = self.array(element.memory_bytes, is_nullable)?;
                (0..count).try_for_each(|_| self.structure(element))
            }
            Kind::Struct(inner) => self.structure(inner),
            Kind::NullableStruct(inner) => match self.cursor.i8()? {
                -1 => Ok(()),
                1 => self.structure(inner),
                other => Err(FrameError(format!("a nullable struct begins with {other}, not with 1 or -1"))),
            },
        }
    }

    fn string(&mut self, is_nullable: bool) -> Result<(), FrameError> {
        let length = if self.is_flexible {
            self.compact_length(is_nullable)?
        } else {
            let length = self.cursor.i16()?;
            known_length(i32::from(length), is_nullable)?
        };
        match length {
            None => Ok(()),
            Some(bytes) if bytes > STRING_BYTES_MAX => Err(FrameError(format!(
                "a string announces {bytes} bytes; the longest has {STRING_BYTES_MAX}"
            ))),
            Some(bytes) => self.cursor.take(bytes).map(|_| ()),
        }
    }

    /// Count of an array whose elements take `memory_bytes` each once decoded; null counts as 0.
    fn array(&mut self, memory_bytes: usize, is_nullable: bool) -> Result<usize, FrameError> {
        let count = self.length(self.is_flexible, is_nullable)?.unwrap_or(0);
        let left = self.cursor.0.len();
        if count > left {
            return Err(FrameError(format!("an array announces {count} elements, but {left} bytes follow")));
        }
        self.spend(count.saturating_mul(memory_bytes))?;
        Ok(count)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), FrameError> {
        self.budget = self.budget.checked_sub(bytes).ok_or_else(|| {
            FrameError(format!("decoding it would take more than {MEMORY_RATIO} times its size in memory"))
        })?;
        Ok(())
    }

    fn length(&mut self, is_compact: bool, is_nullable: bool) -> Result<Option<usize>, FrameError> {
        if is_compact {
            return self.compact_length(is_nullable);
        }
        let length = self.cursor.i32()?;
        known_length(length, is_nullable)
    }

    /// Length + 1 as a varint, 0 for null.
    fn compact_length(&mut self, is_nullable: bool) -> Result<Option<usize>, FrameError> {
        match self.cursor.unsigned_varint()? {
            0 if is_nullable => Ok(None),
            0 => Err(null_where_none_may_be()),
            length => Ok(Some(length as usize - 1)),
        }
    }

    fn tagged_fields(&mut self, structure: &Struct) -> Result<(), FrameError> {
        let mut unknown = 0_usize;
        for _ in 0..self.cursor.unsigned_varint()? {
            let tag = self.cursor.unsigned_varint()?;
            let bytes = self.cursor.unsigned_varint()? as usize;
            let content = Cursor(self.cursor.take(bytes)?);
            match structure.tagged_in(tag, self.version) {
                Some(field) => self.tagged_field(field, tag, content)?,
                None => {
                    unknown += 1;
                    self.spend(if unknown == 1 { TAG_MAP_BYTES } else { TAG_ENTRY_BYTES })?;
                }
            }
        }
        Ok(())
    }

    /// The crate's decoder does not compare a known field's announced size with what it reads: so it must fit here.
    fn tagged_field(&mut self, field: &Field, tag: u32, content: Cursor<'_>) -> Result<(), FrameError> {
        let mut inner = Walk { cursor: content, budget: self.budget, ..*self };
        inner.field(field)?;
        inner.nothing_left(format_args!("tagged field {tag}"))?;
        self.budget = inner.budget;
        Ok(())
    }

    fn nothing_left(&self, what: fmt::Arguments<'_>) -> Result<(), FrameError> {
        match self.cursor.0.len() {
            0 => Ok(()),
            left => Err(FrameError(format!("{left} bytes are left over at the end of {what}"))),
        }
    }
}

fn known_length(length: i32, is_nullable: bool) -> Result<Option<usize>, FrameError> {
    match usize::try_from(length) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) if length == -1 && is_nullable => Ok(None),
        Err(_) if length == -1 => Err(null_where_none_may_be()),
        Err(_) => Err(FrameError(format!("a length or count is {length}"))),
    }
}

fn null_where_none_may_be() -> FrameError {
    FrameError("a field is null that must not be".to_string())
}

//! A bounded walk over a message before anything is allocated for it.
//!
//! The decoders of the kafka-protocol crate reserve whatever a count on the wire asks for: eight bytes can make them
//! ask for gigabytes. So every request, and every answer that we read as a client, is walked here first along its
//! schema: each count, length, varint and tagged field must fit into the bytes that are there, and what the decoded
//! structs will occupy must stay within [`memory_allowed`]. Recursion is as deep as the schema, never as deep as the
//! input says.
//!
//! Kafka reads what it knows and passes over the rest: bytes behind the end of a message, tagged fields that it does not
//! know, bytes in a text that are no UTF-8 (replaced). Clients live by that, so it is so here too: what the crate's
//! decoders would stumble over is mended before they see it ([`super::mend`]).

use super::mend::Mend;
use super::schema::{Field, Kind, Message, Struct};
use super::wire::{Cursor, FrameError};
use bytes::Bytes;

/// Decoding may allocate this many times the bytes of a frame …
const MEMORY_RATIO: usize = 4;
/// … so many times a small one's, because a name of two bytes takes a struct of seventy …
const MEMORY_RATIO_SMALL: usize = 40;
/// … where that is not more than this …
const MEMORY_SMALL_BYTES_MAX: usize = 4 << 20;
/// … and this many more, so that a small frame of small elements passes.
const MEMORY_SLACK_BYTES: usize = 16 * 1024;

/// … and never more than this, however long the frame is: a core decodes nothing else meanwhile. Records are slices of the frame
/// and not counted; all else that a client asks for in one request is far smaller.
const MEMORY_BYTES_MAX: usize = 24 << 20;

/// Longest string that Kafka reads, compact or not.
const STRING_BYTES_MAX: usize = i16::MAX as usize;
/// What a map that keeps unknown tagged fields costs with its first entry, and for each entry.
const TAG_MAP_BYTES: usize = 512;
const TAG_ENTRY_BYTES: usize = 128;
/// What a tagged field that is passed over is charged: nothing is kept of it, but a hundred megabytes of them take time.
const TAG_PASSED_BYTES: usize = 16;

/// What decoding a frame of so many bytes may allocate.
pub fn memory_allowed(frame_bytes: usize) -> usize {
    let small = frame_bytes.saturating_mul(MEMORY_RATIO_SMALL).min(MEMORY_SMALL_BYTES_MAX);
    frame_bytes.saturating_mul(MEMORY_RATIO).saturating_add(small + MEMORY_SLACK_BYTES).min(MEMORY_BYTES_MAX)
}

/// Who decodes what was walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// One of ours: it passes over what it does not know.
    Own,
    /// The crate's: it keeps unknown tagged fields, and takes no text that is not UTF-8.
    Crate,
}

/// Check the body of a message of this version, without a change; `frame_bytes` is the size of the whole frame. Gives how
/// many bytes of it the message has: what stands behind them is not looked at.
pub(super) fn check_message(
    message: &Message,
    version: i16,
    body: &[u8],
    frame_bytes: usize,
    decoder: Decoder,
) -> Result<usize, FrameError> {
    let mut walk = Walk {
        cursor: Cursor(body),
        version,
        is_flexible: message.is_flexible(version),
        budget: memory_allowed(frame_bytes),
        decoder,
        mend: None,
    };
    walk.message(message)
}

/// Check a request's body, and give what its decoder is to read: the message alone, mended for the crate's. With it the bytes
/// that the decoded structs will occupy, beside the slices of the frame that they share.
pub(super) fn checked_request(
    message: &Message,
    version: i16,
    body: Bytes,
    frame_bytes: usize,
    decoder: Decoder,
) -> Result<(Bytes, usize), FrameError> {
    let mut mend = Mend::new(&body);
    let mut walk = Walk {
        cursor: Cursor(&body),
        version,
        is_flexible: message.is_flexible(version),
        budget: memory_allowed(frame_bytes),
        decoder,
        mend: (decoder == Decoder::Crate).then_some(&mut mend),
    };
    let bytes = walk.message(message)?;
    let decoded_bytes = memory_allowed(frame_bytes) - walk.budget;
    Ok((mend.finish(bytes).unwrap_or_else(|| body.slice(..bytes)), decoded_bytes))
}

struct Walk<'a, 'm> {
    cursor: Cursor<'a>,
    version: i16,
    is_flexible: bool,
    /// Bytes that decoding may still allocate.
    budget: usize,
    decoder: Decoder,
    /// `None`: nothing may be changed.
    mend: Option<&'m mut Mend<'a>>,
}

impl<'a> Walk<'a, '_> {
    /// Gives its bytes.
    fn message(&mut self, message: &Message) -> Result<usize, FrameError> {
        let before = self.cursor.0.len();
        self.structure(&message.body)
            .map_err(|error| FrameError(format!("{} version {}: {error}", message.name, self.version)))?;
        Ok(before - self.cursor.0.len())
    }

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
            Kind::FixedArray { element_bytes, memory_bytes } => {
                let count = self.array(memory_bytes, is_nullable)?;
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
        let left = self.cursor.0.len();
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
            Some(bytes) => {
                let text = self.cursor.take(bytes)?;
                if self.mend.is_some() && str::from_utf8(text).is_err() {
                    return self.mend_text(left, text);
                }
                Ok(())
            }
        }
    }

    /// It is put down as Kafka reads it. The copy of the body counts with the first change.
    fn mend_text(&mut self, left: usize, text: &[u8]) -> Result<(), FrameError> {
        let readable = String::from_utf8_lossy(text);
        if readable.len() > STRING_BYTES_MAX {
            return Err(FrameError(format!(
                "a text that is no UTF-8 has {} bytes when it is made readable; the longest has {STRING_BYTES_MAX}",
                readable.len()
            )));
        }
        self.spend(readable.len() + self.mend.as_ref().map_or(0, |mend| mend.first_bytes()))?;
        if let Some(mend) = &mut self.mend {
            mend.text(left, self.cursor.0.len(), &readable, self.is_flexible);
        }
        Ok(())
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
        self.budget = self
            .budget
            .checked_sub(bytes)
            .ok_or_else(|| FrameError("decoding it would take many times its size in memory".to_string()))?;
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
        let left = self.cursor.0.len();
        let count = self.cursor.unsigned_varint()?;
        // What is mended has no tagged field that we know: all go.
        let is_cut = self.mend.is_some() && structure.tagged.is_empty() && !structure.keeps_tags;
        let mut unknown = 0_usize;
        for _ in 0..count {
            let tag = self.cursor.unsigned_varint()?;
            let bytes = self.cursor.unsigned_varint()? as usize;
            let content = Cursor(self.cursor.take(bytes)?);
            match structure.tagged_in(tag, self.version) {
                Some(field) => self.tagged_field(field, tag, content)?,
                None if is_cut || self.decoder == Decoder::Own => self.spend(TAG_PASSED_BYTES)?,
                None => {
                    unknown += 1;
                    self.spend(if unknown == 1 { TAG_MAP_BYTES } else { TAG_ENTRY_BYTES })?;
                }
            }
        }
        if is_cut && count > 0 {
            self.spend(self.mend.as_ref().map_or(0, |mend| mend.first_bytes()))?;
            if let Some(mend) = &mut self.mend {
                mend.no_tagged_fields(left, self.cursor.0.len());
            }
        }
        Ok(())
    }

    /// The crate's decoder does not compare a known field's announced size with what it reads: so it must fit here.
    fn tagged_field(&mut self, field: &Field, tag: u32, content: Cursor<'a>) -> Result<(), FrameError> {
        let (version, is_flexible, budget) = (self.version, self.is_flexible, self.budget);
        let mut inner =
            Walk { cursor: content, version, is_flexible, budget, decoder: self.decoder, mend: None };
        inner.field(field)?;
        self.budget = inner.budget;
        match inner.cursor.0.len() {
            0 => Ok(()),
            left => Err(FrameError(format!("{left} bytes are left over at the end of tagged field {tag}"))),
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

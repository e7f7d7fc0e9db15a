//! Kafka's primitive types, read: what the codecs of our own (`produce`, `fetch`) share.
//!
//! `check` has walked the message: each length and count fits. Text that is no UTF-8 is read as Kafka reads it: what is
//! malformed is replaced.

use super::{Cursor, FrameError, ShortBytes};
use crate::protocol::messages::StrBytes;
use bytes::Bytes;
use std::fmt;
use std::ops::Deref;

/// Text of a message that shares nothing with its frame, and takes no memory of its own where it is short.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ShortText(ShortBytes);

impl fmt::Debug for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl From<&str> for ShortText {
    fn from(text: &str) -> ShortText {
        ShortText(ShortBytes::from_slice(text.as_bytes()))
    }
}

impl Deref for ShortText {
    type Target = str;

    fn deref(&self) -> &str {
        // It was made of a `str`.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// `is_flexible`: the version has compact lengths and tagged fields (KIP-482).
pub(crate) struct Fields<'a> {
    body: &'a Bytes,
    pub(crate) cursor: Cursor<'a>,
    is_flexible: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(body: &'a Bytes, is_flexible: bool) -> Fields<'a> {
        Fields { body, cursor: Cursor(body), is_flexible }
    }

    /// Of an array or of bytes; `None` is null.
    fn length(&mut self) -> Result<Option<usize>, FrameError> {
        if self.is_flexible { self.compact_length() } else { Ok(usize::try_from(self.cursor.i32()?).ok()) }
    }

    fn text_length(&mut self) -> Result<Option<usize>, FrameError> {
        if self.is_flexible { self.compact_length() } else { Ok(usize::try_from(self.cursor.i16()?).ok()) }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, FrameError> {
        Ok((self.cursor.unsigned_varint()? as usize).checked_sub(1))
    }

    /// Of an array. An element has a byte at least.
    pub(crate) fn count(&mut self) -> Result<usize, FrameError> {
        let count = self.length()?.unwrap_or(0);
        if count > self.cursor.0.len() {
            return Err(FrameError(format!(
                "{count} elements are announced in {} bytes",
                self.cursor.0.len()
            )));
        }
        Ok(count)
    }

    fn slice(&mut self, bytes: usize) -> Result<Bytes, FrameError> {
        let taken = self.cursor.take(bytes)?;
        Ok(self.body.slice_ref(taken))
    }

    /// A slice of the frame.
    pub(crate) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, FrameError> {
        let length = self.length()?;
        length.map(|bytes| self.slice(bytes)).transpose()
    }

    /// A slice of the frame.
    pub(crate) fn nullable_text(&mut self) -> Result<Option<StrBytes>, FrameError> {
        let Some(bytes) = self.text_length()? else { return Ok(None) };
        let text = self.slice(bytes)?;
        let readable = StrBytes::from_utf8(text.clone());
        let replaced = |_| StrBytes::from_string(String::from_utf8_lossy(&text).into_owned());
        Ok(Some(readable.unwrap_or_else(replaced)))
    }

    pub(crate) fn nullable_short_text(&mut self) -> Result<Option<ShortText>, FrameError> {
        let Some(bytes) = self.text_length()? else { return Ok(None) };
        let text = String::from_utf8_lossy(self.cursor.take(bytes)?);
        Ok(Some(ShortText::from(&*text)))
    }

    pub(crate) fn skip_text(&mut self) -> Result<(), FrameError> {
        let Some(bytes) = self.text_length()? else { return Ok(()) };
        self.cursor.take(bytes).map(|_| ())
    }

    pub(crate) fn skip_tags(&mut self) -> Result<(), FrameError> {
        if self.is_flexible { self.cursor.skip_tagged_fields() } else { Ok(()) }
    }

    /// Each tagged field goes to `read`, which passes over those that it does not know.
    pub(crate) fn tagged(
        &mut self,
        mut read: impl FnMut(u32, &mut Fields<'a>) -> Result<(), FrameError>,
    ) -> Result<(), FrameError> {
        if !self.is_flexible {
            return Ok(());
        }
        for _ in 0..self.cursor.unsigned_varint()? {
            let tag = self.cursor.unsigned_varint()?;
            let bytes = self.cursor.unsigned_varint()?;
            let content = Cursor(self.cursor.take(bytes as usize)?);
            read(tag, &mut Fields { body: self.body, cursor: content, is_flexible: true })?;
        }
        Ok(())
    }
}

/// A tagged field that another version has: Kafka refuses it too.
pub(crate) fn tag_of_another_version(tag: u32, version: i16) -> Result<(), FrameError> {
    Err(FrameError(format!("a message does not decode: tag {tag} is not one of version {version}")))
}

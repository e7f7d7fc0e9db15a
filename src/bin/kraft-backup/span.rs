//! A file of batches, read from one end to the other: of a node, or of a backup.

use std::io;
use std::time::Duration;

use kraft::backup::{Step, Walk};
use kraft::io::plain_files::SharedFile;
use kraft::types::Offset;

use crate::fault::Fault;
use crate::pace::Pace;

/// At once, or one batch where that is larger.
const READ_BYTES: usize = 1 << 20;
/// A block that is not what it should be may be under repair.
const READ_AGAIN: Duration = Duration::from_millis(200);

/// Takes whole batches, and the offset behind the last of them.
pub(crate) type Sink<'a> = dyn FnMut(&[u8], Offset) -> Result<(), Fault> + 'a;

/// Why it was not read to its end.
#[derive(Debug)]
pub(crate) enum Bad {
    Rot {
        position: u64,
        why: String,
    },
    Disk(io::Error),
    /// Whoever takes the bytes has had enough.
    Sink(Fault),
}

pub(crate) struct Span {
    file: SharedFile,
    /// Of the next batch.
    pub(crate) position: u64,
    pub(crate) walk: Walk,
    /// Somebody may be writing to it.
    is_shared: bool,
}

impl Span {
    /// Of a backup's file: `walk` stands before its first batch.
    pub(crate) fn of_backup(file: SharedFile, walk: Walk) -> Span {
        Span { file, position: 0, walk, is_shared: false }
    }

    /// Of a node's segment, the same.
    pub(crate) fn of_node(file: SharedFile, walk: Walk) -> Span {
        Span { file, position: 0, walk, is_shared: true }
    }

    /// Hands on all good batches up to `until`, which one must end at, and of the file only what lies before `length`; with each piece
    /// the offset behind it. All that is read counts for the pace, whatever comes of it.
    pub(crate) fn read_on(
        &mut self,
        until: Offset,
        length: Option<u64>,
        pace: &Pace,
        sink: &mut Sink<'_>,
    ) -> Result<(), Bad> {
        let (mut wanted, mut is_second) = (READ_BYTES, false);
        while self.walk.at() < until {
            let left = length.map_or(u64::MAX, |length| length.saturating_sub(self.position));
            let most = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
            let bytes = self.file.read(self.position, most).map_err(Bad::Disk)?;
            pace.wait(bytes.len());
            let why = match self.walk.take(&bytes, until) {
                Ok(Step::Taken(taken)) => {
                    sink(&bytes[..taken], self.walk.at()).map_err(Bad::Sink)?;
                    self.position += taken as u64;
                    (wanted, is_second) = (READ_BYTES, false);
                    continue;
                }
                Ok(Step::Needs(needs)) if needs > bytes.len() && bytes.len() == wanted => {
                    // As much as there is at most, whatever a length field says.
                    let size = self.file.size_bytes().map_err(Bad::Disk)?;
                    wanted = needs.min(usize::try_from(size).unwrap_or(usize::MAX)).max(wanted + 1);
                    continue;
                }
                Ok(Step::Needs(_)) => format!("it ends within a batch, or before offset {until}"),
                Err(why) => why,
            };
            if is_second || !self.is_shared {
                return Err(Bad::Rot { position: self.position, why });
            }
            is_second = true;
            std::thread::sleep(READ_AGAIN);
        }
        Ok(())
    }
}

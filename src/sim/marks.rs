//! What a slot of the commit mark says, read in the checker's own way: where its numbers are, big-endian.

const MARK_VERSION_AT: usize = 8;
pub(super) const MARK_START_AT: usize = 8 + 4 + 8 + 8 + 4 + 8 + 8;
pub(super) const MARK_FIRST_AT: usize = MARK_START_AT + 8 + 4 + 8 + 4 + 4;
/// The first version that names a segment: before it the start is one.
const VERSION_OF_FIRST: u32 = 3;

/// Of a log whose start has moved.
pub(super) fn moved(slot: &[u8]) -> bool {
    let version = slot.get(MARK_VERSION_AT..).and_then(|rest| rest.first_chunk());
    version.is_some_and(|version| u32::from_be_bytes(*version) >= VERSION_OF_FIRST)
}

/// Far above all that a run commits. Its checksum does not fit any more.
pub(super) fn raise_start(slot: &mut [u8]) {
    if let Some(start) = slot.get_mut(MARK_START_AT..MARK_START_AT + 8) {
        start.copy_from_slice(&i64::from(i32::MAX).to_be_bytes());
    }
}

pub(super) fn number_at(slot: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(*slot.get(at..)?.first_chunk()?))
}

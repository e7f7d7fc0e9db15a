//! Sentences that come again and again: the first few are written, then ever fewer, with a count of those left out.
//!
//! What a peer asks, or what a quorum without a majority tries, repeats as long as nobody mends it; and whoever reaches the
//! port can ask as fast as he likes. Limits go by the kind of a sentence and the peer that it is about, never by its text.

use crate::raft::NoteKind;
use crate::types::*;
use std::collections::BTreeMap;

/// Sentences of a kind about a peer that are written as they come.
const BURST: u32 = 10;
/// After them one in this time, then in twice as much, and so on.
const INTERVAL_MS_MIN: u64 = 1_000;
const INTERVAL_MS_MAX: u64 = 60_000;
/// Kinds and peers remembered. Who is invented beyond them shares one place.
const PLACES_MAX: usize = 64;
const ANYBODY: NodeId = NodeId(-1);

#[derive(Debug, Default)]
pub(super) struct Repeats(BTreeMap<(NoteKind, NodeId), Repeat>);

#[derive(Debug)]
struct Repeat {
    burst_left: u32,
    interval_ms: u64,
    /// The next one is written from then on.
    due_ns: u64,
    last_ns: u64,
    left_out: u64,
}

impl Repeats {
    /// The sentence as it is to be written, if it is.
    pub(super) fn admit(&mut self, now: Now, kind: NoteKind, peer: NodeId, text: String) -> Option<String> {
        let is_known = self.0.contains_key(&(kind, peer));
        let place = if is_known || self.0.len() < PLACES_MAX { peer } else { ANYBODY };
        let repeat = self.0.entry((kind, place)).or_insert_with(|| Repeat::new(now));
        repeat.admit(now).map(|left_out| match left_out {
            0 => text,
            _ => format!("{text} (and {left_out} more like it)"),
        })
    }
}

impl Repeat {
    fn new(now: Now) -> Repeat {
        Repeat {
            burst_left: BURST,
            interval_ms: INTERVAL_MS_MIN,
            due_ns: 0,
            last_ns: now.monotonic_ns,
            left_out: 0,
        }
    }

    /// `Some`: how many were left out before it.
    fn admit(&mut self, now: Now) -> Option<u64> {
        let now_ns = now.monotonic_ns;
        if now_ns.saturating_sub(self.last_ns) >= INTERVAL_MS_MAX * NS_PER_MS {
            *self = Repeat { left_out: self.left_out, ..Repeat::new(now) };
        }
        self.last_ns = now_ns;
        if self.burst_left > 0 {
            self.burst_left -= 1;
        } else if now_ns < self.due_ns {
            self.left_out += 1;
            return None;
        } else {
            self.due_ns = now.plus_ms(self.interval_ms);
            self.interval_ms = (self.interval_ms * 2).min(INTERVAL_MS_MAX);
        }
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { monotonic_ns: ms * NS_PER_MS, wall_ms: 0 }
    }

    fn written(repeats: &mut Repeats, ms: impl Iterator<Item = u64>) -> Vec<(u64, String)> {
        ms.filter_map(|ms| {
            let text = format!("rejected pre-vote {ms}");
            repeats.admit(at(ms), NoteKind::PreVote, NodeId(2), text).map(|text| (ms, text))
        })
        .collect()
    }

    #[test]
    fn a_flood_is_a_few_lines_and_a_count() {
        let mut repeats = Repeats::default();
        let lines = written(&mut repeats, (0..10_000).step_by(3));
        assert_eq!(lines.len() as u32, BURST + 4, "{lines:?}");
        assert!(lines[11].1.ends_with("more like it)"), "{lines:?}");
        assert!(
            repeats.admit(at(10_000), NoteKind::PreVote, NodeId(3), String::new()).is_some(),
            "another peer"
        );
        assert!(
            repeats.admit(at(10_000), NoteKind::Vote, NodeId(2), String::new()).is_some(),
            "another kind"
        );
    }

    #[test]
    fn what_goes_on_for_days_slows_down_and_what_comes_back_is_told_at_once() {
        let mut repeats = Repeats::default();
        written(&mut repeats, (0..200_000).step_by(500));
        let hour = written(&mut repeats, (200_000..3_800_000).step_by(500));
        assert!((58..=61).contains(&hour.len()), "{}", hour.len());
        let later = written(&mut repeats, [3_900_000, 3_900_001].into_iter());
        assert_eq!(later.len(), 2);
    }

    #[test]
    fn invented_peers_take_no_memory() {
        let mut repeats = Repeats::default();
        let told = |repeats: &mut Repeats, peers: std::ops::Range<i32>| {
            peers
                .filter(|peer| repeats.admit(at(1), NoteKind::Vote, NodeId(*peer), String::new()).is_some())
                .count()
        };
        assert_eq!(told(&mut repeats, 0..10_000), PLACES_MAX + BURST as usize + 1);
        assert!(repeats.0.len() <= PLACES_MAX + 1);
    }
}

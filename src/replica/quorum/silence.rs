//! Voters that do not answer: who runs a quorum hears of each in a line now and then, and of its return.

use crate::types::*;
use std::collections::BTreeMap;

/// A node that is just being started or stopped is not worth a line.
const SILENCE_TOLD_AFTER_MS: u64 = 3_000;
/// Between two lines about the same node, at first; each time twice as long.
const SILENCE_LINE_INTERVAL_MS: u64 = 10_000;
const SILENCE_LINE_INTERVAL_MS_MAX: u64 = 600_000;

/// At most one for each voter.
#[derive(Debug, Default)]
pub(super) struct Silences(BTreeMap<NodeId, Silence>);

#[derive(Debug)]
struct Silence {
    /// Monotonic ns of the first request that got no answer.
    since_ns: u64,
    told_ns: Option<u64>,
    interval_ms: u64,
}

impl Silences {
    /// What to say when a request to the node has failed.
    pub(super) fn on_failed(&mut self, now: Now, node: NodeId, why: &str) -> Option<String> {
        let now_ns = now.monotonic_ns;
        let silence = self.0.entry(node).or_insert(Silence {
            since_ns: now_ns,
            told_ns: None,
            interval_ms: SILENCE_LINE_INTERVAL_MS,
        });
        let due_ns = match silence.told_ns {
            None => silence.since_ns + SILENCE_TOLD_AFTER_MS * NS_PER_MS,
            Some(told_ns) => told_ns + silence.interval_ms * NS_PER_MS,
        };
        if now_ns < due_ns {
            return None;
        }
        if silence.told_ns.replace(now_ns).is_some() {
            silence.interval_ms = (silence.interval_ms * 2).min(SILENCE_LINE_INTERVAL_MS_MAX);
        }
        Some(format!(
            "voter {node} has not answered for {} s: {why}. See that it runs, and that controller.quorum.voters has its address",
            silence.seconds(now)
        ))
    }

    /// What to say when the node has answered.
    pub(super) fn on_answered(&mut self, now: Now, node: NodeId) -> Option<String> {
        let silence = self.0.remove(&node)?;
        silence.told_ns?;
        Some(format!("voter {node} answers again, after {} s", silence.seconds(now)))
    }
}

impl Silence {
    fn seconds(&self, now: Now) -> u64 {
        now.monotonic_ns.saturating_sub(self.since_ns) / (1_000 * NS_PER_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { monotonic_ns: ms * NS_PER_MS, wall_ms: 0 }
    }

    #[test]
    fn a_voter_that_is_silent_for_long_is_named_now_and_then_until_it_answers() {
        let mut silences = Silences::default();
        let (two, three) = (NodeId(2), NodeId(3));
        let told: Vec<u64> = (1_000..80_000)
            .step_by(100)
            .filter(|ms| silences.on_failed(at(*ms), two, "nobody listens").is_some())
            .collect();
        assert_eq!(told, [4_000, 14_000, 34_000, 74_000], "twice as long each time");
        assert_eq!(silences.on_failed(at(80_000), three, "nobody listens"), None, "each has its own time");
        let line = silences.on_failed(at(154_000), two, "nobody listens").expect("told");
        assert!(line.starts_with("voter 2 has not answered for 153 s: nobody listens. "), "{line}");
        assert_eq!(
            silences.on_answered(at(155_500), two).as_deref(),
            Some("voter 2 answers again, after 154 s")
        );
        assert_eq!(silences.on_answered(at(155_600), two), None);
    }

    #[test]
    fn a_short_silence_is_passed_over() {
        let mut silences = Silences::default();
        for ms in (0..60_000).step_by(2_500) {
            assert_eq!(silences.on_failed(at(ms), NodeId(2), "it is being started"), None);
            assert_eq!(silences.on_failed(at(ms + 2_400), NodeId(2), "it is being started"), None);
            assert_eq!(silences.on_answered(at(ms + 2_450), NodeId(2)), None);
        }
    }
}

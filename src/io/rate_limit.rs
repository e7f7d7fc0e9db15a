//! One log line a second per cause, however often it happens: a flood of bad input must not become a flood of lines.

use std::collections::HashMap;

const INTERVAL_NS: u64 = 1_000_000_000;
/// Causes remembered. With more of them in one second the rest gets no line at all.
const CAUSES_MAX: usize = 32;
/// A cause is known by the beginning of what is said of it, which is always our own words.
const CAUSE_BYTES_MAX: usize = 48;

#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    causes: HashMap<String, Cause>,
}

#[derive(Debug)]
struct Cause {
    last_ns: u64,
    suppressed: u64,
}

impl RateLimit {
    /// `Some(n)`: log it now; `n` lines of this cause were left out since the last one. Causes that begin alike are one:
    /// behind the first number, and far behind the beginning, there may stand what a stranger has chosen.
    pub(crate) fn admit(&mut self, cause: &str, now_ns: u64) -> Option<u64> {
        let is_open = |c: char| c.is_ascii_digit() || matches!(c, '"' | '\'');
        let cause = cause.split(is_open).next().unwrap_or_default();
        let end = (0..=CAUSE_BYTES_MAX.min(cause.len())).rev().find(|end| cause.is_char_boundary(*end));
        let cause = cause[..end.unwrap_or(0)].to_string();
        if let Some(known) = self.causes.get_mut(&cause) {
            if now_ns.saturating_sub(known.last_ns) < INTERVAL_NS {
                known.suppressed += 1;
                return None;
            }
            known.last_ns = now_ns;
            return Some(std::mem::take(&mut known.suppressed));
        }
        if self.causes.len() >= CAUSES_MAX {
            self.causes.retain(|_, known| now_ns.saturating_sub(known.last_ns) < INTERVAL_NS);
        }
        if self.causes.len() >= CAUSES_MAX {
            return None;
        }
        self.causes.insert(cause, Cause { last_ns: now_ns, suppressed: 0 });
        Some(0)
    }
}

/// " (and 12 more like it)", or nothing.
pub(crate) fn and_more(suppressed: u64) -> String {
    if suppressed == 0 { String::new() } else { format!(" (and {suppressed} more like it)") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_per_cause() {
        let mut limit = RateLimit::default();
        assert_eq!(limit.admit("a", 0), Some(0));
        assert_eq!(limit.admit("a", 1), None);
        assert_eq!(limit.admit("b", 1), Some(0));
        assert_eq!(limit.admit("a", INTERVAL_NS - 1), None);
        assert_eq!(limit.admit("a", INTERVAL_NS), Some(2));
        assert_eq!(limit.admit("a", INTERVAL_NS + 1), None);
        assert_eq!(and_more(2), " (and 2 more like it)");
    }

    #[test]
    fn causes_are_bounded_and_numbers_make_no_new_one() {
        let mut limit = RateLimit::default();
        assert_eq!(limit.admit("frame of 10 bytes", 5), Some(0));
        assert_eq!(limit.admit("frame of 2000 bytes", 5), None);
        assert_eq!(limit.admit("not Kafka: it looks like a cat", 5), Some(0));
        assert_eq!(limit.admit("not Kafka: it looks like a dog", 5), Some(0));
        let long = |end: &str| "begins with the same words for more than fifty bytes".to_string() + end;
        assert_eq!(limit.admit(&long("a"), 5), Some(0));
        assert_eq!(limit.admit(&long("b"), 5), None);
        let causes: Vec<String> = (0..CAUSES_MAX * 2)
            .map(|i| format!("{}{}", char::from(b'A' + i as u8 % 26), "x".repeat(i / 26 + 1)))
            .collect();
        let lines =
            |limit: &mut RateLimit, at| causes.iter().filter(|c| limit.admit(c, at).is_some()).count();
        assert_eq!(lines(&mut limit, 6), CAUSES_MAX - 4);
        assert_eq!(lines(&mut limit, 6 + INTERVAL_NS), CAUSES_MAX);
        assert!(limit.causes.len() <= CAUSES_MAX);
    }
}

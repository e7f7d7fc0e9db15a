//! Keys that mean nothing here but stand in many Kafka files, and the nearest key to a misspelt one.

use super::protection;

/// One key a line, `#` begins a comment.
const KAFKA_KEYS: &str = include_str!("kafka_keys.txt");

/// Kafka's keys that this server does not use.
pub(super) fn kafka_keys() -> impl Iterator<Item = &'static str> {
    let harmless =
        KAFKA_KEYS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    harmless.chain(protection::keys())
}

/// Also true of settings of one listener, such as `listener.name.controller.ssl.keystore.location`.
pub(super) fn is_kafka_key(key: &str) -> bool {
    key.starts_with("listener.name.") || kafka_keys().any(|known| known == key)
}

/// The key that `key` was perhaps meant to be: at most a quarter of its characters differ.
pub(super) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (key.chars().count() / 4).max(1);
    let distances = known.map(|candidate| (edit_distance(key, candidate), candidate));
    distances.min().filter(|(distance, _)| *distance <= allowed).map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that make one text the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_a_swap_once() {
        for (a, b, distance) in
            [("", "", 0), ("abc", "", 3), ("node.id", "node.ids", 1), ("ab", "ba", 1), ("voter", "vtoers", 2)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn nearest_key_is_close_or_none() {
        let known = ["node.id", "log.dirs", "controller.quorum.voters"];
        assert_eq!(nearest("node.di", known.into_iter()), Some("node.id"));
        assert_eq!(nearest("controller.quorm.voter", known.into_iter()), Some("controller.quorum.voters"));
        assert_eq!(nearest("something.else", known.into_iter()), None);
    }

    #[test]
    fn list_of_kafka_keys_is_clean() {
        let keys: Vec<&str> = kafka_keys().collect();
        assert!(keys.len() > 300);
        let mut unique = keys.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), keys.len(), "a key stands there twice");
        assert!(is_kafka_key("num.io.threads") && is_kafka_key("offsets.topic.replication.factor"));
        assert!(is_kafka_key("zookeeper.session.timeout.ms") && !is_kafka_key("node.id"));
    }
}

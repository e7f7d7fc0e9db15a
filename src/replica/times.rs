//! Kafka's special timestamps of ListOffsets (`ListOffsetsRequest`), and who may ask for them.

pub(super) const LATEST: i64 = -1;
pub(super) const EARLIEST: i64 = -2;
pub(super) const MAX_TIMESTAMP: i64 = -3;
pub(super) const EARLIEST_LOCAL: i64 = -4;
pub(super) const LATEST_TIERED: i64 = -5;
pub(super) const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Version from which each of them may be asked for (Kafka: `ReplicaManager.timestampMinSupportedVersion`); `None`: no
/// version has it.
pub(super) fn known_from(timestamp: i64) -> Option<i16> {
    match timestamp {
        LATEST | EARLIEST | 0.. => Some(1),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        LATEST_TIERED => Some(9),
        EARLIEST_PENDING_UPLOAD => Some(11),
        _ => None,
    }
}

/// Its answer needs a search through the log: it is a time, or asks for the latest of all records.
pub(super) fn needs_search(timestamp: i64) -> bool {
    timestamp >= 0 || timestamp == MAX_TIMESTAMP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_kafkas_times_has_its_first_version() {
        let known = [(0, 1), (i64::MAX, 1), (-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11)];
        for (timestamp, from) in known {
            assert_eq!(known_from(timestamp), Some(from), "{timestamp}");
        }
        assert_eq!([known_from(-7), known_from(i64::MIN)], [None, None]);
    }
}

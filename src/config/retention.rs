//! How much of the log stays: the keys of both dialects of Kafka, for its metadata log and for a broker's topics.
//!
//! The first that is set counts, for bytes and for time apart: that of the metadata log, then the broker's, and of the broker's
//! times ms, minutes, hours. None: nothing goes. What is set for the topic itself lies in the log, and counts before all of them.

use super::reader::Reader;
use super::settings::Setting;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Segments go as long as what stays has so many bytes.
    pub bytes: Option<u64>,
    /// And those whose latest record is older.
    pub ms: Option<u64>,
    /// A key says so.
    pub(crate) is_bytes_set: bool,
    pub(crate) is_ms_set: bool,
}

/// A key, and how many ms its unit has.
type Unit = (&'static str, u64);

const SIZES: [Unit; 2] = [("metadata.max.retention.bytes", 1), ("log.retention.bytes", 1)];
const TIMES: [Unit; 4] = [
    ("metadata.max.retention.ms", 1),
    ("log.retention.ms", 1),
    ("log.retention.minutes", MINUTE_MS),
    ("log.retention.hours", HOUR_MS),
];
/// Kafka has a time of its own for the metadata log, as for its size.
const ROLLS: [Unit; 3] = [("metadata.log.segment.ms", 1), ("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)];

pub(super) fn read_retention(r: &mut Reader) -> Retention {
    let (is_bytes_set, bytes) = first_set(r, &SIZES, -1);
    let (is_ms_set, ms) = first_set(r, &TIMES, -1);
    Retention { bytes, ms, is_bytes_set, is_ms_set }
}

/// `i64::MAX`: by size alone.
pub(super) fn read_roll(r: &mut Reader) -> i64 {
    let (_, ms) = first_set(r, &ROLLS, 1);
    ms.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(i64::MAX)
}

/// Whether one is set, and what it says. All that are set are checked. -1, where `least` allows it: no limit.
fn first_set(r: &mut Reader, keys: &[Unit], least: i64) -> (bool, Option<u64>) {
    let mut counts: Option<(&'static str, &Setting, Option<u64>)> = None;
    for (key, unit) in keys {
        let Some(setting) = r.find(key) else { continue };
        match parse(&setting.value, *unit, least) {
            Ok(limit) => _ = counts.get_or_insert((key, setting, limit)),
            Err(why) => r.refuse(setting, why),
        }
    }
    match counts {
        Some((key, setting, limit)) => {
            r.effective(key, setting.value.trim(), Some(setting));
            (true, limit)
        }
        None => {
            r.effective(keys[0].0, "", None);
            (false, None)
        }
    }
}

/// Kafka refuses 0 too.
fn parse(text: &str, unit: u64, least: i64) -> Result<Option<u64>, String> {
    let most = i64::MAX / i64::try_from(unit).unwrap_or(i64::MAX);
    let number = text.trim().parse::<i64>().ok().filter(|n| *n <= most && *n >= least && *n != 0);
    match number {
        Some(-1) => Ok(None),
        Some(number) => Ok(Some(number.unsigned_abs() * unit)),
        None if least < 0 => {
            Err(format!("this must be -1, for no limit, or a whole number from 1 to {most}."))
        }
        None => Err(format!("this must be a whole number from 1 to {most}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_minus_one_or_above_zero() {
        assert_eq!(parse("-1", 1, -1), Ok(None));
        assert_eq!(parse(" 7 ", HOUR_MS, -1), Ok(Some(7 * HOUR_MS)));
        for bad in ["-2", "0", "", "x", "1.5", "9223372036854775807"] {
            assert!(parse(bad, HOUR_MS, -1).is_err(), "{bad}");
        }
        assert_eq!(parse("9223372036854775807", 1, -1), Ok(Some(i64::MAX as u64)));
        assert!(parse("-1", 1, 1).is_err(), "a segment is rolled in any case");
    }
}

use super::*;

fn segment(base: i64, next: i64, bytes: u64, max_timestamp: Option<i64>) -> Aged {
    let (base, next) = (Offset(base), Offset(next));
    Aged { base, next, bytes, max_timestamp, appended_ns: None, is_open: false }
}

/// Four of 100 bytes, and one that is open.
fn log() -> Vec<Aged> {
    let mut log: Vec<Aged> =
        (0..5).map(|i| segment(i * 10, i * 10 + 10, 100, Some(1_000 * (i + 1)))).collect();
    log[4].is_open = true;
    log
}

fn judged(
    log: &[Aged],
    from: i64,
    committed: i64,
    limits: (Option<u64>, Option<u64>),
    wall_ms: Option<i64>,
) -> (i64, bool) {
    let limits = Limits { bytes: limits.0, ms: limits.1 };
    let times = Times { now_ns: 50_000 * NS_PER_MS, wall_ms, since_ns: 40_000 * NS_PER_MS };
    let committed = HighWatermark(Offset(committed));
    let Verdict { start, closes } = judge(log.iter().copied(), Offset(from), committed, limits, &times);
    (start.0, closes)
}

#[test]
fn segments_go_as_long_as_what_stays_is_as_much_as_the_limit() {
    for (bytes, start) in [(500, 0), (401, 0), (400, 10), (399, 10), (100, 40), (1, 40)] {
        assert_eq!(judged(&log(), 0, 50, (Some(bytes), None), None), (start, false), "{bytes}");
    }
    assert_eq!(judged(&log(), 15, 50, (Some(300), None), None), (20, false), "a part of one is gone already");
    assert_eq!(judged(&log(), 0, 25, (Some(1), None), None), (20, false), "only what is committed");
    assert_eq!(judged(&log(), 0, 50, (None, None), Some(i64::MAX)), (0, false));
}

#[test]
fn segments_go_that_are_older_than_the_limit_without_gaps() {
    for (wall_ms, expected) in
        [(2_000, (0, false)), (2_001, (10, false)), (3_001, (20, false)), (6_001, (40, true))]
    {
        assert_eq!(judged(&log(), 0, 50, (None, Some(1_000)), Some(wall_ms)), expected, "{wall_ms}");
    }
    assert_eq!(judged(&log(), 0, 50, (None, Some(1_000)), None), (0, false), "no majority has said a time");
    assert_eq!(
        judged(&log(), 0, 49, (None, Some(1_000)), Some(9_000)),
        (40, false),
        "not all of it is committed"
    );
    let mut gap = log();
    gap[1].max_timestamp = Some(100_000);
    assert_eq!(judged(&gap, 0, 50, (None, Some(1_000)), Some(9_000)), (10, false));
    assert_eq!(judged(&gap, 0, 50, (Some(200), Some(1_000)), Some(9_000)), (40, true), "but by bytes");
    let empty = [segment(50, 50, 0, None)].map(|segment| Aged { is_open: true, ..segment });
    assert_eq!(judged(&empty, 50, 50, (None, Some(1)), Some(9_000)), (50, false), "nothing is left to close");
}

#[test]
fn a_segment_without_records_is_as_old_as_its_last_append_or_this_process() {
    let mut log = log();
    log[0].max_timestamp = None;
    assert_eq!(judged(&log, 0, 50, (None, Some(9_999)), None), (10, false));
    assert_eq!(judged(&log, 0, 50, (None, Some(10_000)), None), (0, false));
    log[0].appended_ns = Some(45_000 * NS_PER_MS);
    assert_eq!(judged(&log, 0, 50, (None, Some(5_000)), None), (0, false));
    assert_eq!(judged(&log, 0, 50, (None, Some(4_999)), None), (10, false));
}

#[test]
fn what_is_set_for_the_topic_counts_before_the_file() {
    let mut config = Config::for_tests(
        NodeId(1),
        vec![crate::config::Voter { id: NodeId(1), endpoint: Endpoint { host: "h".into(), port: 1 } }],
    );
    config.retention = config::Retention { bytes: Some(7), ms: Some(8), ..Default::default() };
    let retention = Retention::new(&config, Now::default());
    let set = |pairs: &[(&str, &str)]| -> Set {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    };
    assert_eq!(retention.limits(&set(&[])), Limits { bytes: Some(7), ms: Some(8) });
    assert_eq!(retention.limits(&set(&[("retention.bytes", "-1")])), Limits { bytes: None, ms: Some(8) });
    assert_eq!(retention.limits(&set(&[("retention.ms", "0")])), Limits { bytes: Some(7), ms: Some(0) });
}

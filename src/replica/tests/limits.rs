//! What a configuration allows together: accepted means that the largest batch gets everywhere.

use super::*;
use crate::config::{Limits, Settings, load};
use crate::raft::random::Random;

/// Sizes that a batch has to pass, with their least and largest values here.
const SIZES: [(&str, u64, u64); 9] = [
    ("message.max.bytes", 1 << 10, 600 << 10),
    ("socket.request.max.bytes", 1 << 10, 1 << 20),
    ("controller.quorum.fetch.max.bytes", 1 << 10, 1 << 20),
    ("fetch.max.bytes", 1 << 10, 1 << 20),
    ("kraft.connection.output.max.bytes", 1 << 10, 2 << 20),
    ("metadata.log.segment.bytes", 64 << 10, 1 << 20),
    ("kraft.write.buffer.bytes", 64 << 10, 256 << 10),
    ("kraft.tail.cache.bytes", 0, 1 << 20),
    ("kraft.group.max.bytes", 64 << 10, 1 << 20),
];
/// Refused ones are cheap.
const CONFIGURATIONS: usize = 400;

fn draw(random: &mut Random) -> String {
    let mut lines = String::new();
    for (key, least, largest) in SIZES {
        // Half of them near a power of two that others may have too, so that equal and nearly equal values meet.
        let bits = random.below(u64::from((largest / least.max(1)).ilog2()) + 1);
        let near = (least.max(1) << bits) + random.below(3) * random.below(600);
        let value = if random.below(3) == 0 { least + random.below(largest - least + 1) } else { near };
        let value = value.clamp(least, largest);
        let value = if key == "kraft.write.buffer.bytes" { value / 4096 * 4096 } else { value };
        if random.below(4) > 0 {
            lines += &format!("{key}={value}\n");
        }
    }
    lines
}

fn limits_of(lines: &str) -> Option<Limits> {
    let file =
        format!("node.id=1\ncontroller.quorum.voters=1@localhost:9092\nlog.dirs=/nonexistent\n{lines}");
    let mut settings = Settings::new();
    settings.read_properties("node.properties", file.as_bytes()).expect("reads");
    let loaded = load(&settings).ok()?;
    Some(loaded.config.limits)
}

/// One batch of this size, or of a byte or two less where none has it.
fn batch_of(bytes: usize) -> Bytes {
    let mut value = vec![7; bytes - 60];
    loop {
        let batch = batch(&[&value]);
        if batch.len() <= bytes {
            return batch;
        }
        value.pop();
    }
}

fn check_full_batch(limits: Limits, lines: &str) {
    let configs = (1..=3).map(|id| {
        let mut config = config(id, 3);
        config.limits = limits.clone();
        config.limits.zero_ahead_bytes = 64 << 10;
        config
    });
    let records = batch_of(limits.message_bytes_max);
    assert!(limits.message_bytes_max - records.len() <= 2);
    let mut cluster = Cluster::new(configs.collect());
    let leader = elect(&mut cluster);
    let epoch = cluster.status(leader).epoch;
    let client = cluster.connect(leader);
    for _ in 0..2 {
        assert_eq!(produce(&mut cluster, client, -1, records.clone()).0, 0, "{lines}");
    }
    let end = cluster.status(leader).log_end_offset;
    cluster.run_until("every follower has it", 10_000, |c| {
        c.nodes.keys().all(|id| c.status(*id).flushed_offset == end)
    });
    let (error, _, offsets) = fetch(&mut cluster, client, end - 2);
    assert_eq!((error, offsets.first()), (0, Some(&(end - 2))), "{lines}");
    assert!(cluster.is_open(client), "{lines}");
    assert_eq!((cluster.leader(), cluster.status(leader).epoch), (Some(leader), epoch), "{lines}");
}

#[test]
fn a_configuration_that_is_accepted_lets_the_largest_batch_through() {
    let mut random = Random::new(14);
    let mut accepted = 0;
    for _ in 0..CONFIGURATIONS {
        let lines = draw(&mut random);
        if let Some(limits) = limits_of(&lines) {
            accepted += 1;
            check_full_batch(limits, &lines);
        }
    }
    assert!((20..CONFIGURATIONS - 20).contains(&accepted), "{accepted} of {CONFIGURATIONS} were accepted");
}

/// A request may be smaller than what voters fetch: their answers have a bound of their own.
#[test]
fn small_requests_do_not_keep_followers_from_catching_up() {
    let lines = "message.max.bytes=20000\nsocket.request.max.bytes=21024\ncontroller.quorum.fetch.max.bytes=1000000\n";
    let limits = limits_of(lines).expect("accepted");
    check_full_batch(limits.clone(), lines);
    let mut configs: Vec<Config> = (1..=3).map(|id| config(id, 3)).collect();
    configs.iter_mut().for_each(|config| config.limits = limits.clone());
    let mut cluster = Cluster::new(configs);
    let leader = elect(&mut cluster);
    let late = others(&cluster, leader)[0];
    cluster.kill(late);
    let client = cluster.connect(leader);
    for _ in 0..30 {
        assert_eq!(produce(&mut cluster, client, -1, batch_of(20_000)).0, 0);
    }
    cluster.start(late);
    cluster.run_until("it has caught up", 10_000, |c| {
        c.status(late).flushed_offset == c.status(leader).log_end_offset
    });
}

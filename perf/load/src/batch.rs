//! Batches, built before the run begins: what is sent is one of a pool, so that the driver costs next to nothing.

use std::io;

use bytes::Bytes;

use kraft::record::{data_batch, restamp_producer};

use crate::compression::Compression;

/// More templates than this show a server nothing new.
const TEMPLATES_MAX: usize = 1024;
/// And they should not take more memory than this, whatever the size of a record.
const TEMPLATE_BYTES_MAX: usize = 64 << 20;

/// What the values of records are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Random capital letters, as from kafka-producer-perf-test; each size from `min` to `max` is as likely.
    Random { min: usize, max: usize },
    /// Drawn at random from these.
    Lines(Vec<Vec<u8>>),
}

/// A batch that may be sent many times.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) batch: Bytes,
    pub(crate) records: u64,
    /// Bytes of the values alone, which is what rates are told in.
    pub(crate) value_bytes: u64,
}

impl Template {
    /// The batch as an idempotent producer sends it, into `out`.
    pub(crate) fn stamp_into(&self, out: &mut Vec<u8>, producer: (i64, i16, i32)) {
        out.clear();
        out.extend_from_slice(&self.batch);
        restamp_producer(out, producer);
    }
}

/// The pool. Never empty.
#[derive(Clone, Debug)]
pub(crate) struct Templates(Vec<Template>);

impl Templates {
    /// `wall_ms`: the timestamp of all records, since the Unix epoch. `Err`: a sentence.
    pub(crate) fn build(
        payload: &Payload,
        records_per_batch: usize,
        compression: Compression,
        wall_ms: i64,
        seed: u64,
    ) -> Result<Templates, String> {
        let mut random = Random::new(seed);
        let build = |_| {
            let mut template = build_template(payload, records_per_batch, wall_ms, &mut random);
            template.batch = compression.apply(template.batch)?;
            Ok(template)
        };
        let templates = (0..template_count(payload, records_per_batch)).map(build).collect::<io::Result<_>>();
        templates.map(Templates).map_err(|e| format!("a batch cannot be compressed ({e})."))
    }

    pub(crate) fn get(&self, index: usize) -> &Template {
        &self.0[index]
    }

    pub(crate) fn pick(&self, random: &mut Random) -> usize {
        if self.0.len() == 1 { 0 } else { random.below(self.0.len()) }
    }

    /// Bytes of the largest batch.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        self.0.iter().map(|template| template.batch.len()).max().unwrap_or(0)
    }
}

/// One where all batches look alike.
fn template_count(payload: &Payload, records_per_batch: usize) -> usize {
    let record_bytes = match payload {
        Payload::Random { min, max } if min == max => return 1,
        Payload::Random { max, .. } => *max,
        Payload::Lines(lines) => lines.iter().map(Vec::len).max().unwrap_or(0),
    };
    (TEMPLATE_BYTES_MAX / (records_per_batch * record_bytes).max(1)).clamp(1, TEMPLATES_MAX)
}

fn build_template(payload: &Payload, records: usize, wall_ms: i64, random: &mut Random) -> Template {
    let letters = |random: &mut Random, bytes: usize| -> Vec<u8> {
        (0..bytes).map(|_| b'A' + random.below(26) as u8).collect()
    };
    let values: Vec<Vec<u8>> = (0..records)
        .map(|_| match payload {
            Payload::Random { min, max } => {
                let bytes = min + random.below(max - min + 1);
                letters(random, bytes)
            }
            Payload::Lines(lines) => lines[random.below(lines.len())].clone(),
        })
        .collect();
    let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    Template {
        batch: data_batch(&slices, wall_ms, None),
        records: records as u64,
        value_bytes: values.iter().map(|value| value.len() as u64).sum(),
    }
}

/// SplitMix64: even enough for sizes and letters, and the same in each run of a seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is above 0.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kraft::record::{BatchHeader, ProduceLimits, check_produced, records};

    const WALL_MS: i64 = 1_795_356_185_000;

    fn templates(payload: &Payload, records_per_batch: usize) -> Templates {
        Templates::build(payload, records_per_batch, Compression::None, WALL_MS, 1).unwrap()
    }

    /// The values of a batch that a server would accept.
    fn values(batch: &[u8]) -> Vec<Vec<u8>> {
        let limits = ProduceLimits {
            message_bytes_max: 1 << 20,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            now_wall_ms: WALL_MS,
        };
        let checked = check_produced(Bytes::copy_from_slice(batch), &limits).unwrap();
        records(&checked).map(|record| record.unwrap().value.unwrap().to_vec()).collect()
    }

    #[test]
    fn a_fixed_size_needs_one_template() {
        let templates = templates(&Payload::Random { min: 256, max: 256 }, 64);
        assert_eq!(templates.0.len(), 1);
        let template = templates.get(0);
        assert_eq!((template.records, template.value_bytes), (64, 64 * 256));
        let values = values(&template.batch);
        assert!(values.len() == 64 && values.iter().all(|value| value.len() == 256));
        assert!(values.iter().flatten().all(u8::is_ascii_uppercase));
    }

    #[test]
    fn uniform_sizes_reach_both_ends() {
        let templates = templates(&Payload::Random { min: 3, max: 6 }, 2);
        let sizes: Vec<usize> = templates
            .0
            .iter()
            .flat_map(|template| values(&template.batch))
            .map(|value| value.len())
            .collect();
        for size in 3..=6 {
            let count = sizes.iter().filter(|found| **found == size).count();
            assert!(count > sizes.len() / 6, "{size} B: {count} of {}", sizes.len());
        }
        assert!(sizes.iter().all(|size| (3..=6).contains(size)));
    }

    #[test]
    fn large_records_take_bounded_memory() {
        let templates = templates(&Payload::Random { min: 1, max: 1_000_000 }, 32);
        assert_eq!(templates.0.len(), 2);
        assert!(templates.batch_bytes_max() <= 32 * 1_000_100);
    }

    #[test]
    fn lines_of_a_payload_file_are_drawn() {
        let lines = vec![b"one".to_vec(), b"three".to_vec(), Vec::new()];
        let templates = templates(&Payload::Lines(lines.clone()), 1);
        for line in lines {
            assert!(
                templates.0.iter().any(|template| values(&template.batch) == [line.as_slice()]),
                "{line:?}"
            );
        }
    }

    #[test]
    fn an_idempotent_batch_is_valid_for_every_sequence() {
        let templates = templates(&Payload::Random { min: 10, max: 10 }, 3);
        let mut out = Vec::new();
        for sequence in [0, 3, i32::MAX] {
            templates.get(0).stamp_into(&mut out, (77, 2, sequence));
            let header = BatchHeader::decode(&out).unwrap();
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (77, 2, sequence));
            assert_eq!(values(&out).len(), 3);
        }
        assert_eq!(BatchHeader::decode(&templates.get(0).batch).unwrap().producer_id, -1);
    }
}

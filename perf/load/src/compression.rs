//! Names of the codecs on the command line; what they do is `kraft::record::compression`.

use std::io;

use bytes::Bytes;
use clap::ValueEnum;

use kraft::record::compression::Codec;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    fn codec(self) -> Codec {
        match self {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.codec().name()
    }

    /// `batch` is one that was built without compression.
    pub(crate) fn apply(self, batch: Bytes) -> io::Result<Bytes> {
        self.codec().compress_batch(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kraft::record::{Inspector, ProduceLimits, check_produced, data_batch, restamp_producer};

    const WALL_MS: i64 = 1_795_356_185_000;

    /// Also of three bytes, of which every codec makes more, and with a producer's numbers.
    #[test]
    fn a_server_accepts_what_each_name_stands_for() {
        let limits = ProduceLimits {
            message_bytes_max: 1 << 20,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            now_wall_ms: WALL_MS,
        };
        let large = vec![b'v'; 100_000];
        for compression in Compression::value_variants() {
            let name = compression.to_possible_value().expect("a name").get_name().to_string();
            assert_eq!(compression.name(), name);
            for value in [&b"abc"[..], &large] {
                let mut batch = compression.apply(data_batch(&[value], WALL_MS, None)).unwrap().to_vec();
                restamp_producer(&mut batch, (7, 0, 5));
                let mut batch = check_produced(Bytes::from(batch), &limits).unwrap();
                Inspector::default().check(&mut batch, &limits, 1 << 20).unwrap();
                assert_eq!(batch.header().max_timestamp, WALL_MS);
            }
        }
    }
}

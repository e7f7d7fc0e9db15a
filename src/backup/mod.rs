//! What a backup of a log is: its manifest, the walk along its batches, whose it is, and what a directory holds that is
//! restored from it. `docs/design/backup.md` has the argument.
//!
//! `kraft-backup` puts it together and does all that touches a file. Nothing here believes what it is given: not a manifest,
//! not a batch, not a line of meta.properties.

mod identity;
mod manifest;
mod restored;
mod walk;

pub use identity::{Identity, is_partition_of, topic_id_of};
pub use manifest::{CopiedFile, MANIFEST_FILE, Manifest, Unusable};
pub use restored::{Destiny, NamedFile, PARTITION_METADATA_FILE, meta_properties, partition_files};
pub use walk::{Step, Walk};

/// Who owns a data directory, and whose its log is: Kafka's file.
pub const META_PROPERTIES_FILE: &str = "meta.properties";
/// How far the log is durable and committed.
pub const COMMIT_MARK_FILE: &str = "commit-mark";
/// What a node keeps of elections.
pub const QUORUM_STATE_FILE: &str = "quorum-state";

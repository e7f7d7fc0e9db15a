//! What a directory holds, beside the segments, that a node starts from after a restore.
//!
//! Such a node may have promised, before its disk was lost, more than it now knows. What is written here makes it a voter whose
//! disk was emptied and that has been filled so far: raft's rule of the empty voter has it ask before it helps anybody.

use super::{COMMIT_MARK_FILE, Manifest, QUORUM_STATE_FILE};
use crate::log::copied::{WholeLog, forgetful_quorum_state};
use crate::properties;
use crate::types::*;

/// Kafka's file with the topic id.
pub const PARTITION_METADATA_FILE: &str = "partition.metadata";

/// Whose the restored directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destiny {
    /// The backup's, or a new one.
    pub cluster_id: String,
    /// Of the node that will start from it.
    pub node_id: i32,
    /// A new one: the disk that had another is gone, or somebody else's.
    pub directory_id: Uuid,
}

/// A small file with its name.
pub type NamedFile = (&'static str, Vec<u8>);

/// Text of the file that says whose the directory is.
pub fn meta_properties(destiny: &Destiny, manifest: &Manifest) -> String {
    let directory_id = destiny.directory_id.to_string();
    let node_id = destiny.node_id.to_string();
    let mut lines = vec![
        ("cluster.id", destiny.cluster_id.as_str()),
        ("directory.id", &directory_id),
        ("node.id", &node_id),
        ("version", "1"),
    ];
    lines.extend(manifest.data_mode.as_deref().map(|mode| ("kraft.data.mode", mode)));
    lines.into_iter().map(|(key, value)| properties::line_of(key, value)).collect()
}

/// The small files beside the segments. `None`: the backup holds nothing.
pub fn partition_files(manifest: &Manifest) -> Option<Vec<NamedFile>> {
    let last = manifest.files.last()?;
    let epochs = manifest.epochs();
    let log = WholeLog {
        log_start: Offset(manifest.log_start),
        end: manifest.end(),
        epochs: &epochs,
        last_segment: Offset(last.base_offset),
        last_length: last.bytes,
    };
    let topic = format!("version: 0\ntopic_id: {}", manifest.topic_id);
    Some(vec![
        (PARTITION_METADATA_FILE, topic.into_bytes()),
        (COMMIT_MARK_FILE, log.commit_mark()),
        (QUORUM_STATE_FILE, forgetful_quorum_state(Epoch(manifest.quorum_epoch))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{CopiedFile, Identity, topic_id_of};
    use crate::log::copied::{Proven, proven, quorum_epoch};

    #[test]
    fn what_is_written_is_what_a_node_reads() {
        let id = "AAAAAAAAAAAAAAAAAAAAAQ";
        let mut manifest = Manifest::new("old".into(), "t".into(), id.into(), Some("native".into()));
        assert_eq!(partition_files(&manifest), None);
        let mut file = CopiedFile::new(Offset(0));
        file.set_length(100, 1, Offset(3));
        manifest.files.push(file);
        manifest.quorum_epoch = 6;
        manifest.set_end(Offset(3), &[EpochStart { epoch: Epoch(2), start_offset: Offset(0) }]);
        let destiny = Destiny { cluster_id: "new one".into(), node_id: 2, directory_id: Uuid(77) };
        let meta = Identity::of_meta_properties(meta_properties(&destiny, &manifest).as_bytes()).unwrap();
        assert_eq!((meta.cluster_id.as_str(), meta.node_id), ("new one", 2));
        assert_eq!(
            (meta.directory_id, meta.data_mode),
            (Some(Uuid(77).to_string()), Some("native".to_string()))
        );
        let files = partition_files(&manifest).unwrap();
        let bytes = |name: &str| &files.iter().find(|(found, _)| *found == name).unwrap().1;
        assert_eq!(topic_id_of(bytes(PARTITION_METADATA_FILE)).as_deref(), Some(id));
        assert_eq!(proven(Some(bytes(COMMIT_MARK_FILE))), Proven::Committed(manifest.end()));
        assert_eq!(quorum_epoch(bytes(QUORUM_STATE_FILE)), Ok(Epoch(6)));
    }
}

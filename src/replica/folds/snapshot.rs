//! What a snapshot gives: the folds at its end, all of them, or the reason why it is none for this node.
//!
//! Beside a section of each fold lies one of none: whose log it is. So a snapshot that a person has put into another cluster's directory,
//! or that a stranger serves, is refused. Called where a snapshot is taken, read at a start, or fetched.

use super::{Folds, is_tag_of_a_fold};
use crate::config::Config;
use crate::log::{ReadSnapshot, Section};
use crate::types::*;

/// Of no fold.
const ORIGIN_TAG: u16 = 0;
const ORIGIN_VERSION: u16 = 1;

/// Whose log it is: the data mode (1 byte: 0 native, 1 interop), then the cluster id as text. A snapshot holds it beside the folds.
pub fn origin_section(config: &Config) -> Section {
    let mode = match config.data_mode {
        DataMode::Native => 0,
        DataMode::Interop => 1,
    };
    let bytes = [&[mode][..], config.cluster_id.as_bytes()].concat();
    Section { tag: ORIGIN_TAG, version: ORIGIN_VERSION, bytes }
}

impl Folds {
    /// What is folded from all before the end of this snapshot. `Err`: why it cannot be used, in words.
    pub fn of_snapshot(config: &Config, read: &ReadSnapshot) -> Result<Folds, String> {
        let (sections, foreign) = (&read.snapshot.sections, read.foreign_records);
        if read.snapshot.kraft_version > 0 {
            return Err(
                "its voters are kept in the log (kraft.version 1, KIP-853), and this server supports \
                        controller.quorum.voters only"
                    .to_string(),
            );
        }
        let offsets = Offset(0)..read.snapshot.id.offset;
        let mut folds = Folds::new(config);
        // Kafka's voters fold nothing of ours.
        if config.data_mode == DataMode::Interop && sections.is_empty() {
            let nothing =
                folds.sections(&(Offset(0)..Offset(0))).ok_or("nothing is settled at the begin of a log")?;
            folds.take_sections(&nothing, &offsets)?;
            return Ok(folds);
        }
        if foreign > 0 {
            return Err(format!("it holds {foreign} records of another program"));
        }
        check_origin(sections.iter().find(|section| section.tag == ORIGIN_TAG), config)?;
        let strange =
            sections.iter().find(|section| section.tag != ORIGIN_TAG && !is_tag_of_a_fold(section.tag));
        if let Some(Section { tag, .. }) = strange {
            return Err(format!("a newer program wrote it: nothing is known of its section {tag}"));
        }
        folds.take_sections(sections, &offsets)?;
        Ok(folds)
    }
}

fn check_origin(found: Option<&Section>, config: &Config) -> Result<(), String> {
    let Some(found) = found else { return Err("it does not say whose log it is of".to_string()) };
    if found.version != ORIGIN_VERSION {
        let version = found.version;
        return Err(format!("a newer program wrote it: it says in version {version} whose log it is of"));
    }
    if *found == origin_section(config) {
        return Ok(());
    }
    let (mode, cluster_id) = found.bytes.split_first().unwrap_or((&0, &[]));
    let mode = match mode {
        0 => "native".to_string(),
        1 => "interop".to_string(),
        other => format!("{other}, which is none"),
    };
    Err(format!(
        "it is of a log of cluster {} with kraft.data.mode {mode}, and this is cluster {} with {}",
        String::from_utf8_lossy(cluster_id),
        config.cluster_id,
        config.data_mode
    ))
}

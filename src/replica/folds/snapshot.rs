//! What a snapshot gives: the folds at its end, all of them, or the reason why it is none for this node.
//!
//! Beside a section of each fold lies one of none: whose log it is. So a snapshot that a person has put into another cluster's directory,
//! or that a stranger serves, is refused. Called where a snapshot is taken, read at a start, or fetched.

use super::{Folds, version_of};
use crate::config::Config;
use crate::log::{ReadSnapshot, Section};
use crate::types::*;
use std::fmt;

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

/// Why a snapshot whose every checksum is right cannot be used, in words that go on behind its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is not damaged: somebody has put it in the wrong place, or another program has written it. A person must look at it.
    NotOurs(String),
    /// It lacks what it must have, or contradicts itself.
    Bad(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Unusable::NotOurs(why) | Unusable::Bad(why)) = self;
        f.write_str(why)
    }
}

impl Folds {
    /// What is folded from all before the end of this snapshot, where the log may not have got to yet.
    pub fn of_snapshot(config: &Config, read: &ReadSnapshot) -> Result<Folds, Unusable> {
        check_ours(config, read).map_err(Unusable::NotOurs)?;
        let offsets = Offset(0)..read.snapshot.id.offset;
        let mut folds = Folds::new(config);
        let nothing = match is_kafkas(config, read) {
            true => Some(folds.sections(&(Offset(0)..Offset(0))).unwrap_or_default()),
            false => None,
        };
        let sections = nothing.as_ref().unwrap_or(&read.snapshot.sections);
        folds.take_sections(sections, &offsets).map_err(Unusable::Bad)?;
        folds.begun = offsets.end;
        Ok(folds)
    }

    /// Some of what is folded is not in a log that ends there: it has got there with what is committed before it leads.
    pub(crate) fn is_ahead_of(&self, log_end: LogEndOffset) -> bool {
        self.begun > log_end.0
    }
}

/// Kafka's voters fold nothing of ours.
fn is_kafkas(config: &Config, read: &ReadSnapshot) -> bool {
    config.data_mode == DataMode::Interop && read.snapshot.sections.is_empty()
}

fn check_ours(config: &Config, read: &ReadSnapshot) -> Result<(), String> {
    let ReadSnapshot { snapshot, foreign_records } = read;
    if snapshot.kraft_version > 0 {
        return Err("its voters are kept in the log (kraft.version 1, KIP-853), and this server supports \
                    controller.quorum.voters only"
            .to_string());
    }
    if is_kafkas(config, read) {
        return Ok(());
    }
    if *foreign_records > 0 {
        return Err(format!("it holds {foreign_records} records of another program"));
    }
    check_origin(snapshot.sections.iter().find(|section| section.tag == ORIGIN_TAG), config)?;
    let mut of_folds = snapshot.sections.iter().filter(|section| section.tag != ORIGIN_TAG);
    of_folds.try_for_each(check_known)
}

/// What a newer program keeps there this one must not do without.
fn check_known(section: &Section) -> Result<(), String> {
    match version_of(section.tag) {
        Some((version, _)) if version == section.version => Ok(()),
        Some((_, name)) => {
            let version = section.version;
            Err(format!("a newer program wrote it: its section of {name} is of version {version}"))
        }
        None => Err(format!("a newer program wrote it: nothing is known of its section {}", section.tag)),
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

//! `verify`: reads a backup from one end to the other, past the page cache, and changes nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use kraft::backup::{MANIFEST_FILE, Manifest};
use kraft::log::SegmentId;
use kraft::server::output::{answer_line, note_line};

use crate::fault::Fault;
use crate::pace::Pace;
use crate::source::names_in;
use crate::store::{read_file, read_manifest};

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The backup
    #[arg(value_name = "BACKUP_DIR")]
    backup_dir: PathBuf,
}

pub(crate) fn run(arguments: &Verify) -> Result<(), Fault> {
    let path = &arguments.backup_dir;
    let manifest = read_manifest(path)?;
    let pace = Pace::new(None);
    let look = |file| {
        read_file(path, &manifest, file, &pace, &mut |_, until| {
            pace.maybe_say(|| format!("Verified up to offset {until} of {}.", manifest.log_end));
            Ok(())
        })
    };
    let faults: Vec<Fault> = manifest.files.iter().filter_map(|file| look(file).err()).collect();
    // A device that fails says more about what to do than a file that has rotted.
    if let Some(exit_code) = faults.iter().map(|fault| fault.exit_code).max() {
        let lines: String = faults.iter().map(|fault| format!("{}\n", fault.line)).collect();
        let (bad, all) = (faults.len(), manifest.files.len());
        let line = format!("{lines}{}: {bad} of {all} files are not as they were copied.", path.display());
        return Err(Fault { exit_code, line });
    }
    note_left_over(path, &manifest)?;
    note_unfinished(path, &manifest);
    answer_line!(
        "{}: all {} files are as they were copied: offsets {} to {} of cluster {}, epoch {}, {} bytes.",
        path.display(),
        manifest.files.len(),
        manifest.log_start,
        manifest.log_end,
        manifest.cluster_id,
        manifest.last_epoch,
        manifest.size_bytes()
    );
    Ok(())
}

/// The run that wrote it last was to go further.
pub(crate) fn note_unfinished(path: &Path, manifest: &Manifest) {
    if manifest.wanted_end > manifest.log_end {
        note_line!(
            "note: {}: the last run was to copy up to offset {}, and got to {}. Run it again, where there is something to copy from.",
            path.display(),
            manifest.wanted_end,
            manifest.log_end
        );
    }
}

/// What a killed run has left is no part of the backup, and the next one removes it.
fn note_left_over(path: &Path, manifest: &Manifest) -> Result<(), Fault> {
    for name in names_in(path)? {
        let is_known = manifest.files.iter().any(|file| file.name == name);
        if SegmentId::from_file_name(&name).is_some() && !is_known {
            note_line!(
                "note: {}: it is not in {MANIFEST_FILE}, and no part of the backup.",
                path.join(name).display()
            );
        }
    }
    Ok(())
}

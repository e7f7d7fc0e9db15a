//! `restore`: makes a directory that a node starts from, of a backup each byte of which is checked on the way.
//!
//! Under another name first: a node that is started on what a killed restore has left finds no log, and is an empty voter.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use kraft::backup::{Destiny, META_PROPERTIES_FILE, Manifest, meta_properties, partition_files};
use kraft::io::plain_files::{
    DIRECTORY_LOCK, create_directories, create_new, lock_directory, random_uuid, replace_file, sync_directory,
};
use kraft::server::output::answer_line;
use kraft::types::Uuid;

use crate::fault::Fault;
use crate::pace::Pace;
use crate::source::names_in;
use crate::store::{LOST_AND_FOUND, read_file, read_manifest};
use crate::verify::note_unfinished;

const UNDER_WAY: &str = ".restoring";
/// As `kraft.cluster.id` has it.
const CLUSTER_ID_CHARS_MAX: usize = 255;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("destiny").required(true).args(["as_member", "as_new_cluster"])))]
pub(crate) struct Restore {
    /// The backup; it is only read
    #[arg(value_name = "BACKUP_DIR")]
    backup_dir: PathBuf,

    /// The directory to make, as the node's log.dirs is to name it: empty, or not there yet
    #[arg(value_name = "DATA_DIR")]
    data_dir: PathBuf,

    /// For a voter of the backup's cluster that has lost its directory
    ///
    /// It gets from the others what is not in the backup. Until then it votes only together with all of them, as a voter with an empty
    /// directory does. Never start the node on its old directory again.
    #[arg(long)]
    as_member: bool,

    /// For a node of a new cluster, which begins with these records
    ///
    /// Restore one of its nodes, or all, with the same --cluster-id. Those that start empty are filled. The first election needs
    /// all voters.
    #[arg(long)]
    as_new_cluster: bool,

    /// kraft.cluster.id of the new cluster; without it one is drawn
    #[arg(long, value_name = "ID", conflicts_with = "as_member")]
    cluster_id: Option<String>,

    /// node.id of who will use the directory: no node that has another one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    node_id: i32,
}

pub(crate) fn run(arguments: &Restore) -> Result<(), Fault> {
    let (backup, target) = (&arguments.backup_dir, &arguments.data_dir);
    let manifest = read_manifest(backup)?;
    let Some(small_files) = partition_files(&manifest) else {
        return Err(Fault::refused(format!("{}: this backup holds no record yet.", backup.display())));
    };
    let destiny = destiny(arguments, &manifest)?;
    // To the end: a node that is started meanwhile would begin an empty log here.
    let _lock = prepare(target, &manifest)?;
    note_unfinished(backup, &manifest);
    let partition = target.join(format!("{}-0", manifest.topic));
    let under_way = target.join(format!("{}-0{UNDER_WAY}", manifest.topic));
    let made = (|| {
        create_directories(&under_way).map_err(|e| Fault::of_file(&under_way, "be made", &e))?;
        copy_segments(backup, &under_way, &manifest)?;
        for (name, contents) in &small_files {
            write(&under_way, name, contents)?;
        }
        sync(&under_way)?;
        write(target, META_PROPERTIES_FILE, meta_properties(&destiny, &manifest).as_bytes())?;
        fs::rename(&under_way, &partition).map_err(|e| Fault::of_file(&partition, "be named", &e))?;
        sync(target)
    })();
    if let Err(fault) = made {
        // All of it is this run's: the directory was empty.
        let _ = fs::remove_dir_all(&under_way);
        let _ = fs::remove_dir_all(&partition);
        let _ = fs::remove_file(target.join(META_PROPERTIES_FILE));
        return Err(fault);
    }
    answer_line!("{}", told(arguments, &destiny, &manifest));
    Ok(())
}

fn destiny(arguments: &Restore, manifest: &Manifest) -> Result<Destiny, Fault> {
    let random = || -> Result<Uuid, Fault> {
        random_uuid().map_err(|e| Fault::refused(format!("No random bytes for an id: {e}.")))
    };
    let cluster_id = match (&arguments.cluster_id, arguments.as_member) {
        (_, true) => manifest.cluster_id.clone(),
        (Some(id), _) => id.clone(),
        (None, _) => random()?.to_string(),
    };
    let length = cluster_id.chars().count();
    if length == 0 || length > CLUSTER_ID_CHARS_MAX || cluster_id.chars().any(char::is_control) {
        return Err(Fault::refused(format!(
            "--cluster-id: this must be 1 to {CLUSTER_ID_CHARS_MAX} characters that can be read."
        )));
    }
    if arguments.as_new_cluster && cluster_id == manifest.cluster_id {
        return Err(Fault::refused(format!(
            "--cluster-id={cluster_id} is the cluster that the backup is of. For a node of that one restore --as-member; a new \
             cluster needs an id of its own, so that no voter of the old one speaks to it."
        )));
    }
    Ok(Destiny { cluster_id, node_id: arguments.node_id, directory_id: random()? })
}

/// An empty directory, made where there is none, and the lock that a node takes on it.
fn prepare(target: &Path, manifest: &Manifest) -> Result<File, Fault> {
    create_directories(target).map_err(|e| Fault::of_file(target, "be made", &e))?;
    let lock = lock_directory(target).map_err(Fault::refused)?;
    let names = names_in(target)?;
    let is_nothing = |name: &String| name == LOST_AND_FOUND || name == DIRECTORY_LOCK;
    let Some(other) = names.iter().find(|name| !is_nothing(name)) else { return Ok(lock) };
    let under_way = format!("{}-0{UNDER_WAY}", manifest.topic);
    let what_to_do = match names.contains(&under_way) {
        true => format!("A restore that was ended has left {under_way}: remove it, and run this again."),
        false => "Name an empty directory, or one that does not exist: nothing is written over what a node may have left.".to_string(),
    };
    Err(Fault::refused(format!("{} is not empty: it holds {other}. {what_to_do}", target.display())))
}

fn copy_segments(backup: &Path, partition: &Path, manifest: &Manifest) -> Result<(), Fault> {
    let pace = Pace::new(None);
    for file in &manifest.files {
        let path = partition.join(&file.name);
        let mut made = create_new(&path).map_err(|e| Fault::of_file(&path, "be made", &e))?;
        read_file(backup, manifest, file, &pace, &mut |bytes, until| {
            pace.maybe_say(|| format!("Restored up to offset {until} of {}.", manifest.log_end));
            made.write_all(bytes).map_err(|e| Fault::of_file(&path, "be written", &e))
        })?;
        made.sync_all().map_err(|e| Fault::of_file(&path, "be flushed", &e))?;
    }
    Ok(())
}

fn write(directory: &Path, name: &str, contents: &[u8]) -> Result<(), Fault> {
    replace_file(directory, name, contents)
        .map_err(|e| Fault::of_file(&directory.join(name), "be written", &e))
}

fn sync(directory: &Path) -> Result<(), Fault> {
    sync_directory(directory).map_err(|e| Fault::of_file(directory, "be flushed", &e))
}

fn told(arguments: &Restore, destiny: &Destiny, manifest: &Manifest) -> String {
    let Destiny { cluster_id, node_id, .. } = destiny;
    let what = format!(
        "{} has offsets {} to {}, for node.id={node_id} and kraft.cluster.id={cluster_id}.",
        arguments.data_dir.display(),
        manifest.log_start,
        manifest.log_end
    );
    let next = match arguments.as_member {
        true => {
            "Start that node with it, and never again on a directory that it had before. What was acknowledged after the backup it gets \
             from the others; until then it votes only together with all of them."
        }
        false => {
            "Start the new cluster's nodes with that id, each on a directory restored with it, or empty: whoever has most of the log \
             leads first, and that needs all voters."
        }
    };
    format!("{what} {next}")
}

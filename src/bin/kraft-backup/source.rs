//! A node's data directory, read while the node may be writing to it. Nothing in it is ever changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kraft::backup::{
    COMMIT_MARK_FILE, Identity, META_PROPERTIES_FILE, Manifest, PARTITION_METADATA_FILE, QUORUM_STATE_FILE,
    Walk, is_partition_of, topic_id_of,
};
use kraft::io::plain_files::{SharedFile, read_small};
use kraft::log::SegmentId;
use kraft::log::copied::{Proven, proven, quorum_epoch};
use kraft::types::*;

use crate::fault::Fault;
use crate::pace::Pace;
use crate::span::{Bad, Sink, Span};

/// A mark that is being written is whole a moment later.
const MARK_ATTEMPTS: usize = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(crate) struct Source {
    pub(crate) identity: Identity,
    pub(crate) topic: String,
    pub(crate) topic_id: String,
    partition: PathBuf,
}

impl Source {
    pub(crate) fn open(data_dir: &Path, topic: Option<&str>) -> Result<Source, Fault> {
        let meta = data_dir.join(META_PROPERTIES_FILE);
        let text = read_small(&meta).map_err(|e| Fault::of_file(&meta, "be read", &e))?.ok_or_else(|| {
            Fault::refused(format!(
                "{} does not exist: name the directory that the node's log.dirs names (it has {META_PROPERTIES_FILE} in it), \
                 not one above or below it.",
                meta.display()
            ))
        })?;
        let identity = Identity::of_meta_properties(&text)
            .map_err(|why| Fault::refused(format!("{}: {why}.", meta.display())))?;
        let topic = find_topic(data_dir, topic)?;
        let partition = data_dir.join(format!("{topic}-0"));
        let path = partition.join(PARTITION_METADATA_FILE);
        let text = read_small(&path).map_err(|e| Fault::of_file(&path, "be read", &e))?;
        let topic_id = text.as_deref().and_then(topic_id_of).ok_or_else(|| {
            Fault::refused(format!(
                "{} has no topic id: start the node once, which writes it.",
                path.display()
            ))
        })?;
        Ok(Source { identity, topic, topic_id, partition })
    }

    /// Of a backup of this log, which has nothing yet.
    pub(crate) fn beginning(&self) -> Manifest {
        let (cluster_id, data_mode) = (self.identity.cluster_id.clone(), self.identity.data_mode.clone());
        Manifest::new(cluster_id, self.topic.clone(), self.topic_id.clone(), data_mode)
    }

    /// How far the log is known to be committed, and in its files.
    pub(crate) fn committed(&self) -> Result<OffsetAndEpoch, Fault> {
        let committed = self.told_by_mark()?;
        if committed.offset > Offset(0) {
            return Ok(committed);
        }
        Err(Fault::refused(format!(
            "{}: nothing proves that any of this log is committed. Start this node (kraft-server), let a leader commit something, \
             and run this again.",
            self.partition.join(COMMIT_MARK_FILE).display()
        )))
    }

    /// The same, as soon as it has got as far as `offset`.
    pub(crate) fn wait_committed(&self, offset: Offset, deadline: Instant) -> Result<OffsetAndEpoch, Fault> {
        loop {
            let committed = self.told_by_mark()?.offset;
            if committed >= offset {
                return self.committed();
            }
            if Instant::now() >= deadline {
                return Err(Fault::later(format!(
                    "The leader has committed up to {offset}, and this node, by its commit mark, knows of {committed}. Does it \
                     run, and does it follow that leader? Wait longer (--wait-s), or take the backup from another node. Nothing \
                     was copied."
                )));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Offset 0 where it says nothing.
    fn told_by_mark(&self) -> Result<OffsetAndEpoch, Fault> {
        let path = self.partition.join(COMMIT_MARK_FILE);
        for _ in 0..MARK_ATTEMPTS {
            let file = read_small(&path).map_err(|e| Fault::of_file(&path, "be read", &e))?;
            match proven(file.as_deref()) {
                Proven::Committed(end) => return Ok(end),
                Proven::Nothing => return Ok(OffsetAndEpoch::default()),
                Proven::Moved(start) => {
                    return Err(
                        self.begins_behind_0(format!("its commit mark says that it starts at {start}"))
                    );
                }
                Proven::OfVersion(version) => {
                    return Err(Fault::refused(format!(
                        "{} is of version {version}, which a newer program wrote: this one cannot know what it says. Take the \
                         backup with the kraft-backup of that program.",
                        path.display()
                    )));
                }
                Proven::Unreadable => std::thread::sleep(LOOK_AGAIN),
            }
        }
        Err(Fault::corrupt(format!(
            "{} cannot be read: both of its slots have rotted, so nothing proves what is committed. Take the backup from another \
             node.",
            path.display()
        )))
    }

    /// The highest epoch that the node has heard of; 0 where it does not say.
    pub(crate) fn quorum_epoch(&self) -> Result<Epoch, Fault> {
        let path = self.partition.join(QUORUM_STATE_FILE);
        let file = read_small(&path).map_err(|e| Fault::of_file(&path, "be read", &e))?;
        // A file that has rotted is the node's trouble: the log's own epochs are enough to go on with.
        Ok(file.and_then(|file| quorum_epoch(&file).ok()).unwrap_or(Epoch(0)))
    }

    /// Base offsets of the segments, ascending. Asked for after `committed`, it has all that lies below.
    pub(crate) fn segments(&self) -> Result<Vec<Offset>, Fault> {
        let names = names_in(&self.partition)?;
        // A snapshot holds nothing that is not folded from a log that begins at 0: none is copied.
        let mut segments: Vec<_> = names.iter().filter_map(|name| SegmentId::from_file_name(name)).collect();
        segments.sort();
        match segments.first() {
            Some(SegmentId(Offset(0))) => Ok(segments.into_iter().map(|segment| segment.0).collect()),
            Some(first) => Err(self.begins_behind_0(format!("its first segment begins at {}", first.0))),
            None => Err(Fault::corrupt(format!(
                "{} has no segment, and its commit mark says otherwise.",
                self.partition.display()
            ))),
        }
    }

    fn begins_behind_0(&self, how: String) -> Fault {
        Fault::refused(format!(
            "{}: the log does not begin at 0: {how}. This version copies only logs that are whole: without its first records a log \
             lacks what is folded from them.",
            self.partition.display()
        ))
    }

    fn segment_path(&self, base: Offset) -> PathBuf {
        self.partition.join(SegmentId(base).file_name())
    }
}

/// The only partition 0 in the directory, or the one that was asked for.
fn find_topic(data_dir: &Path, wanted: Option<&str>) -> Result<String, Fault> {
    let is_log = |name: &str| data_dir.join(name).join(COMMIT_MARK_FILE).exists();
    let names = names_in(data_dir)?;
    let mut topics: Vec<&str> =
        names.iter().filter(|name| is_log(name)).filter_map(|name| is_partition_of(name)).collect();
    topics.sort();
    match (wanted, &topics[..]) {
        (Some(topic), _) if topics.contains(&topic) => Ok(topic.to_string()),
        (None, [topic]) => Ok(topic.to_string()),
        (_, []) => Err(Fault::refused(format!(
            "{}: no log of kraft-server is here (a directory like __cluster_metadata-0 with {COMMIT_MARK_FILE} in it). One that \
             Kafka's server wrote proves nothing about what is committed: start kraft-server on it once.",
            data_dir.display()
        ))),
        (wanted, several) => Err(Fault::refused(format!(
            "{}: the logs here are {}{}. Name one with --topic.",
            data_dir.display(),
            several.join(", "),
            wanted.map_or(String::new(), |wanted| format!(", and {wanted} is none of them"))
        ))),
    }
}

pub(crate) fn names_in(directory: &Path) -> Result<Vec<String>, Fault> {
    let failed = |e| Fault::of_file(directory, "be listed", &e);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// A place in the log, from which it is read on over the segments' borders.
pub(crate) struct Cursor<'a> {
    source: &'a Source,
    pace: &'a Pace,
    segments: Vec<Offset>,
    /// Place of its segment among them.
    index: usize,
    span: Span,
}

impl<'a> Cursor<'a> {
    /// Before the batch at `from`, behind batches of these epochs.
    pub(crate) fn at(
        source: &'a Source,
        pace: &'a Pace,
        segments: Vec<Offset>,
        from: Offset,
        epochs: &[EpochStart],
    ) -> Result<Cursor<'a>, Fault> {
        let index = segments.partition_point(|base| *base <= from).saturating_sub(1);
        let base = segments[index];
        let span = source.span(base, Walk::new(base, epochs))?;
        let mut cursor = Cursor { source, pace, segments, index, span };
        cursor.read_on(from, &mut |_, until| {
            pace.maybe_say(|| format!("Looking for offset {from} in the node's log, up to {until}."));
            Ok(())
        })?;
        // Epochs that were met before it are the backup's matter.
        cursor.span.walk = Walk::new(from, epochs);
        Ok(cursor)
    }

    pub(crate) fn walk(&self) -> &Walk {
        &self.span.walk
    }

    /// Base offset of the segment that the next batch lies in, and where that one ends; the last one has no end.
    pub(crate) fn segment(&mut self) -> Result<(Offset, Option<Offset>), Fault> {
        while self.segments.get(self.index + 1).is_some_and(|next| *next <= self.span.walk.at()) {
            self.index += 1;
            self.span = self.source.span(self.segments[self.index], self.span.walk.clone())?;
        }
        Ok((self.segments[self.index], self.segments.get(self.index + 1).copied()))
    }

    /// Everything up to `until`, which some batch ends at.
    pub(crate) fn read_on(&mut self, until: Offset, sink: &mut Sink<'_>) -> Result<(), Fault> {
        while self.span.walk.at() < until {
            let (base, end) = self.segment()?;
            let limit = end.map_or(until, |end| end.min(until));
            let path = self.source.segment_path(base);
            self.span.read_on(limit, None, self.pace, sink).map_err(|bad| match bad {
                Bad::Disk(e) => Fault::of_file(&path, "be read", &e),
                Bad::Sink(fault) => fault,
                Bad::Rot { position, why } => Fault::corrupt(format!(
                    "{}: rotten at byte {position}, below what is committed: {why}. What was copied before it is good. Take the \
                     backup from another node, and see to this one: its next start will say the same.",
                    path.display()
                )),
            })?;
        }
        Ok(())
    }
}

impl Source {
    fn span(&self, base: Offset, walk: Walk) -> Result<Span, Fault> {
        let path = self.segment_path(base);
        match SharedFile::open(&path) {
            Ok(file) => Ok(Span::of_node(file, walk)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Fault::later(format!(
                "{} has gone while it was to be read: the node has deleted it, or somebody else has. Run this again.",
                path.display()
            ))),
            Err(e) => Err(Fault::of_file(&path, "be opened", &e)),
        }
    }
}

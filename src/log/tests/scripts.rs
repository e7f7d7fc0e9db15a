//! Golden scripts: the operations that the log asks for, step by step, as people read them.
//!
//! `UPDATE_GOLDENFILES=1 cargo test --lib log::tests::scripts` writes the expected output again.

use super::disk::SimDisk;
use super::harness::*;
use crate::log::*;
use crate::types::*;
use goldenscript::{Command, Context};
use std::error::Error;
use std::fmt::Write;

struct Script {
    node: Option<Node>,
    left: Option<SimDisk>,
    config: LogConfig,
    shown: OpId,
}

impl Script {
    fn new() -> Script {
        Script { node: None, left: None, config: small_config(), shown: OpId(0) }
    }

    fn node(&mut self) -> &mut Node {
        self.node.as_mut().expect("the log is open")
    }

    fn open(&mut self) -> String {
        let disk = self.left.take().unwrap_or_else(|| SimDisk::new(8));
        self.shown = OpId(0);
        match Node::try_open(disk, self.config.clone()) {
            Ok(node) => {
                let mut notes: String = node.notes.iter().map(|note| format!("{note}\n")).collect();
                if let Some(doubt) = &node.doubt {
                    let Doubt { segment, position, offset, why } = doubt;
                    let _ = writeln!(notes, "in doubt of {segment} at {position}, offset {offset}: {why}");
                }
                self.node = Some(node);
                self.node().turn();
                notes
            }
            Err(refused) => {
                let (error, disk) = *refused;
                self.left = Some(disk);
                format!("refused: {error}\n")
            }
        }
    }

    /// Complete the oldest operation, or the newest, or all until nothing is left, and tell what became of it.
    fn complete(&mut self, which: &str, out: &mut String) -> Result<(), Box<dyn Error>> {
        let in_flight = &self.node().disk.in_flight;
        let ids = in_flight.iter().enumerate().map(|(i, op)| (op.id, i));
        let picked = match which {
            "oldest" => ids.min(),
            "newest" => ids.max(),
            other => return Err(format!("complete what? {other}").into()),
        };
        let Some((id, index)) = picked else { return Err("nothing is in flight".into()) };
        let node = self.node();
        let completion = node.disk.complete_at(index);
        writeln!(out, "done #{}", id.0)?;
        node.log.complete(completion);
        node.turn();
        self.show(out)
    }

    /// Operations not shown yet, then events.
    fn show(&mut self, out: &mut String) -> Result<(), Box<dyn Error>> {
        let Some(node) = self.node.as_mut() else { return Ok(()) };
        let shown = self.shown;
        let mut new: Vec<_> = node.disk.in_flight.iter().filter(|op| op.id > shown).collect();
        new.sort_by_key(|op| op.id);
        for op in new {
            writeln!(out, "#{} {}", op.id.0, describe(&op.kind))?;
            self.shown = self.shown.max(op.id);
        }
        for event in node.events() {
            writeln!(out, "event {event:?}")?;
        }
        Ok(())
    }
}

fn describe(kind: &OpKind) -> String {
    match kind {
        OpKind::Write { file: FileId::CommitMark, position, buffer, durable, .. } => {
            let mark = commit_mark::CommitMark::decode(buffer.as_slice()).expect("a mark is written");
            let how = if *durable { "durably" } else { "plainly" };
            let start = mark.beginning.start;
            let start = mark.beginning.first.map(|first| {
                format!(", from {} behind epoch {} in segment {}", start.offset, start.epoch, first.0)
            });
            format!("write commit mark {} at {position}, {how}{}", mark.end, start.unwrap_or_default())
        }
        OpKind::Write { file: FileId::Segment(id), position, length, durable, .. } => {
            assert!(durable);
            format!("write {length} bytes at {position} of segment {}", id.0)
        }
        OpKind::Read { segment, position, length, .. } => {
            format!("read {length} bytes at {position} of segment {}", segment.0)
        }
        OpKind::CreateSegment { segment, zeroed } => {
            format!("create segment {} with {zeroed} zeros", segment.0)
        }
        OpKind::ExtendSegment { segment, from, to, written } => {
            let how = if *written { "" } else { ", reserved" };
            format!("extend segment {} {from}..{to}{how}", segment.0)
        }
        OpKind::ZeroSegment { segment, from, to } => format!("zero segment {} {from}..{to}", segment.0),
        OpKind::CutSegment { segment, length } => format!("cut segment {} to {length}", segment.0),
        OpKind::DeleteSegment { segment } => format!("delete segment {}", segment.0),
        OpKind::ReplaceFile { file: SmallFile::Summary(segment), contents } => {
            let summary = Summary::decode(contents).expect("a summary is written");
            format!("write summary of segment {}: {} bytes up to {}", segment.0, summary.length, summary.end)
        }
        OpKind::RemoveFile { file: SmallFile::Summary(segment) } => {
            format!("remove summary of segment {}", segment.0)
        }
        OpKind::RemoveFile { file } => format!("remove {file:?}"),
        OpKind::ReplaceFile { file, contents } => {
            format!("replace {file:?} with {:?}", String::from_utf8_lossy(contents))
        }
        OpKind::FlushSegment { segment } => format!("flush segment {}", segment.0),
        OpKind::Memory(work) => format!("{work:?}"),
    }
}

impl Script {
    fn append(
        &mut self,
        epoch: i32,
        records: usize,
        bytes: usize,
        out: &mut String,
    ) -> Result<(), Box<dyn Error>> {
        self.node().epoch = epoch;
        let batch = self.node().append(records, bytes);
        writeln!(out, "{}..{} in {} bytes", batch.base_offset(), batch.next_offset(), batch.size_bytes())?;
        Ok(())
    }
}

/// Bytes of this many are written whole or not at all.
const SECTOR: usize = 512;

/// What becomes of the log when the process and the power die now, and the disk is left as this.
fn outcome(mut disk: SimDisk) -> String {
    match recover(&mut disk, &small_config(), &mut |_| Ok(())) {
        Ok(recovered) => {
            let mut node = Node::ready(disk, small_config());
            let kept = node.read_all().expect("what was recovered can be read").len();
            let mut notes: Vec<_> =
                recovered.notes.iter().filter(|note| note.contains("torn")).cloned().collect();
            notes.extend(
                recovered.doubt.map(|doubt| format!("In doubt at {}: {}.", doubt.position, doubt.why)),
            );
            format!("{kept} batches up to {}. {}", recovered.log_end, notes.join(" "))
        }
        Err(error) => format!("refused: {error}"),
    }
}

impl Script {
    /// The writes in flight, torn at each of their sectors: those before it arrived, all but it arrived, only it did.
    fn tear_sectors(&mut self, out: &mut String) {
        let mut sectors: Vec<(SegmentId, usize, Vec<u8>)> = Vec::new();
        for op in &self.node().disk.in_flight {
            if let OpKind::Write { file: FileId::Segment(id), position, buffer, length, .. } = &op.kind {
                let chunks = buffer.as_slice()[..*length].chunks(SECTOR).enumerate();
                let placed = chunks.map(|(i, bytes)| (*id, *position as usize + i * SECTOR, bytes.to_vec()));
                // Zeros upon zeros cannot be torn.
                sectors.extend(placed.filter(|(_, _, bytes)| bytes.iter().any(|byte| *byte != 0)));
            }
        }
        sectors.sort();
        type Arrives = fn(usize, usize) -> bool;
        let tears: [(&str, Arrives); 3] =
            [("before", |i, torn| i < torn), ("all but", |i, torn| i != torn), ("only", |i, torn| i == torn)];
        for (which, arrives) in tears {
            for torn in 0..=sectors.len() {
                let mut disk = self.node().disk.image();
                for (i, (segment, at, bytes)) in sectors.iter().enumerate() {
                    if arrives(i, torn) {
                        disk.edit(*segment, |all| all[*at..*at + SECTOR].copy_from_slice(bytes));
                    }
                }
                let at = sectors.get(torn).map_or("end".to_string(), |(_, at, _)| at.to_string());
                let _ = writeln!(out, "{which} {at}: {}", outcome(disk).trim_end());
            }
        }
    }

    /// Zeros from each byte of `from..to` on, with equal ends in one line.
    fn tear_bytes(&mut self, from: usize, to: usize, out: &mut String) {
        let mut ends: Vec<(usize, String)> = Vec::new();
        for at in from..to {
            let mut disk = self.node().disk.image();
            disk.edit(SEGMENT_0, |bytes| bytes[at..].fill(0));
            let outcome = outcome(disk);
            let end = outcome.split(['.', ':']).next().unwrap_or_default();
            if ends.last().is_none_or(|(_, last)| last != end) {
                ends.push((at, end.to_string()));
            }
        }
        for (at, end) in ends {
            let _ = writeln!(out, "from {at} on: {end}");
        }
    }

    fn corrupt(&mut self, segment: i64, from: usize, to: usize, byte: u8) -> Result<(), Box<dyn Error>> {
        let segment = SegmentId(Offset(segment));
        self.left.as_mut().ok_or("crash first")?.edit(segment, |bytes| bytes[from..to].fill(byte));
        Ok(())
    }

    fn crash(&mut self) -> Result<(), Box<dyn Error>> {
        let mut node = self.node.take().ok_or("the log is not open")?;
        node.disk.in_flight.clear();
        self.left = Some(node.disk);
        Ok(())
    }

    fn write_quorum_state(&mut self, epoch: Epoch) {
        self.node().log.write_quorum_state(QuorumState { epoch, ..QuorumState::EMPTY });
        self.node().turn();
    }

    fn start_at(&mut self, to: i64) {
        self.node().start_at(to);
        self.node().turn();
    }

    fn show_files(&self, out: &mut String) -> Result<(), Box<dyn Error>> {
        let disk = self.node.as_ref().map(|node| &node.disk).or(self.left.as_ref());
        for (segment, size) in disk.ok_or("no disk yet")?.sizes() {
            writeln!(out, "{} of {size} bytes", segment.file_name())?;
        }
        Ok(())
    }

    fn read(&mut self, out: &mut String) -> Result<(), Box<dyn Error>> {
        let read = self.node().read_all()?;
        let spans: Vec<_> = read.iter().map(|b| format!("{}@{}", b.base_offset(), b.epoch())).collect();
        writeln!(out, "{} (end {})", spans.join(" "), self.node().log.log_end())?;
        Ok(())
    }
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Result<String, Box<dyn Error>> {
        let mut out = String::new();
        let mut args = command.consume_args();
        let first = args.next_pos().unwrap_or("");
        let number = |text: &str| text.parse::<i64>();
        match command.name.as_str() {
            // open [segment=BYTES] [cache=BYTES]
            "open" => {
                if let Some((_, bytes)) = args.next_key() {
                    self.config.segment_bytes_max = bytes.parse()?;
                }
                out += &self.open();
            }
            // append EPOCH [RECORDS [BYTES]]
            "append" => {
                let records = args.next_pos().map_or(Ok(1), number)?;
                let bytes = args.next_pos().map_or(Ok(100), number)?;
                self.append(number(first)? as i32, records as usize, bytes as usize, &mut out)?;
            }
            "truncate" => self.node().log.truncate(Offset(number(first)?)),
            "turn" => self.node().turn(),
            "pass" => {
                self.node().pass_ms(number(first)? as u64);
                self.node().turn();
            }
            // complete oldest|newest
            "complete" => self.complete(first, &mut out)?,
            // Everything in flight, oldest first, and what follows from it.
            "settle" => {
                while !self.node().disk.in_flight.is_empty() {
                    self.complete("oldest", &mut out)?;
                }
            }
            "commit" => {
                self.node().log.on_committed(HighWatermark(Offset(number(first)?)));
                self.node().turn();
            }
            // start OFFSET: all before is committed, and is to go.
            "start" => self.start_at(number(first)?),
            "forget-committed" => self.node().log.committed = Offset(0),
            "quorum" => self.write_quorum_state(Epoch(number(first)? as i32)),
            "shutdown" => {
                self.node().log.shutdown();
                self.node().turn();
            }
            // The process dies: nothing in flight happens.
            "crash" => self.crash()?,
            // corrupt|lose SEGMENT FROM TO: behind the log's back; lose: as if it had never been written.
            "corrupt" | "lose" => {
                let (from, to) = (args.next_pos().unwrap_or("0"), args.next_pos().unwrap_or("0"));
                let byte = if command.name == "lose" { 0 } else { 0xff };
                self.corrupt(number(first)?, number(from)? as usize, number(to)? as usize, byte)?;
            }
            // What each tear of the writes in flight would leave.
            "tear" if first == "sectors" => self.tear_sectors(&mut out),
            // tear FROM TO
            "tear" => {
                let to = args.next_pos().ok_or("up to where?")?;
                self.tear_bytes(number(first)? as usize, number(to)? as usize, &mut out);
            }
            // full yes|no: the disk has no room, or has some again.
            "full" => self.node().disk.is_full = first == "yes",
            "files" => self.show_files(&mut out)?,
            "read" => self.read(&mut out)?,
            other => return Err(format!("unknown command {other}").into()),
        }
        args.reject_next()?;
        self.show(&mut out)?;
        Ok(out)
    }
}

fn run(name: &str) {
    goldenscript::run(&mut Script::new(), format!("src/log/testscripts/{name}")).expect("the script runs");
}

#[test]
fn full_disk_at_the_end() {
    run("full_disk_at_the_end");
}

#[test]
fn roll() {
    run("roll");
}

#[test]
fn truncate_under_unfinished_write() {
    run("truncate_under_unfinished_write");
}

#[test]
fn truncate_into_older_segment() {
    run("truncate_into_older_segment");
}

#[test]
fn summaries() {
    run("summaries");
}

#[test]
fn torn_tail() {
    run("torn_tail");
}

#[test]
fn in_doubt() {
    run("in_doubt");
}

#[test]
fn torn_at_each_position() {
    run("torn_at_each_position");
}

#[test]
fn commit_mark() {
    run("commit_mark");
}

#[test]
fn full_disk() {
    run("full_disk");
}

#[test]
fn start() {
    run("start");
}

#[test]
fn shutdown() {
    run("shutdown");
}

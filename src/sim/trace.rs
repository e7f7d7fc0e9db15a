//! What happened: a hash over all events, by which two runs are compared, and the story that people read.

use super::network::Host;
use crate::types::NS_PER_MS;
use std::collections::{BTreeMap, VecDeque};

/// Lines kept per host for a failure's report.
const LAST_LINES: usize = 25;

#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    events: u64,
    /// All lines, where they are wanted.
    story: Option<Vec<String>>,
    last: BTreeMap<Host, VecDeque<String>>,
}

impl Trace {
    pub(super) fn new(with_story: bool) -> Trace {
        let story = with_story.then(Vec::new);
        Trace { hash: 0xcbf2_9ce4_8422_2325, events: 0, story, last: BTreeMap::new() }
    }

    /// One event: when, what, where, and anything that tells it from others.
    pub(super) fn event(&mut self, at_ns: u64, kind: u64, host: Host, detail: u64) {
        self.events += 1;
        for word in [at_ns, kind, host as u64, detail] {
            self.mix(word);
        }
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        // Eight at a time: all that crosses the network comes through here.
        let words = bytes.chunks_exact(8);
        let rest = words.remainder();
        for word in words.filter_map(|word| word.first_chunk()) {
            self.mix(u64::from_le_bytes(*word));
        }
        rest.iter().for_each(|byte| self.mix(u64::from(*byte)));
    }

    pub(super) fn line(&mut self, at_ns: u64, host: Host, text: &str) {
        self.bytes(text.as_bytes());
        let (ms, us) = (at_ns / NS_PER_MS, at_ns / 1000 % 1000);
        let line = format!("{ms:>6}.{us:03} ms  {:<9} {text}", name(host));
        if let Some(story) = &mut self.story {
            story.push(line.clone());
        }
        let last = self.last.entry(host).or_default();
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn take_story(&mut self) -> Vec<String> {
        self.story.take().unwrap_or_default()
    }

    /// The last lines of each host.
    pub(super) fn take_last(&mut self) -> BTreeMap<Host, Vec<String>> {
        std::mem::take(&mut self.last).into_iter().map(|(host, lines)| (host, lines.into())).collect()
    }
}

/// Host 0 is the simulation itself.
pub fn name(host: Host) -> String {
    match host {
        0 => "fault".to_string(),
        super::FIRST_CLIENT.. => format!("client {host}"),
        _ => format!("node {host}"),
    }
}

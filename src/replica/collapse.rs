//! What a request asks for twice is answered once, and how many things it asks for is bounded before anybody answers.
//!
//! Called by a session for each decoded request, on the core that owns the connection. Answers are as long as what was
//! asked for, and some a hundred times as long: so duplicates go first (Kafka makes sets of the topics of Metadata and
//! of DescribeTopicPartitions), and who asks for more different things than one request may is told so.

use crate::protocol::{FrameError, GroupRequest, Request, messages as m};
use m::describe_configs_request::DescribeConfigsResource;
use std::collections::{BTreeSet, HashMap, HashSet};

/// A request for so many things is answered in a turn of its own.
const HEAVY_ENTRIES: usize = 500;
/// Behind one for so many things nothing of its connection is taken before it is answered: what it asks for is kept until then.
/// (One topic with one partition, as all clients send that know this server, are two.)
const ALONE_ENTRIES: usize = 8;
/// One that takes so many bytes when it is decoded, too, whatever they are.
const HEAVY_BYTES: usize = 32 << 10;
/// What a thing takes at most that is left of many.
const ENTRY_BYTES: usize = 160;

/// What a request weighs, once duplicates are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    /// Things that it asks for.
    pub(super) entries: usize,
    /// Bytes of its decoded form.
    pub(super) bytes: usize,
}

impl Weight {
    /// The next request of its connection waits until it is answered.
    pub(super) fn stands_alone(&self) -> bool {
        self.entries >= ALONE_ENTRIES || self.is_heavy()
    }

    /// It takes a turn of its own.
    pub(super) fn is_heavy(&self) -> bool {
        self.entries >= HEAVY_ENTRIES || self.bytes >= HEAVY_BYTES
    }
}

/// As [`collapse`], of a request that took `decoded_bytes` before.
pub(super) fn weigh(
    request: &mut Request,
    decoded_bytes: usize,
    entries_max: usize,
) -> Result<Weight, FrameError> {
    let entries = collapse(request, entries_max)?;
    let left = if is_collapsed(request) { entries * ENTRY_BYTES } else { usize::MAX };
    Ok(Weight { entries, bytes: decoded_bytes.min(left) })
}

fn is_collapsed(request: &Request) -> bool {
    matches!(
        request,
        Request::Metadata(_)
            | Request::DescribeConfigs(_)
            | Request::DescribeTopicPartitions(_)
            | Request::CreateTopics(_)
            | Request::FindCoordinator(_)
    )
}

/// Leave each thing once, where an answer for each would say the same. Gives how many things are left; `Err`: too many.
fn collapse(request: &mut Request, entries_max: usize) -> Result<usize, FrameError> {
    let entries = match request {
        Request::Metadata(m) => match &mut m.topics {
            Some(topics) => keep_first(
                topics,
                |t| (t.name.as_ref().map(|name| &***name), t.topic_id.as_u128()),
                entries_max,
            ),
            None => 0,
        },
        Request::DescribeConfigs(m) => collapse_resources(&mut m.resources, entries_max),
        Request::DescribeTopicPartitions(m) => keep_first(&mut m.topics, |t| named(&t.name), entries_max),
        Request::CreateTopics(m) => {
            // How it is to be made is not looked at: no topic is.
            m.topics.iter_mut().for_each(|t| (t.assignments, t.configs) = Default::default());
            keep_first(&mut m.topics, |t| named(&t.name), entries_max)
        }
        Request::FindCoordinator(m) => keep_first(&mut m.coordinator_keys, |key| named(key), entries_max),
        other => return check(entries_of(other), entries_max),
    };
    check(entries, entries_max)
}

fn check(entries: usize, entries_max: usize) -> Result<usize, FrameError> {
    if entries <= entries_max {
        return Ok(entries);
    }
    Err(FrameError(format!(
        "a request asks for too many things: more than kraft.request.max.entries = {entries_max} topics, partitions or \
         the like. Ask for them in several requests"
    )))
}

/// Of those that are told one by one: topics and partitions.
fn entries_of(request: &Request) -> usize {
    match request {
        Request::Produce(m) => m.topics.iter().map(|t| 1 + t.partitions.len()).sum(),
        Request::Fetch(m) => m.topics.iter().map(|t| 1 + t.partitions.len()).sum(),
        Request::ListOffsets(m) => m.topics.iter().map(|t| 1 + t.partitions.len()).sum(),
        Request::OffsetForLeaderEpoch(m) => m.topics.iter().map(|t| 1 + t.partitions.len()).sum(),
        Request::DescribeQuorum(m) => m.topics.iter().map(|t| 1 + t.partitions.len()).sum(),
        Request::DescribeLogDirs(m) => m.topics.iter().flatten().map(|t| 1 + t.partitions.len()).sum(),
        Request::Vote(m) => m.topics.iter().map(|t| 1 + t.partitions.len()).sum(),
        Request::BeginQuorumEpoch(m) => m.topics.iter().map(|t| 1 + t.partitions.len()).sum(),
        Request::EndQuorumEpoch(m) => m.topics.iter().map(|t| 1 + t.partitions.len()).sum(),
        Request::FetchSnapshot(m) => m.topics.iter().map(|t| 1 + t.partitions.len()).sum(),
        Request::IncrementalAlterConfigs(m) => m.resources.iter().map(|r| 1 + r.configs.len()).sum(),
        Request::AlterConfigs(m) => m.resources.iter().map(|r| 1 + r.configs.len()).sum(),
        Request::Group(m) => entries_of_group(m),
        _ => 0,
    }
}

fn entries_of_group(request: &GroupRequest) -> usize {
    use GroupRequest as G;
    match request {
        G::OffsetCommit(m) => m.topics.iter().map(|t| 1 + t.partitions.len()).sum(),
        G::OffsetFetch(m) => {
            let of_one = m.topics.iter().flatten().map(|t| 1 + t.partition_indexes.len());
            let groups = m.groups.iter().map(|group| {
                1 + group.topics.iter().flatten().map(|t| 1 + t.partition_indexes.len()).sum::<usize>()
            });
            of_one.chain(groups).sum()
        }
        G::OffsetDelete(m) => m.topics.iter().map(|t| 1 + t.partitions.len()).sum(),
        G::Join(m) => m.protocols.len(),
        G::Leave(m) => m.members.len(),
        G::Sync(m) => m.assignments.len(),
        G::Describe(m) => m.groups.len(),
        G::List(m) => m.states_filter.len() + m.types_filter.len(),
        G::Delete(m) => m.groups_names.len(),
        G::ConsumerDescribe(m) => m.group_ids.len(),
        G::Heartbeat(_) | G::ConsumerHeartbeat(_) => 0,
    }
}

/// What makes two things the same.
type Key<'a> = (Option<&'a str>, u128);

fn named(name: &str) -> Key<'_> {
    (Some(name), 0)
}

/// Over the bound nothing is looked for any more.
fn keep_first<T>(things: &mut Vec<T>, key: impl Fn(&T) -> Key<'_>, entries_max: usize) -> usize {
    // By hash: of fifty thousand names in a tree this took three quarters of all that a request for them costs.
    let mut seen = HashSet::with_capacity(things.len().min(entries_max));
    let is_first: Vec<bool> =
        things.iter().map(|thing| seen.len() > entries_max || seen.insert(key(thing))).collect();
    let mut kept = is_first.into_iter();
    things.retain(|_| kept.next() == Some(true));
    // What was decoded for the others goes with them.
    things.shrink_to_fit();
    things.len()
}

/// One resource's questions become one: all its keys, if one of them asks for all. Keys count too.
fn collapse_resources(resources: &mut Vec<DescribeConfigsResource>, entries_max: usize) -> usize {
    let name = |r: &DescribeConfigsResource| (r.resource_type, r.resource_name.clone());
    let mut asked: HashMap<_, Option<BTreeSet<m::StrBytes>>> = HashMap::new();
    let mut entries = 0;
    for resource in resources.iter_mut() {
        let keys = resource.configuration_keys.take().filter(|keys| !keys.is_empty());
        if entries > entries_max {
            return entries;
        }
        let merged = asked.entry(name(resource)).or_insert_with(|| {
            entries += 1;
            Some(BTreeSet::new())
        });
        match (keys, merged.as_mut()) {
            (None, _) => *merged = None,
            (Some(keys), Some(all)) => {
                for key in keys.into_iter().take(entries_max) {
                    entries += all.insert(key) as usize;
                }
            }
            (Some(_), None) => {}
        }
    }
    resources.retain_mut(|resource| match asked.remove(&name(resource)) {
        Some(keys) => {
            resource.configuration_keys = keys.map(|keys| keys.into_iter().collect());
            true
        }
        None => false,
    });
    resources.shrink_to_fit();
    entries
}

#[cfg(test)]
#[path = "collapse_tests.rs"]
mod tests;

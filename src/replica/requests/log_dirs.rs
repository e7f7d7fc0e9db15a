//! DescribeLogDirs: where this node keeps the log, how large it is, and how far behind. Each node answers for itself.

use super::{View, text, topic_name};
use crate::protocol::{Response, messages as m};
use m::describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic};

/// The one directory, also where nothing in it was asked for (Kafka: `ReplicaManager.describeLogDirs`). How large its
/// file system is we do not know: -1, as Kafka says it.
pub(crate) fn describe_log_dirs(v: &View, request: &m::DescribeLogDirsRequest) -> Response {
    let topics = if asks_for_ours(v, request) { vec![our_topic(v)] } else { vec![] };
    let directory = DescribeLogDirsResult::default()
        .with_log_dir(text(v.log_dir))
        .with_topics(topics)
        .with_usable_bytes(i64::try_from(v.disk_free_bytes).unwrap_or(-1));
    Response::DescribeLogDirs(m::DescribeLogDirsResponse::default().with_results(vec![directory]))
}

/// No list of topics asks for all.
fn asks_for_ours(v: &View, request: &m::DescribeLogDirsRequest) -> bool {
    let Some(topics) = &request.topics else { return true };
    topics.iter().any(|topic| topic.partitions.iter().any(|partition| v.is_ours(&topic.topic, *partition)))
}

fn our_topic(v: &View) -> DescribeLogDirsTopic {
    // Of what is committed, as far as this node has heard (Kafka: `ReplicaManager.getLogEndOffsetLag`).
    let committed = v.high_watermark.map_or(0, |offset| offset.0.0);
    let partition = DescribeLogDirsPartition::default()
        .with_partition_size(i64::try_from(v.log_size_bytes).unwrap_or(i64::MAX))
        .with_offset_lag((committed - v.log_end.0.0).max(0));
    DescribeLogDirsTopic::default().with_name(topic_name(v.topic_name)).with_partitions(vec![partition])
}

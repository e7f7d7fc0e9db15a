use super::*;

// --- CreateTopics

#[test]
fn a_new_topic_is_refused_with_the_reason() {
    with_view(|v| {
        let topic = |name: &str| {
            m::create_topics_request::CreatableTopic::default()
                .with_name(topic_name(name))
                .with_num_partitions(1)
                .with_replication_factor(1)
        };
        let names = [OURS, "orders", "no/slash", ""];
        let request = m::CreateTopicsRequest::default().with_topics(names.map(topic).to_vec());
        for version in 2..=7 {
            check_encodes(19, version, &create_topics(&v, &request));
        }
        let body = body!(CreateTopics, create_topics(&v, &request));
        let codes: Vec<_> = body.topics.iter().map(|t| (t.name.as_str(), ErrorCode(t.error_code))).collect();
        let wanted = [
            ErrorCode::TOPIC_ALREADY_EXISTS,
            ErrorCode::POLICY_VIOLATION,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
        ];
        assert_eq!(codes, names.into_iter().zip(wanted).collect::<Vec<_>>());
        let why = body.topics[1].error_message.as_ref().expect("a message");
        assert!(why.contains("one topic, '__cluster_metadata'"), "{why}");
    });
}

// --- DescribeLogDirs

#[test]
fn log_dirs_are_this_nodes_own() {
    with_view(|v| {
        let asked = |name: &str, partitions: &[i32]| {
            let topic = m::describe_log_dirs_request::DescribableLogDirTopic::default()
                .with_topic(topic_name(name))
                .with_partitions(partitions.to_vec());
            m::DescribeLogDirsRequest::default().with_topics(Some(vec![topic]))
        };
        let of = |v: &View, request: &m::DescribeLogDirsRequest| {
            let response = describe_log_dirs(v, request);
            (1..=4).for_each(|version| check_encodes(35, version, &response));
            let [directory] = &body!(DescribeLogDirs, response).results[..] else { panic!("one directory") };
            assert_eq!((directory.error_code, directory.log_dir.as_str()), (0, "/var/lib/kraft"));
            let partitions = directory.topics.iter().flat_map(|topic| &topic.partitions);
            let told: Vec<_> = partitions.map(|p| (p.partition_size, p.offset_lag)).collect();
            (told, directory.usable_bytes)
        };
        let all = m::DescribeLogDirsRequest::default().with_topics(None);
        assert_eq!(of(&v, &all), (vec![(12_345, 0)], -1));
        assert_eq!(of(&v, &asked(OURS, &[1, 0])).0.len(), 1);
        assert_eq!(of(&v, &asked(OURS, &[1])).0, []);
        assert_eq!(of(&v, &asked("other", &[0])).0, []);
        let behind = View { high_watermark: Some(HighWatermark(Offset(107))), disk_free_bytes: 99, ..v };
        assert_eq!(of(&behind, &all), (vec![(12_345, 7)], 99));
    });
}

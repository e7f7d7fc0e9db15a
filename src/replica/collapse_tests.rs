use super::*;
use crate::protocol::messages::StrBytes;
use m::metadata_request::MetadataRequestTopic;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

fn metadata(names: impl Iterator<Item = String>) -> Request {
    let topic = |name: String| MetadataRequestTopic::default().with_name(Some(m::TopicName(text(&name))));
    Request::Metadata(m::MetadataRequest::default().with_topics(Some(names.map(topic).collect())))
}

fn names(request: &Request) -> Vec<String> {
    let Request::Metadata(request) = request else { panic!("{request:?}") };
    let name = |t: &MetadataRequestTopic| t.name.as_ref().expect("a name").to_string();
    request.topics.iter().flatten().map(name).collect()
}

fn configs(asked: &[(i8, &str, Option<&[&str]>)]) -> Request {
    let resource = |(kind, name, keys): &(i8, &str, Option<&[&str]>)| {
        DescribeConfigsResource::default()
            .with_resource_type(*kind)
            .with_resource_name(text(name))
            .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()))
    };
    let resources = asked.iter().map(resource).collect();
    Request::DescribeConfigs(m::DescribeConfigsRequest::default().with_resources(resources))
}

#[test]
fn a_name_a_million_times_is_one_and_others_keep_their_order() {
    let mut request = metadata((0..1_000_000).map(|i| if i == 7 { "z".into() } else { "same".to_string() }));
    assert_eq!(collapse(&mut request, 10), Ok(2));
    assert_eq!(names(&request), ["same", "z"]);
}

#[test]
fn many_different_names_are_answered_and_too_many_are_not() {
    let mut request = metadata((0..10).map(|i| format!("t{i}")));
    assert_eq!(collapse(&mut request, 10), Ok(10));
    assert_eq!(names(&request).len(), 10);
    let mut request = metadata((0..11).map(|i| format!("t{i}")));
    let why = collapse(&mut request, 10).expect_err("too many").0;
    assert!(why.contains("kraft.request.max.entries = 10"), "{why}");
}

#[test]
fn a_resource_is_described_once_with_all_that_was_asked_of_it() {
    let mut request = configs(&[
        (2, "a", Some(&["x", "y", "x"])),
        (4, "1", Some(&["x"])),
        (2, "a", Some(&["z"])),
        (4, "1", None),
        (4, "1", Some(&["y"])),
        (2, "a", Some(&["x"])),
    ]);
    assert_eq!(collapse(&mut request, 100), Ok(6), "two resources, four keys");
    let Request::DescribeConfigs(request) = &request else { panic!("{request:?}") };
    let keys = |r: &DescribeConfigsResource| {
        r.configuration_keys.as_ref().map(|keys| keys.iter().map(|key| key.to_string()).collect::<Vec<_>>())
    };
    let asked: Vec<_> = request.resources.iter().map(|r| (r.resource_type, keys(r))).collect();
    assert_eq!(asked, [(2, Some(vec!["x".into(), "y".into(), "z".into()])), (4, None)]);
}

#[test]
fn too_many_resources_or_keys_are_refused() {
    let many: Vec<String> = (0..11).map(|i| i.to_string()).collect();
    let resources: Vec<_> = many.iter().map(|name| (4, name.as_str(), None)).collect();
    assert!(collapse(&mut configs(&resources), 10).is_err());
    let keys: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(collapse(&mut configs(&[(2, "a", Some(&keys))]), 10).is_err());
    let twice: Vec<_> = many[..10].iter().flat_map(|name| [(4, name.as_str(), None); 2]).collect();
    assert_eq!(collapse(&mut configs(&twice), 10), Ok(10));
}

#[test]
fn partitions_count_where_each_is_told() {
    use m::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let asked = |partitions: usize| {
        let topic =
            ListOffsetsTopic::default().with_partitions(vec![ListOffsetsPartition::default(); partitions]);
        Request::ListOffsets(m::ListOffsetsRequest::default().with_topics(vec![topic]))
    };
    assert_eq!(collapse(&mut asked(9), 10), Ok(10));
    assert!(collapse(&mut asked(10), 10).is_err());
}

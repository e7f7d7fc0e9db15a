use super::*;
use m::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;

const HERE: Asked = Asked { topic_name: OURS, local: NodeId(2), data_mode: DataMode::Native };

fn resource(kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> AlterConfigsResource {
    let config = |(name, operation, value): &(&str, i8, Option<&str>)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    };
    AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(changes.iter().map(config).collect())
}

fn judge(asked: &Asked, resources: Vec<AlterConfigsResource>) -> Judged {
    let request = m::IncrementalAlterConfigsRequest::default().with_resources(resources);
    Alteration::from(request).judge(asked)
}

/// The error of each resource, and what it is told.
fn answers(judged: Judged) -> Vec<(i16, String)> {
    let response = judged.into_response();
    (0..=1).for_each(|version| check_encodes(44, version, &response));
    let body = body!(IncrementalAlterConfigs, response);
    let line = |line: m::incremental_alter_configs_response::AlterConfigsResourceResponse| {
        (line.error_code, line.error_message.map_or(String::new(), |why| why.to_string()))
    };
    body.responses.into_iter().map(line).collect()
}

fn told(kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> (i16, String) {
    answers(judge(&HERE, vec![resource(kind, name, changes)])).remove(0)
}

#[test]
fn only_keys_that_mean_something_are_taken_with_values_that_do() {
    let ours = |key: &str, operation: i8, value: Option<&str>| told(TOPIC, OURS, &[(key, operation, value)]);
    for (key, value) in [
        ("retention.bytes", "-1"),
        ("retention.bytes", "1"),
        ("retention.bytes", " 9223372036854775807 "),
        ("retention.ms", "-1"),
        ("retention.ms", "0"),
    ] {
        assert_eq!(ours(key, SET, Some(value)), (0, String::new()), "{key}={value}");
    }
    assert_eq!(ours("no.such.key", DELETE, None).0, 0, "what is not set can be taken back");
    for (key, operation, value, error, why) in [
        (
            "retention.ms",
            SET,
            "abc",
            40,
            "Invalid value abc for configuration retention.ms: Not a number of type LONG",
        ),
        ("retention.ms", SET, "9223372036854775808", 40, "Not a number of type LONG"),
        ("retention.ms", SET, "", 40, "Not a number of type LONG"),
        ("retention.ms", SET, "-2", 40, "Value must be at least -1"),
        ("retention.bytes", SET, "-2", 40, "Value must be at least -1"),
        ("retention.bytes", SET, "0", 40, "Value must be -1, for no limit, or above 0"),
        ("segment.bytes", SET, "1000", 40, "this server takes retention.bytes and retention.ms"),
        ("retention.ms", 2, "5", 40, "Can't APPEND to key retention.ms because its type is not LIST."),
        ("retention.ms", 3, "5", 40, "Can't SUBTRACT to key retention.ms because its type is not LIST."),
        ("retention.ms", 4, "5", 42, "Unknown operations type 4"),
        ("retention.ms", -1, "5", 42, "Unknown operations type -1"),
    ] {
        let (code, told) = ours(key, operation, Some(value));
        assert!(code == error && told.contains(why), "{key} {operation} {value}: {code} {told}");
    }
    assert_eq!(
        ours("retention.ms", SET, None),
        (42, "Null value not supported for : retention.ms".to_string())
    );
    let twice = [("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)];
    assert_eq!(told(TOPIC, OURS, &twice), (42, "Error due to duplicate config keys".to_string()));
}

#[test]
fn each_resource_has_an_error_of_its_own() {
    let good = [("retention.ms", SET, Some("5"))];
    let judged = judge(
        &HERE,
        vec![
            resource(TOPIC, "other", &good),
            resource(TOPIC, OURS, &good),
            resource(TOPIC, "in valid", &good),
            resource(TOPIC, "", &good),
            resource(BROKER, "1", &good),
            resource(BROKER, "x", &good),
            resource(BROKER, "2", &good),
            resource(BROKER, "", &good),
            resource(BROKER, "02", &[]),
            resource(8, "2", &good),
        ],
    );
    assert!(judged.is_for_leader());
    let codes: Vec<i16> = answers(judged).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [3, 0, 17, 42, 42, 42, 42, 42, 0, 42]);
    let twice = judge(&HERE, vec![resource(TOPIC, OURS, &good), resource(TOPIC, OURS, &[])]);
    assert!(!twice.is_for_leader(), "which of the two is meant nobody knows");
    let why = "Each resource must appear at most once.".to_string();
    assert_eq!(answers(twice), [(42, why.clone()), (42, why)]);
    let interop = Asked { data_mode: DataMode::Interop, ..HERE };
    let judged = judge(&interop, vec![resource(TOPIC, OURS, &good)]);
    assert!(!judged.is_for_leader());
    let (code, why) = answers(judged).remove(0);
    assert!(code == 44 && why.contains("kraft.data.mode=interop"), "{code} {why}");
}

#[test]
fn what_is_asked_of_the_leader_is_the_topics_part_alone() {
    let changes = [("retention.ms", SET, Some(" 5 ")), ("gone", DELETE, None)];
    let mut judged = judge(
        &HERE,
        vec![resource(BROKER, "9", &[]), resource(TOPIC, OURS, &changes), resource(BROKER, "2", &[])],
    );
    let asked = judged.for_leader();
    assert_eq!(asked.resources, [resource(TOPIC, OURS, &changes)]);
    let before = BTreeMap::from([("gone", "1"), ("kept", "2")].map(|(k, v)| (k.to_string(), v.to_string())));
    let after =
        BTreeMap::from([("kept", "2"), ("retention.ms", "5")].map(|(k, v)| (k.to_string(), v.to_string())));
    assert_eq!(judged.apply(&before), after);
    judged.refuse(ErrorCode::NOT_CONTROLLER, Some(text("elsewhere")));
    let codes: Vec<i16> = answers(judged).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [42, 41, 0]);
}

/// AlterConfigs of before KIP-339: what is not named goes back to its default.
#[test]
fn the_older_request_replaces_all_that_is_set() {
    use m::alter_configs_request as older;
    let config =
        older::AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("7")));
    let of = |configs| {
        let topic = older::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(OURS))
            .with_configs(configs);
        let request = m::AlterConfigsRequest::default().with_resources(vec![topic]);
        Alteration::from(request).judge(&HERE)
    };
    let set = |name: &str, value: &str| BTreeMap::from([(name.to_string(), value.to_string())]);
    assert_eq!(of(vec![config.clone()]).apply(&set("retention.bytes", "1")), set("retention.ms", "7"));
    assert_eq!(of(vec![]).apply(&set("retention.bytes", "1")), BTreeMap::new());
    let nothing = config.with_value(None);
    let response = of(vec![nothing]).into_response();
    (0..=2).for_each(|version| check_encodes(33, version, &response));
    assert_eq!(body!(AlterConfigs, response).responses[0].error_code, 42);
}

#[test]
fn the_older_request_takes_nothing_back_from_a_node() {
    use m::alter_configs_request as older;
    let of = |configs| {
        let node = older::AlterConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(text("2"))
            .with_configs(configs);
        let request = m::AlterConfigsRequest::default().with_resources(vec![node]);
        body!(AlterConfigs, Alteration::from(request).judge(&HERE).into_response()).responses[0].error_code
    };
    assert_eq!(of(vec![]), 0, "it names nothing that a node would have to change");
    let config = older::AlterableConfig::default().with_name(text("retention.ms"));
    assert_eq!(of(vec![config.with_value(Some(text("7")))]), 42);
}

// --- as DescribeConfigs tells it

#[test]
fn what_is_set_is_told_with_what_it_overrides() {
    with_view(|v| {
        let set = BTreeMap::from([("retention.ms".to_string(), "5000".to_string())]);
        let of = |v: &View, name: &str, version: i16| {
            configs(v, TOPIC, OURS, Some(&[name]), version).configs.remove(0)
        };
        let synonyms = |entry: &m::describe_configs_response::DescribeConfigsResourceResult| -> Vec<_> {
            let told = |s: &m::describe_configs_response::DescribeConfigsSynonym| {
                (s.name.to_string(), s.value.as_ref().map(|value| value.to_string()), s.source)
            };
            entry.synonyms.iter().map(told).collect()
        };
        let default = |name: &str| (name.to_string(), Some("-1".to_string()), 5);
        let altered = View { set: &set, ..v };
        for version in 1..=4 {
            let entry = of(&altered, "retention.ms", version);
            assert_eq!(
                (entry.value.as_deref(), entry.config_source, entry.read_only),
                (Some("5000"), 1, false)
            );
            let own = ("retention.ms".to_string(), Some("5000".to_string()), 1);
            assert_eq!(synonyms(&entry), [own, default("log.retention.ms")]);
            let entry = of(&altered, "retention.bytes", version);
            assert_eq!(
                (entry.value.as_deref(), entry.config_source, entry.read_only),
                (Some("-1"), 5, false)
            );
            assert_eq!(synonyms(&entry), [default("log.retention.bytes")]);
        }
        let interop = View { is_alterable: false, ..altered };
        assert!(of(&interop, "retention.bytes", 4).read_only);
    });
}

#[test]
fn who_asks_what_a_key_is_for_hears_that_nothing_is_deleted() {
    with_view(|v| {
        let resource =
            DescribeConfigsResource::default().with_resource_type(TOPIC).with_resource_name(text(OURS));
        let request = m::DescribeConfigsRequest::default()
            .with_resources(vec![resource.with_configuration_keys(Some(vec![text("retention.ms")]))])
            .with_include_documentation(true);
        let told = |version: i16| {
            let response = describe_configs(&v, &request, version);
            check_encodes(32, version, &response);
            body!(DescribeConfigs, response).results[0].configs[0].documentation.clone()
        };
        assert!(told(4).is_some_and(|text| text.contains("deletes no records yet")));
        assert_eq!(told(2), None);
    });
}

//! CreateTopics: there is one topic, and each client hears at once why it gets no other.

use super::{View, text};
use crate::protocol::{Response, messages as m};
use crate::types::*;
use m::create_topics_response::CreatableTopicResult;

/// Each with an error of its own, in the request's order. POLICY_VIOLATION is what Kafka's brokers say where their
/// operator wants no such topic: no client asks again after it, and all show its message.
pub(crate) fn create_topics(v: &View, request: &m::CreateTopicsRequest) -> Response {
    let results = request.topics.iter().map(|topic| {
        let (error, why) = refusal(v, &topic.name);
        CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_code(error.0)
            .with_error_message(Some(text(&why)))
    });
    Response::CreateTopics(m::CreateTopicsResponse::default().with_topics(results.collect()))
}

fn refusal(v: &View, name: &str) -> (ErrorCode, String) {
    let ours = v.topic_name;
    if name == ours {
        (ErrorCode::TOPIC_ALREADY_EXISTS, format!("Topic '{ours}' already exists."))
    } else if v.unknown_topic(name) == ErrorCode::INVALID_TOPIC_EXCEPTION {
        (ErrorCode::INVALID_TOPIC_EXCEPTION, "No topic can have this name.".to_string())
    } else {
        let why = format!("This server has one topic, '{ours}', and creates no others.");
        (ErrorCode::POLICY_VIOLATION, why)
    }
}

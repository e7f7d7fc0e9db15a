//! FindCoordinator and JoinGroup: where a group would be, so that clients find out quickly that there are none.
//!
//! There are no groups here, and no OffsetFetch or OffsetCommit. Clients that know a coordinator ask it for these and are
//! told at once, most of them by themselves, that they are not supported. Clients that cannot find one wait for ever
//! (librdkafka), or must take an error of FindCoordinator for one of a consumer that only has a group id and never
//! joins. Transactions have their own coordinator, and are refused here already.

use super::{View, text};
use crate::protocol::{Response, messages as m};
use crate::types::*;
use m::find_coordinator_response::Coordinator;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// Version from which several coordinators are asked for at once (KIP-699).
const COORDINATOR_KEYS: i16 = 4;

pub fn find_coordinator(v: &View, request: &m::FindCoordinatorRequest, version: i16) -> Response {
    let found = coordinator_of(v, request.key_type);
    let (node, host, port, error) = match &found {
        Ok((id, endpoint)) => (id.0, endpoint.host.as_str(), i32::from(endpoint.port), ErrorCode::NONE),
        Err(error) => (-1, "", -1, *error),
    };
    if version < COORDINATOR_KEYS {
        let response = m::FindCoordinatorResponse::default()
            .with_error_code(error.0)
            .with_node_id(m::BrokerId(node))
            .with_host(text(host))
            .with_port(port);
        // Version 0 has no room for it.
        let message = if error.is_none() { "NONE" } else { "" };
        return Response::FindCoordinator(if version == 0 {
            response
        } else {
            response.with_error_message(Some(text(message)))
        });
    }
    let coordinators = request.coordinator_keys.iter().map(|key| {
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(m::BrokerId(node))
            .with_host(text(host))
            .with_port(port)
            .with_error_code(error.0)
            .with_error_message(Some(text("")))
    });
    Response::FindCoordinator(m::FindCoordinatorResponse::default().with_coordinators(coordinators.collect()))
}

/// There are no groups: UNSUPPORTED_VERSION is final to every client that asks, and most show it in Kafka's words, "The
/// version of API is not supported".
pub fn join_group(_v: &View, request: &m::JoinGroupRequest) -> Response {
    Response::JoinGroup(
        m::JoinGroupResponse::default()
            .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0)
            .with_generation_id(-1)
            .with_protocol_name(Some(text("")))
            .with_member_id(request.member_id.clone()),
    )
}

/// This node, so that it does not change with the leader; an observer names a voter.
fn coordinator_of<'a>(v: &'a View, key_type: i8) -> Result<(NodeId, &'a Endpoint), ErrorCode> {
    match key_type {
        GROUP => v.any_for_clients().ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        // As InitProducerId says it: every client takes it for final.
        TRANSACTION => Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        _ => Err(ErrorCode::INVALID_REQUEST),
    }
}

//! FindCoordinator: where a group would be, so that clients find out quickly that there are none (`groups`).
//!
//! Clients that cannot find a coordinator wait for ever (librdkafka), or must take an error of FindCoordinator for one of a
//! consumer that only has a group id and never joins. Transactions have their own coordinator, and are refused here
//! already.

use super::{View, text};
use crate::protocol::{Response, messages as m};
use crate::types::*;
use m::find_coordinator_response::Coordinator;

/// What a producer with a transactional id is told, wherever there is room for it.
pub(crate) const NO_TRANSACTIONS: &str = "There are no transactions here: remove transactional.id.";

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// Version from which several coordinators are asked for at once (KIP-699).
const COORDINATOR_KEYS: i16 = 4;

pub(crate) fn find_coordinator(v: &View, request: &m::FindCoordinatorRequest, version: i16) -> Response {
    let found = coordinator_of(v, request.key_type, version);
    let (node, host, port, (error, why)) = match &found {
        Ok((id, endpoint)) => (id.0, endpoint.host.as_str(), i32::from(endpoint.port), (ErrorCode::NONE, "")),
        Err(refusal) => (-1, "", -1, *refusal),
    };
    if version < COORDINATOR_KEYS {
        let response = m::FindCoordinatorResponse::default()
            .with_error_code(error.0)
            .with_node_id(m::BrokerId(node))
            .with_host(text(host))
            .with_port(port);
        // Version 0 has no room for it.
        let message = if error.is_none() { "NONE" } else { why };
        return Response::FindCoordinator(if version == 0 {
            response
        } else {
            response.with_error_message(Some(text(message)))
        });
    }
    let (host, message) = (text(host), text(why));
    let coordinators = request.coordinator_keys.iter().map(|key| {
        Coordinator::default()
            .with_key(key.clone())
            .with_node_id(m::BrokerId(node))
            .with_host(host.clone())
            .with_port(port)
            .with_error_code(error.0)
            .with_error_message(Some(message.clone()))
    });
    Response::FindCoordinator(m::FindCoordinatorResponse::default().with_coordinators(coordinators.collect()))
}

/// This node, so that it does not change with the leader; an observer names a voter.
fn coordinator_of<'a>(
    v: &'a View,
    key_type: i8,
    version: i16,
) -> Result<(NodeId, &'a Endpoint), (ErrorCode, &'static str)> {
    match key_type {
        GROUP => v.any_for_clients().ok_or((ErrorCode::COORDINATOR_NOT_AVAILABLE, "no node takes clients")),
        TRANSACTION => Err((no_transactions(version), NO_TRANSACTIONS)),
        _ => Err((ErrorCode::INVALID_REQUEST, "there are only coordinators of groups and transactions")),
    }
}

/// librdkafka asks with this version, and of all errors takes TRANSACTIONAL_ID_AUTHORIZATION_FAILED alone for final; it shows
/// the message behind it.
const LIBRDKAFKA: i16 = 2;

/// Java's client shows the message of errors that it does not expect, others at least the error's name, which should send
/// nobody to look for an ACL.
fn no_transactions(version: i16) -> ErrorCode {
    if version == LIBRDKAFKA {
        return ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    }
    ErrorCode::UNSUPPORTED_VERSION
}

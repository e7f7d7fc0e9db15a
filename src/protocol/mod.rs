//! Bytes ↔ structs: the Kafka protocol, at the versions of Kafka 4.3.
//!
//! Sessions decode requests and encode answers here, voters' links do the reverse (`quorum`). The structs and most of
//! the codec are the kafka-protocol crate's, behind one module; what it cannot do is ours: `check` walks every foreign
//! frame before the crate sees it, and `fetch` encodes records without copying them. No I/O and no state.

pub mod api_versions;
pub mod check;
pub mod fetch;
pub mod frame;
pub mod quorum;
mod request;
mod response;
mod schema;

pub use api_versions::{advertised, api_versions_response, client_software_is_valid};
pub use fetch::{FetchPartition, FetchResponse, FetchTopic};
pub use frame::{EncodedFrame, FrameError, RequestHeader, frame_length};
pub use request::{Request, decode_request};
pub use response::{Response, encode_response};

/// kafka-protocol's structs behind one name, so that the codec can be replaced here.
pub mod messages {
    pub use kafka_protocol::messages::*;
    pub use kafka_protocol::protocol::StrBytes;
}

use crate::types::Uuid;

/// A uuid as the structs of `messages` have it. (The way back: `Uuid(theirs.as_u128())`.)
pub fn wire_uuid<T: TryFrom<Vec<u8>> + Default>(id: Uuid) -> T {
    // The crate's uuid type can be named only by depending on its own crate; 16 bytes always convert.
    T::try_from(id.0.to_be_bytes().to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! Bytes ↔ structs: the Kafka protocol, at the versions of Kafka 4.3.
//!
//! Sessions decode requests and encode answers here, voters' links do the reverse (`quorum`). The structs and most of
//! the codec are the kafka-protocol crate's, behind one module; what it cannot do is ours: `check` walks every foreign
//! frame before anything is allocated for it, and `produce` and `fetch` allocate nothing for a batch and copy no records, nor does
//! `fetch_snapshot` copy a piece.
//! No I/O and no state.

pub(crate) mod api_versions;
pub mod check;
mod codec;
pub mod fetch;
mod fetch_snapshot;
pub(crate) mod frame;
mod groups;
mod mend;
pub mod messages;
pub mod produce;
pub mod quorum;
mod request;
mod response;
mod schema;
mod wire;

pub use api_versions::{advertised, api_versions_response, client_software_is_valid};
pub(crate) use fetch::encode_fetch_response;
pub use fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, NamedSnapshot};
pub use fetch_snapshot::{FetchSnapshotResponse, SnapshotPiece};
pub use frame::{ClientId, EncodedFrame, FrameError, RequestHeader, frame_length};
pub use groups::{GroupRequest, GroupResponse};
pub(crate) use produce::encode_produce_response;
pub use produce::{ProduceRequest, ProduceResponse};
pub(crate) use request::decode_request_sized;
pub use request::{Request, decode_request};
pub use response::{Response, encode_response};
pub(crate) use wire::ShortText;

use crate::types::Uuid;

/// A uuid as the structs of `messages` have it, and back.
pub fn wire_uuid(id: Uuid) -> uuid::Uuid {
    uuid::Uuid::from_u128(id.0)
}

/// The other way round: see [`wire_uuid`].
pub fn own_uuid(id: uuid::Uuid) -> Uuid {
    Uuid(id.as_u128())
}

#[cfg(test)]
mod tests;

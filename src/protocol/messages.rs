//! kafka-protocol's structs behind one name, so that the codec can be replaced here.

pub use kafka_protocol::messages::*;
pub use kafka_protocol::protocol::StrBytes;

//! How nodes of ours tell each other where clients find them: a tagged field of our own in the answer to ApiVersions.
//!
//! Only a node of ours is told, which says so by its software's name. Kafka's voters have no such field, and pass over one
//! that they do not know. See `docs/design/advertised-listeners.md`.

use super::software::CLIENT_SOFTWARE_NAME;
use crate::protocol::messages as m;
use crate::protocol::wire::{Cursor, PutFields};
use crate::types::*;
use bytes::{BufMut, Bytes, BytesMut};

/// "KR". Kafka counts its own from 0.
const ADVERTISED_TAG: i32 = 0x4b52;
/// Version of ApiVersions from which there are tagged fields.
const TAGS_FROM: i16 = 3;
/// Longest name that DNS has.
const HOST_BYTES_MAX: usize = 255;

/// Add where clients find this node, if the answer is one for a node of ours.
pub(crate) fn tell_advertised(
    answer: m::ApiVersionsResponse,
    request: &m::ApiVersionsRequest,
    version: i16,
    advertised: &Endpoint,
) -> m::ApiVersionsResponse {
    if version < TAGS_FROM || request.client_software_name.as_str() != CLIENT_SOFTWARE_NAME {
        return answer;
    }
    let mut field = BytesMut::new();
    field.put_u16(advertised.port);
    field.put_text(true, &advertised.host);
    answer.with_unknown_tagged_fields([(ADVERTISED_TAG, field.freeze())].into())
}

/// What a peer has told. `None`: nothing, or nothing that a client could connect to.
pub(super) fn told_advertised(answer: &m::ApiVersionsResponse) -> Option<Endpoint> {
    let field: &Bytes = answer.unknown_tagged_fields.get(&ADVERTISED_TAG)?;
    let mut cursor = Cursor(field);
    let port = cursor.i16().ok()? as u16;
    let bytes = (cursor.unsigned_varint().ok()? as usize).checked_sub(1)?;
    let host = str::from_utf8(cursor.take(bytes).ok()?).ok()?;
    let is_host =
        !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.bytes().all(|c| c.is_ascii_graphic());
    (port != 0 && is_host).then(|| Endpoint { host: host.to_string(), port })
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn from(software: &str, version: i16) -> m::ApiVersionsResponse {
        let request = m::ApiVersionsRequest::default().with_client_software_name(text(software));
        let advertised = Endpoint { host: "outside.example".to_string(), port: 40_000 };
        tell_advertised(m::ApiVersionsResponse::default(), &request, version, &advertised)
    }

    #[test]
    fn only_a_node_of_ours_is_told() {
        let told = told_advertised(&from(CLIENT_SOFTWARE_NAME, 4)).expect("it is there");
        assert_eq!((told.host.as_str(), told.port), ("outside.example", 40_000));
        for (software, version) in
            [("apache-kafka-java", 4), ("librdkafka", 3), ("", 3), (CLIENT_SOFTWARE_NAME, 2)]
        {
            assert!(from(software, version).unknown_tagged_fields.is_empty(), "{software} {version}");
        }
    }

    #[test]
    fn what_no_client_could_connect_to_is_not_believed() {
        let told = |field: &[u8]| {
            let field = Bytes::copy_from_slice(field);
            let answer = m::ApiVersionsResponse::default();
            told_advertised(&answer.with_unknown_tagged_fields([(ADVERTISED_TAG, field)].into()))
        };
        assert!(told(&[0x23, 0x84, 2, b'h']).is_some());
        let bad: [&[u8]; 7] = [
            &[],
            &[0x23],
            &[0, 0, 2, b'h'],
            &[0x23, 0x84, 0],
            &[0x23, 0x84, 1],
            &[0x23, 0x84, 2, b' '],
            &[0x23, 0x84, 9, b'h'],
        ];
        for field in bad {
            assert_eq!(told(field), None, "{field:?}");
        }
        let long = [&[0x23, 0x84, 0x81, 0x02][..], &[b'h'; 256]].concat();
        assert_eq!(told(&long), None);
    }
}

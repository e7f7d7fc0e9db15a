//! Which program is at the other end of a voter's connection, and whether it may share the log.
//!
//! ApiVersions names the client's software (KIP-511). Nodes of ours add the data mode of their log to the version, so
//! that two modes never meet in one log; to Kafka it is a version like any other.

use crate::protocol::messages as m;
use crate::types::*;
use std::fmt;

/// Client software name we send, so that a kraft node recognises another.
pub const CLIENT_SOFTWARE_NAME: &str = "kraft";

/// What a connection's ApiVersions said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerSoftware {
    /// A node of ours, with a log of this mode.
    Kraft(DataMode),
    /// Name and version.
    Other(String),
}

/// The version by which a node of ours with a log of this mode calls itself.
pub(super) fn software_version(mode: DataMode) -> String {
    format!("{}-{mode}", env!("CARGO_PKG_VERSION"))
}

impl PeerSoftware {
    pub(crate) fn of(request: &m::ApiVersionsRequest) -> PeerSoftware {
        let (name, version) =
            (request.client_software_name.as_str(), request.client_software_version.as_str());
        let is_interop = version.ends_with("-interop");
        match name == CLIENT_SOFTWARE_NAME {
            true => PeerSoftware::Kraft(if is_interop { DataMode::Interop } else { DataMode::Native }),
            false => PeerSoftware::Other(format!("{} {}", Shown(name), Shown(version))),
        }
    }

    /// May it vote on and copy a log of this mode? `Err`: why not, and what to do. `client_id` names it for people.
    pub(crate) fn check(&self, mode: DataMode, client_id: impl fmt::Display) -> Result<(), String> {
        let remedy = "Give all nodes of the quorum the same kraft.data.mode, those whose log has another one an empty \
                      log.dirs";
        match self {
            PeerSoftware::Other(software) if mode == DataMode::Native => Err(format!(
                "who speaks as a voter cannot read this log: the voter {client_id} is {software}, which would stop at batches that a native log may hold. {remedy} \
                 (interop, to share the log with Kafka's voters), or take that voter out of controller.quorum.voters"
            )),
            PeerSoftware::Kraft(theirs) if *theirs != mode => Err(format!(
                "who speaks as a voter has another log: the voter {client_id} has kraft.data.mode={theirs}, this node {mode}. {remedy}"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn software(name: &str, version: &str) -> PeerSoftware {
        let request = m::ApiVersionsRequest::default().with_client_software_name(text(name));
        PeerSoftware::of(&request.with_client_software_version(text(version)))
    }

    #[test]
    fn own_software_names_its_mode_in_kafkas_form() {
        for mode in [DataMode::Native, DataMode::Interop] {
            let version = software_version(mode);
            assert_eq!(software(CLIENT_SOFTWARE_NAME, &version), PeerSoftware::Kraft(mode));
            let request =
                m::ApiVersionsRequest::default().with_client_software_name(text(CLIENT_SOFTWARE_NAME));
            let request = request.with_client_software_version(text(&version));
            assert!(crate::protocol::client_software_is_valid(&request, 4), "{version}");
        }
    }

    #[test]
    fn only_nodes_that_can_read_the_log_may_share_it() {
        let java = software("apache-kafka-java", "4.3.0");
        assert_eq!(java.check(DataMode::Interop, "raft-client-2"), Ok(()));
        let why = java.check(DataMode::Native, "raft-client-2").unwrap_err();
        assert!(
            why.contains("raft-client-2 is apache-kafka-java 4.3.0") && why.contains("kraft.data.mode"),
            "{why}"
        );
        let ours = PeerSoftware::Kraft(DataMode::Interop);
        assert_eq!(ours.check(DataMode::Interop, "raft-client-2"), Ok(()));
        let why = ours.check(DataMode::Native, "raft-client-2").unwrap_err();
        assert!(why.contains("raft-client-2 has kraft.data.mode=interop, this node native"), "{why}");
    }
}

//! Whose log lies in a data directory, by its meta.properties and its `partition.metadata`, whoever wrote them.

use std::collections::BTreeMap;

use crate::properties;
use crate::types::*;

const DATA_MODE_KEY: &str = "kraft.data.mode";

/// What meta.properties says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the quorum.
    pub cluster_id: String,
    /// Of the node that the directory belongs to.
    pub node_id: i32,
    /// Kafka wrote none before its 3.7.
    pub directory_id: Option<String>,
    /// Who is to be able to read the log, where the file says it.
    pub data_mode: Option<String>,
}

impl Identity {
    /// The error says what is wrong with the file, and what to do.
    pub fn of_meta_properties(text: &[u8]) -> Result<Identity, String> {
        let found = properties::read(&properties::decode(text))
            .map_err(|e| format!("line {} is not in the syntax of a .properties file: {e}", e.line))?;
        let properties: BTreeMap<_, _> =
            found.into_iter().map(|found| (found.key, found.value.trim().to_string())).collect();
        let value = |key: &str| properties.get(key).filter(|value| !value.is_empty());
        match value("version").map(String::as_str) {
            Some("0" | "1") => {}
            Some(other) => return Err(format!("its version is {}, and 0 and 1 are known", Shown(other))),
            None => return Err("it has no version".to_string()),
        }
        let cluster_id =
            value("cluster.id").ok_or("it has no cluster.id: start the node once, which writes it")?;
        let node_id = value("node.id").or(value("broker.id")).ok_or("it has no node.id")?;
        let node_id = node_id.parse().ok().filter(|id| *id >= 0);
        Ok(Identity {
            cluster_id: cluster_id.clone(),
            node_id: node_id.ok_or("its node.id is not a whole number from 0 on")?,
            directory_id: value("directory.id").cloned(),
            data_mode: value(DATA_MODE_KEY).cloned(),
        })
    }
}

/// A directory of this name holds partition 0 of a topic: which.
pub fn is_partition_of(name: &str) -> Option<&str> {
    name.strip_suffix("-0").filter(|topic| !topic.is_empty())
}

/// The topic id that a `partition.metadata` tells.
pub fn topic_id_of(partition_metadata: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(partition_metadata);
    let id = text.lines().find_map(|line| line.strip_prefix("topic_id:"))?.trim();
    Uuid::parse(id).map(|id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_wrote_it_it_is_read() {
        let ours = "cluster.id=abc\ndirectory.id=AAAAAAAAAAAAAAAAAAAATQ\nkraft.data.mode=native\nnode.id=3\nversion=1\n";
        let found = Identity::of_meta_properties(ours.as_bytes()).unwrap();
        assert_eq!((found.cluster_id.as_str(), found.node_id), ("abc", 3));
        assert_eq!(
            (found.directory_id.as_deref(), found.data_mode.as_deref()),
            (Some("AAAAAAAAAAAAAAAAAAAATQ"), Some("native"))
        );
        let kafkas = "#\n#Tue Dec 01 2026\nbroker.id=1\nversion=0\ncluster.id=x\\=y\n";
        let found = Identity::of_meta_properties(kafkas.as_bytes()).unwrap();
        assert_eq!((found.cluster_id.as_str(), found.node_id, found.data_mode), ("x=y", 1, None));
    }

    #[test]
    fn what_says_nothing_is_refused_in_words() {
        for (text, why) in [
            ("", "no version"),
            ("version=7", "its version is 7"),
            ("version=1\nnode.id=1", "no cluster.id"),
            ("version=1\ncluster.id=a", "no node.id"),
            ("version=1\ncluster.id=a\nnode.id=-1", "not a whole number"),
            ("version=1\ncluster.id=\\u12", "line 2 is not in the syntax"),
        ] {
            let error = Identity::of_meta_properties(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_partition_is_known_by_its_name_and_its_topic_id() {
        assert_eq!(is_partition_of("__cluster_metadata-0"), Some("__cluster_metadata"));
        assert_eq!(
            (is_partition_of("a-1"), is_partition_of("-0"), is_partition_of("lost+found")),
            (None, None, None)
        );
        let text = b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ";
        assert_eq!(topic_id_of(text).as_deref(), Some("AAAAAAAAAAAAAAAAAAAAAQ"));
        assert_eq!(topic_id_of(b"version: 0"), None);
    }
}

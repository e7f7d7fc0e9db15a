//! The static voter set: who may vote, lead and be counted (Kafka: VoterSet under kraft.version 0).

use crate::types::*;

#[derive(Clone, Debug)]
pub(super) struct Voters {
    local: ReplicaKey,
    keys: Vec<ReplicaKey>,
}

/// Kafka compares ids, and directories only where both are known: static voters have none.
pub(super) fn is_same_replica(a: ReplicaKey, b: ReplicaKey) -> bool {
    a.id == b.id && (a.directory_id.is_zero() || b.directory_id.is_zero() || a.directory_id == b.directory_id)
}

impl Voters {
    pub(super) fn new(local: ReplicaKey, keys: Vec<ReplicaKey>) -> Voters {
        assert!(
            keys.windows(2).all(|w| w[0].id < w[1].id),
            "voters must be in the order of their ids: {keys:?}"
        );
        assert!(!keys.is_empty(), "a quorum needs a voter");
        Voters { local, keys }
    }

    pub(super) fn keys(&self) -> &[ReplicaKey] {
        &self.keys
    }

    pub(super) fn local_is_voter(&self) -> bool {
        self.index_of(self.local).is_some()
    }

    pub(super) fn local_is_only_voter(&self) -> bool {
        self.keys.len() == 1 && self.local_is_voter()
    }

    pub(super) fn contains(&self, id: NodeId) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }

    pub(super) fn index_of(&self, replica: ReplicaKey) -> Option<usize> {
        self.keys.iter().position(|key| is_same_replica(*key, replica))
    }

    /// Our place, from 0, among the voters other than this one.
    pub(super) fn place_beside(&self, other: NodeId) -> Option<usize> {
        self.keys.iter().filter(|key| key.id != other).position(|key| is_same_replica(*key, self.local))
    }

    pub(super) fn majority(&self) -> usize {
        self.keys.len() / 2 + 1
    }

    pub(super) fn others(&self) -> impl Iterator<Item = ReplicaKey> + '_ {
        self.keys.iter().copied().filter(|key| key.id != self.local.id)
    }

    /// Whether a request that names this voter is meant for us (Kafka: KafkaRaftClient.isValidVoterKey).
    pub(super) fn is_meant_for_local(&self, voter: Option<ReplicaKey>) -> bool {
        voter.is_none_or(|voter| is_same_replica(voter, self.local))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: i32, directory: u128) -> ReplicaKey {
        ReplicaKey { id: NodeId(id), directory_id: Uuid(directory) }
    }

    #[test]
    fn a_directory_counts_only_where_both_are_known() {
        assert!(is_same_replica(key(1, 0), key(1, 5)));
        assert!(is_same_replica(key(1, 5), key(1, 0)));
        assert!(is_same_replica(key(1, 5), key(1, 5)));
        assert!(!is_same_replica(key(1, 5), key(1, 6)));
        assert!(!is_same_replica(key(1, 0), key(2, 0)));
    }

    #[test]
    fn a_majority_is_more_than_half() {
        let majorities: Vec<usize> = (1..=5)
            .map(|n| Voters::new(key(1, 0), (1..=n).map(|id| key(id, 0)).collect()).majority())
            .collect();
        assert_eq!(majorities, [1, 2, 2, 3, 3]);
    }

    #[test]
    fn requests_for_others_are_recognised() {
        let voters = Voters::new(key(1, 9), vec![key(1, 0), key(2, 0)]);
        assert!(voters.is_meant_for_local(None));
        assert!(voters.is_meant_for_local(Some(key(1, 0))));
        assert!(voters.is_meant_for_local(Some(key(1, 9))));
        assert!(!voters.is_meant_for_local(Some(key(1, 8))));
        assert!(!voters.is_meant_for_local(Some(key(2, 0))));
    }
}

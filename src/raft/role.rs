//! What a node is at the moment, and what it must remember only as long as it is that.
//!
//! Epoch, leader, vote and `caught_up` are durable and live in `Raft::state`; everything here is lost at a restart.
//! Observers are `Unattached` or `Follower` and have no election deadline.

use super::timer::FetchDeadline;
use super::{EndQuorumEpochRequest, ReplicaKey, RoleName, Unfit, Voters};
use crate::types::*;

/// Observers that a leader remembers for DescribeQuorum; the one unheard of for longest makes room.
pub(super) const OBSERVERS_MAX: usize = 100;
/// A follower's Fetches that may wait for its disk at a time: more than one only when heartbeats brought records.
pub(super) const GATES_MAX: usize = 4;

#[derive(Clone, Debug)]
pub(super) enum Role {
    Unattached(Unattached),
    /// Asks for pre-votes (KIP-996) in the current epoch; nothing of that is durable.
    Prospective(Election),
    /// Asks for votes in an epoch in which it voted for itself.
    Candidate(Election),
    Leader(Leader),
    Follower(Follower),
    /// Led this epoch, and does so no more: gave up, or restarted. Memory only.
    Resigned(Resigned),
}

#[derive(Clone, Debug)]
pub(super) struct Unattached {
    /// `None`: an observer.
    pub(super) election_deadline: Option<u64>,
    /// Looks for a leader (Kafka 4.0, KAFKA-17030).
    pub(super) fetcher: Fetcher,
}

#[derive(Clone, Debug)]
pub(super) struct Election {
    pub(super) deadline: u64,
    /// Another one goes first until then.
    pub(super) yields_until: u64,
    /// When it could have stood for the first time.
    pub(super) yields_since: Option<u64>,
    pub(super) ballots: Vec<Ballot>,
}

/// One voter's part in our election.
#[derive(Clone, Debug)]
pub(crate) struct Ballot {
    pub(super) voter: ReplicaKey,
    pub(super) answer: Answer,
    /// Where its log starts, as it said with that.
    pub(super) start: Option<Offset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Granted,
    /// By a voter that may have forgotten votes and records: counts only if all grant.
    GrantedWithReserve,
    Rejected,
    Asked,
    /// The request failed: ask again then.
    AskAt(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Leader {
    /// Offset of the LeaderChange batch: the high watermark of this epoch is above it.
    pub(super) epoch_start: Offset,
    /// Our leadership is durable, and the LeaderChange batch is on its way to the log.
    pub(super) has_begun: bool,
    pub(super) has_committed: bool,
    /// In the order of the voters, ourselves among them.
    pub(super) progress: Vec<Progress>,
    pub(super) observers: Vec<Progress>,
    pub(super) check_quorum_deadline: Option<u64>,
    pub(super) begin_at: u64,
    /// Kept for its allocation: the median is computed at every Fetch and flush.
    pub(super) reached: Vec<Offset>,
    pub(super) decided: Decided,
}

/// The start of the quorum, as its leader has it (`start`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decided {
    pub(super) wanted: Offset,
    /// Wanted from the beginning of this epoch on: others may have been told it. Nothing is told before a majority holds that.
    pub(super) found: Offset,
    /// What clients are told. `None`: what they were told before is not known yet.
    pub(super) told: Option<Offset>,
    /// So many others hold what is wanted that with this node they are a majority.
    pub(super) held_since_ns: Option<u64>,
}

/// What a leader knows of a replica (Kafka: LeaderState.ReplicaState).
#[derive(Clone, Debug)]
pub(super) struct Progress {
    pub(super) key: ReplicaKey,
    /// Its last valid fetch offset; -1: none yet.
    pub(super) log_end: Offset,
    pub(super) last_fetch_ns: Option<u64>,
    pub(super) last_caught_up_ns: Option<u64>,
    /// Our log end at its last fetch: having reached that, it was caught up then.
    leader_end_at_last_fetch: Offset,
    /// Fetched since check quorum last counted.
    pub(super) has_fetched: bool,
    /// The directories that its last Fetches named, the newest first.
    pub(super) directories: [Option<Uuid>; 2],
    /// Why it should not lead, as it said with its last Fetch.
    pub(super) unfit: Option<Unfit>,
    /// Where its log starts, as it said with that; `None`: it did not.
    pub(super) held_start: Option<Offset>,
    /// Its wall time, as it said last.
    pub(super) wall_ms: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct Follower {
    pub(super) leader: NodeId,
    pub(super) fetch_deadline: u64,
    /// The fetch timeout after its last good answer. What lies between this and the deadline only keeps followers apart.
    pub(super) silent_at: u64,
    /// Why the leader counts as gone then.
    pub(super) end: LeaderEnd,
    /// Has had a good answer: the leader lives, others' pre-votes are denied (KIP-996).
    pub(super) has_fetched: bool,
    /// It has refused our last Fetch, or says that it does not lead.
    pub(super) has_left: bool,
    /// It is said to have resigned; believed if it leaves before that time.
    pub(super) told_end: Option<(EndQuorumEpochRequest, u64)>,
    /// Has asked for pre-votes against this leader in vain, and has had no good answer since.
    pub(super) is_silent: bool,
    /// Our log agrees with the leader's at least up to here.
    pub(super) shared_end: Offset,
    /// The latest start that the leader has named.
    pub(super) named_start: Offset,
    /// Fetches that wait for the flush of what was appended, by ascending offset.
    pub(super) gates: Vec<Gate>,
    pub(super) fetcher: Fetcher,
}

/// How a follower knows that its leader is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaderEnd {
    /// It does not answer.
    Silent,
    /// It said so itself (EndQuorumEpoch).
    Resigned,
    /// Nobody listens at its endpoint.
    Refused,
}

/// A Fetch at `offset` that goes out when the log is durable up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gate {
    pub(super) offset: Offset,
    /// Handed out in `Effects::after_flush`: the caller sends it.
    pub(super) is_handed_out: bool,
}

/// The state of our Fetches to one node at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetcher {
    pub(super) to: Option<NodeId>,
    /// Sent and neither answered nor failed. Above 1 only when a heartbeat met a flush.
    pub(super) outstanding: u32,
    pub(super) sent_ns: u64,
    /// When to send the next one; `None`: an answer, a flush or a truncation comes first.
    pub(super) due: Option<u64>,
    /// Answers in a row that we could not use.
    pub(super) refusals: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Resigned {
    pub(super) election_deadline: u64,
    pub(super) preferred: Vec<ReplicaKey>,
    /// Voters that have not acknowledged our EndQuorumEpoch, with the time to send it (again).
    pub(super) unacknowledged: Vec<(ReplicaKey, Option<u64>)>,
}

impl Decided {
    /// All who elected this leader start there.
    pub(super) fn agreed(at: Offset) -> Decided {
        Decided { wanted: at, found: at, told: Some(at), held_since_ns: None }
    }
}

impl Follower {
    /// `deadline` is of the last good answer, or of having become a follower.
    pub(super) fn new(leader: NodeId, deadline: FetchDeadline, now: Now) -> Follower {
        Follower {
            leader,
            fetch_deadline: deadline.stands_at,
            silent_at: deadline.silent_at,
            end: LeaderEnd::Silent,
            has_fetched: false,
            has_left: false,
            told_end: None,
            is_silent: false,
            shared_end: Offset(0),
            named_start: Offset(0),
            gates: Vec::new(),
            fetcher: Fetcher::due_at(now.monotonic_ns),
        }
    }

    pub(super) fn on_good_answer(&mut self, deadline: FetchDeadline) {
        self.has_fetched = true;
        self.has_left = false;
        self.is_silent = false;
        self.fetch_deadline = deadline.stands_at;
        self.silent_at = deadline.silent_at;
        self.end = LeaderEnd::Silent;
    }

    /// The leader lives, as far as we hear: others' pre-votes are denied (KIP-996).
    pub(super) fn hears_leader(&self, now: Now) -> bool {
        self.has_fetched && now.monotonic_ns < self.silent_at
    }

    /// A whole fetch timeout has passed without a good answer.
    pub(super) fn has_lost_leader(&self, now: Now) -> bool {
        self.is_silent || self.silent_at <= now.monotonic_ns
    }
}

impl Fetcher {
    pub(super) fn due_at(due: u64) -> Fetcher {
        Fetcher { due: Some(due), ..Fetcher::default() }
    }

    pub(super) fn on_sent(&mut self, to: NodeId, now: Now) {
        if self.to != Some(to) {
            self.outstanding = 0;
        }
        self.to = Some(to);
        self.outstanding += 1;
        self.sent_ns = now.monotonic_ns;
        self.due = None;
    }

    /// An answer or a failure from this node. False: we have asked it nothing.
    pub(super) fn on_settled(&mut self, from: NodeId) -> bool {
        if self.to != Some(from) || self.outstanding == 0 {
            return false;
        }
        self.outstanding -= 1;
        true
    }

    /// One to this node never went out. The newer one in its place is under way, whatever was forgotten of the older.
    pub(super) fn on_overtaken(&mut self, to: NodeId) {
        if self.to == Some(to) && self.outstanding > 1 {
            self.outstanding -= 1;
        }
    }

    /// All that were under way to this node have failed, however many.
    pub(super) fn on_failed(&mut self, to: NodeId) -> bool {
        let was_asked = self.to == Some(to) && self.outstanding > 0;
        if was_asked {
            self.outstanding = 0;
        }
        was_asked
    }
}

impl Election {
    /// An election in which we have voted for ourselves (`own`) and asked nobody yet.
    pub(super) fn new(deadline: u64, voters: &Voters, local: ReplicaKey, own: Answer) -> Election {
        let ballots = voters
            .keys()
            .iter()
            .map(|key| {
                let answer = if key.id == local.id { own } else { Answer::AskAt(0) };
                Ballot { voter: *key, answer, start: None }
            })
            .collect();
        Election { deadline, yields_until: 0, yields_since: None, ballots }
    }

    pub(super) fn ballot_of(&mut self, voter: NodeId) -> Option<&mut Ballot> {
        self.ballots.iter_mut().find(|ballot| ballot.voter.id == voter)
    }

    fn count(&self, answer: Answer) -> usize {
        self.ballots.iter().filter(|ballot| ballot.answer == answer).count()
    }

    /// A majority without reserve, or all.
    pub(super) fn is_won(&self, majority: usize) -> bool {
        self.count(Answer::Granted) >= majority || self.granting().count() == self.ballots.len()
    }

    /// Neither can be reached any more.
    pub(super) fn is_lost(&self, majority: usize) -> bool {
        let rejected = self.count(Answer::Rejected);
        rejected > 0 && self.ballots.len() - rejected - self.count(Answer::GrantedWithReserve) < majority
    }

    pub(super) fn granting(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.starts_of_granting().map(|(voter, _)| voter)
    }

    /// Who has granted, and where its log starts.
    pub(super) fn starts_of_granting(&self) -> impl Iterator<Item = (NodeId, Option<Offset>)> + '_ {
        let grants = |ballot: &&Ballot| matches!(ballot.answer, Answer::Granted | Answer::GrantedWithReserve);
        self.ballots.iter().filter(grants).map(|ballot| (ballot.voter.id, ballot.start))
    }

    pub(super) fn has_reserve(&self) -> bool {
        self.count(Answer::GrantedWithReserve) > 0
    }

    /// It has denied us its pre-vote, and may think otherwise now. False: it has not.
    pub(super) fn ask_again_after_denial(&mut self, voter: NodeId, now: Now) -> bool {
        let Some(ballot) = self.ballot_of(voter).filter(|ballot| ballot.answer == Answer::Rejected) else {
            return false;
        };
        ballot.answer = Answer::AskAt(now.monotonic_ns);
        true
    }

    /// Who has not granted, or not yet.
    pub(super) fn missing(&self) -> impl Iterator<Item = NodeId> + '_ {
        let lacks = |ballot: &&Ballot| !matches!(ballot.answer, Answer::Granted | Answer::GrantedWithReserve);
        self.ballots.iter().filter(lacks).map(|ballot| ballot.voter.id)
    }

    pub(super) fn next_ask(&self) -> Option<u64> {
        self.ballots
            .iter()
            .filter_map(|ballot| if let Answer::AskAt(at) = ballot.answer { Some(at) } else { None })
            .min()
    }
}

impl Progress {
    pub(super) fn unknown(key: ReplicaKey) -> Progress {
        Progress {
            key,
            log_end: Offset(-1),
            last_fetch_ns: None,
            last_caught_up_ns: None,
            leader_end_at_last_fetch: Offset(-1),
            has_fetched: false,
            directories: [None; 2],
            unfit: None,
            held_start: None,
            wall_ms: None,
        }
    }

    /// One that comes back after another: two processes have the same id. A new one alone is a disk that was emptied.
    pub(super) fn on_directory(&mut self, directory: Uuid) -> Option<[Uuid; 2]> {
        let [newest, older] = self.directories;
        if newest == Some(directory) {
            return None;
        }
        self.directories = [Some(directory), newest];
        newest.filter(|_| older == Some(directory)).map(|other| [directory, other])
    }

    /// A Fetch from where nothing can be served: it lives, and holds no more than that of what is here.
    pub(super) fn on_fetch_below(&mut self, now: Now, fetch_offset: Offset) {
        self.log_end = self.log_end.min(fetch_offset);
        self.last_fetch_ns = Some(now.monotonic_ns);
        self.has_fetched = true;
    }

    /// A valid Fetch (Kafka: ReplicaState.updateFollowerState).
    pub(super) fn on_fetch(&mut self, now: Now, fetch_offset: Offset, leader_end: Offset) {
        if fetch_offset >= leader_end {
            self.last_caught_up_ns = Some(now.monotonic_ns);
        } else if self.leader_end_at_last_fetch >= Offset(0) && fetch_offset >= self.leader_end_at_last_fetch
        {
            self.last_caught_up_ns = self.last_caught_up_ns.max(self.last_fetch_ns);
        }
        self.log_end = fetch_offset;
        self.last_fetch_ns = Some(now.monotonic_ns);
        self.leader_end_at_last_fetch = leader_end;
        self.has_fetched = true;
    }
}

impl Role {
    pub(crate) fn name(&self, is_voter: bool) -> RoleName {
        match self {
            _ if !is_voter => RoleName::Observer,
            Role::Unattached(_) => RoleName::Unattached,
            Role::Prospective(_) => RoleName::Prospective,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
            Role::Follower(_) => RoleName::Follower,
            Role::Resigned(_) => RoleName::Resigned,
        }
    }

    pub(super) fn fetcher(&mut self) -> Option<&mut Fetcher> {
        match self {
            Role::Unattached(unattached) => Some(&mut unattached.fetcher),
            Role::Follower(follower) => Some(&mut follower.fetcher),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: i32) -> ReplicaKey {
        ReplicaKey { id: NodeId(id), directory_id: Uuid::ZERO }
    }

    #[test]
    fn an_election_is_won_or_lost_by_majority() {
        let voters = Voters::new(key(1), (1..=5).map(key).collect());
        let mut election = Election::new(0, &voters, key(1), Answer::Granted);
        for (voter, answer, won, lost) in [
            (2, Answer::Rejected, false, false),
            (3, Answer::Granted, false, false),
            (4, Answer::Rejected, false, false),
            (5, Answer::Granted, true, false),
        ] {
            election.ballot_of(NodeId(voter)).unwrap().answer = answer;
            assert_eq!((election.is_won(3), election.is_lost(3)), (won, lost), "after {voter}");
        }
        election.ballot_of(NodeId(5)).unwrap().answer = Answer::Rejected;
        assert!(election.is_lost(3));
        assert!(election.ballot_of(NodeId(9)).is_none());
    }

    #[test]
    fn a_grant_with_reserve_counts_only_among_the_grants_of_all() {
        let voters = Voters::new(key(1), (1..=3).map(key).collect());
        let decided = |own, second, third| {
            let mut election = Election::new(0, &voters, key(1), own);
            election.ballot_of(NodeId(2)).unwrap().answer = second;
            election.ballot_of(NodeId(3)).unwrap().answer = third;
            (election.is_won(2), election.is_lost(2))
        };
        use Answer::{Asked, Granted, GrantedWithReserve as Reserved, Rejected};
        for (own, second, third, won, lost) in [
            (Reserved, Reserved, Asked, false, false),
            (Reserved, Reserved, Reserved, true, false),
            (Reserved, Reserved, Rejected, false, true),
            (Reserved, Granted, Rejected, false, true),
            (Reserved, Granted, Granted, true, false),
            (Granted, Reserved, Asked, false, false),
            (Granted, Reserved, Rejected, false, true),
            (Granted, Reserved, Reserved, true, false),
            (Granted, Reserved, Granted, true, false),
            (Granted, Asked, Rejected, false, false),
        ] {
            assert_eq!(decided(own, second, third), (won, lost), "{own:?} {second:?} {third:?}");
        }
    }

    #[test]
    fn a_replica_was_caught_up_when_it_reaches_what_the_end_was_at_its_last_fetch() {
        let at = |ns| Now { monotonic_ns: ns, wall_ms: 0 };
        let mut progress = Progress::unknown(key(2));
        progress.on_fetch(at(10), Offset(5), Offset(8));
        assert_eq!(progress.last_caught_up_ns, None);
        progress.on_fetch(at(20), Offset(8), Offset(12));
        assert_eq!(progress.last_caught_up_ns, Some(10));
        progress.on_fetch(at(30), Offset(12), Offset(12));
        assert_eq!(progress.last_caught_up_ns, Some(30));
        progress.on_fetch(at(40), Offset(12), Offset(20));
        progress.on_fetch(at(50), Offset(13), Offset(20));
        assert_eq!(progress.last_caught_up_ns, Some(30), "20 was the end when it fetched at 40");
    }

    #[test]
    fn a_directory_that_comes_back_is_of_a_second_process() {
        let mut progress = Progress::unknown(key(2));
        let [one, two, three] = [1, 2, 3].map(Uuid);
        for directory in [one, one, two, two, three] {
            assert_eq!(progress.on_directory(directory), None, "a disk that was emptied");
        }
        assert_eq!(progress.on_directory(two), Some([two, three]));
        assert_eq!(progress.on_directory(three), Some([three, two]));
    }

    #[test]
    fn only_what_was_asked_is_settled() {
        let mut fetcher = Fetcher::default();
        assert!(!fetcher.on_settled(NodeId(1)));
        fetcher.on_sent(NodeId(1), Now::default());
        assert!(!fetcher.on_settled(NodeId(2)));
        assert!(fetcher.on_settled(NodeId(1)));
        assert!(!fetcher.on_settled(NodeId(1)));
        for to in [1, 1, 2, 2] {
            fetcher.on_sent(NodeId(to), Now::default());
        }
        let settled = [1, 2, 2, 2].map(|from| fetcher.on_settled(NodeId(from)));
        assert_eq!(
            settled,
            [false, true, true, false],
            "two to the second node, those to the first are forgotten"
        );
        fetcher.on_sent(NodeId(2), Now::default());
        fetcher.on_sent(NodeId(2), Now::default());
        let failed = [1, 2, 2].map(|to| fetcher.on_failed(NodeId(to)));
        assert_eq!((failed, fetcher.outstanding), ([false, true, false], 0), "a failure is of all at once");
        fetcher.on_sent(NodeId(2), Now::default());
        fetcher.on_sent(NodeId(2), Now::default());
        fetcher.on_overtaken(NodeId(2));
        fetcher.on_overtaken(NodeId(2));
        assert_eq!(fetcher.outstanding, 1, "the one that has overtaken the others");
    }
}

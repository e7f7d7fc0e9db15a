//! Test only: one node, stepped by hand, whose quorum state is durable as soon as it is handed out.

use super::*;

pub(super) fn ms(ms: u64) -> Now {
    Now { monotonic_ns: ms * NS_PER_MS, wall_ms: ms as i64 }
}

pub(super) fn key(id: i32) -> ReplicaKey {
    ReplicaKey { id: NodeId(id), directory_id: Uuid::ZERO }
}

pub(super) fn at(epoch: i32, offset: i64) -> OffsetAndEpoch {
    OffsetAndEpoch { epoch: Epoch(epoch), offset: Offset(offset) }
}

pub(super) fn span(base: i64, last: i64, epoch: i32) -> BatchSpan {
    BatchSpan { base: Offset(base), last: Offset(last), epoch: Epoch(epoch) }
}

pub(super) struct Solo {
    pub(super) raft: Raft,
    pub(super) now: Now,
    /// Of the last step.
    pub(super) persisted: Option<QuorumState>,
    pub(super) effects: Vec<Effect>,
    pub(super) after_flush: Vec<(FlushedOffset, Effect)>,
    pub(super) notes: Vec<String>,
}

impl Solo {
    /// With a quorum state as recovered, and a log given by (epoch, end of that epoch), all of it flushed.
    pub(super) fn new(local: i32, voters: i32, quorum_state: QuorumState, epochs: &[(i32, i64)]) -> Solo {
        Solo::with(key(local), (1..=voters).map(key).collect(), quorum_state, at(0, 0), epochs)
    }

    /// As `new`, with any voters, and a log that starts at any offset.
    pub(super) fn with(
        local: ReplicaKey,
        voters: Vec<ReplicaKey>,
        quorum_state: QuorumState,
        log_start: OffsetAndEpoch,
        epochs: &[(i32, i64)],
    ) -> Solo {
        let mut starts = Vec::new();
        let mut end = log_start.offset.0;
        for (epoch, epoch_end) in epochs {
            starts.push(EpochStart { epoch: Epoch(*epoch), start_offset: Offset(end) });
            end = *epoch_end;
        }
        let config = RaftConfig {
            local,
            voters,
            election_timeout_ms: 1000,
            fetch_timeout_ms: 2000,
            election_backoff_max_ms: 1000,
            request_timeout_ms: 2000,
            retry_backoff_ms: 20,
            fetch_wait_ms_max: 500,
            first_leader: FirstLeader::All,
            log_doubt: LogDoubt::Wait,
            keeps_own_start: false,
            seed: 1,
        };
        let log_end = LogEndOffset(Offset(end));
        let committed = at(0, 0);
        let recovered = RecoveredState {
            quorum_state,
            log_start,
            log_begin: log_start,
            log_end,
            committed,
            epochs: starts,
            snapshot: None,
        };
        Solo {
            raft: Raft::new(config, recovered, ms(0)),
            now: ms(0),
            persisted: None,
            effects: Vec::new(),
            after_flush: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Without a leader, in the epoch of its last record, caught up.
    pub(super) fn voter(local: i32, voters: i32, epochs: &[(i32, i64)]) -> Solo {
        let epoch = Epoch(epochs.last().map_or(0, |(epoch, _)| *epoch));
        let state = QuorumState { epoch, leader: None, voted: None, caught_up: true, in_doubt: false };
        Solo::new(local, voters, state, epochs)
    }

    /// Node 1 of three, following 2 in this epoch, its first Fetch sent.
    pub(super) fn follower(epoch: i32, epochs: &[(i32, i64)]) -> Solo {
        let state = QuorumState {
            epoch: Epoch(epoch),
            leader: Some(NodeId(2)),
            voted: None,
            caught_up: true,
            in_doubt: false,
        };
        let mut solo = Solo::new(1, 3, state, epochs);
        solo.step(Event::Tick);
        solo
    }

    /// Node 1 of this many, leading epoch `last + 1` by the votes of all; its LeaderChange is flushed.
    pub(super) fn leader(voters: i32, epochs: &[(i32, i64)]) -> Solo {
        let mut solo = Solo::voter(1, voters, epochs);
        solo.win();
        solo.flush();
        solo
    }

    pub(super) fn win(&mut self) {
        self.tick_at_deadline();
        while !self.raft.is_leader() {
            self.tick_until(RoleName::Prospective);
            let majority = self.raft.voters.majority() as i32;
            for pre_vote_then_vote in 0..2 {
                let epoch = self.raft.epoch().0;
                assert!(pre_vote_then_vote == 0 || self.raft.role() == RoleName::Candidate);
                for voter in 2..=majority {
                    self.vote_response(voter, epoch, true);
                }
            }
        }
    }

    pub(super) fn step(&mut self, event: Event) -> &[Effect] {
        let mut effects = Effects::default();
        self.raft.step(self.now, event, &mut effects);
        self.persisted = effects.quorum_state;
        self.effects = std::mem::take(&mut effects.at_once);
        self.after_flush = std::mem::take(&mut effects.after_flush);
        self.notes = std::mem::take(&mut effects.notes);
        if self.persisted.is_some() {
            self.effects = std::mem::take(&mut effects.after_quorum_state);
            self.raft.step(self.now, Event::QuorumStateDurable, &mut effects);
            assert!(effects.at_once.is_empty(), "{effects:?}");
            self.after_flush = std::mem::take(&mut effects.after_flush);
        }
        &self.effects
    }

    pub(super) fn after_ms(&mut self, wait_ms: u64) -> &mut Solo {
        self.now.monotonic_ns += wait_ms * NS_PER_MS;
        self
    }

    pub(super) fn tick_at_deadline(&mut self) -> &[Effect] {
        self.now.monotonic_ns = self.now.monotonic_ns.max(self.raft.deadline().expect("a deadline"));
        self.step(Event::Tick)
    }

    pub(super) fn tick_until(&mut self, role: RoleName) {
        for _ in 0..1000 {
            if self.raft.role() == role {
                return;
            }
            self.tick_at_deadline();
        }
        panic!("still {:?}, not {role:?}", self.raft.role());
    }

    pub(super) fn flush(&mut self) -> &[Effect] {
        let end = self.raft.log_end().0;
        self.step(Event::Flushed(FlushedOffset(end)))
    }

    pub(super) fn request(&mut self, request: Request) -> &[Effect] {
        self.step(Event::Request { request_id: RequestId(7), request })
    }

    pub(crate) fn vote_request(
        &mut self,
        from: i32,
        epoch: i32,
        last: OffsetAndEpoch,
        pre_vote: bool,
    ) -> VoteResponse {
        let (epoch, candidate) = (Epoch(epoch), key(from));
        let request = VoteRequest { voter: None, epoch, candidate, last, pre_vote, counts_memory: true };
        self.request(Request::Vote(request));
        self.reply_to_vote()
    }

    pub(super) fn reply_to_vote(&self) -> VoteResponse {
        let reply = self.effects.iter().find_map(|effect| match effect {
            Effect::Reply { response: Response::Vote(response), .. } => Some(response.clone()),
            _ => None,
        });
        reply.expect("a reply to the Vote")
    }

    pub(crate) fn vote_response(&mut self, from: i32, epoch: i32, granted: bool) -> &[Effect] {
        self.vote_response_of(from, epoch, granted, VoterMemory::Whole)
    }

    pub(super) fn vote_response_of(
        &mut self,
        from: i32,
        epoch: i32,
        granted: bool,
        memory: VoterMemory,
    ) -> &[Effect] {
        let error = ErrorCode::NONE;
        let response =
            VoteResponse { error, leader: None, epoch: Epoch(epoch), granted, memory, start: None };
        self.step(Event::Response { from: NodeId(from), response: Response::Vote(response) })
    }

    pub(super) fn fetch(&mut self, from: i32, epoch: i32, offset: i64, last_epoch: i32) -> FetchVerdict {
        let request = FetchRequest {
            replica: key(from),
            epoch: Epoch(epoch),
            fetch_offset: Offset(offset),
            last_fetched_epoch: Epoch(last_epoch),
            max_wait_ms: 500,
            high_watermark: None,
            unfit: None,
            one_batch: false,
            log_start: Some(Offset(0)),
            wall_ms: None,
        };
        self.request(Request::Fetch(request));
        let verdict = self.effects.iter().find_map(|effect| match effect {
            Effect::Fetched { verdict, .. } => Some(*verdict),
            _ => None,
        });
        verdict.expect("a verdict on the Fetch")
    }

    /// A good answer of node 2, leader of our epoch.
    pub(super) fn fetched(&mut self, high_watermark: Option<i64>, batches: &[BatchSpan]) -> &[Effect] {
        let response = FetchResponse {
            high_watermark: high_watermark.map(|offset| HighWatermark(Offset(offset))),
            batches: batches.to_vec(),
            ..self.fetch_response()
        };
        self.step(Event::Response { from: NodeId(2), response: Response::Fetch(response) })
    }

    pub(super) fn diverging(&mut self, end: OffsetAndEpoch) -> &[Effect] {
        let response = FetchResponse { diverging: Some(end), ..self.fetch_response() };
        self.step(Event::Response { from: NodeId(2), response: Response::Fetch(response) })
    }

    pub(crate) fn fetch_response(&self) -> FetchResponse {
        FetchResponse {
            error: ErrorCode::NONE,
            leader: Some(NodeId(2)),
            epoch: self.raft.epoch(),
            high_watermark: None,
            diverging: None,
            snapshot: None,
            begin: None,
            lagging: 0,
            log_start: None,
            batches: Vec::new(),
        }
    }

    /// The voter itself answers that this epoch has come, and who leads it.
    pub(super) fn told_epoch(&mut self, from: i32, epoch: i32, leader: i32) -> &[Effect] {
        let (error, leader) = (ErrorCode::FENCED_LEADER_EPOCH, Some(NodeId(leader)));
        let response = LeaderResponse { error, leader, epoch: Epoch(epoch) };
        self.step(Event::Response { from: NodeId(from), response: Response::AskEpoch(response) })
    }

    /// A leader begins its epoch, is asked, and says so itself.
    pub(super) fn follow(&mut self, leader: i32, epoch: i32) -> &[Effect] {
        let begin = BeginQuorumEpochRequest { voter: None, leader: NodeId(leader), epoch: Epoch(epoch) };
        self.request(Request::BeginQuorumEpoch(begin));
        assert_eq!(self.asked(), [leader]);
        self.told_epoch(leader, epoch, leader)
    }

    /// Who was asked for its epoch and leader by the last step.
    pub(super) fn asked(&self) -> Vec<i32> {
        let is_question = |request: &Request| matches!(request, Request::AskEpoch(_));
        self.sent().into_iter().filter(|(_, request)| is_question(request)).map(|(to, _)| to).collect()
    }

    /// The leader, which is 2, refuses a Fetch: it does not lead any more.
    pub(super) fn leader_leaves(&mut self) -> &[Effect] {
        let error = ErrorCode::NOT_LEADER_OR_FOLLOWER;
        let response = FetchResponse { error, leader: None, ..self.fetch_response() };
        self.step(Event::Response { from: NodeId(2), response: Response::Fetch(response) })
    }

    /// Requests of the last step, with whom they go to.
    pub(super) fn sent(&self) -> Vec<(i32, &Request)> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Send { to, request } => Some((to.0, request)),
                _ => None,
            })
            .collect()
    }

    pub(super) fn sent_fetch(&self) -> Option<&FetchRequest> {
        self.sent().into_iter().find_map(|(_, request)| match request {
            Request::Fetch(fetch) => Some(fetch),
            _ => None,
        })
    }

    pub(super) fn has_dropped(&self, node: i32) -> bool {
        self.effects
            .iter()
            .any(|effect| matches!(effect, Effect::DropPeer { node: dropped, .. } if dropped.0 == node))
    }
}

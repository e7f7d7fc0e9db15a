//! Test only: what a node did, in the words of the scripts.

use super::*;

pub(super) fn show_state(state: &QuorumState) -> String {
    let leader = state.leader.map_or("-".to_string(), |id| id.to_string());
    let voted = state.voted.map_or("-".to_string(), |key| key.id.to_string());
    let reserve = if state.caught_up { "" } else { " not caught up" };
    format!("epoch={} leader={leader} voted={voted}{reserve}", state.epoch)
}

pub(super) fn show_effect(effect: &Effect) -> String {
    match effect {
        Effect::Send { to, request } => format!("n{to} {}", show_request(request)),
        Effect::Reply { response, .. } => format!("reply {}", show_response(response)),
        Effect::Fetched { verdict, .. } => match verdict {
            FetchVerdict::Refused(error) => format!("fetch refused {}", error.name()),
            FetchVerdict::Diverging(end) => format!("fetch diverging epoch={} end={}", end.epoch, end.offset),
            FetchVerdict::Read { from } => format!("fetch read from={from}"),
            snapshot => format!("fetch {snapshot:?}"),
        },
        Effect::AppendLeaderChange { base_offset, epoch, granting, .. } => {
            let granting: Vec<String> = granting.iter().map(|id| id.to_string()).collect();
            format!("append leader change at={base_offset} epoch={epoch} granting={}", granting.join(","))
        }
        Effect::AppendFetched { first, count } => format!("append fetched first={first} count={count}"),
        Effect::Truncate { to } => format!("truncate to={to}"),
        Effect::AdvanceStart(_)
        | Effect::StartNamed
        | Effect::InstallSnapshot { .. }
        | Effect::PlaceSnapshot { .. } => format!("{effect:?}"),
        Effect::HighWatermark(high_watermark) => format!("high watermark {high_watermark}"),
        Effect::RoleChanged => "role changed".to_string(),
        Effect::DropPeer { node, why } => format!("drop n{node}: {why}"),
        Effect::Stop { why } => format!("stop: {why}"),
        Effect::ShutdownComplete => "shutdown complete".to_string(),
    }
}

fn show_request(request: &Request) -> String {
    match request {
        Request::Vote(vote) => {
            let kind = if vote.pre_vote { "PreVote" } else { "Vote" };
            format!("{kind} epoch={} last={}@{}", vote.epoch, vote.last.offset, vote.last.epoch)
        }
        Request::BeginQuorumEpoch(begin) => format!("BeginQuorumEpoch epoch={}", begin.epoch),
        Request::EndQuorumEpoch(end) => {
            let preferred: Vec<String> =
                end.preferred_candidates.iter().map(|key| key.id.to_string()).collect();
            format!("EndQuorumEpoch epoch={} preferred={}", end.epoch, preferred.join(","))
        }
        Request::AskEpoch(_) => "AskEpoch".to_string(),
        Request::Fetch(fetch) => {
            format!("Fetch epoch={} from={}@{}", fetch.epoch, fetch.fetch_offset, fetch.last_fetched_epoch)
        }
    }
}

fn show_response(response: &Response) -> String {
    let leader = |leader: Option<NodeId>| leader.map_or("-".to_string(), |id| id.to_string());
    match response {
        Response::Vote(vote) => {
            let verdict = if vote.granted { "granted" } else { "rejected" };
            format!("{verdict} {} epoch={} leader={}", vote.error.name(), vote.epoch, leader(vote.leader))
        }
        Response::BeginQuorumEpoch(r) | Response::EndQuorumEpoch(r) | Response::AskEpoch(r) => {
            format!("{} epoch={} leader={}", r.error.name(), r.epoch, leader(r.leader))
        }
        Response::Fetch(fetch) => format!(
            "{} epoch={} leader={} batches={}",
            fetch.error.name(),
            fetch.epoch,
            leader(fetch.leader),
            fetch.batches.len()
        ),
    }
}

//! Places for connections: clients up to `max.connections`, voters beside them, guests until they say which they are.
//!
//! Nobody can tell a voter before it has spoken, so above the clients' places a connection is let in as a guest. It keeps its
//! place only as a voter. A new guest takes the place of one of those that came first: nobody can hold them all.

use crate::raft::random::Random;
use crate::types::{NS_PER_MS, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A voter's connection that has had so many answers is known ...
pub(crate) const KNOWN_ANSWERS: u64 = 8;
/// ... as long as something was read from it so lately: a follower fetches each half second, and behind a slow flush at least each
/// quarter of its fetch timeout.
pub(crate) const KNOWN_SILENCE_NS_MAX: u64 = 10_000 * NS_PER_MS;
/// Of a voter's places one part in so many is kept for those that are known.
const KNOWN_PART: usize = 2;
/// To wait for an answer is worth as much as so many that one has had.
const WAITS_WORTH: u64 = 2;
/// A guest's place goes to a newcomer only behind so many others, or behind half of them: to find the one that goes is not to take
/// longer the more there are.
const OLDER_GUESTS_MAX: usize = 128;

/// Of a connection, as it was accepted: later ones are higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlaceId(pub(crate) u64);

/// How many of each there may be.
#[derive(Clone, Debug)]
pub(crate) struct PlaceLimits {
    pub(crate) clients_max: usize,
    pub(crate) guests_max: usize,
    /// Of each voter.
    pub(crate) voter_connections_max: usize,
    /// A guest that has not said by then who it is goes.
    pub(crate) guest_ms_max: u64,
}

impl PlaceLimits {
    /// With so many other voters.
    pub(crate) fn most(&self, others: usize) -> PlaceCounts {
        PlaceCounts {
            clients: self.clients_max,
            guests: self.guests_max,
            voters: others * self.voter_connections_max,
        }
    }
}

/// So many places of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlaceCounts {
    pub(crate) clients: usize,
    pub(crate) guests: usize,
    pub(crate) voters: usize,
}

impl PlaceCounts {
    pub(crate) fn sum(self) -> usize {
        self.clients + self.guests + self.voters
    }
}

#[derive(Debug)]
enum Holder {
    Client,
    Guest {
        since_ns: u64,
    },
    Voter {
        id: NodeId,
    },
    /// Told to go, and not gone yet.
    Leaving,
}

/// What the owner of a connection tells of it. Only of a voter's it matters.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Monotonic ns at which it was accepted, or read from last.
    read_ns: AtomicU64,
    /// It waits for an answer of ours.
    waits: AtomicBool,
    answers: AtomicU64,
    gives_way: AtomicBool,
}

impl Activity {
    pub(crate) fn new(now_ns: u64) -> Activity {
        Activity { read_ns: AtomicU64::new(now_ns), ..Activity::default() }
    }

    pub(crate) fn note_read(&self, now_ns: u64) {
        self.read_ns.store(now_ns, Ordering::Relaxed);
    }

    pub(crate) fn note_asked(&self) {
        self.waits.store(true, Ordering::Relaxed);
    }

    /// Answers that are asked for at once count once: to be known takes as many round trips.
    pub(crate) fn note_answered(&self, still_waits: bool) {
        self.waits.store(still_waits, Ordering::Relaxed);
        self.answers.fetch_add(u64::from(!still_waits), Ordering::Relaxed);
    }

    /// It has to go for another one of the same voter.
    fn give_way(&self) {
        self.gives_way.store(true, Ordering::Relaxed);
    }

    pub(crate) fn gives_way(&self) -> bool {
        self.gives_way.load(Ordering::Relaxed)
    }

    fn read_ns(&self) -> u64 {
        self.read_ns.load(Ordering::Relaxed)
    }

    fn is_known(&self, now_ns: u64) -> bool {
        self.answers(now_ns) >= KNOWN_ANSWERS
    }

    /// That it has had, as far as they count: of one that has gone without a word, none.
    fn answers(&self, now_ns: u64) -> u64 {
        let is_silent = now_ns.saturating_sub(self.read_ns()) > KNOWN_SILENCE_NS_MAX;
        if is_silent { 0 } else { self.answers.load(Ordering::Relaxed).min(KNOWN_ANSWERS) }
    }

    /// What speaks for its being the voter's: a follower gets one answer after the other, and waits for the next nearly always.
    fn worth(&self, now_ns: u64) -> u64 {
        let waits = self.waits.load(Ordering::Relaxed);
        self.answers(now_ns) + if waits { WAITS_WORTH } else { 0 }
    }
}

#[derive(Debug)]
struct Seat {
    holder: Holder,
    activity: Arc<Activity>,
}

/// What a connection is after it has shown itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Client,
    Voter {
        /// Close this one: the voter has too many.
        instead_of: Option<PlaceId>,
    },
    /// Close it: all places for clients are taken.
    NoPlace,
}

/// The places of one node.
#[derive(Debug)]
pub(crate) struct Places {
    limits: PlaceLimits,
    voters: BTreeSet<NodeId>,
    seats: BTreeMap<PlaceId, Seat>,
    guests: BTreeSet<PlaceId>,
    clients: usize,
    of_voters: BTreeMap<NodeId, BTreeSet<PlaceId>>,
    next: u64,
}

impl Places {
    /// `voters`: the others of the quorum.
    pub(crate) fn new(limits: PlaceLimits, voters: impl IntoIterator<Item = NodeId>) -> Places {
        Places {
            limits,
            voters: voters.into_iter().collect(),
            seats: BTreeMap::new(),
            guests: BTreeSet::new(),
            clients: 0,
            of_voters: BTreeMap::new(),
            next: 0,
        }
    }

    /// Connections that have a place, without those that were told to go.
    pub(crate) fn taken(&self) -> PlaceCounts {
        PlaceCounts {
            clients: self.clients,
            guests: self.guests.len(),
            voters: self.of_voters.values().map(BTreeSet::len).sum(),
        }
    }

    /// Most that there can ever be.
    pub(crate) fn most(&self) -> PlaceCounts {
        self.limits.most(self.voters.len())
    }

    /// A connection was accepted. Those named are to be closed for it. `activity` is told by its owner.
    pub(crate) fn arrive(&mut self, now_ns: u64, activity: Arc<Activity>) -> (PlaceId, Vec<PlaceId>) {
        let place = PlaceId(self.next);
        self.next += 1;
        let is_client = self.clients < self.limits.clients_max;
        let mut closed = Vec::new();
        let holder = if is_client {
            self.clients += 1;
            Holder::Client
        } else {
            closed = self.expire(now_ns);
            if self.guests.len() >= self.limits.guests_max
                && let Some(guest) = self.guest_to_go(place)
            {
                self.send_away(guest);
                closed.push(guest);
            }
            self.guests.insert(place);
            Holder::Guest { since_ns: now_ns }
        };
        self.seats.insert(place, Seat { holder, activity });
        (place, closed)
    }

    /// Guests whose time is over: close them.
    pub(crate) fn expire(&mut self, now_ns: u64) -> Vec<PlaceId> {
        let most_ns = self.limits.guest_ms_max * NS_PER_MS;
        let is_over = |seat: &Seat| match seat.holder {
            Holder::Guest { since_ns } => now_ns.saturating_sub(since_ns) > most_ns,
            _ => false,
        };
        let over: Vec<PlaceId> =
            self.guests.iter().copied().take_while(|id| self.seats.get(id).is_some_and(is_over)).collect();
        over.iter().for_each(|place| self.send_away(*place));
        over
    }

    /// It has sent what a voter sends, in the name of this node.
    pub(crate) fn show_voter(&mut self, place: PlaceId, voter: NodeId) -> Shown {
        if !self.voters.contains(&voter) {
            return self.show_client(place);
        }
        match self.seats.get(&place).map(|seat| &seat.holder) {
            Some(Holder::Client) => self.clients -= 1,
            Some(Holder::Guest { .. }) => _ = self.guests.remove(&place),
            // Whose it is was said before; it does not change.
            Some(Holder::Voter { .. }) => return Shown::Voter { instead_of: None },
            Some(Holder::Leaving) | None => return Shown::NoPlace,
        }
        let now_ns = self.seats.get(&place).map_or(0, |seat| seat.activity.read_ns());
        let instead_of = self.least_of(voter, now_ns);
        if let Some(least) = instead_of {
            self.seats.get(&least).into_iter().for_each(|seat| seat.activity.give_way());
            self.send_away(least);
        }
        if let Some(seat) = self.seats.get_mut(&place) {
            seat.holder = Holder::Voter { id: voter };
            self.of_voters.entry(voter).or_default().insert(place);
        }
        Shown::Voter { instead_of }
    }

    /// It has sent what only a client sends.
    pub(crate) fn show_client(&mut self, place: PlaceId) -> Shown {
        let has_room = self.clients < self.limits.clients_max;
        let Some(seat) = self.seats.get_mut(&place) else { return Shown::NoPlace };
        match seat.holder {
            Holder::Client | Holder::Voter { .. } => Shown::Client,
            Holder::Guest { .. } if has_room => {
                seat.holder = Holder::Client;
                self.clients += 1;
                self.guests.remove(&place);
                Shown::Client
            }
            Holder::Guest { .. } | Holder::Leaving => Shown::NoPlace,
        }
    }

    /// The connection is closed.
    pub(crate) fn leave(&mut self, place: PlaceId) {
        self.send_away(place);
        self.seats.remove(&place);
    }

    /// One of those that came first. Not always the first of all: however many come while a voter says who it is, it has a chance.
    fn guest_to_go(&self, newcomer: PlaceId) -> Option<PlaceId> {
        let older = self.guests.len().div_ceil(2).min(OLDER_GUESTS_MAX) as u64;
        let drawn = Random::new(newcomer.0).below(older.max(1)) as usize;
        self.guests.iter().nth(drawn).copied()
    }

    /// Of this voter's connections, when there are as many as may be, the one that goes: not the first few of those that are known;
    /// of the others the one for which the least speaks, and among equals the one that has said nothing for the longest time. Whoever
    /// only claims to be the voter closes those who do the same.
    fn least_of(&self, voter: NodeId, now_ns: u64) -> Option<PlaceId> {
        let places = self.of_voters.get(&voter)?;
        if places.len() < self.limits.voter_connections_max {
            return None;
        }
        let of_voter = || places.iter().filter_map(|place| Some((*place, &*self.seats.get(place)?.activity)));
        let known = of_voter().filter(|(_, activity)| activity.is_known(now_ns)).map(|(place, _)| place);
        let kept: BTreeSet<PlaceId> = known.take(self.limits.voter_connections_max / KNOWN_PART).collect();
        let rank = |(place, activity): &(PlaceId, &Activity)| {
            (kept.contains(place), activity.worth(now_ns), activity.read_ns())
        };
        of_voter().min_by_key(rank).map(|(place, _)| place)
    }

    fn send_away(&mut self, place: PlaceId) {
        let Some(seat) = self.seats.get_mut(&place) else { return };
        match std::mem::replace(&mut seat.holder, Holder::Leaving) {
            Holder::Client => self.clients -= 1,
            Holder::Guest { .. } => _ = self.guests.remove(&place),
            Holder::Voter { id } => {
                let places = self.of_voters.get_mut(&id);
                places.into_iter().for_each(|places| _ = places.remove(&place));
            }
            Holder::Leaving => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PlaceLimits =
        PlaceLimits { clients_max: 3, guests_max: 2, voter_connections_max: 2, guest_ms_max: 1_000 };

    fn places() -> Places {
        Places::new(LIMITS, [NodeId(2), NodeId(3)])
    }

    fn arrive(places: &mut Places, now_ms: u64) -> (PlaceId, Vec<PlaceId>) {
        places.arrive(now_ms * NS_PER_MS, Arc::default())
    }

    fn full() -> (Places, Vec<PlaceId>) {
        let mut places = places();
        let clients = (0..3).map(|_| arrive(&mut places, 0)).collect::<Vec<_>>();
        assert!(clients.iter().all(|(_, closed)| closed.is_empty()));
        (places, clients.into_iter().map(|(place, _)| place).collect())
    }

    #[test]
    fn a_voter_finds_a_place_where_clients_have_all() {
        let (mut places, _) = full();
        let (guest, closed) = arrive(&mut places, 1);
        assert!(closed.is_empty());
        assert_eq!(places.show_voter(guest, NodeId(2)), Shown::Voter { instead_of: None });
        // It is no guest any more: others come and go, and it stays.
        for now_ms in 0..20 {
            let (_, closed) = arrive(&mut places, 1 + now_ms * 2_000);
            assert!(!closed.contains(&guest));
        }
        assert_eq!(places.taken(), PlaceCounts { clients: 3, guests: 1, voters: 1 });
    }

    #[test]
    fn a_client_is_no_guest_for_long() {
        let (mut places, clients) = full();
        let (guest, _) = arrive(&mut places, 1);
        assert_eq!(places.show_client(guest), Shown::NoPlace, "who only looks like a client is closed");
        assert_eq!(places.show_voter(guest, NodeId(7)), Shown::NoPlace, "an observer is a client");
        places.leave(clients[0]);
        assert_eq!(places.show_client(guest), Shown::Client, "a place has become free meanwhile");
        let (next, _) = arrive(&mut places, 2);
        assert_eq!(places.show_client(next), Shown::NoPlace);
        assert_eq!(places.expire(1_002 * NS_PER_MS), []);
        assert_eq!(places.expire(1_003 * NS_PER_MS), [next], "and who says nothing");
        assert_eq!(places.show_voter(next, NodeId(2)), Shown::NoPlace, "it was told to go");
    }

    #[test]
    fn squatters_among_the_guests_go_first() {
        let (mut places, _) = full();
        let (first, _) = arrive(&mut places, 1);
        let (second, closed) = arrive(&mut places, 2);
        assert!(closed.is_empty());
        let (_, closed) = arrive(&mut places, 3);
        assert_eq!(closed, [first]);
        assert_eq!(places.show_voter(second, NodeId(3)), Shown::Voter { instead_of: None });
        let (_, closed) = arrive(&mut places, 4);
        assert!(closed.is_empty(), "its place is free for another guest");
    }

    #[test]
    fn a_guest_has_its_time_and_a_chance_however_many_come() {
        let limits = PlaceLimits { clients_max: 0, guests_max: 64, ..LIMITS };
        let mut places = Places::new(limits, [NodeId(2)]);
        (0..64).for_each(|_| assert_eq!(arrive(&mut places, 0).1, []));
        let mut stayed = 0;
        for _ in 0..100 {
            let (guest, _) = arrive(&mut places, 1);
            for n in 0..96 {
                let (_, closed) = arrive(&mut places, 1);
                let has_gone = closed.contains(&guest);
                assert!(!has_gone || n >= 32, "it goes for one of the {n} that came behind it");
            }
            stayed += usize::from(matches!(places.show_voter(guest, NodeId(2)), Shown::Voter { .. }));
        }
        assert!(
            (3..40).contains(&stayed),
            "{stayed} of 100, where half as many again come as there are places"
        );
    }

    #[test]
    fn of_one_voter_the_silent_connection_goes() {
        let mut places = places();
        let active: Vec<Arc<Activity>> = (0..3).map(|_| Arc::default()).collect();
        let of: Vec<PlaceId> = active.iter().map(|active| places.arrive(0, active.clone()).0).collect();
        active[0].note_read(9);
        active[1].note_read(5);
        assert_eq!(places.show_voter(of[0], NodeId(2)), Shown::Voter { instead_of: None });
        assert_eq!(places.show_voter(of[1], NodeId(2)), Shown::Voter { instead_of: None });
        assert_eq!(places.show_voter(of[2], NodeId(2)), Shown::Voter { instead_of: Some(of[1]) });
        assert_eq!(places.show_voter(of[2], NodeId(2)), Shown::Voter { instead_of: None }, "said again");
        assert_eq!(places.taken(), PlaceCounts { clients: 0, guests: 0, voters: 2 });
        // The other voter's are not touched by it.
        let (other, _) = arrive(&mut places, 1);
        assert_eq!(places.show_voter(other, NodeId(3)), Shown::Voter { instead_of: None });
    }

    /// A hundred others claim to be the voter, with one request each. The follower's connection stays.
    fn stays_beside_claims(follower: &Arc<Activity>, claim: impl Fn(&Activity)) {
        let mut places = places();
        let (place, _) = places.arrive(0, follower.clone());
        places.show_voter(place, NodeId(2));
        for n in 1..100 {
            let activity = Arc::new(Activity::new(n));
            let (other, _) = places.arrive(n, activity.clone());
            let Shown::Voter { instead_of } = places.show_voter(other, NodeId(2)) else { panic!("a voter") };
            assert_ne!(instead_of, Some(place));
            claim(&activity);
        }
    }

    /// Its Fetch is parked for half a second, and it says nothing meanwhile.
    #[test]
    fn who_waits_for_an_answer_stays_while_others_only_claim_to_be_the_voter() {
        let follower = Arc::new(Activity::new(0));
        follower.note_asked();
        stays_beside_claims(&follower, |claim| {
            claim.note_asked();
            claim.note_answered(false);
        });
    }

    /// Each of the others is answered, and it waits for nothing.
    #[test]
    fn who_has_had_more_answers_stays_before_it_is_known() {
        let follower = Arc::new(Activity::new(0));
        (0..2).for_each(|_| follower.note_answered(false));
        stays_beside_claims(&follower, |claim| claim.note_answered(false));
    }

    /// Somebody who asks for the versions eight times at once is not known by it.
    #[test]
    fn to_be_known_takes_as_many_round_trips() {
        let activity = Activity::new(0);
        for left in (0..3 * KNOWN_ANSWERS).rev() {
            activity.note_answered(left > 0);
        }
        assert!(!activity.is_known(0) && activity.answers(0) == 1);
        (1..KNOWN_ANSWERS).for_each(|_| activity.note_answered(false));
        assert!(activity.is_known(0));
    }

    #[test]
    fn a_voters_connection_that_has_to_go_says_so() {
        let mut places = places();
        let active: Vec<Arc<Activity>> = (0..3).map(|n| Arc::new(Activity::new(n))).collect();
        for activity in &active {
            let (place, _) = places.arrive(0, activity.clone());
            places.show_voter(place, NodeId(2));
        }
        assert_eq!([0, 1, 2].map(|n: usize| active[n].gives_way()), [true, false, false]);
    }

    /// Between an answer and its next Fetch it waits for nothing, and each of the others does.
    #[test]
    fn who_is_known_stays_and_a_newcomer_finds_a_place_all_the_same() {
        let mut places = places();
        let answered = |now_ns, count| {
            let activity = Arc::new(Activity::new(now_ns));
            (0..count).for_each(|_| activity.note_answered(false));
            activity
        };
        let (follower, waiting) = (answered(0, KNOWN_ANSWERS), answered(1, 0));
        let (place, _) = places.arrive(0, follower.clone());
        places.show_voter(place, NodeId(2));
        let (other, _) = places.arrive(1, waiting.clone());
        places.show_voter(other, NodeId(2));
        waiting.note_asked();
        let (next, _) = places.arrive(2, answered(2, 0));
        assert_eq!(places.show_voter(next, NodeId(2)), Shown::Voter { instead_of: Some(other) });
        // One of two places is kept for who is known; the others come and go in the other one.
        let (known, _) = places.arrive(3, answered(3, KNOWN_ANSWERS));
        assert_eq!(places.show_voter(known, NodeId(2)), Shown::Voter { instead_of: Some(next) });
        let (last, _) = places.arrive(4, answered(4, 0));
        assert_eq!(places.show_voter(last, NodeId(2)), Shown::Voter { instead_of: Some(known) });
        // It is gone without a word.
        let late_ns = KNOWN_SILENCE_NS_MAX + 1;
        let (again, _) = places.arrive(late_ns, answered(late_ns, 0));
        assert_eq!(places.show_voter(again, NodeId(2)), Shown::Voter { instead_of: Some(place) });
    }

    #[test]
    fn a_voters_connection_leaves_its_place_to_a_client() {
        let (mut places, clients) = full();
        places.show_voter(clients[1], NodeId(2));
        let (next, closed) = arrive(&mut places, 1);
        assert!(closed.is_empty());
        assert_eq!(places.show_client(next), Shown::Client);
        places.leave(clients[1]);
        places.leave(clients[0]);
        places.leave(clients[0]);
        assert_eq!(places.taken(), PlaceCounts { clients: 2, guests: 0, voters: 0 });
        assert_eq!(places.most(), PlaceCounts { clients: 3, guests: 2, voters: 4 });
    }
}

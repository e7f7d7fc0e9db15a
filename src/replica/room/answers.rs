//! Memory of answers that their readers have not taken: all of a core's clients together have a bound.
//!
//! A Fetch is answered with what is left of its share, and waits where that is nothing; other answers are small, and have the
//! rest. Who keeps others waiting, or the memory over its bound, is told by how long it has taken nothing. Counted are
//! bytes as they are sent: many readers of the same records count many times, so what is really held is less.
//!
//! What the device was read for is held by `reads`, which has a bound of its own, until its last byte is sent. Those of its
//! bytes that are unsent need no second place here. Which they are is told from below: of what a connection takes, they
//! count as taken first. So nobody who leaves a little of such an answer has room for as much of another one. The few fields of
//! our own around them are memory, but hardly any: who holds nothing else is closed for the sake of others last of all.

use crate::types::NS_PER_MS;
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The part of a share that answers to Fetches leave to all others.
const OTHERS_PART: usize = 4;
/// The fields around what was read from the device are no more than one part in so many of it, from 10 KiB on.
const FIELDS_PART: usize = 64;
/// So many times the stall an answer may be taken in, however often a byte of it goes.
const WHOLE_ANSWER_STALLS: u64 = 6;

#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerLimits {
    /// Of all answers of the share that do not come from the device.
    pub(crate) bytes_max: usize,
    /// What the device's reads may hold, which have a total of their own. As much beside `bytes_max` may be copies of it, or others.
    pub(crate) device_bytes_max: usize,
    pub(crate) stall_ms_max: u64,
}

/// What the clients of one core have not taken. The replica gives from it, the core that has the sockets gives back.
#[derive(Debug)]
pub(crate) struct Share {
    limits: AnswerLimits,
    /// Slices of what was read from the device. Those reads have a total of their own, on all cores together.
    from_device: AtomicUsize,
    /// All others.
    from_memory: AtomicUsize,
    /// Since then a Fetch waits for room, and none was let through; 0: nobody waits.
    wanted_ns: AtomicU64,
}

/// Records on their way to the connection that they are for. Dropped when they are among its answers, or when it is gone.
#[derive(Debug)]
pub struct Given {
    share: Arc<Share>,
    bytes: usize,
    from_device: usize,
}

impl Given {
    pub(crate) fn device_bytes(&self) -> usize {
        self.from_device
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.share.take_back(self.bytes, self.from_device);
    }
}

impl Share {
    pub(crate) fn new(limits: AnswerLimits) -> Arc<Share> {
        Arc::new(Share {
            limits,
            from_device: AtomicUsize::new(0),
            from_memory: AtomicUsize::new(0),
            wanted_ns: AtomicU64::new(0),
        })
    }

    pub(crate) fn limits(&self) -> &AnswerLimits {
        &self.limits
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.from_device.load(Ordering::Relaxed) + self.memory_bytes()
    }

    fn memory_bytes(&self) -> usize {
        self.from_memory.load(Ordering::Relaxed)
    }

    /// For the records of one more Fetch from memory.
    pub(crate) fn left(&self) -> usize {
        let fetched_max = self.limits.bytes_max - self.limits.bytes_max / OTHERS_PART;
        fetched_max.saturating_sub(self.memory_bytes())
    }

    /// One answer alone always fits.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        bytes <= self.left() || self.memory_bytes() == 0
    }

    /// `from_device`: so many of them are slices of what was read from the device.
    pub(crate) fn give(self: &Arc<Self>, bytes: usize, from_device: usize) -> Given {
        self.add(bytes, from_device);
        Given { share: self.clone(), bytes, from_device }
    }

    /// So many bytes wait in a connection.
    pub(crate) fn add(&self, bytes: usize, from_device: usize) {
        self.from_device.fetch_add(from_device, Ordering::Relaxed);
        self.from_memory.fetch_add(bytes - from_device, Ordering::Relaxed);
    }

    /// They were taken, or are not wanted any more.
    pub(crate) fn take_back(&self, bytes: usize, from_device: usize) {
        self.from_device.fetch_sub(from_device, Ordering::Relaxed);
        self.from_memory.fetch_sub(bytes - from_device, Ordering::Relaxed);
    }

    /// By how much the bound is passed. Small batches that the device was read for are copied, and no reader is closed for those.
    pub(crate) fn over_bytes(&self) -> usize {
        let most = self.limits.bytes_max.saturating_add(self.limits.device_bytes_max);
        self.memory_bytes().saturating_sub(most)
    }

    /// The first Fetch in line waits since then; `None`: nobody does.
    pub(crate) fn set_wanted(&self, since_ns: Option<u64>) {
        self.wanted_ns.store(since_ns.map_or(0, |since_ns| since_ns.max(1)), Ordering::Relaxed);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted_ns.load(Ordering::Relaxed) > 0
    }

    /// Who of these readers goes, because others wait: those of what the device was read for only where there is nobody else.
    pub(crate) fn stalled<T>(&self, readers: impl Iterator<Item = (T, Unsent)>, now_ns: u64) -> Vec<T> {
        let (of_device, of_memory): (Vec<_>, Vec<_>) = readers
            .filter(|(_, unsent)| self.is_stalled(unsent, now_ns))
            .partition(|(_, unsent)| unsent.is_of_device());
        let gone = if of_memory.is_empty() { of_device } else { of_memory };
        gone.into_iter().map(|(reader, _)| reader).collect()
    }

    /// Others wait, and this reader does not take what it has, or not the whole for far too long.
    fn is_stalled(&self, unsent: &Unsent, now_ns: u64) -> bool {
        let stall_ns = self.limits.stall_ms_max * NS_PER_MS;
        let wanted_ns = self.wanted_ns.load(Ordering::Relaxed);
        let has_waited = now_ns.saturating_sub(wanted_ns) > stall_ns;
        let is_silent = has_waited && unsent.silent_ns(now_ns) > stall_ns;
        let is_late = unsent.age_ns(now_ns) > WHOLE_ANSWER_STALLS * stall_ns;
        wanted_ns > 0 && unsent.holds_memory() && (is_silent || is_late)
    }
}

/// What one connection has not taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unsent {
    pushed: u64,
    taken: u64,
    /// So many of those that are left, or more, are slices of what was read from the device.
    from_device: usize,
    /// It took something last, or began to have something.
    moved_ns: u64,
    /// What was pushed up to here has been there since `mark_ns` at least.
    mark: u64,
    mark_ns: u64,
}

impl Unsent {
    pub(crate) fn push(&mut self, bytes: usize, from_device: usize, now_ns: u64) {
        let was_empty = self.bytes() == 0;
        self.pushed += bytes as u64;
        self.from_device += from_device;
        if was_empty {
            self.moved_ns = now_ns;
            (self.mark, self.mark_ns) = (self.pushed, now_ns);
        }
    }

    /// Gives how many of them count as the device's: wherever those stand among the others, no more than so many are gone now.
    pub(crate) fn take(&mut self, bytes: usize, now_ns: u64) -> usize {
        let from_device = bytes.min(self.from_device);
        self.from_device -= from_device;
        self.taken += bytes as u64;
        self.moved_ns = now_ns;
        if self.taken >= self.mark {
            (self.mark, self.mark_ns) = (self.pushed, now_ns);
        }
        from_device
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.pushed.saturating_sub(self.taken)
    }

    pub(crate) fn device_bytes(&self) -> usize {
        self.from_device
    }

    /// To close it gives something of the share back.
    pub(crate) fn holds_memory(&self) -> bool {
        self.bytes() > self.from_device as u64
    }

    /// Beside fields nothing of it is memory of the share.
    fn is_of_device(&self) -> bool {
        self.bytes() - self.from_device as u64 <= (self.from_device / FIELDS_PART) as u64
    }

    /// The order in which readers go when there is too much: who has been stuck the longest, and those of the device last.
    pub(crate) fn order(&self, now_ns: u64) -> impl Ord + use<> {
        (self.is_of_device(), Reverse(self.stuck_ns(now_ns)))
    }

    /// How long it has taken nothing, though there was something.
    pub(crate) fn silent_ns(&self, now_ns: u64) -> u64 {
        if self.bytes() > 0 { now_ns.saturating_sub(self.moved_ns) } else { 0 }
    }

    /// How long its oldest answer is there, or less.
    fn age_ns(&self, now_ns: u64) -> u64 {
        if self.bytes() > 0 { now_ns.saturating_sub(self.mark_ns) } else { 0 }
    }

    /// By this it is told who is stuck the longest; a byte now and then does not help for ever.
    fn stuck_ns(&self, now_ns: u64) -> u64 {
        self.silent_ns(now_ns).max(self.age_ns(now_ns) / WHOLE_ANSWER_STALLS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::random::Random;
    use std::collections::VecDeque;

    const LIMITS: AnswerLimits = AnswerLimits { bytes_max: 1_000, device_bytes_max: 500, stall_ms_max: 10 };
    const MS: u64 = NS_PER_MS;

    #[test]
    fn a_fetch_is_given_what_is_left_and_other_answers_have_the_rest() {
        let share = Share::new(LIMITS);
        assert!(share.fits(5_000), "one alone, whatever its size");
        let given = share.give(700, 0);
        assert_eq!(share.left(), 50);
        assert!(share.fits(50) && !share.fits(51));
        share.add(700, 0);
        drop(given);
        assert_eq!((share.held_bytes(), share.left()), (700, 50), "it lies in its connection now");
        share.add(800, 0);
        assert_eq!((share.left(), share.over_bytes()), (0, 0));
        share.add(1, 0);
        assert_eq!(share.over_bytes(), 1);
        share.take_back(1_501, 0);
        assert!(share.fits(5_000) && share.held_bytes() == 0);
    }

    #[test]
    fn answers_from_the_device_leave_those_from_memory_what_they_have() {
        let share = Share::new(LIMITS);
        let given = share.give(410, 400);
        assert_eq!((share.held_bytes(), share.left()), (410, 740));
        let mut unsent = Unsent::default();
        share.add(420, given.device_bytes());
        unsent.push(420, given.device_bytes(), 0);
        drop(given);
        share.add(1_480, 0);
        assert_eq!((share.left(), share.over_bytes()), (0, 0), "what it is read into has a bound of its own");
        share.take_back(1_480, 0);
        let mut take = |bytes| share.take_back(bytes, unsent.take(bytes, 0));
        take(399);
        assert_eq!(
            (share.held_bytes(), share.left()),
            (21, 730),
            "no more is left of the device's than one byte"
        );
        take(2);
        assert_eq!((share.held_bytes(), share.left()), (19, 731));
        take(19);
        assert_eq!((share.held_bytes(), share.left()), (0, 750));
    }

    /// What connections hold, told byte by byte, beside what is counted. `true`: a slice of what the device was read for.
    #[derive(Default)]
    struct Model {
        connections: Vec<(VecDeque<bool>, Unsent)>,
        on_way: Vec<(usize, Vec<bool>, Given)>,
    }

    impl Model {
        fn memory_bytes(&self) -> usize {
            let unsent = self.connections.iter().flat_map(|(bytes, _)| bytes);
            unsent
                .chain(self.on_way.iter().flat_map(|(_, bytes, _)| bytes))
                .filter(|is_device| !**is_device)
                .count()
        }

        /// The answer is among those of its connection.
        fn arrive(&mut self, share: &Share, at: usize) {
            let (connection, bytes, given) = self.on_way.remove(at);
            let (held, unsent) = &mut self.connections[connection];
            share.add(bytes.len(), given.device_bytes());
            unsent.push(bytes.len(), given.device_bytes(), 0);
            held.extend(bytes);
        }

        fn take(&mut self, share: &Share, connection: usize, bytes: usize) {
            let (held, unsent) = &mut self.connections[connection];
            let taken = held.drain(..bytes.min(held.len())).count();
            share.take_back(taken, unsent.take(taken, 0));
        }

        fn close(&mut self, share: &Share, connection: usize) {
            let (held, unsent) = std::mem::take(&mut self.connections[connection]);
            share.take_back(held.len(), unsent.device_bytes());
        }
    }

    /// Whoever takes how much of what, and leaves how little: what the device's reads do not hold stays within the bound, and
    /// a Fetch is given only what is left of its part of it.
    #[test]
    fn what_is_held_beside_the_device_is_never_more_than_is_named() {
        const FETCHED_MAX: usize = 750;
        const MAX: usize = 1_500;
        for seed in 0..200 {
            let (share, mut model, mut random) = (Share::new(LIMITS), Model::default(), Random::new(seed));
            model.connections.resize_with(4, Default::default);
            for _ in 0..400 {
                let connection = random.below(4) as usize;
                let held = model.connections[connection].0.len();
                let bytes = 1 + random.below(200) as usize;
                match random.below(8) {
                    // From memory: as much as there is room for.
                    0 | 1 if bytes <= share.left() => {
                        assert!(model.memory_bytes() + bytes <= FETCHED_MAX);
                        model.on_way.push((connection, vec![false; bytes], share.give(bytes, 0)));
                    }
                    // From the device, between fields of our own.
                    2 | 3 => {
                        let own = random.below(20) as usize;
                        let answer =
                            [vec![false; own / 2], vec![true; bytes], vec![false; own - own / 2]].concat();
                        model.on_way.push((connection, answer, share.give(bytes + own, bytes)));
                    }
                    // Another question.
                    4 => model.on_way.push((connection, vec![false; bytes], share.give(bytes, 0))),
                    // All but a little, or a part.
                    5 => model.take(&share, connection, held.saturating_sub(1 + random.below(2) as usize)),
                    6 => model.take(&share, connection, random.below(held as u64 + 1) as usize),
                    _ if random.below(10) == 0 => model.close(&share, connection),
                    _ => {}
                }
                while model.on_way.len() > random.below(4) as usize {
                    model.arrive(&share, 0);
                }
                while share.over_bytes() > 0 {
                    let holds_memory = |(_, unsent): &(_, Unsent)| unsent.holds_memory();
                    match model.connections.iter().position(holds_memory) {
                        Some(stuck) => model.close(&share, stuck),
                        None => model.arrive(&share, 0),
                    }
                }
                assert!(model.memory_bytes() <= MAX, "seed {seed}");
            }
            while !model.on_way.is_empty() {
                model.arrive(&share, 0);
            }
            (0..4).for_each(|connection| model.close(&share, connection));
            assert_eq!(
                (share.held_bytes(), share.left()),
                (0, FETCHED_MAX),
                "seed {seed}: all is given back"
            );
        }
    }

    #[test]
    fn who_takes_nothing_is_stalled_only_while_others_wait() {
        let (share, mut unsent) = (Share::new(LIMITS), Unsent::default());
        unsent.push(100, 0, MS);
        assert!(!share.is_stalled(&unsent, 1_000 * MS));
        share.set_wanted(Some(1_000 * MS));
        assert!(share.is_stalled(&unsent, 1_000 * MS), "it had all the time in the world");
        unsent.take(10, 1_005 * MS);
        assert!(!share.is_stalled(&Unsent::default(), 9_000 * MS), "who has nothing to take");
        let mut fresh = Unsent::default();
        fresh.push(100, 0, 1_004 * MS);
        assert!(!share.is_stalled(&fresh, 1_010 * MS), "nobody has waited long");
        assert!(share.is_stalled(&fresh, 1_015 * MS));
        fresh.take(1, 1_014 * MS);
        assert!(!share.is_stalled(&fresh, 1_020 * MS), "it takes some");
        fresh.take(1, 1_064 * MS);
        assert!(share.is_stalled(&fresh, 1_065 * MS), "but too slowly");
        fresh.take(98, 1_065 * MS);
        assert!(!share.is_stalled(&fresh, 2_000 * MS), "it has all");
        let mut cold = Unsent::default();
        cold.push(100, 100, 0);
        assert!(!share.is_stalled(&cold, 9_000 * MS), "nobody who waits would have it");
        // Fields of our own stand around all that is read from the device.
        let (mut cold, mut small) = (Unsent::default(), Unsent::default());
        cold.push(64_000 + 1_000, 64_000, 0);
        small.push(1, 0, 8_000 * MS);
        assert!(small.order(9_000 * MS) < cold.order(9_000 * MS));
        assert_eq!(share.stalled([(1, cold), (2, small)].into_iter(), 9_000 * MS), [2]);
        assert_eq!(share.stalled([(1, cold)].into_iter(), 9_000 * MS), [1], "or nobody would make room");
        cold.push(1, 0, 0);
        assert_eq!(
            share.stalled([(1, cold), (2, small)].into_iter(), 9_000 * MS),
            [1, 2],
            "more than its fields"
        );
        share.set_wanted(None);
        assert!(!share.is_wanted() && !share.is_stalled(&unsent, 9_000 * MS));
    }

    /// What it has not taken never ends, and each answer is taken in its time.
    #[test]
    fn a_busy_reader_is_not_stuck() {
        let mut unsent = Unsent::default();
        unsent.push(200, 0, 0);
        for now in 1..1_000 {
            unsent.take(100, now);
            unsent.push(100, 0, now);
            assert!(unsent.bytes() == 200 && unsent.stuck_ns(now) <= 1);
        }
        let mut slow = Unsent::default();
        slow.push(1_000, 0, 0);
        slow.take(1, 599);
        assert_eq!(slow.stuck_ns(600), 100);
    }
}

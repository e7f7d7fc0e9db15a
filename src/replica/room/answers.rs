//! Memory of answers that their readers have not taken: all of a core's clients together have a bound.
//!
//! A Fetch is answered with what is left of its share, and waits where that is nothing; other answers are small, and have the
//! rest. Who keeps others waiting, or the memory over its bound, is told by how long it has taken nothing. Counted are
//! bytes as they are sent: many readers of the same records count many times, so what is really held is less.

use crate::types::NS_PER_MS;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The part of a share that answers to Fetches leave to all others.
const OTHERS_PART: usize = 4;
/// So many times the stall an answer may be taken in, however often a byte of it goes.
const WHOLE_ANSWER_STALLS: u64 = 6;

#[derive(Clone, Copy, Debug)]
pub struct AnswerLimits {
    /// Of all answers of the share that do not come from the device.
    pub bytes_max: usize,
    /// What the device's reads may hold beside them: they have a total of their own.
    pub device_bytes_max: usize,
    pub stall_ms_max: u64,
}

/// What the clients of one core have not taken. The replica gives from it, the core that has the sockets gives back.
#[derive(Debug)]
pub struct Share {
    limits: AnswerLimits,
    held: AtomicUsize,
    /// Of that read from the device. Those reads have a total of their own, on all cores together.
    from_device: AtomicUsize,
    /// Since then a Fetch waits for room, and none was let through; 0: nobody waits.
    wanted_ns: AtomicU64,
}

/// Records on their way to the connection that they are for. Dropped when they are among its answers, or when it is gone.
#[derive(Debug)]
pub struct Given {
    share: Arc<Share>,
    bytes: usize,
}

impl Drop for Given {
    fn drop(&mut self) {
        self.share.take_back(self.bytes);
    }
}

/// Bytes of an answer that came from the device, as long as any of them is held.
#[derive(Debug)]
pub struct FromDevice {
    share: Arc<Share>,
    bytes: usize,
}

impl Drop for FromDevice {
    fn drop(&mut self) {
        self.share.from_device.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Share {
    pub fn new(limits: AnswerLimits) -> Arc<Share> {
        Arc::new(Share {
            limits,
            held: AtomicUsize::new(0),
            from_device: AtomicUsize::new(0),
            wanted_ns: AtomicU64::new(0),
        })
    }

    pub fn limits(&self) -> &AnswerLimits {
        &self.limits
    }

    pub fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// For the records of one more Fetch from memory.
    pub fn left(&self) -> usize {
        let fetched_max = self.limits.bytes_max - self.limits.bytes_max / OTHERS_PART;
        // More than its reads may hold does not come from it.
        let from_device = self.from_device.load(Ordering::Relaxed).min(self.limits.device_bytes_max);
        fetched_max.saturating_sub(self.held_bytes().saturating_sub(from_device))
    }

    /// So many of the bytes that are about to be given come from the device.
    pub fn note_from_device(self: &Arc<Self>, bytes: usize) -> FromDevice {
        self.from_device.fetch_add(bytes, Ordering::Relaxed);
        FromDevice { share: self.clone(), bytes }
    }

    /// One answer alone always fits.
    pub fn fits(&self, bytes: usize) -> bool {
        bytes <= self.left() || self.held_bytes() == 0
    }

    pub fn give(self: &Arc<Self>, bytes: usize) -> Given {
        self.add(bytes);
        Given { share: self.clone(), bytes }
    }

    /// So many bytes wait in a connection.
    pub fn add(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// They were taken, or are not wanted any more.
    pub fn take_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// By how much the bound is passed.
    pub fn over_bytes(&self) -> usize {
        let most = self.limits.bytes_max.saturating_add(self.limits.device_bytes_max);
        self.held_bytes().saturating_sub(most)
    }

    /// The first Fetch in line waits since then; `None`: nobody does.
    pub fn set_wanted(&self, since_ns: Option<u64>) {
        self.wanted_ns.store(since_ns.map_or(0, |since_ns| since_ns.max(1)), Ordering::Relaxed);
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted_ns.load(Ordering::Relaxed) > 0
    }

    /// Others wait, and this reader does not take what it has, or not the whole for far too long.
    pub fn is_stalled(&self, unsent: &Unsent, now_ns: u64) -> bool {
        let stall_ns = self.limits.stall_ms_max * NS_PER_MS;
        let wanted_ns = self.wanted_ns.load(Ordering::Relaxed);
        let has_waited = now_ns.saturating_sub(wanted_ns) > stall_ns;
        let is_silent = has_waited && unsent.silent_ns(now_ns) > stall_ns;
        wanted_ns > 0 && (is_silent || unsent.age_ns(now_ns) > WHOLE_ANSWER_STALLS * stall_ns)
    }
}

/// What one connection has not taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsent {
    pushed: u64,
    taken: u64,
    /// It took something last, or began to have something.
    moved_ns: u64,
    /// What was pushed up to here has been there since `mark_ns` at least.
    mark: u64,
    mark_ns: u64,
}

impl Unsent {
    pub fn push(&mut self, bytes: usize, now_ns: u64) {
        let was_empty = self.bytes() == 0;
        self.pushed += bytes as u64;
        if was_empty {
            self.moved_ns = now_ns;
            (self.mark, self.mark_ns) = (self.pushed, now_ns);
        }
    }

    pub fn take(&mut self, bytes: usize, now_ns: u64) {
        self.taken += bytes as u64;
        self.moved_ns = now_ns;
        if self.taken >= self.mark {
            (self.mark, self.mark_ns) = (self.pushed, now_ns);
        }
    }

    pub fn bytes(&self) -> u64 {
        self.pushed.saturating_sub(self.taken)
    }

    /// How long it has taken nothing, though there was something.
    pub fn silent_ns(&self, now_ns: u64) -> u64 {
        if self.bytes() > 0 { now_ns.saturating_sub(self.moved_ns) } else { 0 }
    }

    /// How long its oldest answer is there, or less.
    fn age_ns(&self, now_ns: u64) -> u64 {
        if self.bytes() > 0 { now_ns.saturating_sub(self.mark_ns) } else { 0 }
    }

    /// By this it is told who is stuck the longest; a byte now and then does not help for ever.
    pub fn stuck_ns(&self, now_ns: u64) -> u64 {
        self.silent_ns(now_ns).max(self.age_ns(now_ns) / WHOLE_ANSWER_STALLS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AnswerLimits = AnswerLimits { bytes_max: 1_000, device_bytes_max: 500, stall_ms_max: 10 };
    const MS: u64 = NS_PER_MS;

    #[test]
    fn a_fetch_is_given_what_is_left_and_other_answers_have_the_rest() {
        let share = Share::new(LIMITS);
        assert!(share.fits(5_000), "one alone, whatever its size");
        let given = share.give(700);
        assert_eq!(share.left(), 50);
        assert!(share.fits(50) && !share.fits(51));
        share.add(700);
        drop(given);
        assert_eq!((share.held_bytes(), share.left()), (700, 50), "it lies in its connection now");
        share.add(800);
        assert_eq!((share.left(), share.over_bytes()), (0, 0));
        share.add(1);
        assert_eq!(share.over_bytes(), 1);
        share.take_back(1_501);
        assert!(share.fits(5_000) && share.held_bytes() == 0);
    }

    #[test]
    fn answers_from_the_device_leave_those_from_memory_what_they_have() {
        let share = Share::new(LIMITS);
        let read = share.note_from_device(400);
        let given = share.give(400);
        assert_eq!(share.left(), 750);
        share.add(700);
        assert!(share.fits(50) && !share.fits(51));
        drop((read, given));
        assert_eq!(share.left(), 50);
        let all = share.note_from_device(9_000);
        share.add(9_000);
        assert_eq!(share.left(), 0, "no more than the device's reads may hold");
        drop(all);
    }

    #[test]
    fn who_takes_nothing_is_stalled_only_while_others_wait() {
        let (share, mut unsent) = (Share::new(LIMITS), Unsent::default());
        unsent.push(100, MS);
        assert!(!share.is_stalled(&unsent, 1_000 * MS));
        share.set_wanted(Some(1_000 * MS));
        assert!(share.is_stalled(&unsent, 1_000 * MS), "it had all the time in the world");
        unsent.take(10, 1_005 * MS);
        assert!(!share.is_stalled(&Unsent::default(), 9_000 * MS), "who has nothing to take");
        let mut fresh = Unsent::default();
        fresh.push(100, 1_004 * MS);
        assert!(!share.is_stalled(&fresh, 1_010 * MS), "nobody has waited long");
        assert!(share.is_stalled(&fresh, 1_015 * MS));
        fresh.take(1, 1_014 * MS);
        assert!(!share.is_stalled(&fresh, 1_020 * MS), "it takes some");
        fresh.take(1, 1_064 * MS);
        assert!(share.is_stalled(&fresh, 1_065 * MS), "but too slowly");
        fresh.take(98, 1_065 * MS);
        assert!(!share.is_stalled(&fresh, 2_000 * MS), "it has all");
        share.set_wanted(None);
        assert!(!share.is_wanted() && !share.is_stalled(&unsent, 9_000 * MS));
    }

    /// What it has not taken never ends, and each answer is taken in its time.
    #[test]
    fn a_busy_reader_is_not_stuck() {
        let mut unsent = Unsent::default();
        unsent.push(200, 0);
        for now in 1..1_000 {
            unsent.take(100, now);
            unsent.push(100, now);
            assert!(unsent.bytes() == 200 && unsent.stuck_ns(now) <= 1);
        }
        let mut slow = Unsent::default();
        slow.push(1_000, 0);
        slow.take(1, 599);
        assert_eq!(slow.stuck_ns(600), 100);
    }
}

//! Memory for large requests, from the moment that their length is known until nothing of them is held any more.
//!
//! Before the body of a large frame is read, all that it announces is reserved: what has begun can end. How long its bytes
//! live depends on what it asks: a request that only waits must not keep others from asking. Where there is too
//! little it stands in a line, which nobody passes, and its connection is not read. Small frames need nothing; while others
//! wait only little is read at once, so that no large one comes whole without having asked.

use crate::replica::connection_id::ConnectionId;
use crate::types::NS_PER_MS;
use std::collections::VecDeque;

/// A frame up to this size, with its length, needs no reservation.
pub(crate) const SMALL_FRAME_BYTES: usize = 8 * 1024;
/// Read at most this at once while memory is short, unless it is reserved.
const SHORT_READ_BYTES: usize = 4 * 1024;
/// So many times the stall a frame may take in all while others wait, however often a byte of it comes.
const WHOLE_FRAME_STALLS: u64 = 6;

/// Of the memory one part in so many is for what is neither Produce nor Fetch.
const TO_ASK_PART: usize = 4;

/// The allocator is asked to give memory back after more than this was used ...
const PEAK_BYTES: usize = 32 << 20;
/// ... and then, at two looks, less than this.
const QUIET_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    /// Of all large requests of a core.
    pub(crate) bytes_max: usize,
    pub(crate) stall_ms_max: u64,
}

/// How long a request holds the bytes that it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// What was decoded shares nothing with them.
    Decoded,
    /// The replica has taken it: from there on the log counts its records.
    Taken,
    Answered,
}

/// What one connection holds of it.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// Reserved for the frame that is arriving.
    arriving: usize,
    /// That frame is neither Produce nor Fetch.
    is_to_ask: bool,
    /// Read before anybody could ask for it: what came beside a frame, or whole, and waits for its turn.
    unasked: usize,
    /// Since when.
    since_ns: u64,
    /// It stands in the line for so many bytes.
    waits_for: Option<usize>,
    /// Sequence numbers and sizes of large requests whose bytes are held.
    under_way: VecDeque<(u64, usize, Until)>,
}

impl Hold {
    /// There is memory for the whole frame that is arriving.
    pub(crate) fn is_arriving(&self) -> bool {
        self.arriving > 0
    }
}

/// The memory of one core.
///
/// What is neither Produce nor Fetch waits until it is answered, one after the other: a quarter is for that, and it has a line
/// of its own, or a crowd that asks for many things would keep producers from their memory.
#[derive(Debug)]
pub(crate) struct Frames {
    limits: FrameLimits,
    used: usize,
    /// Of that for what waits to be answered.
    used_to_ask: usize,
    /// The most that was used since memory was last given back.
    peak: usize,
    was_quiet: bool,
    line: VecDeque<(ConnectionId, usize)>,
    line_to_ask: VecDeque<(ConnectionId, usize)>,
    /// Of those in the line that have not gone.
    waiting: usize,
    waiting_bytes: usize,
}

impl Frames {
    pub(crate) fn new(limits: FrameLimits) -> Frames {
        Frames {
            limits,
            used: 0,
            used_to_ask: 0,
            peak: 0,
            was_quiet: false,
            line: VecDeque::new(),
            line_to_ask: VecDeque::new(),
            waiting: 0,
            waiting_bytes: 0,
        }
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.used
    }

    /// May more of a frame of so many bytes be read (0: it is not known yet)? If not it stands in the line now. `is_to_ask`: it is
    /// neither Produce nor Fetch.
    pub(crate) fn may_read(
        &mut self,
        id: ConnectionId,
        hold: &mut Hold,
        frame_bytes: usize,
        is_to_ask: bool,
        now_ns: u64,
    ) -> bool {
        if frame_bytes <= SMALL_FRAME_BYTES || hold.arriving > 0 {
            return true;
        }
        if hold.waits_for.is_some() {
            return false;
        }
        // What is there already counts.
        let missing_bytes = frame_bytes.saturating_sub(hold.unasked);
        hold.is_to_ask = is_to_ask;
        if self.line_of(is_to_ask).is_empty() && self.fits(missing_bytes, is_to_ask) {
            self.reserve(hold, missing_bytes, now_ns);
            return true;
        }
        hold.waits_for = Some(missing_bytes);
        self.waiting += 1;
        self.waiting_bytes += missing_bytes;
        match is_to_ask {
            true => self.line_to_ask.push_back((id, missing_bytes)),
            false => self.line.push_back((id, missing_bytes)),
        }
        false
    }

    fn line_of(&self, is_to_ask: bool) -> &VecDeque<(ConnectionId, usize)> {
        if is_to_ask { &self.line_to_ask } else { &self.line }
    }

    fn to_ask_bytes_max(&self) -> usize {
        self.limits.bytes_max / TO_ASK_PART
    }

    /// One frame alone always fits, whatever its size: its own bound is `socket.request.max.bytes`.
    fn fits(&self, bytes: usize, is_to_ask: bool) -> bool {
        if self.used == 0 {
            return true;
        }
        let fits_all = self.used + bytes <= self.limits.bytes_max;
        let others_bytes_max = self.limits.bytes_max - self.to_ask_bytes_max();
        if !is_to_ask {
            // While somebody waits to ask, its part is left to it; a frame that is larger than the others' part comes alone.
            let others = self.used - self.used_to_ask;
            let is_in_part = others + bytes <= others_bytes_max || others == 0;
            return fits_all && (is_in_part || self.line_to_ask.is_empty());
        }
        let keeps_back = self.line.front().is_some_and(|(_, waits_for)| *waits_for > others_bytes_max);
        let is_in_part = self.used_to_ask == 0 || self.used_to_ask + bytes <= self.to_ask_bytes_max();
        fits_all && is_in_part && !keeps_back
    }

    fn reserve(&mut self, hold: &mut Hold, bytes: usize, now_ns: u64) {
        (hold.arriving, hold.since_ns) = (bytes + std::mem::take(&mut hold.unasked), now_ns);
        self.used += bytes;
        if hold.is_to_ask {
            self.used_to_ask += hold.arriving;
        }
        self.peak = self.peak.max(self.used);
    }

    /// The next in line, if there is memory for it. It gets it with `let_in`.
    pub(crate) fn next_served(&mut self) -> Option<(ConnectionId, usize)> {
        if self.line.front().is_some_and(|(_, bytes)| self.fits(*bytes, false)) {
            return self.line.pop_front();
        }
        match self.line_to_ask.front() {
            Some((_, bytes)) if self.fits(*bytes, true) => self.line_to_ask.pop_front(),
            _ => None,
        }
    }

    /// The one that `next_served` has named. False: it does not wait any more.
    pub(crate) fn let_in(&mut self, hold: &mut Hold, bytes: usize, now_ns: u64) -> bool {
        if !self.leave_line(hold) {
            return false;
        }
        self.reserve(hold, bytes, now_ns);
        true
    }

    /// So much of a connection has been read and not taken. Told after each read, and when no whole request is left.
    pub(crate) fn note_buffered(&mut self, hold: &mut Hold, bytes: usize) {
        let beside = bytes.saturating_sub(hold.arriving);
        let unasked = if beside > SMALL_FRAME_BYTES { beside } else { 0 };
        self.used = self.used - std::mem::replace(&mut hold.unasked, unasked) + unasked;
        self.peak = self.peak.max(self.used);
    }

    /// The frame of request `seq` has come whole. One that came at once was not asked for, and counts all the same. True: it
    /// is held, and `taken` is to be told.
    pub(crate) fn came(&mut self, hold: &mut Hold, seq: u64, frame_bytes: usize, until: Until) -> bool {
        if frame_bytes <= SMALL_FRAME_BYTES {
            return false;
        }
        let reserved = std::mem::take(&mut hold.arriving);
        if hold.is_to_ask {
            self.used_to_ask -= reserved;
        }
        if until == Until::Answered {
            self.used_to_ask += frame_bytes;
        }
        self.used = (self.used - reserved) + frame_bytes;
        self.peak = self.peak.max(self.used);
        if until == Until::Decoded {
            self.used -= frame_bytes;
            return false;
        }
        hold.under_way.push_back((seq, frame_bytes, until));
        until == Until::Taken
    }

    /// The replica has request `seq`.
    pub(crate) fn taken(&mut self, hold: &mut Hold, seq: u64) {
        self.let_go(hold, |held, until| held == seq && until == Until::Taken);
    }

    /// Request `seq` is answered, and nothing of it is in memory for its own sake.
    pub(crate) fn answered(&mut self, hold: &mut Hold, seq: u64) {
        self.let_go(hold, |held, _| held == seq);
    }

    fn let_go(&mut self, hold: &mut Hold, is_over: impl Fn(u64, Until) -> bool) {
        let at = hold.under_way.iter().position(|(seq, _, until)| is_over(*seq, *until));
        if let Some((_, bytes, until)) = at.and_then(|at| hold.under_way.remove(at)) {
            self.give_back(bytes, until == Until::Answered);
        }
    }

    /// The connection is gone.
    pub(crate) fn leave(&mut self, hold: &mut Hold) {
        self.give_back(std::mem::take(&mut hold.arriving), hold.is_to_ask);
        for (_, bytes, until) in hold.under_way.drain(..) {
            self.give_back(bytes, until == Until::Answered);
        }
        // Its name stays in the line, and is passed over.
        self.leave_line(hold);
        self.note_buffered(hold, 0);
    }

    fn give_back(&mut self, bytes: usize, is_to_ask: bool) {
        self.used -= bytes;
        if is_to_ask {
            self.used_to_ask -= bytes;
        }
    }

    /// False: it stood in none.
    fn leave_line(&mut self, hold: &mut Hold) -> bool {
        let Some(bytes) = hold.waits_for.take() else { return false };
        self.waiting -= 1;
        self.waiting_bytes -= bytes;
        true
    }

    /// How many wait for memory, and for how much.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.waiting, self.waiting_bytes)
    }

    /// Asked now and then: much was used, and has not been for a while, so what the allocator keeps of it can go. Once for
    /// each time.
    pub(crate) fn must_give_back(&mut self) -> bool {
        let is_quiet = self.used < QUIET_BYTES && self.peak >= PEAK_BYTES;
        let must = is_quiet && self.was_quiet;
        self.was_quiet = is_quiet && !must;
        if must {
            self.peak = 0;
        }
        must
    }

    /// Somebody waits for memory.
    pub(crate) fn has_line(&self) -> bool {
        !(self.line.is_empty() && self.line_to_ask.is_empty())
    }

    /// Most that may be read at once from a connection: while memory is short, no more than is missing of the frame that it has
    /// been reserved for. What comes behind that has not asked.
    pub(crate) fn read_bytes_max(&self, hold: &Hold, missing_bytes: usize) -> usize {
        let is_short = !self.line.is_empty()
            || self.used >= self.limits.bytes_max
            || hold.is_to_ask && !self.line_to_ask.is_empty();
        match is_short {
            true if hold.arriving == 0 => SHORT_READ_BYTES,
            true => missing_bytes.max(SHORT_READ_BYTES),
            false => usize::MAX,
        }
    }

    /// Others wait, and this one's frame does not come: no byte since `moved_ns`, or not the whole for far too long.
    pub(crate) fn is_stalled(&self, hold: &Hold, moved_ns: u64, now_ns: u64) -> bool {
        let most_ns = self.limits.stall_ms_max * NS_PER_MS;
        let is_silent = now_ns.saturating_sub(moved_ns.max(hold.since_ns)) > most_ns;
        let is_late = now_ns.saturating_sub(hold.since_ns) > WHOLE_FRAME_STALLS * most_ns;
        !self.line_of(hold.is_to_ask).is_empty() && hold.arriving > 0 && (is_silent || is_late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits = FrameLimits { bytes_max: 100_000, stall_ms_max: 10 };
    const MS: u64 = NS_PER_MS;

    fn id(number: u64) -> ConnectionId {
        ConnectionId(number)
    }

    #[test]
    fn small_frames_and_those_that_have_begun_never_wait() {
        let mut frames = Frames::new(LIMITS);
        let (mut large, mut small, mut other) = (Hold::default(), Hold::default(), Hold::default());
        assert!(frames.may_read(id(1), &mut large, 100_000, false, 0));
        assert!(!frames.may_read(id(2), &mut other, SMALL_FRAME_BYTES + 1, false, 0));
        assert!(frames.may_read(id(3), &mut small, SMALL_FRAME_BYTES, false, 0));
        assert!(frames.may_read(id(3), &mut small, 0, false, 0));
        assert!(frames.may_read(id(1), &mut large, 100_000, false, 0), "it goes on to its end");
        assert_eq!(frames.used_bytes(), 100_000);
        assert_eq!(frames.read_bytes_max(&large, 60_000), 60_000, "not what comes behind it");
        assert_eq!(frames.read_bytes_max(&large, 1), SHORT_READ_BYTES);
        assert_eq!(frames.read_bytes_max(&small, 0), SHORT_READ_BYTES);
        frames.leave(&mut large);
        frames.next_served();
        assert_eq!(frames.read_bytes_max(&small, 0), usize::MAX, "there is enough");
    }

    #[test]
    fn who_came_first_is_first_and_a_large_one_is_not_passed() {
        let mut frames = Frames::new(LIMITS);
        let mut holds: Vec<Hold> = (0..4).map(|_| Hold::default()).collect();
        assert!(frames.may_read(id(0), &mut holds[0], 60_000, false, 0));
        assert!(!frames.may_read(id(1), &mut holds[1], 90_000, false, 0));
        assert!(
            !frames.may_read(id(2), &mut holds[2], 10_000, false, 0),
            "it would fit, and waits behind the other"
        );
        assert!(!frames.may_read(id(2), &mut holds[2], 10_000, false, 0));
        assert_eq!(frames.next_served(), None);
        frames.came(&mut holds[0], 7, 60_000, Until::Answered);
        assert_eq!(frames.next_served(), None, "until it is answered");
        frames.answered(&mut holds[0], 7);
        assert_eq!(frames.next_served(), Some((id(1), 90_000)));
        assert!(frames.let_in(&mut holds[1], 90_000, 0));
        assert_eq!(frames.next_served(), Some((id(2), 10_000)));
        frames.leave(&mut holds[2]);
        assert!(!frames.let_in(&mut holds[2], 10_000, 0), "it has gone meanwhile");
        assert_eq!((frames.next_served(), frames.used_bytes()), (None, 90_000));
        frames.leave(&mut holds[1]);
        assert_eq!(frames.used_bytes(), 0);
    }

    #[test]
    fn what_came_at_once_counts_until_it_is_answered() {
        let (mut frames, mut hold) = (Frames::new(LIMITS), Hold::default());
        for seq in 0..3 {
            frames.came(&mut hold, seq, 50_000, Until::Answered);
        }
        frames.came(&mut hold, 3, 100, Until::Answered);
        assert_eq!(frames.used_bytes(), 150_000);
        assert!(!frames.may_read(id(2), &mut Hold::default(), 9_000, false, 0));
        [1, 1, 3, 9].into_iter().for_each(|seq| frames.answered(&mut hold, seq));
        assert_eq!(frames.used_bytes(), 100_000);
        frames.leave(&mut hold);
        frames.leave(&mut hold);
        assert_eq!(frames.used_bytes(), 0);
    }

    #[test]
    fn a_request_that_only_waits_keeps_no_memory_from_others() {
        let (mut frames, mut fetch, mut produce) = (Frames::new(LIMITS), Hold::default(), Hold::default());
        assert!(frames.may_read(id(1), &mut fetch, 100_000, false, 0));
        assert!(!frames.may_read(id(2), &mut produce, 100_000, false, 0));
        assert!(!frames.came(&mut fetch, 0, 100_000, Until::Decoded));
        assert_eq!(frames.next_served(), Some((id(2), 100_000)));
        assert!(frames.let_in(&mut produce, 100_000, 0));
        assert!(frames.came(&mut produce, 0, 100_000, Until::Taken));
        assert!(!frames.may_read(id(1), &mut fetch, 9_000, false, 0), "the replica has not taken it");
        frames.taken(&mut produce, 1);
        assert_eq!(frames.used_bytes(), 100_000);
        frames.taken(&mut produce, 0);
        assert_eq!(frames.next_served(), Some((id(1), 9_000)));
        frames.answered(&mut produce, 0);
        assert_eq!(frames.used_bytes(), 0);
        frames.came(&mut produce, 1, 50_000, Until::Answered);
        frames.taken(&mut produce, 1);
        assert_eq!(frames.used_bytes(), 50_000);
    }

    #[test]
    fn what_was_read_and_waits_for_its_turn_counts() {
        let mut frames = Frames::new(LIMITS);
        let (mut whole, mut part, mut next) = (Hold::default(), Hold::default(), Hold::default());
        frames.note_buffered(&mut whole, 60_000);
        frames.note_buffered(&mut next, SMALL_FRAME_BYTES);
        assert_eq!(frames.used_bytes(), 60_000, "small ones need nothing");
        assert!(!frames.may_read(id(1), &mut next, 50_000, false, 0));
        frames.came(&mut whole, 0, 60_000, Until::Answered);
        frames.note_buffered(&mut whole, 0);
        assert_eq!(frames.used_bytes(), 60_000);
        frames.answered(&mut whole, 0);
        assert_eq!(frames.next_served(), Some((id(1), 50_000)));
        assert!(frames.let_in(&mut next, 50_000, 0));
        // Half of a frame has come before anybody knew of it: only the other half is missing.
        frames.note_buffered(&mut part, 30_000);
        assert!(!frames.may_read(id(2), &mut part, 60_000, false, 0));
        assert_eq!(frames.next_served(), None);
        frames.leave(&mut next);
        assert_eq!(frames.next_served(), Some((id(2), 30_000)));
        assert!(frames.let_in(&mut part, 30_000, 0));
        frames.note_buffered(&mut part, 59_000);
        assert_eq!(frames.used_bytes(), 60_000, "it is what was reserved");
        frames.note_buffered(&mut part, 80_000);
        assert_eq!(frames.used_bytes(), 80_000, "and what came behind it");
        frames.leave(&mut part);
        assert_eq!(frames.used_bytes(), 0);
    }

    #[test]
    fn one_frame_is_read_even_where_it_is_larger_than_all() {
        let (mut frames, mut hold) = (Frames::new(LIMITS), Hold::default());
        assert!(frames.may_read(id(1), &mut hold, 1 << 20, false, 0));
        frames.came(&mut hold, 0, 1 << 20, Until::Answered);
        assert!(!frames.may_read(id(2), &mut Hold::default(), 9_000, false, 0));
    }

    #[test]
    fn what_the_allocator_keeps_is_given_back_once_it_is_quiet() {
        let (mut frames, mut hold) = (Frames::new(LIMITS), Hold::default());
        assert!(!frames.must_give_back() && !frames.must_give_back(), "nothing was used");
        frames.came(&mut hold, 0, PEAK_BYTES, Until::Answered);
        assert!(!frames.must_give_back() && !frames.must_give_back(), "it still is");
        frames.answered(&mut hold, 0);
        assert!(!frames.must_give_back(), "the next one may be on its way");
        frames.came(&mut hold, 1, PEAK_BYTES, Until::Answered);
        assert!(!frames.must_give_back());
        frames.leave(&mut hold);
        assert_eq!([0; 4].map(|_| frames.must_give_back()), [false, true, false, false]);
    }

    #[test]
    fn half_a_frame_is_given_up_only_while_others_wait() {
        let (mut frames, mut half, mut next) = (Frames::new(LIMITS), Hold::default(), Hold::default());
        assert!(frames.may_read(id(1), &mut half, 100_000, false, 0));
        assert!(!frames.is_stalled(&half, 0, 1_000 * MS));
        assert!(!frames.may_read(id(2), &mut next, 100_000, false, 0));
        assert!(frames.is_stalled(&half, 0, 11 * MS));
        assert!(!frames.is_stalled(&half, 5 * MS, 11 * MS), "a byte has come meanwhile");
        assert!(frames.is_stalled(&half, 60 * MS, 61 * MS), "but one at a time is not enough for ever");
        assert!(!frames.is_stalled(&next, 0, 61 * MS), "who waits is not to blame");
    }

    /// They wait for long: what they hold is no more than their part, and they stand in no producer's way.
    #[test]
    fn a_crowd_that_asks_for_much_leaves_producers_their_memory() {
        let mut frames = Frames::new(LIMITS);
        let mut asking: Vec<Hold> = (0..10).map(|_| Hold::default()).collect();
        let went = (0..10).filter(|n| frames.may_read(id(*n), &mut asking[*n as usize], 12_000, true, 0));
        assert_eq!(went.count(), 2);
        let (mut produce, mut large) = (Hold::default(), Hold::default());
        assert!(frames.may_read(id(20), &mut produce, 16_000, false, 0), "it passes those who wait");
        frames.came(&mut produce, 0, 16_000, Until::Taken);
        frames.taken(&mut produce, 0);
        assert!(!frames.is_stalled(&produce, 0, 1_000 * MS));
        assert!(!frames.may_read(id(21), &mut large, 90_000, false, 0), "more than the others' part");
        frames.came(&mut asking[0], 0, 12_000, Until::Answered);
        frames.answered(&mut asking[0], 0);
        assert_eq!(frames.next_served(), None, "nobody passes it now");
        frames.leave(&mut asking[1]);
        assert_eq!(frames.next_served(), Some((id(21), 90_000)));
        assert!(frames.let_in(&mut large, 90_000, 0));
        frames.leave(&mut large);
        assert_eq!(frames.next_served(), Some((id(2), 12_000)));
        assert!(frames.let_in(&mut asking[2], 12_000, 0));
        asking.iter_mut().for_each(|hold| frames.leave(hold));
        assert_eq!((frames.used_bytes(), frames.used_to_ask, frames.waiting()), (0, 0, (0, 0)));
    }
}

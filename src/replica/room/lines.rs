//! Lines of a core's clients, for those who cost little and for those who cost much, and whose turn it is.
//!
//! A connection stands in the line of those whose next request costs about as much as its own, by what its first bytes say, so that
//! who asks for little waits behind others like it. Of each round the lines have the same part, as far as they need it: the one that has had the
//! least goes next, and the first of a round is the line that was not served for the longest time.

use crate::replica::connection_id::ConnectionId;
use crate::replica::cost::{self, Announced};
use std::collections::VecDeque;

/// What one request costs at most, in ns, whose connection stands in this line; the last line takes the others.
const REQUESTS_NS: [u64; 2] = [60_000, 250_000];
pub(crate) const LINES: usize = REQUESTS_NS.len() + 1;
/// What is expected of a Produce or a Fetch loses this part with each that cost less: who sends one of many records now and then
/// is not taken for one that sends few.
const FORGOTTEN_PER_REQUEST: u64 = 16;
/// What a stint is charged at least: it was let in, woken and looked at.
const STINT_NS_MIN: u64 = 2_000;

/// What one connection costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// The stint under way, so far.
    pub(super) spent_ns: u64,
    /// The dearest of the last that may cost more than their length says.
    lately_ns: u64,
}

impl Cost {
    /// It has taken this request, which was decoded.
    pub(super) fn took(&mut self, request: Announced, ns: u64) {
        self.spent_ns += ns;
        if request.may_cost_more() {
            self.lately_ns = ns.max(self.lately_ns - self.lately_ns / FORGOTTEN_PER_REQUEST);
        }
    }

    pub(super) fn read(&mut self, bytes: usize) {
        self.spent_ns += cost::read_ns(bytes);
    }

    /// An answer of so many bytes goes to it.
    pub(super) fn answered(&mut self, bytes: usize) {
        let ns = cost::send_ns(bytes);
        self.spent_ns += ns;
        self.lately_ns = self.lately_ns.max(ns);
    }

    /// What it has cost since it was asked last.
    pub(super) fn settle(&mut self) -> u64 {
        std::mem::take(&mut self.spent_ns)
    }

    /// What it asks for next costs, as far as one can know. `None`: nothing of it has come, it will only be read.
    fn expected_ns(&self, next: Option<Announced>) -> u64 {
        let ns = match next {
            None => 0,
            // Nobody knows yet what it sends.
            Some(request) if request.may_cost_more() && self.lately_ns == 0 => request.most_ns(),
            Some(request) if request.may_cost_more() => request.ns().max(self.lately_ns),
            Some(request) => request.ns(),
        };
        ns.max(STINT_NS_MIN)
    }
}

/// A place in a line, or the stint that it became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) line: usize,
    /// What is expected of the stint.
    pub(crate) ns: u64,
    /// In the order in which they were drawn.
    number: u64,
}

#[derive(Debug, Default)]
struct Line {
    /// Who waits the longest is first, with its number. Who has gone is still named, and not counted.
    queue: VecDeque<(u64, ConnectionId)>,
    waiting: usize,
    /// Of this round: what the stints have cost, or are expected to.
    used_ns: u64,
    /// The round in which one of it was let in last.
    served: u64,
}

#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: [Line; LINES],
    round: u64,
    drawn: u64,
}

impl Lines {
    pub(super) fn begin_round(&mut self) {
        self.round += 1;
        self.lines.iter_mut().for_each(|line| line.used_ns = 0);
    }

    /// For what comes next on a connection.
    pub(super) fn draw(&mut self, cost: &Cost, next: Option<Announced>) -> Ticket {
        self.drawn += 1;
        let ns = cost.expected_ns(next);
        Ticket { line: line_for(ns), ns, number: self.drawn }
    }

    /// Behind all of its line whose ticket was drawn before.
    pub(super) fn stand(&mut self, id: ConnectionId, ticket: Ticket) {
        let line = &mut self.lines[ticket.line];
        line.waiting += 1;
        match line.queue.back() {
            // It was let in, and had nothing of it.
            Some((last, _)) if *last > ticket.number => {
                let place = line.queue.partition_point(|(number, _)| *number < ticket.number);
                line.queue.insert(place, (ticket.number, id));
            }
            _ => line.queue.push_back((ticket.number, id)),
        }
    }

    /// It has gone.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        let line = &mut self.lines[ticket.line];
        line.waiting -= 1;
        if line.waiting == 0 {
            line.queue.clear();
        }
    }

    /// Who is next of these lines. It may have gone.
    pub(super) fn pop(&mut self, is_open: [bool; LINES]) -> Option<ConnectionId> {
        let open = self.lines.iter_mut().zip(is_open).filter_map(|(line, is_open)| is_open.then_some(line));
        let waiting = open.filter(|line| line.waiting > 0);
        waiting.min_by_key(|line| (line.used_ns, line.served))?.queue.pop_front().map(|(_, id)| id)
    }

    /// The one that was named has a stint.
    pub(super) fn let_in(&mut self, ticket: Ticket) {
        let line = &mut self.lines[ticket.line];
        line.waiting -= 1;
        line.served = self.round;
        self.charge(ticket);
    }

    /// A stint without a place in the line.
    pub(super) fn charge(&mut self, ticket: Ticket) {
        self.lines[ticket.line].used_ns += ticket.ns;
    }

    /// A stint has cost this instead of what was expected. (A stint may end in a later round.)
    pub(super) fn correct(&mut self, ticket: Ticket, spent_ns: u64) {
        let used_ns = &mut self.lines[ticket.line].used_ns;
        *used_ns = used_ns.saturating_sub(ticket.ns) + spent_ns.max(STINT_NS_MIN);
    }

    /// What a connection has cost before its stint.
    pub(super) fn charge_before(&mut self, ticket: Ticket, ns: u64) {
        self.lines[ticket.line].used_ns += ns;
    }

    pub(super) fn used_ns(&self, line: usize) -> u64 {
        self.lines[line].used_ns
    }

    pub(super) fn waiting_in(&self, line: usize) -> usize {
        self.lines[line].waiting
    }

    pub(super) fn waiting(&self) -> usize {
        self.lines.iter().map(|line| line.waiting).sum()
    }
}

/// The line for who costs as much.
pub(super) fn line_for(ns: u64) -> usize {
    REQUESTS_NS.iter().take_while(|most| ns > **most).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::api_versions::key;

    fn announced(api_key: i16, bytes: usize) -> Option<Announced> {
        Some(Announced { bytes, api_key })
    }

    fn line(cost: &Cost, next: Option<Announced>) -> usize {
        Lines::default().draw(cost, next).line
    }

    fn ticket(line: usize, ns: u64) -> Ticket {
        Ticket { line, ns, number: 0 }
    }

    #[test]
    fn what_a_request_costs_is_known_by_its_first_bytes() {
        let cost = Cost::default();
        assert_eq!(line(&cost, None), 0);
        assert_eq!(line(&cost, announced(key::METADATA, 100)), 0);
        assert_eq!(line(&cost, announced(key::METADATA, 30 << 10)), 1);
        assert_eq!(line(&cost, announced(key::METADATA, 480 << 10)), 2);
        assert_eq!(line(&cost, announced(key::DESCRIBE_CONFIGS, 4 << 10)), 1);
        assert_eq!(line(&cost, announced(key::DESCRIBE_CONFIGS, 16 << 10)), 2);
        assert_eq!(
            line(&cost, announced(key::PRODUCE, 1 << 20)),
            2,
            "the first of a connection may be of many topics"
        );
        let mut producer = Cost::default();
        producer.took(announced(key::PRODUCE, 1 << 20).unwrap(), 20_000);
        assert_eq!(line(&producer, announced(key::PRODUCE, 64 << 10)), 0);
        assert_eq!(line(&producer, announced(key::PRODUCE, 1 << 20)), 1);
    }

    #[test]
    fn how_many_requests_wait_behind_one_another_says_nothing_of_what_they_cost() {
        let (mut producer, next) = (Cost::default(), announced(key::PRODUCE, 16 << 10));
        for _ in 0..16 {
            producer.took(next.unwrap(), 16_000);
        }
        assert_eq!(line(&producer, next), 0);
    }

    #[test]
    fn who_sends_many_records_or_takes_much_now_and_then_is_remembered() {
        let produce = announced(key::PRODUCE, 16 << 10);
        for is_consumer in [false, true] {
            let mut sly = Cost::default();
            match is_consumer {
                true => sly.answered(8 << 20),
                false => sly.took(produce.unwrap(), 700_000),
            }
            for _ in 0..30 {
                sly.took(produce.unwrap(), 10_000);
                assert_ne!(line(&sly, produce), 0);
            }
            (0..60).for_each(|_| sly.took(produce.unwrap(), 10_000));
            assert_eq!(line(&sly, produce), 0);
        }
    }

    #[test]
    fn each_line_has_the_same_part_of_a_round_and_the_rest_of_what_others_leave() {
        let mut lines = Lines::default();
        let tickets = [ticket(0, 10_000), ticket(1, 100_000), ticket(2, 500_000)];
        for n in 0..600 {
            lines.stand(ConnectionId(n), tickets[n as usize % LINES]);
        }
        lines.begin_round();
        let mut used = [0; LINES];
        for _ in 0..119 {
            let ConnectionId(n) = lines.pop([true; LINES]).unwrap();
            let ticket = tickets[n as usize % LINES];
            lines.let_in(ticket);
            used[ticket.line] += ticket.ns;
        }
        assert!(used.iter().all(|ns| (900_000..=1_500_000).contains(ns)), "{used:?}");
        for ticket in &tickets[..2] {
            (0..lines.waiting_in(ticket.line)).for_each(|_| lines.leave(*ticket));
        }
        assert_eq!(
            (lines.pop([true; LINES]).unwrap().0 % 3, lines.pop([true; LINES]).unwrap().0 % 3),
            (2, 2)
        );
        assert_eq!(lines.pop([true, false, false]), None, "the others wait for something else");
        assert!(
            lines.pop([true, false, true]).is_some(),
            "one that has had its part does not close the next"
        );
    }

    /// As where there is room for one stint in a round.
    #[test]
    fn with_one_stint_for_each_round_the_lines_take_turns() {
        let mut lines = Lines::default();
        for n in 0..30 {
            lines.stand(ConnectionId(n), ticket(n as usize % LINES, 1));
        }
        let named: Vec<u64> = (0..9)
            .map(|_| {
                lines.begin_round();
                let id = lines.pop([true; LINES]).unwrap();
                lines.let_in(ticket(id.0 as usize % LINES, 1));
                id.0
            })
            .collect();
        assert_eq!(named, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn who_had_nothing_of_his_stint_stands_where_he_stood() {
        let mut lines = Lines::default();
        let tickets: Vec<Ticket> = (0..6).map(|_| lines.draw(&Cost::default(), None)).collect();
        tickets.iter().enumerate().for_each(|(n, ticket)| lines.stand(ConnectionId(n as u64), *ticket));
        let named: Vec<u64> = (0..4).map(|_| lines.pop([true; LINES]).unwrap().0).collect();
        named.iter().for_each(|n| lines.let_in(tickets[*n as usize]));
        named.iter().rev().for_each(|n| lines.stand(ConnectionId(*n), tickets[*n as usize]));
        let again: Vec<u64> = (0..6).map(|_| lines.pop([true; LINES]).unwrap().0).collect();
        assert_eq!(again, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_a_stint_cost_takes_the_place_of_what_was_expected() {
        let mut lines = Lines::default();
        let ticket = ticket(1, 9_000);
        lines.charge(ticket);
        lines.correct(ticket, 3_000);
        assert_eq!(lines.used_ns(1), 3_000);
        lines.begin_round();
        lines.correct(ticket, 4_000);
        assert_eq!(lines.used_ns(1), 4_000, "it ends in a later round");
        lines.begin_round();
        lines.charge(ticket);
        lines.correct(ticket, 0);
        assert_eq!(lines.used_ns(1), STINT_NS_MIN, "it was let in");
    }
}

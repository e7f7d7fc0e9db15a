//! What waits for the replica on its own core: two lanes, voters before clients.
//!
//! Filled by the tasks of sessions and peer links, emptied by the replica core's turns. One thread only.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::replica::Input;

/// Client requests waiting for a turn; sessions stop reading when it is reached.
pub const CLIENT_INPUTS_MAX: usize = 1024;

#[derive(Default)]
pub struct Inputs {
    /// Voter requests and everything of peer links. Bounded by the requests that a session and a link may have.
    voters: RefCell<VecDeque<Input>>,
    clients: RefCell<VecDeque<Input>>,
}

impl Inputs {
    pub fn push_voter(&self, input: Input) {
        self.voters.borrow_mut().push_back(input);
    }

    /// The end of a connection goes this way too, also that of a voter: by the time it is taken, the voters' lane
    /// was empty, so nothing of the connection comes after it.
    pub fn push_client(&self, input: Input) {
        self.clients.borrow_mut().push_back(input);
    }

    pub fn pop(&self) -> Option<Input> {
        let voter = self.voters.borrow_mut().pop_front();
        voter.or_else(|| self.clients.borrow_mut().pop_front())
    }

    pub fn is_empty(&self) -> bool {
        self.voters.borrow().is_empty() && self.clients.borrow().is_empty()
    }

    /// Client requests that may still be pushed. Ends of connections are not counted against it.
    pub fn client_room(&self) -> usize {
        CLIENT_INPUTS_MAX.saturating_sub(self.clients.borrow().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::ConnectionId;

    #[test]
    fn voters_go_first_and_a_close_comes_last() {
        let inputs = Inputs::default();
        inputs.push_client(Input::Shutdown);
        inputs.push_client(Input::ConnectionClosed { connection: ConnectionId(1) });
        inputs.push_voter(Input::Tick);
        assert!(matches!(inputs.pop(), Some(Input::Tick)));
        assert!(matches!(inputs.pop(), Some(Input::Shutdown)));
        assert!(matches!(inputs.pop(), Some(Input::ConnectionClosed { .. })));
        assert!(inputs.pop().is_none() && inputs.is_empty());
    }

    #[test]
    fn clients_find_no_room_beyond_the_bound() {
        let inputs = Inputs::default();
        for _ in 0..CLIENT_INPUTS_MAX {
            assert!(inputs.client_room() > 0);
            inputs.push_client(Input::Tick);
        }
        assert_eq!(inputs.client_room(), 0);
        inputs.pop();
        assert_eq!(inputs.client_room(), 1);
    }
}

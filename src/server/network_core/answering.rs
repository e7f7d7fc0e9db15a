//! Answers on their way out: queued as the replica gives them, and sent at the end of its turn, with one send for each connection.

use super::*;

impl NetworkCore {
    /// Queue an answer; `flush` sends it. For a connection that is gone it is dropped.
    pub(crate) fn answer(
        &self,
        connection: ConnectionId,
        seq: u64,
        response: Option<Response>,
        given: Option<Given>,
    ) {
        let client = self.clients.borrow().get(&connection).cloned();
        let Some(client) = client else { return };
        client.note_sent();
        let before = client.session.borrow().output_bytes();
        let answered = client.answer(seq, response, given.as_ref().map_or(0, Given::device_bytes));
        let bytes = client.session.borrow().output_bytes().saturating_sub(before);
        client.with_turn(|turn| turn.answered(bytes));
        // It is counted among what the connection has.
        drop(given);
        self.frames.borrow_mut().answered(&mut client.hold.borrow_mut(), seq);
        self.note_answered(connection, seq);
        client.on_answered();
        if let Err(error) = answered {
            return self.close_client(&client, error.0);
        }
        if !client.answered.replace(true) {
            self.answered.borrow_mut().push(client);
        }
    }

    /// Connections with answers that `flush` will send.
    pub(crate) fn answered(&self) -> usize {
        self.answered.borrow().len()
    }

    /// Send what the turn has answered, with the ring's next call: one send per connection. False: there was nothing.
    pub(crate) fn flush(&self) -> bool {
        let mut answered = self.answered.borrow_mut();
        let is_some = !answered.is_empty();
        for client in answered.drain(..) {
            client.answered.set(false);
            client.send();
            client.wake();
        }
        drop(answered);
        if is_some {
            self.close_stuck(&self.answers, clock::monotonic_ns());
            self.close_stuck(&self.voters_answers, clock::monotonic_ns());
        }
        is_some
    }
}

//! Large requests of a core's clients, on their way to the thread that decodes them, and until they are answered.
//!
//! One at a time of those that are large and of those that are very large: the next goes when the one before is answered. So
//! of all that wait only the frames are in memory, which `room::frames` bounds, and nobody has to be sent away.

use super::client::Decoded;
use super::*;
use crate::protocol::api_versions::key;
use crate::replica::session::LargeFrame;

/// Who asks for a hundred things does not wait for those who ask for thousands.
#[derive(Default)]
pub(super) struct Decoding([Lane; 2]);

#[derive(Default)]
struct Lane {
    /// Who waits the longest is first.
    line: VecDeque<(ConnectionId, LargeFrame)>,
    current: Option<Current>,
}

struct Current {
    connection: ConnectionId,
    at: At,
}

/// Where a request is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// With the thread, also when its connection has gone meanwhile.
    Thread,
    /// Decoded, before the replica.
    Here,
    Replica(u64),
}

impl Decoding {
    fn stand(&mut self, connection: ConnectionId, frame: LargeFrame) {
        let lane = usize::from(frame.is_very_large());
        self.0[lane].line.push_back((connection, frame));
    }

    /// Those whose turn it is.
    fn next(&mut self) -> impl Iterator<Item = (ConnectionId, LargeFrame)> {
        self.0.iter_mut().filter(|lane| lane.current.is_none()).filter_map(|lane| {
            let (connection, frame) = lane.line.pop_front()?;
            lane.current = Some(Current { connection, at: At::Thread });
            Some((connection, frame))
        })
    }

    fn lane_of(&mut self, connection: ConnectionId, at: At) -> Option<&mut Lane> {
        let is_it = |current: &Current| current.connection == connection && current.at == at;
        self.0.iter_mut().find(|lane| lane.current.as_ref().is_some_and(is_it))
    }

    fn move_on(&mut self, connection: ConnectionId, from: At, to: At) {
        if let Some(lane) = self.lane_of(connection, from) {
            lane.current = Some(Current { connection, at: to });
        }
    }

    /// True: a lane is free again.
    fn free(&mut self, connection: ConnectionId, at: At) -> bool {
        self.lane_of(connection, at).is_some_and(|lane| lane.current.take().is_some())
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.0.iter().map(|lane| lane.line.len()).sum()
    }

    fn forget(&mut self, connection: ConnectionId) {
        for lane in &mut self.0 {
            lane.line.retain(|(waiting, _)| *waiting != connection);
            lane.current.take_if(|current| current.connection == connection && current.at != At::Thread);
        }
    }
}

/// Its answer may wait for the device, or for another node: others do not wait for that.
fn may_wait(request: Announced) -> bool {
    matches!(request.api_key, key::LIST_OFFSETS | key::DESCRIBE_QUORUM)
}

impl NetworkCore {
    /// The request in this frame; `None`: the connection is to end.
    pub(super) async fn decode_elsewhere(
        &self,
        client: &Rc<Client>,
        frame: LargeFrame,
    ) -> Option<Result<Arrived, FrameError>> {
        let announced = frame.announced;
        client.is_decoding.set(true);
        self.decoding.borrow_mut().stand(client.id, frame);
        self.decode_next();
        self.rest(client);
        let decoded = poll_fn(|cx| {
            if client.is_closing() {
                return Poll::Ready(None);
            }
            client.note_sent();
            // It may wait for long: who goes meanwhile is not waited for.
            if client.poll_end(cx) {
                return Poll::Ready(None);
            }
            let has_come = client.decoded.borrow().is_some();
            if has_come && self.may_go(client, Some(announced)) {
                return Poll::Ready(client.decoded.take());
            }
            client.wake_with(cx.waker());
            Poll::Pending
        })
        .await?;
        client.is_decoding.set(false);
        let arrived = client.session.borrow_mut().take_decoded(*decoded, clock::now());
        match &arrived {
            Ok(arrived) if !may_wait(announced) => {
                self.decoding.borrow_mut().move_on(client.id, At::Here, At::Replica(arrived.seq));
            }
            _ => {
                self.decoding.borrow_mut().free(client.id, At::Here);
                self.decode_next();
            }
        }
        Some(arrived)
    }

    fn decode_next(&self) {
        for (connection, frame) in self.decoding.borrow_mut().next() {
            self.inspectors.decode(connection, frame);
        }
    }

    /// For a connection that is gone it is dropped.
    pub(crate) fn on_decoded(&self, connection: ConnectionId, decoded: Decoded) {
        if let Some(client) = self.clients.borrow().get(&connection) {
            self.decoding.borrow_mut().move_on(connection, At::Thread, At::Here);
            *client.decoded.borrow_mut() = Some(decoded);
            client.wake();
            return;
        }
        self.decoding.borrow_mut().free(connection, At::Thread);
        self.decode_next();
    }

    pub(super) fn note_answered(&self, connection: ConnectionId, seq: u64) {
        if self.decoding.borrow_mut().free(connection, At::Replica(seq)) {
            self.decode_next();
        }
    }

    /// Nobody waits for the requests of this connection any more.
    pub(super) fn stop_decoding(&self, connection: ConnectionId) {
        self.decoding.borrow_mut().forget(connection);
        self.decode_next();
    }
}

//! Who is closed, and why: who keeps memory from others, who is gone, who has nothing to say.

use super::*;

/// What one is closed with that lets others wait for half a frame.
const STALLED: &str = "it has sent a part of a large request, and others wait for the memory that the rest has \
                       (queued.max.request.bytes).";

/// What one is closed with that does not take its answers when memory for them is short.
const STUCK: &str = "it does not take its answers, and the memory for all unsent answers is used up \
                     (kraft.answers.max.bytes).";

/// What is said of a voter's connection that lost its place to another one.
const GAVE_WAY: &str = "as many as may be speak in the name of the same voter (kraft.voter.connections), and it was the least \
                        like one. Where that goes on, somebody else uses the voter's id.";

/// A reader that takes nothing of its answers for this long is gone.
pub(super) const SEND_STALL_MS_MAX: u64 = 60_000;

/// Idle connections are looked for so many times within the time after which they are closed, but not less often than in the
/// second of these intervals, nor more often than in the first.
const IDLE_LOOKS: u64 = 4;
const IDLE_INTERVALS_MS: RangeInclusive<u64> = 250..=10_000;

/// What is closed is soon gone: its tasks have nothing left to wait for.
const LET_GO_NS_MAX: u64 = 1_000 * NS_PER_MS;
const LET_GO_LOOK: Duration = Duration::from_millis(1);

impl NetworkCore {
    /// Close who has sent half a frame and keeps others waiting for the memory of the rest; give back what nobody needs; tell
    /// what is taken. Called each second.
    pub(crate) fn close_stalled(&self, now_ns: u64) {
        self.gauges.publish(&self.frames.borrow(), &self.turns.borrow(), self.handed.borrow().heavy_bytes);
        if self.frames.borrow_mut().must_give_back() {
            memory::give_back();
        }
        if self.answers.is_wanted() {
            let readers = self.with_unsent(&self.answers);
            readers.iter().for_each(|client| client.note_sent());
            let readers = readers.iter().map(|client| (client, client.unsent.get()));
            for client in self.answers.stalled(readers, now_ns) {
                self.close_client(client, STUCK.into());
            }
        }
        if !self.frames.borrow().has_line() {
            return;
        }
        let clients: Vec<_> = self.clients.borrow().values().cloned().collect();
        for client in clients {
            // Who is not read by us waits for no fault of its own.
            let is_read = client.awaits_bytes.get();
            let moved_ns = client.received_ns.get();
            if is_read && self.frames.borrow().is_stalled(&client.hold.borrow(), moved_ns, now_ns) {
                self.close_client(&client, STALLED.into());
            }
        }
    }

    /// More answers are unsent than may be: who has been stuck the longest goes, until it is enough.
    pub(super) fn close_stuck(&self, share: &Arc<Share>, now_ns: u64) {
        if share.over_bytes() == 0 {
            return;
        }
        let mut stuck = self.with_unsent(share);
        // What the sockets have taken without a word.
        stuck.iter().for_each(|client| client.note_sent());
        stuck.sort_by_key(|client| client.unsent.get().order(now_ns));
        for client in stuck {
            if share.over_bytes() == 0 {
                return;
            }
            self.close_client(&client, STUCK.into());
        }
    }

    fn with_unsent(&self, share: &Arc<Share>) -> Vec<Rc<Client>> {
        let is_of_share =
            |client: &Client| client.share.borrow().as_ref().is_some_and(|s| Arc::ptr_eq(s, share));
        let clients = self.clients.borrow();
        let unsent =
            clients.values().filter(|client| client.unsent.get().holds_memory() && is_of_share(client));
        unsent.cloned().collect()
    }

    /// The replica wants this connection closed; with `if_silent_ms` only if it has taken nothing of its answers for so long.
    pub(crate) fn close(&self, connection: ConnectionId, why: String, if_silent_ms: Option<u64>) {
        let client = self.clients.borrow().get(&connection).cloned();
        if let Some(client) = client {
            client.note_sent();
            let silent_ns = client.unsent.get().silent_ns(clock::monotonic_ns());
            if if_silent_ms.is_some_and(|ms| silent_ns <= ms * NS_PER_MS) {
                return;
            }
            client.send();
            self.close_client(&client, why);
        }
    }

    pub(super) fn close_client(&self, client: &Client, why: String) {
        client.closing.borrow_mut().get_or_insert(why);
        client.leave_share();
        client.connection.shut_down();
        client.wake();
    }

    /// The node has ended and the process has not: close everybody, and wait until the tasks are gone that serve them, and
    /// what was still being sent. False: some are not, in time, or the `others` of this core are not.
    pub(crate) async fn let_go(self: &Rc<Self>, others: impl Fn() -> bool) -> bool {
        let clients: Vec<_> = self.clients.borrow().values().cloned().collect();
        clients.iter().for_each(|client| self.close_client(client, "this node has ended.".into()));
        drop(clients);
        let deadline_ns = clock::monotonic_ns() + LET_GO_NS_MAX;
        loop {
            self.begin_round(clock::monotonic_ns());
            self.ring.run_tasks().await;
            if Rc::strong_count(self) == 1 && others() && !self.ring.has_sends() {
                return true;
            }
            if clock::monotonic_ns() > deadline_ns || self.ring.wait(LET_GO_LOOK).is_err() {
                return false;
            }
        }
    }

    pub(super) fn log_close(&self, client: &Client) {
        match &*client.closing.borrow() {
            Some(why) if client.is_idle.get() => {
                tracing::debug!("Closed the connection of {}: {why}", client.remote);
            }
            Some(why) => self.line(why, || format!("Closed the connection of {}: {why}", client.remote)),
            None if client.gives_way() => {
                self.line(GAVE_WAY, || format!("Closed the connection of {}: {GAVE_WAY}", client.remote))
            }
            None => tracing::debug!("{} has closed its connection.", client.remote),
        }
    }

    pub(super) fn line(&self, cause: &str, text: impl FnOnce() -> String) {
        if let Some(suppressed) = self.lines.borrow_mut().admit(cause, clock::monotonic_ns()) {
            tracing::warn!("{}{}", text(), and_more(suppressed));
        }
    }

    /// Between two calls of `close_idle`.
    pub(crate) fn idle_interval_ns(&self) -> u64 {
        let looks_ms = self.limits.idle_ms_max / IDLE_LOOKS;
        looks_ms.clamp(*IDLE_INTERVALS_MS.start(), *IDLE_INTERVALS_MS.end()) * NS_PER_MS
    }

    /// Close what is idle, and readers that are gone, and give back memory. Called now and then, not in a turn.
    pub(crate) fn close_idle(&self, now_ns: u64) {
        if self.pool.borrow_mut().shrink() {
            memory::give_back();
        }
        let clients: Vec<_> = self.clients.borrow().values().cloned().collect();
        for client in clients {
            client.note_sent();
            let quiet_ms = now_ns.saturating_sub(client.active_ns.get()) / NS_PER_MS;
            if client.connection.is_full() && quiet_ms > SEND_STALL_MS_MAX {
                self.close_client(&client, "it has taken nothing of its answers for a minute.".into());
            } else if quiet_ms > self.limits.idle_ms_max && !client.is_busy() {
                // In good order: clients and voters connect again when they have something to say.
                client.is_idle.set(true);
                let why = "it was idle for longer than connections.max.idle.ms = ";
                self.close_client(&client, format!("{why}{}", self.limits.idle_ms_max));
            }
        }
    }
}

//! From bytes to requests, and on to the replica: what the task of each connection does.
//!
//! It waits before each step: for its turn, for bytes, for the memory of a large frame, for the verdict on compressed batches. So
//! nothing that one client sends is taken before there is room for it.

use super::*;

/// What a connection is closed with that came when all places were taken.
const NO_PLACE: &str =
    "all places for clients are taken (max.connections), and it has not shown itself to be a voter.";

impl NetworkCore {
    /// Until the connection ends: all requests that have come go on, then more is read.
    pub(super) async fn read_requests(&self, client: &Rc<Client>) -> End {
        // One that comes from another core has brought bytes along.
        loop {
            if let Some(end) = self.take_requests(client).await {
                return end;
            }
            if !self.read(client).await {
                return End::Closed;
            }
        }
    }

    /// Wait for more, and read it. False: it has ended.
    pub(super) async fn read(&self, client: &Rc<Client>) -> bool {
        // It has nothing more to say: the next in line has its turn.
        self.rest(client);
        self.note_buffered(client);
        poll_fn(|cx| self.poll_frame(client, cx)).await;
        client.awaits_bytes.set(true);
        poll_fn(|cx| client.poll_readable(cx, &self.pool)).await;
        client.awaits_bytes.set(false);
        let is_newcomer = client.is_newcomer();
        poll_fn(|cx| self.poll_room(client, cx)).await;
        let missing_bytes = client.session.borrow().awaited_bytes();
        let memory = self.frames.borrow().read_bytes_max(&client.hold.borrow(), missing_bytes);
        let turn = match client.is_voter() {
            true => usize::MAX,
            false => self.turns.borrow().read_bytes_max(is_newcomer),
        };
        match client.read(&self.pool, memory.min(turn)) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(0) => false,
            Ok(bytes) => {
                client.on_received();
                self.note_read(client, bytes);
                self.note_buffered(client);
                true
            }
        }
    }

    /// Ready when there is memory for the frame that is arriving, or when the connection is to end.
    fn poll_frame(&self, client: &Client, cx: &mut Context<'_>) -> Poll<()> {
        let mut session = client.session.borrow_mut();
        // As long as it is not known what it is, its length says nothing.
        let announced = session.announced();
        let arriving_bytes = announced.map_or(0, |_| session.arriving_bytes());
        let is_to_ask = announced.is_some_and(|next| !next.may_cost_more());
        let (mut frames, mut hold) = (self.frames.borrow_mut(), client.hold.borrow_mut());
        // A voter's too, if it is large: nobody is given memory for a voter's name. What voters send is small.
        let may_read = client.is_closing()
            || frames.may_read(client.id, &mut hold, arriving_bytes, is_to_ask, clock::monotonic_ns());
        if may_read {
            if hold.is_arriving() {
                session.believe();
            }
            return Poll::Ready(());
        }
        client.wake_with(cx.waker());
        if client.poll_end(cx) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn note_buffered(&self, client: &Client) {
        let bytes = client.session.borrow().buffered_bytes();
        self.frames.borrow_mut().note_buffered(&mut client.hold.borrow_mut(), bytes);
    }

    fn note_read(&self, client: &Client, bytes: usize) {
        let (mut turns, now_ns) = (self.turns.borrow_mut(), client.received_ns.get());
        match client.is_voter() {
            true => turns.voter_went(now_ns),
            false => client.with_turn(|turn| turns.took_bytes(turn, bytes, now_ns)),
        }
    }

    /// Each whole request that has come. `Some`: the connection is to end.
    async fn take_requests(&self, client: &Rc<Client>) -> Option<End> {
        loop {
            poll_fn(|cx| self.poll_room(client, cx)).await;
            if client.is_closing() {
                return Some(End::Closed);
            }
            let announced = client.session.borrow().announced();
            let mut arrived = match self.next_request(client).await? {
                Ok(arrived) => arrived,
                Err(end) => return Some(end),
            };
            if let Admitted::Produce(_) = arrived.request.asked() {
                client.produces.set(true);
            }
            if !client.show(&arrived.request) {
                *client.closing.borrow_mut() = Some(NO_PLACE.into());
                return Some(End::Closed);
            }
            self.count_voter(client);
            let (received_ns, decoded_ns) = (client.received_ns.get(), clock::monotonic_ns());
            self.note_cost(client, announced, &arrived.request, decoded_ns);
            let is_large = self.note_frame(client, &arrived);
            let to_inspect = arrived.to_inspect.take();
            let mut request = ClientRequest { connection: client.id, arrived, received_ns, decoded_ns };
            if let Some(inspection) = to_inspect {
                self.inspectors.inspect(request, inspection);
                self.rest(client);
                match poll_fn(|cx| self.poll_inspected(client, announced, cx)).await {
                    Some(inspected) => request = inspected,
                    None => return Some(End::Closed),
                }
            }
            let is_peer = client.session.borrow().is_peer();
            if is_peer && matches!(self.sink, RequestSink::Mesh(_)) {
                self.rest(client);
                return Some(self.move_to_replica_core(client, request).await);
            }
            self.hand_on(client, request, is_large);
        }
    }

    /// Decoded here, or elsewhere where it is large. `None`: no whole one has come.
    async fn next_request(&self, client: &Rc<Client>) -> Option<Result<Arrived, End>> {
        let large = client.session.borrow_mut().poll_large();
        let next = match large {
            None => client.session.borrow_mut().poll_request(clock::now()),
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(frame)) => match self.decode_elsewhere(client, frame).await {
                None => return Some(Err(End::Closed)),
                decoded => decoded,
            },
        };
        next.map(|arrived| arrived.map_err(|error| End::BadInput(error.0)))
    }

    /// Ready when the next request may be taken, or the next bytes read, or when the connection is to end.
    fn poll_room(&self, client: &Rc<Client>, cx: &mut Context<'_>) -> Poll<()> {
        if client.is_closing() {
            return Poll::Ready(());
        }
        client.note_sent();
        let is_blocked = client.session.borrow().is_blocked();
        let is_held_back = self.full.get() && client.produces.get() && !client.is_voter();
        if is_blocked || is_held_back {
            self.rest(client);
            if client.poll_end(cx) {
                return Poll::Ready(());
            }
            if is_held_back && !client.is_held_back.replace(true) {
                self.held_back.borrow_mut().push(client.clone());
            }
        } else if client.is_voter() || self.may_go(client, client.session.borrow().announced()) {
            return Poll::Ready(());
        }
        client.wake_with(cx.waker());
        Poll::Pending
    }

    /// `next`: what comes next on it, as far as is known.
    pub(super) fn may_go(&self, client: &Client, next: Option<Announced>) -> bool {
        let room = self.room();
        let mut turns = self.turns.borrow_mut();
        if !client.is_newcomer() {
            return client.with_turn(|turn| turns.may_go(client.id, turn, room, next));
        }
        let may_step = client.with_turn(|turn| turns.may_step(client.id, turn, room));
        client.steps_left.set(client.steps_left.get() - may_step as u8);
        may_step
    }

    /// It goes on only when its turn comes again.
    pub(super) fn rest(&self, client: &Client) {
        client.with_turn(|turn| self.turns.borrow_mut().rest(turn));
        self.wake_waiting();
    }

    /// A connection that shows itself to be a voter's has another bound from now on.
    pub(super) fn count_voter(&self, client: &Client) {
        if client.is_voter() && client.share.borrow().as_ref().is_some_and(|s| Arc::ptr_eq(s, &self.answers))
        {
            client.join_share(&self.voters_answers);
        }
    }

    fn note_cost(&self, client: &Client, announced: Option<Announced>, request: &Admitted, now_ns: u64) {
        let mut turns = self.turns.borrow_mut();
        match announced.filter(|_| !client.is_voter()) {
            None => turns.voter_went(now_ns),
            Some(announced) => {
                let cost_ns = announced.decoded_ns(request);
                let under_way = client.session.borrow().requests_under_way();
                client.with_turn(|turn| {
                    turns.has_under_way(turn, under_way, now_ns);
                    turns.took_request(turn, announced, cost_ns, now_ns);
                });
            }
        }
    }

    /// A request has come whole: what memory it holds from here on. True: until the replica takes it.
    fn note_frame(&self, client: &Client, arrived: &Arrived) -> bool {
        let until = match arrived.request.asked() {
            Admitted::Other(Request::Fetch(_)) => Until::Decoded,
            Admitted::Produce(_) => Until::Taken,
            Admitted::Other(_) | Admitted::Heavy(_) => Until::Answered,
        };
        let (frame_bytes, mut hold) = (client.session.borrow().whole_bytes(), client.hold.borrow_mut());
        let is_held = self.frames.borrow_mut().came(&mut hold, arrived.seq, frame_bytes, until);
        drop(hold);
        if until == Until::Decoded {
            self.wake_frames();
        }
        is_held
    }

    /// The request with the verdict on its batches, as soon as there is room for it; `None`: the connection is to end.
    fn poll_inspected(
        &self,
        client: &Rc<Client>,
        announced: Option<Announced>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<ClientRequest>> {
        if client.is_closing() {
            return Poll::Ready(None);
        }
        client.note_sent();
        let has_come = client.inspected.borrow().is_some();
        if has_come && self.may_go(client, announced) {
            return Poll::Ready(client.inspected.take());
        }
        client.wake_with(cx.waker());
        Poll::Pending
    }

    /// A request comes back with the verdict on its compressed batches. For a connection that is gone it is dropped.
    pub(crate) fn on_inspected(&self, mut request: ClientRequest) {
        let client = self.clients.borrow().get(&request.connection).cloned();
        let Some(client) = client else { return };
        request.decoded_ns = clock::monotonic_ns();
        *client.inspected.borrow_mut() = Some(request);
        client.wake();
    }

    pub(super) fn hand_on(&self, client: &Client, request: ClientRequest, is_large: bool) {
        let is_voter = client.is_voter();
        if !is_voter {
            let mut handed = self.handed.borrow_mut();
            let place = handed.count;
            handed.count += 1;
            let heavy_bytes = match &request.arrived.request {
                Admitted::Heavy(heavy) => heavy.bytes,
                Admitted::Produce(_) | Admitted::Other(_) => 0,
            };
            if is_large || heavy_bytes > 0 {
                handed.heavy_bytes += heavy_bytes;
                let (connection, seq) = (client.id, request.arrived.seq);
                handed.large.push_back(HandedLarge { place, connection, seq, heavy_bytes });
            }
        }
        client.on_asked();
        self.sink.request(request, is_voter);
    }

    /// Wait until the voter request just taken is the only one without its answer, then pack up.
    async fn move_to_replica_core(&self, client: &Rc<Client>, first: ClientRequest) -> End {
        poll_fn(|cx| {
            client.note_sent();
            let session = client.session.borrow();
            let is_quiet = session.requests_under_way() <= 1 && session.output_bytes() == 0;
            if is_quiet || client.is_closing() {
                return Poll::Ready(());
            }
            client.wake_with(cx.waker());
            Poll::Pending
        })
        .await;
        if client.is_closing() {
            return End::Closed;
        }
        let (Ok(socket), Some(place)) = (client.connection.duplicate(), client.place.take()) else {
            return End::Closed;
        };
        // This core's descriptor is closed before the other one takes it over.
        place.hold(&socket);
        let session = client.session.replace(Session::new(self.limits.clone()));
        let (remote, standing) = (client.remote, client.standing.get());
        End::Moved(Box::new(MovedSession { socket, remote, place, session, first, standing }))
    }
}

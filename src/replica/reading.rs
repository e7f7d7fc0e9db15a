//! Reads from the device: whose turn it is, and who is told what was read.
//!
//! Called by `Replica`. Who may read when is `room::reads`' to say; what to read, and what becomes of it, is said by the part
//! that waits for it: a Fetch, a search of ListOffsets, or a piece of a snapshot, which is read elsewhere.

use super::connection_id::ConnectionId;
use super::desk::{Desk, Engine};
use super::fetch::{Fetch, Wish};
use super::input::Action;
use super::list_offsets::ListOffsets;
use super::room::reads::{Granted, ReadLimits, Stalled, charge_bytes};
use super::snapshots::serving::Serving;
use crate::config::Limits;
use crate::log::{ReadError, ReadOutcome, WRITES_LATELY_NS, Want};
use crate::record::BatchList;

/// Who waits for bytes that others hold is looked at again after this long: nobody tells when they are taken.
const READS_LOOK_MS: u64 = 5;

/// Of those who stood in line for the device and find what they want in memory, one turn serves so many; the others have the next one.
const SERVED_MAX: usize = 64;

pub(super) fn read_limits(limits: &Limits) -> ReadLimits {
    ReadLimits {
        bytes_max: limits.pinned_reads_bytes_max(),
        answer_bytes_max: limits.device_read_bytes_max.min(limits.fetch_response_bytes_max),
        voter_bytes_max: limits.replica_fetch_bytes_max,
        charge_bytes: charge_bytes(limits.message_bytes_max, limits.read_piece_bytes),
        under_way_max: limits.device_reads_max,
        stall_ms_max: limits.room_stall_ms_max,
    }
}

#[derive(Default)]
pub(super) struct Reading {
    /// When the log was seen to write last.
    written_ns: u64,
    /// Who waits for the device, or for what others have not taken, is looked at again then.
    due_ns: Option<u64>,
}

impl Reading {
    pub(super) fn deadline(&self) -> Option<u64> {
        self.due_ns
    }

    /// Somebody may have his turn at the device: see `start`. In most turns nobody waits.
    pub(super) fn has_work(&mut self, engine: &Engine, desk: &mut Desk, fetch: &Fetch) -> bool {
        let now_ns = desk.now.monotonic_ns;
        if engine.log().flush_pending_since().is_some() {
            self.written_ns = now_ns;
        }
        desk.reads.set_writing(now_ns.saturating_sub(self.written_ns) < WRITES_LATELY_NS);
        let has_work = !desk.reads.is_idle() || desk.ahead.is_due() || fetch.has_lines();
        if !has_work {
            self.due_ns = None;
        }
        has_work
    }

    /// Let those read from the device whose turn it is.
    pub(super) fn start(
        &mut self,
        engine: &mut Engine,
        desk: &mut Desk,
        fetch: &mut Fetch,
        list_offsets: &mut ListOffsets,
        serving: &mut Serving,
    ) {
        let now_ns = desk.now.monotonic_ns;
        let mut served = 0;
        while served < SERVED_MAX
            && let Some(granted) = desk.reads.next(now_ns)
        {
            let Some(granted) = serving.start_read(engine, desk, granted) else {
                served += 1;
                continue;
            };
            let token = granted.token;
            let wish = match list_offsets.wants_read(token) {
                Some(from) => {
                    let (bound, is_valid) = (engine.committed_or_zero(), from >= engine.log().log_start());
                    Some(Wish { from, bound, reader: None, is_valid })
                }
                None => fetch.wants_read(engine, token),
            };
            match read(engine, desk, wish.filter(|wish| wish.is_valid), granted) {
                Begun::AtDevice => {}
                Begun::Ended(batches) => {
                    served += 1;
                    desk.reads.done(token);
                    match list_offsets.wants_read(token) {
                        Some(_) => list_offsets.on_read(engine, desk, token, Ok(batches)),
                        None => fetch.on_block(engine, desk, token, batches),
                    }
                }
                Begun::Otherwise => {
                    desk.reads.done(token);
                    match list_offsets.wants_read(token) {
                        Some(_) => list_offsets.read_otherwise(engine, desk, token),
                        None => fetch.read_otherwise(engine, desk, token),
                    }
                }
            }
        }
        read_ahead(engine, desk);
        let must_look_again = desk.reads.must_look_again() || fetch.has_lines();
        self.due_ns = match served == SERVED_MAX {
            true => Some(now_ns),
            false => must_look_again.then(|| desk.now.plus_ms(READS_LOOK_MS)),
        };
        for Stalled { connection, if_silent_ms } in desk.reads.stalled(now_ns) {
            let why =
                "it does not take its answers, and others wait for the memory that they hold.".to_string();
            desk.act(Action::Close { connection, why, if_silent_ms });
        }
    }

    /// What was asked for under this token is read, or cannot be.
    pub(super) fn on_done(
        &self,
        engine: &mut Engine,
        desk: &mut Desk,
        fetch: &mut Fetch,
        list_offsets: &mut ListOffsets,
        token: u64,
        result: Result<BatchList, ReadError>,
    ) {
        match list_offsets.wants_read(token) {
            Some(_) => list_offsets.on_read(engine, desk, token, result),
            None => fetch.on_read(engine, desk, token, result),
        }
    }

    /// Nobody waits for what this connection asked for.
    pub(super) fn forget(
        &self,
        desk: &mut Desk,
        fetch: &mut Fetch,
        serving: &mut Serving,
        connection: ConnectionId,
    ) {
        desk.ahead.forget(connection);
        for token in desk.reads.forget(connection) {
            fetch.forget_read(token);
            serving.forget_read(token);
        }
    }
}

/// Ahead of those who were answered and read in order, as long as the device has a place that nobody wants.
fn read_ahead(engine: &mut Engine, desk: &mut Desk) {
    while desk.reads.has_place_ahead(engine.log().loads_ahead())
        && let Some((from, bytes)) = desk.ahead.next()
    {
        while desk.reads.has_place_ahead(engine.log().loads_ahead()) && engine.read_ahead(from, bytes) {}
    }
}

/// What became of a read whose turn it was.
enum Begun {
    AtDevice,
    /// It lies in a block meanwhile.
    Ended(BatchList),
    /// It need not be read from the device (any more).
    Otherwise,
}

fn read(engine: &mut Engine, desk: &Desk, wish: Option<Wish>, granted: Granted) -> Begun {
    let Some(Wish { from, bound, reader, .. }) = wish else { return Begun::Otherwise };
    let Granted { token, charge, bytes_max } = granted;
    match engine.read_memory(from, bound, bytes_max) {
        ReadOutcome::OnDevice => {
            // The device does a whole piece in steps while the log writes.
            let fills_piece = reader.is_some_and(|reader| desk.ahead.is_in_order(reader, from));
            engine.read_device(token, Want { from, bound, max_bytes: bytes_max, keep: charge }, fills_piece);
            Begun::AtDevice
        }
        ReadOutcome::InBlock => {
            let want = Want { from, bound, max_bytes: bytes_max, keep: charge };
            Begun::Ended(engine.read_block(want).unwrap_or_default())
        }
        _ => Begun::Otherwise,
    }
}

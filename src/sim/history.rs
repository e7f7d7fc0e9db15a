//! What the producers have sent and been told, and where it is in the log: the part of the checks that knows clients.

use super::durable::BatchId;
use super::network::Host;
use crate::types::*;
use std::collections::BTreeMap;

/// What each record says: who sent it, and which of its records it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value {
    pub(crate) client: Host,
    pub(crate) number: u64,
}

const VALUE_BYTES: usize = 12;

impl Value {
    pub(crate) fn encode(self, padding: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(VALUE_BYTES + padding);
        bytes.extend_from_slice(&self.client.to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.resize(VALUE_BYTES + padding, self.number as u8);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Value> {
        let client = Host::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
        Some(Value { client, number: u64::from_be_bytes(bytes.get(4..VALUE_BYTES)?.try_into().ok()?) })
    }
}

#[derive(Debug, Default)]
pub(super) struct History {
    /// By offset; `None`: a control record.
    values: Vec<Option<Value>>,
    /// Producers that are idempotent, with the last number committed.
    idempotent: BTreeMap<Host, Option<u64>>,
    /// When a number was first sent, everything below this offset had been acknowledged to somebody.
    floors: BTreeMap<(Host, u64), i64>,
    acknowledged_end: i64,
    pub(super) acknowledged: u64,
}

impl History {
    pub(super) fn on_idempotent(&mut self, client: Host) {
        self.idempotent.insert(client, None);
    }

    pub(super) fn on_sent(&mut self, client: Host, number: u64) {
        self.floors.entry((client, number)).or_insert(self.acknowledged_end);
    }

    pub(super) fn on_committed(&mut self, id: BatchId, values: Vec<Option<Value>>) -> Result<(), String> {
        if values.len() as i64 != id.next.0 - id.base.0 {
            return Err(format!("{id:?} has {} records that can be read", values.len()));
        }
        for value in values.iter().flatten() {
            let Some(last) = self.idempotent.get_mut(&value.client) else { continue };
            if last.is_some_and(|last| value.number <= last) {
                return Err(format!("{value:?} is committed at {} behind {last:?}", id.base));
            }
            *last = Some(value.number);
        }
        self.values.extend(values);
        Ok(())
    }

    pub(super) fn value_at(&self, offset: Offset) -> Option<Value> {
        *self.values.get(usize::try_from(offset.0).ok()?)?
    }

    /// Err: something acknowledged before this was sent lies behind it.
    pub(super) fn on_acknowledged(
        &mut self,
        client: Host,
        number: u64,
        base: i64,
        end: i64,
    ) -> Result<(), String> {
        self.acknowledged += 1;
        let floor = self.floors.get(&(client, number)).copied().unwrap_or(0);
        self.acknowledged_end = self.acknowledged_end.max(end);
        if base < floor {
            return Err(format!(
                "client {client} was told {base} for {number}, sent when {floor} was acknowledged"
            ));
        }
        Ok(())
    }
}

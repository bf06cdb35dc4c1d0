//! Order of requests and answers on one connection.
//!
//! ```text
//!  frames ──► backlog ──begin──► slots (in flight) ──settled, from the front──► answers
//! ```
//!
//! Kafka takes up one request of a connection at a time. So do we, with one exception that no client can see: produces
//! follow each other to storage without waiting for answers. Answers leave in the order of the requests (W1).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use base_types::{LeaderEpoch, ProducerEpoch, ProducerId, Tick, TopicPartition};
use bytes::Bytes;
use peer_api::groups::Caller;

use crate::api::{Produce, Refusals};
use crate::event::Stamp;
use crate::limits::{
    BACKLOG_BYTES_MAX, BACKLOG_MAX, PRODUCE_BYTES_IN_FLIGHT_MAX, PRODUCES_IN_FLIGHT_MAX, UNSENT_BYTES_MAX,
};
use crate::operation::{Answer, Operation, OperationId, Request};

#[derive(Default)]
pub(crate) struct Connection {
    caller: Arc<Caller>,
    pub backlog: VecDeque<Frame>,
    /// In the order of the requests.
    pub slots: VecDeque<Slot>,
    backlog_bytes: usize,
    slot_bytes: usize,
    /// Of answers that the client has not taken yet.
    pub unsent_bytes: usize,
    pub paused: bool,
    /// Its client has been told where to go, here or on another connection, since this gateway has left.
    pub is_informed: bool,
    /// When stale produces may be tried again without news of the metadata.
    pub retry_at: Option<Tick>,
    /// Partitions for which a produce has waited for a leader in vain, and the epoch it saw: the next one does not wait.
    pub hopeless: BTreeMap<TopicPartition, LeaderEpoch>,
    /// Whose batch the leader of a partition took last, and in which epoch: it takes no other number of theirs for their first (P3).
    pub known: BTreeMap<TopicPartition, ((ProducerId, ProducerEpoch), LeaderEpoch)>,
    /// Batches that the client is to repeat, and may have sent others behind before it knew.
    pub refusals: Refusals,
}

pub(crate) struct Frame {
    pub bytes: Bytes,
    pub stamp: Stamp,
}

pub(crate) struct Slot {
    pub operation: OperationId,
    pub request: Request,
    pub frame_size: usize,
    pub work: Work,
}

pub(crate) enum Work {
    Waiting(Box<dyn Operation>),
    /// Answers are put together only when they leave, because a later produce may bear on how an earlier one ends.
    Produce(Box<Produce>),
    Done(Answer),
    /// The operation is being told something.
    Busy,
}

impl Connection {
    pub fn from(client_host: String) -> Connection {
        let caller = Arc::new(Caller { client_id: String::new(), client_host });
        Connection { caller, ..Connection::default() }
    }

    /// Who speaks, by the name in the header of a request. Clients hardly ever change it.
    pub fn caller(&mut self, client_id: &str) -> Arc<Caller> {
        if self.caller.client_id != client_id {
            let client_host = self.caller.client_host.clone();
            self.caller = Arc::new(Caller { client_id: client_id.to_owned(), client_host });
        }
        self.caller.clone()
    }

    pub fn is_of(&self, caller: &Caller) -> bool {
        *self.caller == *caller
    }

    pub fn push(&mut self, frame: Frame) {
        self.backlog_bytes += frame.bytes.len();
        self.backlog.push_back(frame);
    }

    pub fn pop(&mut self) -> Option<Frame> {
        let frame = self.backlog.pop_front()?;
        self.backlog_bytes -= frame.bytes.len();
        Some(frame)
    }

    pub fn begin(&mut self, slot: Slot) {
        self.slot_bytes += slot.frame_size;
        self.slots.push_back(slot);
    }

    pub fn end_first(&mut self) -> Option<Slot> {
        let slot = self.slots.pop_front()?;
        self.slot_bytes -= slot.frame_size;
        Some(slot)
    }

    pub fn slot(&mut self, operation: OperationId) -> Option<&mut Slot> {
        let index = self.slots.binary_search_by_key(&operation, |slot| slot.operation).ok()?;
        self.slots.get_mut(index)
    }

    /// Of requests received and not answered.
    pub fn held_bytes(&self) -> usize {
        self.backlog_bytes + self.slot_bytes
    }

    /// Whether the first request of the backlog may begin while those in flight are not done.
    pub fn may_begin(&self, is_produce: bool) -> bool {
        if self.unsent_bytes > UNSENT_BYTES_MAX {
            return false;
        }
        self.slots.is_empty()
            || is_produce
                && self.slots.iter().all(|slot| matches!(slot.work, Work::Produce(_)))
                && self.slots.len() < PRODUCES_IN_FLIGHT_MAX
                && self.slot_bytes < PRODUCE_BYTES_IN_FLIGHT_MAX
    }

    /// Whether nothing of its client's waits for anything.
    pub fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.backlog.is_empty() && self.unsent_bytes == 0
    }

    /// Whether the client has sent more ahead than we care to hold. Goes off at half of what makes it go on.
    pub fn is_flooded(&self) -> bool {
        let divisor = if self.paused { 2 } else { 1 };
        self.backlog.len() >= BACKLOG_MAX / divisor || self.backlog_bytes >= BACKLOG_BYTES_MAX / divisor
    }

    pub fn produces(&self) -> impl Iterator<Item = &Produce> {
        self.slots.iter().filter_map(|slot| match &slot.work {
            Work::Produce(produce) => Some(&**produce),
            _ => None,
        })
    }
}

//! What consensus asks for, and in which order.

use std::collections::VecDeque;

use base_types::BrokerId;
use bytes::Bytes;

/// Names one [`Persist`]; grows by one with each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WriteId(pub u64);

/// Names one read; chosen by the asker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ReadId(pub u64);

/// Effects are performed in order. Writes complete in the order they were asked for, and each is reported with
/// [`crate::Event::PersistCompleted`]; several may be under way. A write that fails ends the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Persist(Persist),
    /// Goes out once the write `after`, and with it every earlier one, is durable (C4); at once when there is none.
    /// Messages may be lost, doubled and reordered.
    Send {
        to: BrokerId,
        bytes: Bytes,
        after: Option<WriteId>,
    },
    /// Entries to apply, in order, each index once in the life of a process (C3).
    Committed(Vec<Committed>),
    /// The state machine is to be replaced by this snapshot.
    Installed(Installed),
    RoleChanged(Role),
    /// Whatever was committed when the read was asked for is covered by `index` (C7).
    ReadReady {
        read: ReadId,
        index: u64,
    },
}

/// Changes to the stored log that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    pub write: WriteId,
    /// Replaces the stored hard state.
    pub hard_state: Option<Bytes>,
    /// Replaces the stored snapshot.
    pub snapshot: Option<Bytes>,
    /// Stored entries with an index below this go away.
    pub remove_below: Option<u64>,
    /// Stored entries with this index and above go away, before `entries` are stored.
    pub remove_from: Option<u64>,
    /// To be stored under their index.
    pub entries: Vec<(u64, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub index: u64,
    pub term: u64,
    /// What was proposed; empty for an entry of Raft's own.
    pub data: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    pub index: u64,
    pub data: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    pub term: u64,
    pub leader: Option<BrokerId>,
    pub is_leader: bool,
}

/// Consensus pushes, its owner drains.
#[derive(Debug, Default)]
pub struct Effects {
    queue: VecDeque<Effect>,
}

impl Effects {
    pub fn pop(&mut self) -> Option<Effect> {
        self.queue.pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.queue.push_back(effect);
    }
}

//! Who waits for which answer.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{BrokerId, Tick};
use peer_api::storage::RequestId;

use crate::operation::OperationId;

/// Requests to storage nodes that are neither answered nor failed.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    last_id: u64,
    to_storage: BTreeMap<RequestId, (BrokerId, OperationId)>,
}

impl Calls {
    pub fn next_id(&mut self) -> RequestId {
        self.last_id += 1;
        RequestId(self.last_id)
    }

    pub fn begin(&mut self, node: BrokerId, operation: OperationId) -> RequestId {
        let id = self.next_id();
        self.to_storage.insert(id, (node, operation));
        id
    }

    /// The operation that waits for this answer. `None` for an answer that nobody asked this node for.
    pub fn answered(&mut self, node: BrokerId, id: RequestId) -> Option<OperationId> {
        match self.to_storage.get(&id) {
            Some(&(asked, operation)) if asked == node => {
                self.to_storage.remove(&id);
                Some(operation)
            }
            _ => None,
        }
    }

    pub fn len(&self) -> usize {
        self.to_storage.len()
    }
}

/// Which operation wants to be woken when.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_operation: BTreeMap<OperationId, Tick>,
    by_tick: BTreeSet<(Tick, OperationId)>,
}

impl Timers {
    pub fn set(&mut self, operation: OperationId, tick: Tick) {
        self.clear(operation);
        self.by_operation.insert(operation, tick);
        self.by_tick.insert((tick, operation));
    }

    pub fn clear(&mut self, operation: OperationId) {
        if let Some(tick) = self.by_operation.remove(&operation) {
            self.by_tick.remove(&(tick, operation));
        }
    }

    pub fn next(&self) -> Option<Tick> {
        self.by_tick.first().map(|(tick, _)| *tick)
    }

    /// The next one that is due; it is no longer set.
    pub fn pop_due(&mut self, now: Tick) -> Option<OperationId> {
        let &(tick, operation) = self.by_tick.first()?;
        if tick > now {
            return None;
        }
        self.clear(operation);
        Some(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_set_again_rings_once_at_the_later_time() {
        let mut timers = Timers::default();
        timers.set(OperationId(1), Tick(5));
        timers.set(OperationId(2), Tick(7));
        timers.set(OperationId(1), Tick(9));
        assert_eq!(timers.next(), Some(Tick(7)));
        assert_eq!(timers.pop_due(Tick(8)), Some(OperationId(2)));
        assert_eq!(timers.pop_due(Tick(8)), None);
        assert_eq!(timers.pop_due(Tick(9)), Some(OperationId(1)));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn an_answer_from_a_node_that_was_not_asked_is_nobodys() {
        let mut calls = Calls::default();
        let id = calls.begin(BrokerId(1), OperationId(4));
        assert_eq!(calls.answered(BrokerId(2), id), None);
        assert_eq!(calls.answered(BrokerId(1), id), Some(OperationId(4)));
        assert_eq!(calls.answered(BrokerId(1), id), None);
    }
}

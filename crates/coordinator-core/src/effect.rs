//! Everything a coordinator can ask for.

use peer_api::groups::{CoordinatorError, GroupResponse};

use crate::event::{AppendId, LogRecord, RequestKey};

/// The contract with the owner:
///
/// 1. Appends reach the log in the order of their ids, each as one batch (all or nothing), and are acknowledged as `acks=all` is.
///    Once one is refused none after it reaches the log, not even those that were asked for before the refusal was known: they
///    were decided on a state that the log will never have.
/// 2. A reply is given out at once: what depends on a write is replied only after [`crate::Event::AppendCommitted`].
/// 3. Every [`RequestKey`] gets exactly one `Reply`.
/// 4. One step yields a bounded number of effects: one reply for each request that it settles, as few appends as hold what is
///    written, and what is due at one time is worked off in portions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append these records. Answered by `AppendCommitted` or `AppendRefused`, or by `Unloaded`.
    Append {
        append: AppendId,
        records: Vec<LogRecord>,
    },
    Reply {
        request: RequestKey,
        response: Result<GroupResponse, CoordinatorError>,
    },
    /// The log has refused a record, so this state is not what the log says. Everyone has been answered: the owner drops this
    /// coordinator, makes a new one and loads it. Until then requests are answered with LoadInProgress.
    Reload,
}

/// The coordinator can only push, its owner only drain.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
}

impl Effects {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.list.drain(..)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

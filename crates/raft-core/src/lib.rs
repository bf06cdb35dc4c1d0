//! Consensus for metadata: the only crate that imports raft-rs.
//!
//! ```text
//!             Ticked, MessageReceived, PersistCompleted, propose, read_index, compact
//!                                     │
//!                                     ▼
//!   Effects ◄─────────────────── Consensus ── raft-rs ── Log (memory)
//!     Persist, Send{after}, Committed, Installed, RoleChanged, ReadReady
//! ```
//!
//! What it must not know: what the entries mean, how bytes travel, where they are kept. It owns no clock: time comes with each
//! call. raft-rs draws its election time-outs from the system's randomness; they are overwritten after every call with our own
//! seeded ones, so that a seed replays.
//!
//! Invariants kept: C1 and C2 by raft-rs, C4 by [`effect::Effect::Send`]'s `after`, C3 asserted where entries are handed out.
//! raft-rs panics on a state that cannot be; the process must not survive that.
//!
//! Tested in `tests/` (steps, a three-node run under loss and crashes) and by `controller-core`'s simulation.

mod consensus;
mod effect;
mod format;
mod log;

pub use consensus::{Config, Consensus, Event, PeerProgress, ProposeError, RecoverError};
pub use effect::{Committed, Effect, Effects, Installed, Persist, ReadId, Role, WriteId};
pub use format::{FormatError, Stored};

//! The metadata controller: brokers, topics, leaders, ISR and ELR, configs, producer ids.
//!
//! ```text
//!   sessions (storage nodes, gateways, tools)          other controllers          disk
//!        │ SessionOpened, Called, SessionClosed         │ RaftReceived             │ PersistCompleted
//!        ▼                                              ▼                          ▼
//!   Controller::step ─── decides on `pending` ─── Consensus ─── folds into `committed` ───► Updates, Answers
//! ```
//!
//! What it must not know: sockets, clocks, disks, and how anyone else decides. Time comes with each event; randomness
//! (topic ids, placement, election time-outs) from a seed.
//!
//! Decisions are made on `pending`, the image with every proposal folded in, so that the next one sees them; answers and
//! updates leave only when the entry is committed, from `committed`. When leadership is lost `pending` is dropped.
//!
//! Invariants kept: R8, R9, R14 and R15 (asserted in `Image::apply` and [`Controller::check_invariants`]), R13
//! (`docs/decisions/0002-unclean-restarts.md`), C3 to C7, C11, P7.
//!
//! Tested by step tests beside the code, by `tests/scenarios`, and by `tests/properties.rs`, which runs three controllers
//! under loss, duplication, reordering and crashes.

mod config;
mod controller;
mod effect;
mod event;
mod partition_change;
mod placement;
mod records;
mod topic_name;

/// What is decided about brokers and partitions, as functions of the metadata: for the model, which runs them without consensus.
pub mod decisions {
    pub use crate::controller::{
        Decision, alter_configs, alter_partition, elect_leaders, fencing, new_partition, preferred_elections, reassign,
        registration, shutting_down, unfencing,
    };
}

pub use config::Config;
pub use controller::Controller;
pub use effect::{Effect, Effects};
pub use event::{Event, SessionId};
pub use raft_core::{Persist, RecoverError, Role, Stored, WriteId};

//! The groups of one partition of `__consumer_offsets`: their members, their assignments, their offsets.
//!
//! ```text
//!              Event                                   Effect
//!   the log  ─────────►┌──────────────────────────┐─────────► Append     (the replica that leads the partition)
//!   gateways           │     GroupCoordinator     │           Reply      (the gateway)
//!   metadata           │  classic consumer offsets│           Reload     (the owner)
//!   time     Ticked    └──────────────────────────┘
//! ```
//!
//! What it must not know: Kafka's request formats, batches, replication, sockets, clocks, other partitions. A step is
//! deterministic: the same state, time, metadata and event give the same effects.
//!
//! The model in one paragraph: the log is the truth and a group is what its records fold into. A request is decided against
//! the folded state, which changes at once, and yields records; the answer waits until they are committed. A coordinator
//! that starts folds the log and then has what the last one had, but for what only lives in memory: who is in the middle of
//! joining, and when sessions end. If the log refuses a record, the state is ahead of the truth, and the whole coordinator is
//! thrown away and loaded again: there is no other way back.
//!
//! Invariants kept: G1–G4, G6–G8; see `docs/design/groups.md`.
//!
//! Tested in `tests/groups.rs` (rule by rule), `tests/properties.rs` and `tests/consumer_groups.rs` (random runs against twins),
//! `tests/golden.rs` (bytes of Kafka's own classes), and beside the pure modules.

mod classic;
mod consumer;
mod coordinator;
mod effect;
mod event;
mod group;
mod offsets;
pub mod records;
mod timers;
mod turn;

pub use consumer::assignor;
pub use coordinator::GroupCoordinator;
pub use effect::{Effect, Effects};
pub use event::{AppendId, CONFIGS, Event, LogRecord, RequestKey, Settings};

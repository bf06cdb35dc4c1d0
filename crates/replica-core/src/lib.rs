//! One replica of one partition: it decides what is appended, acknowledged, replicated, truncated and readable.
//!
//! ```text
//!              Event                                  Effect
//!   metadata ─────────►┌─────────────────────────┐─────────► Write, Truncate, StartOver, Read   (the disk)
//!   produce            │         Replica         │           ToFollower, ToLeader               (the peers)
//!   peers              │  leader.rs  follower.rs │           ProposeIsr                         (the controller)
//!   disk      Ticked   └─────────────────────────┘           Reply                              (the gateway)
//! ```
//!
//! What it must not know: sockets, files, clocks, threads, Kafka's request formats, other partitions. A step is
//! deterministic: the same state, time and event give the same effects.
//!
//! The model in one paragraph: the leader gives offsets and hands each batch to its disk and to its followers at once.
//! Every replica reports only what is durable. The high watermark is the smallest durable end over the *maximal* ISR
//! (committed and proposed members), and moves only while the ISR has `min.insync.replicas` members. What is below it is
//! committed: readable, acknowledged to `acks=all`, and never truncated. After a change of leader a follower finds its
//! point of divergence by leader epochs, never by high watermark.
//!
//! Invariants kept: R1–R8, R10–R12, R16, R17, P1–P5, P8; see `docs/design/replication.md`.
//!
//! Tested in `tests/scenarios/*.txt` (recorded conversations of a few replicas), `tests/properties.rs` (random runs of a
//! whole partition against a dumb twin), `tests/hostile.rs`, `tests/reads.rs`, beside the pure modules, and in `sim`.

mod effect;
mod epoch_cache;
mod event;
mod high_watermark;
mod isr;
mod producer_state;
mod replica;

pub use effect::{Effect, Effects};
pub use epoch_cache::EpochCache;
pub use event::{Assignment, Event, Names, OnDisk, ReadId, RequestKey, Role, Settings, WriteFailure, WriteId};
pub use producer_state::{DecodeError, ProducerState};
pub use replica::{FetchPlan, Replica};

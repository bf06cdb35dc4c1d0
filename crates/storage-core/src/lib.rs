//! A whole storage node, but for its disk, its sockets and its clock: many replicas, the requests that wait on them, the
//! session with the controller, and the links to other nodes.
//!
//! ```text
//!   gateways ──► appends.rs fetches.rs lookups.rs  │
//!                trims.rs (gathering.rs) ──────────┤
//!                coordinators.rs ───────────────┤
//!   peers    ──► links.rs throttles.rs ────────────┼──► Replica (replica-core), one per partition
//!   controller ► session.rs metadata.rs ───────────┤
//!   disk     ──► disk.rs ──────────────────────────┘
//! ```
//!
//! What it must not know: tokio, gRPC, files, RocksDB, Kafka's request formats.
//!
//! Every request is answered exactly once, unless its stream ends first. `docs/design/storage-node.md` says how and why.
//!
//! Invariants kept: R14 and R18 (by broker epoch and topic id), C10 (only a committed tombstone deletes), C11 (the view never
//! goes back), S4 (only what is durable is checkpointed), S8, W1 (requests of one stream are taken up in order), G3 (a
//! coordinator serves what is committed, and all of it), W5 (a read is checked again after the disk has answered).
//!
//! Tested in `tests/node.rs` (exact effects, step by step), `tests/properties.rs` (random runs of whole nodes), and in `sim`.

mod effect;
mod event;
mod node;

pub use coordinator_core::CONFIGS as STATIC_CONFIGS;
pub use effect::{Effect, Effects};
pub use event::{
    ControllerStream, Event, FetchKey, FetchPart, GatewayStream, LookupKey, PeerStream, ReadFailure, TimestampHit,
};
pub use node::{CoordinatorStats, Identity, Loads, ReplicaStats, Stats, StorageNode};
pub use replica_core::{OnDisk, ReadId, WriteFailure, WriteId};

//! Replication as a whole, small: the shipped `replica-core` and the shipped decisions of `controller-core`, with links, disks and
//! clients that are toys.
//!
//! ```text
//!   World = Metadata (an ordered log of commands, decided by controller-core)
//!         + Node ×3–5 (disks with little on them, replicas of replica-core)
//!         + streams, letters, proposals and answers on their way
//!         + Judge (sees everything, knows the invariants by id)
//!
//!   seeds:      long random schedules of everything that may happen, many a second; then all heals and must come to rest
//!   exhaustive: every state within small bounds, by a breadth-first search
//! ```
//!
//! What it leaves out, on purpose: consensus (the log of commands is one; what was decided and not committed may be lost),
//! sessions and leases (a node may be fenced at any moment), bytes on disks and wires. Those are `sim`'s.
//!
//! A broken rule is a panic that names the invariant, whether a core noticed or the judge: [`seeds::run`] catches it.
//!
//! See `docs/design/replication-model.md`.

pub mod campaign;
mod disk;
pub mod exhaustive;
mod judge;
mod metadata;
mod node;
mod performing;
pub mod seeds;
mod value;
mod world;

pub use value::Value;
pub use world::World;

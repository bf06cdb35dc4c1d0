//! Storage node: the shell around `storage-core`. It owns sockets, disks, clocks and threads, and decides nothing.
//!
//! ```text
//!   gateways ─┐                                   ┌─ writer thread   group commit, truncations, in order
//!   peers    ─┼─ tasks ─► inbox ─► shell ─► core ─┼─ reader thread   reads that missed the tail cache, look-ups
//!   controller┘              ▲       (one task)   └─ flush thread    journal to segments, in the background
//!                            └──────── completions ──────┘
//! ```
//!
//! One task owns the core. Everything that happens comes in through one bounded inbox, and a turn takes up all that is there,
//! so that a busy node commits, pushes and answers in groups without any timer.
//!
//! In `thalweg dev` the same shell runs beside the gateway's and the controller's in one process; only [`Dial`] differs.
//!
//! Tested in `tests/shell.rs` and end to end.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a shell: clocks, threads, files and tasks are what it is for"
)]

mod dial;
mod directory;
mod disk;
mod health;
mod metrics;
mod shell;

pub use dial::{Choice, Dial, DialError, Dialled, RemoteDial};
pub use directory::{Directory, DirectoryError, new_incarnation};
pub use disk::Pace;
pub use health::follow;
pub use metrics::Metrics;
pub use shell::{Handle, Started, start};
pub use storage_core::Identity;

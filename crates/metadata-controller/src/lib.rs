//! Metadata controller: the shell around `controller-core`.
//!
//! ```text
//!   gRPC sessions ──┐                                    ┌── disk thread (QuorumLog over Vfs)
//!   in-process ─────┼──► inbox ──► ControllerTask ── step ──► effects ──┼── sessions (bounded queues)
//!   gRPC raft ──────┘        clock ─┘                    └── one task per other controller
//! ```
//!
//! What it must not know: what any request means. It moves messages, keeps the log and the clock, and decides nothing.
//!
//! Two ways in: [`open`] gives the task and a handle, for `thalweg dev` and tests; [`service::run`] is the whole process with its
//! listeners. Both have the same code in between.
//!
//! Tested by `tests/shell.rs` (in process and over gRPC, restarts, three voters) and at the bottom of `quorum_log.rs`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a shell acts: sockets, clocks, threads and randomness are its job"
)]

pub mod cli;
pub mod config;
pub mod metrics;
pub mod quorum_log;
pub mod service;
mod shell;

pub use config::ControllerConfig;
pub use shell::{ControllerHandle, ControllerTask, OpenError, open};

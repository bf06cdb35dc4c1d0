//! Protocol gateway: the shell around `gateway-core`.
//!
//! It owns the sockets, the clock and the streams to the other services, and decides nothing. One task owns the core; each
//! turn it takes up everything that has come, steps the core through it, and then writes, so that a busy gateway spends few
//! system calls and wake-ups on many requests.
//!
//! ```text
//!   listener ─► one reader per connection ─► inbox ─┐                       ┌─► sockets, one vectored write each
//!   storage nodes, controller ── Duplex::rx ────────┼─► turn: core.step ────┼─► Duplex::tx
//!   clock ──────────────────────────────────────────┘                       └─► pause and resume readers
//! ```
//!
//! What it must not know: what a request means, which node leads what.
//!
//! `thalweg dev` and the binary run the same [`serve`]; only their [`Links`] differ: channels within the process, or gRPC.
//!
//! Tested in `tests/shell.rs`, over real sockets.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a shell acts: sockets, clocks and tasks are its job"
)]
#![forbid(unsafe_code)]

mod health;
mod links;
mod metrics;
mod shell;

pub use gateway_core::{Config, FRAME_SIZE_MAX};
pub use health::follow;
pub use links::{GrpcLinks, Links, Opening};
pub use metrics::Metrics;
pub use shell::{Options, Patience, Status, serve};

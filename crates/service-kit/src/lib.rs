//! What the service mains share: configuration, logs, traces, metrics, health, shutdown, supervision.
//!
//! ```text
//!  main ── config::load ── logs::init ── Tasks::spawn … ── Tasks::run ── drain ── exit code
//!             │                │             │                │
//!   defaults < file < env < flags        admin::serve     SIGTERM, SIGINT, or a task that ended when it should not
//! ```
//!
//! What it must not know: any service. No decision about data is taken here.
//!
//! The binaries set mimalloc as their global allocator: their allocations are short-lived and cross threads (a batch is
//! allocated by a connection and freed by a disk thread), which mimalloc serves with less memory and time than the C
//! library's. It has to be said in each binary, since a library must not choose for its users:
//!
//! ```text
//! #[global_allocator]
//! static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
//! ```
//!
//! mimalloc gives freed pages back to the kernel after 10 ms. Where a process is not scheduled for longer than that, every
//! megabyte it receives faults its pages in anew, which costs about as much again as a third of the hop itself:
//! `MIMALLOC_PURGE_DELAY=1000` in the environment keeps them for a second. `MIMALLOC_ALLOW_LARGE_OS_PAGES=1` asks for huge ones.
//!
//! Tested at the bottom of each module, and in `tests/process.rs` with a process of its own for signals and panics.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this crate acts: files, environment, signals and clocks are its job"
)]

pub mod admin;
pub mod cli;
pub mod config;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod shutdown;
pub mod tasks;
pub mod trace;

pub use health::Health;
pub use metrics::Metrics;
pub use shutdown::Shutdown;
pub use tasks::Tasks;

//! Real processes under faults, and under power loss, judged by what their clients saw.
//!
//! ```text
//!   schedule ──► nemesis ──► network   partitions, resets, slow links between namespaces
//!   (a seed)        │    ──► disk      full, failing, slow, gone; the power of it     ──► cluster: services as they are shipped
//!                   │    ──► clock     steps                                                       ▲
//!                   └──────► signals, restarts, configs ───────────────────────────────────────────┤
//!                                                                                                  │ Kafka protocol
//!   librdkafka, Java, our own client ──────────────────────────────────────────────────────────────┘
//!            └──► journal ──► history-checker ──► clean, or the operations that prove what is wrong
//! ```
//!
//! `chaos run` is the one, `chaos power-loss` the other; both are described in `docs/design/chaos.md`. What a machine does not offer
//! is said, and not counted as done.
//!
//! What it must not know: how the services work inside. It starts their binaries and speaks Kafka's protocol to them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes under real faults: clocks, files, threads, sockets"
)]

pub mod client;
pub mod clock;
pub mod disk;
pub mod journal;
pub mod power_loss;
pub mod random;
pub mod run;
pub mod schedule;
pub mod wire;

mod cluster;
mod nemesis;
mod network;
mod patience;
mod workload;

pub use network::enter;

//! Starts real processes and drives them with real Kafka clients.
//!
//! What it must not know: anything of our crates but the names and flags of their binaries. Whatever is proved here is proved
//! through sockets and files, as a user meets it.
//!
//! ```text
//!   scenario::*  what must hold, for any bootstrap address
//!      │ uses
//!      ├── clients   kcat, Java, Python, JavaScript, Go, as published ────┐
//!      ├── history   compares what was acknowledged with what is read     │ Kafka protocol
//!      ▼                                                                  ▼
//!   dev::Dev   cluster::Cluster (ours)                      oracle::Kafka (Apache Kafka itself)
//! ```
//!
//! Every scenario takes an address, so that the same code judges Apache Kafka: a scenario that fails there is a wrong scenario.
//! Every wait has a bound; every process is killed when its handle goes.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests on real processes: clocks, files, threads"
)]

pub mod clients;
pub mod cluster;
pub mod dev;
pub mod failover;
pub mod history;
pub mod lane;
pub mod oracle;
pub mod place;
pub mod ports;
pub mod process;
pub mod record;
pub mod scenario;
pub mod wait;

mod base64;

//! The whole cluster in one thread, from one seed.
//!
//! ```text
//!   World: virtual time, one queue of happenings, a network, processes
//!     Controller ×3   controller-core on a store that forgets what was not durable
//!     Storage ×5      storage-core and the real segment-log on a disk that loses power
//!     Gateway ×2      gateway-core
//!     Client ×n       producers, a consumer, auditors: they speak Kafka's protocol in real bytes
//!     Member ×n       members of consumer groups of both protocols, likewise
//!   Checkers: across replicas at any moment, across histories at the end
//! ```
//!
//! The same cores run in the services; only the shells differ. A run is a function of its seed: the meta-test runs seeds
//! twice and compares the hashes of everything that any process was told. A failure prints the seed and how to replay it.
//!
//! Assumes: streams behave as TCP does with keep-alive (whole and in order, or gone); a torn write is `MemVfs`'s business.

pub mod checkers;
pub mod cluster;
pub mod cores;
pub mod faults;
pub mod network;
pub mod process;
pub mod shrink;
pub mod state;
pub mod trace;
pub mod world;

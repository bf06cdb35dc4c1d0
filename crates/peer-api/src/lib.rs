//! What the three services say to each other, as plain Rust types.
//!
//! ```text
//!  gateway ── storage::Request ──► storage node ◄── replication::{FromFollower, FromLeader} ──► storage node
//!     │                                  │
//!     └──── controller::Request ─────────┴──► controller ── metadata::Delta ──► everyone
//! ```
//!
//! What it must not know: protobuf, sockets, Kafka's request formats, how any service decides. The same types travel
//! through in-process channels and through gRPC (`rpc` translates), so there is one code path with two transports.
//!
//! The fold of metadata records into an image ([`metadata::Image::apply`]) lives here because all three services must fold
//! alike (C5, C11). So does the record codec: the same bytes are the controller's log and the delta stream.

pub mod config;
pub mod controller;
pub mod features;
pub mod groups;
pub mod metadata;
pub mod replication;
pub mod storage;

//! Internal gRPC: the streams between our services, over the network or within one process.
//!
//! ```text
//!  core ── peer-api types ──► Sender ─┬─ in process: a bounded channel ─────────────────────────► Receiver ──► core
//!                                     └─ protobuf header + payload pieces ─ HTTP/2 ─ split, check ─┘
//! ```
//!
//! Either way a service sees a [`Duplex`]: bounded, ordered, ended when the other side or the connection is gone. What it
//! must not know: any decision of a service. Nobody else sees a protobuf type.
//!
//! The wire is plain gRPC as the files under `proto/` say; any gRPC client can speak it. Only the way the bytes get there is
//! our own: a payload is handed to HTTP/2 as the very `Bytes` it already is, and comes out as a slice of the received frame.
//! [`limits`] has the numbers. A malformed message ends its stream, with one log line, and nothing else.
//!
//! Invariants kept: W1 (one ordered stream), W8 (nothing is allocated in proportion to a claim), S3 (batches are checked again).
//!
//! Tested in `convert/tests.rs`: round trips of every message kind. In `tests/`: a plain tonic client and server as oracle,
//! and real connections that break, stall and stop.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this crate acts: sockets and time-outs are its job"
)]

mod chunks;
mod client;
mod convert;
mod duplex;
mod framing;
mod health;
pub mod limits;
mod proto;
mod server;
mod services;
mod status;
mod wire;

pub use client::{ConnectError, ConnectOptions};
pub use duplex::{Closed, Duplex, Receiver, Sender, TryRecvError, TrySendError};
pub use health::Health;
pub use server::{Peer, ServeError, Server};
pub use services::{controller, raft, replication, storage};
pub use status::{Code, Ended};

//! A whole gateway: connections, one handler per Kafka API, routing, metadata.
//!
//! It knows Kafka's request format and nobody else's business: it holds no data, decides no order of records, elects no
//! leader. What it must not know: sockets, clocks, threads, gRPC, files, how a storage node or a controller decides.
//!
//! ```text
//!        frames                                 Request / Response
//!  client ────► connection ──► api/kNN_*.rs ──► calls ──► storage nodes, controller
//!         ◄────  in order  ◄──  operations  ◄──        ◄──
//!                                   ▲
//!                       metadata::Image, fetch sessions, producer ids
//! ```
//!
//! [`Gateway::step`] is the only way in. Everything a request waits for is an operation in `operation.rs`; the order of
//! answers, and the order in which produces leave for storage, is kept in `connection.rs` and `api/k00_produce.rs`.
//!
//! Invariants kept: W1 (order), W2 (no hidden second delivery), W3 (answers come from leaders), W4 (metadata never goes
//! back), W6 (no state that matters), W7 (bounded memory), W8 (nothing on the word of a claim), W9 (internal APIs out of
//! reach).
//!
//! Tested beside each handler, in `tests/order.rs` (W1, W2 against a storage twin that fences) and `tests/fuzz.rs`.

#![forbid(unsafe_code)]

mod api;
mod calls;
mod connection;
mod controller_link;
mod effect;
mod event;
mod gateway;
mod lag;
mod limits;
mod operation;
mod route;
mod session;
mod stats;
#[cfg(test)]
mod testing;

pub use effect::{CloseReason, Effect, Effects, RequestInfo};
pub use event::{ConnectionId, Event, Stamp, Trace};
pub use gateway::{Config, Gateway};
pub use lag::{GroupLag, PartitionLag};
pub use limits::{FRAME_SIZE_MAX, FRAME_SIZE_MIN};
pub use stats::Stats;

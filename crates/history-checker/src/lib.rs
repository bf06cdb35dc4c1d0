//! A pure judge of histories: what clients sent and were promised, against what clients read.
//!
//! ```text
//!   clients of a run ──► History ──► judge ──► Verdict: anomalies, each with the operations that prove it
//!                          ▲ │
//!                     text └─┘ one line for each operation: what a run stores
//! ```
//!
//! What it must not know: how a history came about. Simulated or real, over which wire, under which faults: it sees clients from
//! outside, has no clock, file, thread or random source, and gives the same verdict for the same history.
//!
//! Everything rests on one distinction. A send was *acknowledged*: its record is there, once, at the offset told. It *failed* for
//! certain: its record is never seen. Or it is *indeterminate*: its record may be there or not, but not twice. Whoever tells a send as
//! failed because of an error that leaves it open accuses the cluster falsely.
//!
//! Invariants looked at, from outside: R2, R6, R10, R17, S10, P1, W1; see `docs/design/history-checker.md` for each anomaly's rule, and for what
//! is legal although it looks odd. It takes O(n log n) steps and memory in proportion to the history.
//!
//! Tested in `tests/histories/`: forged histories for every anomaly, near misses that are legal, random legal histories of a model and
//! corruptions of them, and a million operations.

mod history;
mod judge;
mod text;
mod verdict;

pub use history::{
    Action, Client, Delivery, History, Isolation, Key, Moment, Operation, OperationId, Outcome, Partition, Polled,
    Record, Sent, Value,
};
pub use judge::judge;
pub use text::{ParseError, Problem};
pub use verdict::{Finding, Judged, Kind, Verdict};

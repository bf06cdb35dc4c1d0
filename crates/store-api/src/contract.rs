//! The suites every provider must pass, models and real ones alike: one definition of the promise.

pub mod kv;
pub mod vfs;

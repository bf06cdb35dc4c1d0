//! The judge on trial.
//!
//! `forged.rs`: histories made by hand, each with one anomaly that must be found, alone. `legal.rs`: what looks odd and is right. `random.rs`:
//! legal histories of a model (`model.rs`), which must be clean, and corruptions of them (`corruption.rs`), which must be found.
//! `million.rs`: as many operations. `text.rs`: the text form.
#![allow(clippy::disallowed_methods, reason = "a test reads how many seeds it takes from the environment")]

mod corruption;
mod forged;
mod legal;
mod million;
mod model;
mod random;
mod text;

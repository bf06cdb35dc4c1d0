//! The judge on trial.
//!
//! `forged.rs`: histories made by hand, each with one anomaly that must be found, alone. `legal.rs`: what looks odd and is right. `text.rs`: the
//! text form.

mod forged;
mod legal;
mod text;

//! What must hold for any Kafka at a bootstrap address: Apache's, `thalweg dev`, a cluster of ours.

pub mod clients;
pub mod faults;
pub mod members;
pub mod packages;

//! Proofs on whole messages: against bytes written by Kafka, against an independent codec, and against hostile bytes.
//!
//! `fixtures/golden.txt` is written by `tests-e2e/golden-java/GoldenMessages.java`, which says how to run it.

#![allow(clippy::disallowed_methods, reason = "a test: `FUZZ_CASES` and `FUZZ_SEED` come from the environment")]

mod allocation;
mod differential;
mod golden;
mod hostile;

//! The log against a dumb twin, through every crash, under faults, and on files of earlier versions.

#![allow(clippy::disallowed_methods, reason = "tests start threads and read fixtures")]

mod corruption;
mod crash_points;
mod faults;
mod fixtures;
mod properties;
mod reads;
mod structure;
mod support;
mod twin;

//! The log against a dumb twin, through every crash, under faults, and on files of earlier versions.

mod crash_points;
mod faults;
mod fixtures;
mod properties;
mod reads;
mod structure;
mod support;
mod twin;

//! The processes of the simulated cluster: each is a core and the part of its shell that the simulator needs.

pub mod admin;
pub mod client;
pub mod controller;
pub mod gateway;
pub mod storage;

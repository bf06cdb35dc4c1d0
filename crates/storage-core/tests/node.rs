//! One storage node, step by step: each test says what happened and lists exactly what the node asks for.

#[path = "node/host.rs"]
mod host;

#[path = "node/appends.rs"]
mod appends;
#[path = "node/coordinators.rs"]
mod coordinators;
#[path = "node/damage.rs"]
mod damage;
#[path = "node/disk.rs"]
mod disk;
#[path = "node/fetches.rs"]
mod fetches;
#[path = "node/links.rs"]
mod links;
#[path = "node/lookups.rs"]
mod lookups;
#[path = "node/metadata.rs"]
mod metadata;
#[path = "node/session.rs"]
mod session;
#[path = "node/throttles.rs"]
mod throttles;
#[path = "node/trims.rs"]
mod trims;

//! The features of a cluster (KIP-584) and the levels that this release knows.

/// Name, oldest and newest level, as Kafka 4.3.0 has them: eligible leader replicas (KIP-966), the new group protocol
/// (KIP-848), and the metadata of 3.3-IV3 to 4.3-IV0.
pub const FEATURES: [(&str, i16, i16); 3] =
    [("eligible.leader.replicas.version", 0, 1), ("group.version", 0, 1), (METADATA_VERSION, 7, 30)];

pub const METADATA_VERSION: &str = "metadata.version";

/// The levels of a feature that is known.
pub fn levels(name: &str) -> Option<std::ops::RangeInclusive<i16>> {
    FEATURES.iter().find(|(known, ..)| *known == name).map(|&(_, oldest, newest)| oldest..=newest)
}

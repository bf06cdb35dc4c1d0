//! What clients of a group coordinator see, rule by rule. The codes are those of Apache Kafka 4.3.

#[path = "groups/world.rs"]
mod world;

#[path = "groups/administration.rs"]
mod administration;
#[path = "groups/classic.rs"]
mod classic;
#[path = "groups/life.rs"]
mod life;
#[path = "groups/offsets.rs"]
mod offsets;
#[path = "groups/static_members.rs"]
mod static_members;

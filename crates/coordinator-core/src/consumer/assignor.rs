//! Server-side assignors: who of a group is to have which partitions. Pure functions on data.
//!
//! ```text
//!  members: subscription, rack, target so far ──┐
//!                                               ├──► assign ──► new target of each member
//!  topics: partitions, racks of their replicas ─┘
//! ```
//!
//! Every partition of a subscribed topic goes to exactly one of its subscribers, whatever the earlier target said. The same
//! input gives the same output.
//!
//! Tested beside each assignor and in `tests/assignors.rs`; timed in `benches/assignors.rs`.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use base_types::TopicId;

pub use super::partitions::Partitions;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    pub const ALL: &[Assignor] = &[Assignor::Uniform, Assignor::Range];

    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub fn named(name: &str) -> Option<Assignor> {
        Assignor::ALL.iter().copied().find(|assignor| assignor.name() == name)
    }

    /// The new target of each member, in the order of [`Group::members`].
    pub fn assign(self, group: &Group<'_>) -> Vec<Partitions> {
        match self {
            Assignor::Uniform => uniform::assign(group),
            Assignor::Range => range::assign(group),
        }
    }
}

pub struct Group<'a> {
    pub members: Vec<Member<'a>>,
    /// What members subscribe to that is not here does not exist.
    pub topics: BTreeMap<TopicId, Topic<'a>>,
}

pub struct Member<'a> {
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    pub rack: Option<&'a str>,
    pub subscribed: &'a BTreeSet<TopicId>,
    /// The target so far. What is there may have gone, and may not be subscribed to any more.
    pub target: &'a Partitions,
}

pub struct Topic<'a> {
    pub partitions: usize,
    /// By partition, the racks that hold a replica. Empty when racks do not matter.
    pub racks: Vec<Vec<&'a str>>,
}

impl Topic<'_> {
    fn is_in_rack(&self, partition: usize, rack: Option<&str>) -> bool {
        rack.is_some_and(|rack| self.racks.get(partition).is_some_and(|racks| racks.contains(&rack)))
    }
}

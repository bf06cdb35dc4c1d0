//! How large a run is, for how long there is trouble, and of which kinds.

use std::fmt;
use std::str::FromStr;

use base_types::Random;

use crate::faults::{Kind, Swarm};
use crate::process::client::TOPIC;
use crate::world::ProcessId;

/// A topic that clients use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topic {
    pub partitions: i32,
    pub replication_factor: i16,
    pub min_insync_replicas: i16,
}

pub const TOPICS_MAX: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    pub controllers: i32,
    pub storage_nodes: i32,
    pub gateways: i32,
    /// Producers, readers, operators, adversaries; what they are is drawn from the seed.
    pub clients: i32,
    /// Between two requests of a client, about.
    pub pace_ms: u64,
    topics: [Topic; TOPICS_MAX],
    /// Of three members each, in both protocols.
    pub groups: usize,
    /// Faults end and clients stop here; then everything has to heal.
    pub trouble_ms: u64,
    pub heal_ms: u64,
    pub faults: u64,
    /// Of members of groups.
    pub member_faults: u64,
    pub swarm: Swarm,
}

const NONE: Topic = Topic { partitions: 0, replication_factor: 0, min_insync_replicas: 0 };

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            controllers: 3,
            storage_nodes: 3,
            gateways: 2,
            clients: 5,
            pace_ms: 50,
            topics: one_topic(2),
            groups: 0,
            trouble_ms: 12_000,
            heal_ms: 30_000,
            faults: 6,
            member_faults: 0,
            swarm: Swarm::of(&[Kind::Kill, Kind::PowerLoss, Kind::Pause, Kind::Cut]),
        }
    }
}

impl Shape {
    /// Consumer groups, with so much going on besides as they need.
    pub fn of_groups() -> Shape {
        Shape {
            clients: 3,
            pace_ms: 30,
            topics: one_topic(6),
            groups: 3,
            trouble_ms: 15_000,
            heal_ms: 45_000,
            faults: 8,
            member_faults: 6,
            ..Shape::default()
        }
    }

    /// The whole cluster, with topics and trouble of this seed.
    pub fn whole(seed: u64) -> Shape {
        let mut random = Random::new(seed).fork(7);
        let storage_nodes = 5;
        let mut topics = [NONE; TOPICS_MAX];
        for (index, topic) in topics.iter_mut().enumerate() {
            let replication_factor = if index == 0 { 3 } else { random.between(1, storage_nodes) as i16 };
            *topic = Topic {
                partitions: random.between(1, 3) as i32,
                replication_factor,
                min_insync_replicas: random.between(1, replication_factor as u64) as i16,
            };
        }
        Shape {
            storage_nodes: storage_nodes as i32,
            clients: 8,
            pace_ms: random.between(50, 500),
            topics,
            trouble_ms: 120_000,
            heal_ms: 60_000,
            faults: random.between(10, 60),
            swarm: Swarm::draw(&mut random),
            ..Shape::default()
        }
    }

    /// Shapes with less in them, the most promising first: half of the clients, one client, group, topic or partition fewer.
    pub fn smaller(&self) -> Vec<Shape> {
        let clients = [self.clients / 2, self.clients - 1].into_iter().filter(|count| *count >= 1);
        let mut smaller: Vec<Shape> = clients.map(|clients| Shape { clients, ..*self }).collect();
        if self.groups > 0 {
            smaller.push(Shape { groups: self.groups - 1, ..*self });
        }
        let topics = self.topics().len();
        if topics > 1 {
            let mut fewer = *self;
            fewer.topics[topics - 1] = NONE;
            smaller.push(fewer);
        }
        for index in 0..topics {
            let mut fewer = *self;
            fewer.topics[index].partitions -= 1;
            if fewer.topics[index].partitions >= 1 {
                smaller.push(fewer);
            }
        }
        smaller
    }

    pub fn topics(&self) -> &[Topic] {
        let count = self.topics.iter().take_while(|topic| topic.partitions > 0).count();
        &self.topics[..count]
    }

    /// Of the first topic, which groups and the small shapes use.
    pub fn partitions(&self) -> i32 {
        self.topics[0].partitions
    }

    /// Controllers, storage nodes and gateways.
    pub fn servers(&self) -> Vec<ProcessId> {
        let controllers = (1..=self.controllers).map(ProcessId::Controller);
        let storage = (1..=self.storage_nodes).map(ProcessId::Storage);
        controllers.chain(storage).chain((1..=self.gateways).map(ProcessId::Gateway)).collect()
    }
}

fn one_topic(partitions: i32) -> [Topic; TOPICS_MAX] {
    [Topic { partitions, replication_factor: 3, min_insync_replicas: 2 }, NONE, NONE, NONE]
}

/// The name of a topic of the shape.
pub fn topic_name(index: usize) -> String {
    if index == 0 { TOPIC.to_owned() } else { format!("{TOPIC}-{index}") }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}/{}", self.partitions, self.replication_factor, self.min_insync_replicas)
    }
}

impl FromStr for Topic {
    type Err = ();

    fn from_str(text: &str) -> Result<Topic, ()> {
        let (partitions, copies) = text.split_once('x').ok_or(())?;
        let (replication_factor, min_insync_replicas) = copies.split_once('/').ok_or(())?;
        Ok(Topic {
            partitions: partitions.parse().map_err(|_| ())?,
            replication_factor: replication_factor.parse().map_err(|_| ())?,
            min_insync_replicas: min_insync_replicas.parse().map_err(|_| ())?,
        })
    }
}

/// One line of `name=value`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics: Vec<String> = self.topics().iter().map(Topic::to_string).collect();
        write!(f, "controllers={} storage_nodes={} ", self.controllers, self.storage_nodes)?;
        write!(f, "gateways={} clients={} ", self.gateways, self.clients)?;
        write!(f, "pace_ms={} topics={} groups={} ", self.pace_ms, topics.join(","), self.groups)?;
        write!(f, "trouble_ms={} heal_ms={} ", self.trouble_ms, self.heal_ms)?;
        write!(f, "faults={} member_faults={} swarm={}", self.faults, self.member_faults, self.swarm)
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let mut shape = Shape::default();
        for word in text.split(' ') {
            let wrong = || format!("not part of a shape: `{word}`");
            let (name, value) = word.split_once('=').ok_or_else(wrong)?;
            shape.set(name, value).ok_or_else(wrong)?;
        }
        Ok(shape)
    }
}

impl Shape {
    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "controllers" => self.controllers = value.parse().ok()?,
            "storage_nodes" => self.storage_nodes = value.parse().ok()?,
            "gateways" => self.gateways = value.parse().ok()?,
            "clients" => self.clients = value.parse().ok()?,
            "pace_ms" => self.pace_ms = value.parse().ok()?,
            "topics" => {
                self.topics = [NONE; TOPICS_MAX];
                for (index, topic) in value.split(',').enumerate() {
                    *self.topics.get_mut(index)? = topic.parse().ok()?;
                }
            }
            "groups" => self.groups = value.parse().ok()?,
            "trouble_ms" => self.trouble_ms = value.parse().ok()?,
            "heal_ms" => self.heal_ms = value.parse().ok()?,
            "faults" => self.faults = value.parse().ok()?,
            "member_faults" => self.member_faults = value.parse().ok()?,
            "swarm" => self.swarm = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_back_as_it_was_written() {
        let shapes = (1..50).map(Shape::whole).chain([Shape::default(), Shape::of_groups()]);
        for shape in shapes {
            assert_eq!(shape.to_string().parse(), Ok(shape));
        }
        assert!("controllers=3 colour=7".parse::<Shape>().unwrap_err().contains("colour"));
    }
}

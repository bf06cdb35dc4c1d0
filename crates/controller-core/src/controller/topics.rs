//! Making, growing and deleting topics: Kafka's rules, codes and texts.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, TopicId};
use peer_api::config::validate_topic;
use peer_api::controller::{CreatedTopic, DeletedTopic, NewPartitions, NewTopic, Refusal, Response, TopicSelector};
use peer_api::groups::GROUPS_TOPIC;
use peer_api::metadata::{ConfigResource, Image, MetadataOffset, PartitionState, Record, Topic};

use super::brokers::partition_record;
use super::{Controller, Decision, is_eligible, refusal};
use crate::placement::Placement;
use crate::topic_name;

/// Kafka's bound on the records of one request.
const PARTITIONS_MAX: usize = 10_000;

impl Controller {
    pub(super) fn create_topics(&mut self, topics: Vec<NewTopic>, validate_only: bool) -> Result<Decision, Refusal> {
        let mut records = Vec::new();
        let mut names = BTreeSet::new();
        let mut results = Vec::new();
        for topic in topics {
            let result = if names.insert(topic.name.clone()) {
                self.create_topic(topic)
            } else {
                Err(refusal(ErrorCode::InvalidRequest, "Duplicate topic name."))
            };
            results.push(result.map(|(created, new_records)| {
                records.extend(new_records);
                created
            }));
            // At each topic, so that a request never takes the memory of more than is allowed and one topic.
            check_size(&records)?;
        }
        if validate_only {
            records.clear();
        }
        Ok(Decision::after(records, Response::TopicsCreated { topics: results, visible_at: MetadataOffset(0) }))
    }

    fn create_topic(&mut self, topic: NewTopic) -> Result<(CreatedTopic, Vec<Record>), Refusal> {
        topic_name::validate(&topic.name).map_err(|text| refusal(ErrorCode::InvalidTopicException, text))?;
        if let Some(other) = topic_name::colliding(&self.pending, &topic.name) {
            let text = format!("Topic '{}' collides with existing topic: {other}", topic.name);
            return Err(refusal(ErrorCode::InvalidTopicException, text));
        }
        if self.pending.topic_named(&topic.name).is_some() {
            let text = format!("Topic '{}' already exists.", topic.name);
            return Err(refusal(ErrorCode::TopicAlreadyExists, text));
        }
        let configs = checked_configs(&topic)?;
        let partitions = if topic.assignments.is_empty() { self.placed(&topic)? } else { self.assigned(&topic)? };

        let id = self.new_topic_id();
        let created = CreatedTopic {
            name: topic.name.clone(),
            id,
            partitions: partitions.len() as i32,
            replication_factor: partitions.first().map_or(0, |state| state.replicas.len() as i16),
        };
        let mut records = vec![Record::TopicCreated { id, name: topic.name.clone() }];
        records.extend(configs.into_iter().map(|(name, value)| Record::ConfigChanged {
            resource: ConfigResource::Topic(topic.name.clone()),
            name,
            value: Some(value),
        }));
        let changed = partitions.into_iter().enumerate();
        records.extend(changed.map(|(index, state)| partition_record(id, index, state)));
        Ok((created, records))
    }

    fn new_topic_id(&mut self) -> TopicId {
        loop {
            let id = TopicId(self.random.uuid());
            // Zero means "none", and text that begins with a dash is taken for an option by command lines.
            if !id.is_zero() && !id.to_string().starts_with('-') && self.pending.topic(id).is_none() {
                return id;
            }
        }
    }

    fn assigned(&self, topic: &NewTopic) -> Result<Vec<PartitionState>, Refusal> {
        if topic.replication_factor != -1 {
            let text = "A manual partition assignment was specified, but replication factor was not set to -1.";
            return Err(refusal(ErrorCode::InvalidRequest, text));
        }
        if topic.partitions != -1 {
            let text = "A manual partition assignment was specified, but numPartitions was not set to -1.";
            return Err(refusal(ErrorCode::InvalidRequest, text));
        }
        let mut by_index = BTreeMap::new();
        let mut replication_factor = None;
        for (index, replicas) in &topic.assignments {
            if by_index.contains_key(index) {
                let text = format!("Found multiple manual partition assignments for partition {index}");
                return Err(refusal(ErrorCode::InvalidReplicaAssignment, text));
            }
            check_assignment(&self.pending, replicas, replication_factor)?;
            replication_factor = Some(replicas.len());
            by_index.insert(*index, self.assigned_partition(index.0, replicas)?);
        }
        if by_index.keys().zip(0..).any(|(index, expected)| index.0 != expected) {
            let text = "partitions should be a consecutive 0-based integer sequence";
            return Err(refusal(ErrorCode::InvalidReplicaAssignment, text));
        }
        Ok(by_index.into_values().collect())
    }

    fn assigned_partition(&self, index: i32, replicas: &[BrokerId]) -> Result<PartitionState, Refusal> {
        new_partition(&self.pending, replicas.to_vec()).ok_or_else(|| {
            let text = format!(
                "All brokers specified in the manual partition assignment for partition {index} are fenced or in \
                 controlled shutdown."
            );
            refusal(ErrorCode::InvalidReplicaAssignment, text)
        })
    }

    fn placed(&mut self, topic: &NewTopic) -> Result<Vec<PartitionState>, Refusal> {
        if topic.replication_factor < -1 || topic.replication_factor == 0 {
            let text = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(refusal(ErrorCode::InvalidReplicationFactor, text));
        }
        if topic.partitions < -1 || topic.partitions == 0 {
            let text = "Number of partitions was set to an invalid non-positive value.";
            return Err(refusal(ErrorCode::InvalidPartitions, text));
        }
        let or_default = |value, default| if value == -1 { default } else { value };
        let partitions = or_default(topic.partitions, self.config.default_partitions);
        let factor = match topic.replication_factor {
            -1 => self.config.default_replication_factor,
            factor => factor,
        };
        self.place(partitions as usize, factor)
    }

    fn place(&mut self, partitions: usize, replication_factor: i16) -> Result<Vec<PartitionState>, Refusal> {
        let mut placement = Placement::new(&self.pending, &mut self.random);
        let wanted =
            placement.check(replication_factor).map_err(|text| refusal(ErrorCode::InvalidReplicationFactor, text))?;
        if partitions > PARTITIONS_MAX {
            return Err(too_many());
        }
        // The first replica is active, so there is always a leader.
        Ok((0..partitions).filter_map(|_| new_partition(&self.pending, placement.place(wanted))).collect())
    }

    pub(super) fn create_partitions(
        &mut self,
        topics: Vec<NewPartitions>,
        validate_only: bool,
    ) -> Result<Decision, Refusal> {
        let mut records = Vec::new();
        let mut names = BTreeSet::new();
        let mut results = Vec::new();
        for topic in &topics {
            let result = if names.insert(&topic.name) {
                self.grow_topic(topic)
            } else {
                Err(refusal(ErrorCode::InvalidRequest, "Duplicate topic name."))
            };
            results.push(result.map(|new_records| records.extend(new_records)));
            check_size(&records)?;
        }
        if validate_only {
            records.clear();
        }
        Ok(Decision::after(records, Response::PartitionsCreated { topics: results, visible_at: MetadataOffset(0) }))
    }

    fn grow_topic(&mut self, request: &NewPartitions) -> Result<Vec<Record>, Refusal> {
        let topic = self.pending.topic_named(&request.name).ok_or_else(unknown_topic)?;
        let (id, current) = (topic.id, topic.partitions.len());
        let factor = topic.partitions.first().map_or(1, |state| state.replicas.len());
        let wanted = usize::try_from(request.count).unwrap_or(0);
        if request.name == GROUPS_TOPIC {
            let text = "A group's offsets are in the partition that its name and their number give: it stays as it is.";
            return Err(refusal(ErrorCode::InvalidPartitions, text));
        }
        if wanted == current {
            let text = format!("Topic already has {current} partition(s).");
            return Err(refusal(ErrorCode::InvalidPartitions, text));
        }
        if wanted < current {
            let text = format!(
                "The topic {} currently has {current} partition(s); {} would not be an increase.",
                request.name, request.count
            );
            return Err(refusal(ErrorCode::InvalidPartitions, text));
        }
        let added = wanted - current;
        let states = if request.assignments.is_empty() {
            self.place(added, factor as i16)?
        } else if request.assignments.len() != added {
            let text = format!(
                "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
                request.assignments.len()
            );
            return Err(refusal(ErrorCode::InvalidReplicaAssignment, text));
        } else {
            let mut states = Vec::new();
            for (replicas, index) in request.assignments.iter().zip(current..) {
                check_assignment(&self.pending, replicas, Some(factor))?;
                states.push(self.assigned_partition(index as i32, replicas)?);
            }
            states
        };
        Ok(states.into_iter().zip(current..).map(|(state, index)| partition_record(id, index, state)).collect())
    }

    pub(super) fn delete_topics(&mut self, selectors: Vec<TopicSelector>) -> Result<Decision, Refusal> {
        let mut gone = BTreeSet::new();
        let mut results = Vec::new();
        for selector in selectors {
            let found = match &selector {
                TopicSelector::Name(name) => self.pending.topic_named(name).ok_or_else(unknown_topic),
                TopicSelector::Id(id) => self
                    .pending
                    .topic(*id)
                    .ok_or_else(|| refusal(ErrorCode::UnknownTopicId, "This server does not host this topic ID.")),
            };
            results.push(match found {
                Err(error) => Err(error),
                Ok(Topic { id, .. }) if !gone.insert(*id) => Err(match selector {
                    TopicSelector::Name(_) => refusal(ErrorCode::InvalidRequest, "Duplicate topic name."),
                    TopicSelector::Id(_) => refusal(ErrorCode::InvalidRequest, "Duplicate topic id."),
                }),
                Ok(topic) => Ok(DeletedTopic { name: topic.name.clone(), id: topic.id }),
            });
        }
        let records = gone.into_iter().map(|id| Record::TopicRemoved { id }).collect();
        Ok(Decision::after(records, Response::TopicsDeleted { topics: results, visible_at: MetadataOffset(0) }))
    }
}

/// `None` when no replica could lead.
pub fn new_partition(image: &Image, replicas: Vec<BrokerId>) -> Option<PartitionState> {
    let isr: Vec<BrokerId> = replicas.iter().copied().filter(|id| is_eligible(image, *id)).collect();
    let leader = Some(*isr.first()?);
    Some(PartitionState {
        replicas,
        isr,
        leader,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        ..PartitionState::default()
    })
}

pub(super) fn check_assignment(
    image: &Image,
    replicas: &[BrokerId],
    replication_factor: Option<usize>,
) -> Result<(), Refusal> {
    let invalid = |text: String| Err(refusal(ErrorCode::InvalidReplicaAssignment, text));
    if replicas.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    for (at, id) in sorted.iter().enumerate() {
        if image.broker(*id).is_none() {
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
        if at > 0 && sorted[at - 1] == *id {
            return invalid(format!("The manual partition assignment includes the broker {id} more than once."));
        }
    }
    match replication_factor {
        Some(factor) if factor != replicas.len() => invalid(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent \
             with previous partitions, which have {factor} replica(s).",
            replicas.len()
        )),
        _ => Ok(()),
    }
}

fn unknown_topic() -> Refusal {
    refusal(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.")
}

fn checked_configs(topic: &NewTopic) -> Result<BTreeMap<String, String>, Refusal> {
    let nulls: Vec<&str> =
        topic.configs.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect();
    if !nulls.is_empty() {
        let text = format!("Null value not supported for topic configs: {}", nulls.join(","));
        return Err(refusal(ErrorCode::InvalidConfig, text));
    }
    let configs: BTreeMap<String, String> =
        topic.configs.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
    validate_topic(&configs).map_err(|error| refusal(ErrorCode::InvalidConfig, error.0))?;
    Ok(configs)
}

fn check_size(records: &[Record]) -> Result<(), Refusal> {
    if records.len() > PARTITIONS_MAX { Err(too_many()) } else { Ok(()) }
}

fn too_many() -> Refusal {
    refusal(ErrorCode::PolicyViolation, "Excessively large number of partitions per request.")
}

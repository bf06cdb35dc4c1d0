//! Changing configs, of topics, brokers and the cluster, and what that does to partitions.

use std::collections::{BTreeMap, BTreeSet};

use base_types::ErrorCode;
use peer_api::config::{Definition, InvalidConfig, Kind, broker_config, topic_config, validate_broker, validate_topic};
use peer_api::controller::{ConfigChange, ConfigChanges, ConfigOperation, Refusal, Response};
use peer_api::metadata::{ConfigResource, Image, MetadataOffset, Record};

use super::brokers::partition_record;
use super::{Decision, changed, refusal};
use crate::partition_change::Change;
use crate::topic_name;

const VALUE_BYTES_MAX: usize = 32_767;

pub fn alter_configs(image: &Image, requests: Vec<ConfigChanges>, validate_only: bool) -> Result<Decision, Refusal> {
    let mut records = Vec::new();
    let mut seen = BTreeSet::new();
    let mut results = Vec::new();
    for request in &requests {
        let result = if seen.insert(&request.resource) {
            alteration(image, request)
        } else {
            Err(refusal(ErrorCode::InvalidRequest, "Each resource must appear at most once."))
        };
        results.push(result.map(|new_records| records.extend(new_records)));
    }
    if validate_only {
        records.clear();
    }
    let consequences = consequences(image, &records);
    records.extend(consequences);
    Ok(Decision::after(records, Response::ConfigsAltered { resources: results, visible_at: MetadataOffset(0) }))
}

/// The records of one resource's change, if all of it is valid.
fn alteration(image: &Image, request: &ConfigChanges) -> Result<Vec<Record>, Refusal> {
    let resource = &request.resource;
    let nulls: Vec<&str> = request
        .changes
        .iter()
        .filter(|change| change.value.is_none() && change.operation != ConfigOperation::Delete)
        .map(|change| change.name.as_str())
        .collect();
    if !nulls.is_empty() {
        let text = format!("Null value not supported for : {}", nulls.join(","));
        return Err(refusal(ErrorCode::InvalidRequest, text));
    }
    let current: BTreeMap<String, String> =
        image.configs(resource).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut wanted = if request.replace_all { BTreeMap::new() } else { current.clone() };
    for change in &request.changes {
        match changed_value(resource, change, current.get(&change.name))? {
            Some(value) => wanted.insert(change.name.clone(), value),
            None => wanted.remove(&change.name),
        };
    }
    validate(image, resource, &current, &wanted)?;

    let names: BTreeSet<&String> = current.keys().chain(wanted.keys()).collect();
    let differing = names.into_iter().filter(|name| current.get(*name) != wanted.get(*name));
    Ok(differing
        .map(|name| Record::ConfigChanged {
            resource: resource.clone(),
            name: name.clone(),
            value: wanted.get(name).cloned(),
        })
        .collect())
}

fn changed_value(
    resource: &ConfigResource,
    change: &ConfigChange,
    current: Option<&String>,
) -> Result<Option<String>, Refusal> {
    let operand = change.value.clone().unwrap_or_default();
    let verb = match change.operation {
        ConfigOperation::Set => return Ok(Some(operand)),
        ConfigOperation::Delete => return Ok(None),
        ConfigOperation::Append => "APPEND",
        ConfigOperation::Subtract => "SUBTRACT",
    };
    let Some(definition) = definition(resource, &change.name).filter(|definition| definition.kind == Kind::List) else {
        let text = format!("Can't {verb} to key {} because its type is not LIST.", change.name);
        return Err(refusal(ErrorCode::InvalidConfig, text));
    };
    let before = current.map(String::as_str).or(definition.default).unwrap_or_default();
    let mut elements: Vec<&str> = before.split(',').map(str::trim).filter(|element| !element.is_empty()).collect();
    for element in operand.split(',') {
        if change.operation == ConfigOperation::Subtract {
            elements.retain(|other| *other != element);
        } else if !elements.contains(&element) {
            elements.push(element);
        }
    }
    Ok(Some(elements.join(",")))
}

fn definition(resource: &ConfigResource, name: &str) -> Option<&'static Definition> {
    match resource {
        ConfigResource::Topic(_) => topic_config(name),
        ConfigResource::Cluster | ConfigResource::Broker(_) => broker_config(name),
    }
}

fn validate(
    image: &Image,
    resource: &ConfigResource,
    current: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    const MIN_ISR: &str = "min.insync.replicas";
    let invalid = |text: &str| Err(refusal(ErrorCode::InvalidConfig, text));
    if wanted.values().any(|value| value.len() > VALUE_BYTES_MAX) {
        return invalid(
            "The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.",
        );
    }
    match resource {
        ConfigResource::Topic(name) if name.is_empty() => {
            Err(refusal(ErrorCode::InvalidRequest, "Default topic resources are not allowed."))
        }
        ConfigResource::Topic(name) => {
            topic_name::validate(name).map_err(|text| refusal(ErrorCode::InvalidTopicException, text))?;
            validate_topic(wanted).map_err(|error| refusal(ErrorCode::InvalidConfig, error.0))?;
            let unknown = || refusal(ErrorCode::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."));
            image.topic_named(name).map(drop).ok_or_else(unknown)
        }
        ConfigResource::Broker(id) if id.0 < 0 => {
            Err(refusal(ErrorCode::InvalidRequest, "Invalid negative broker ID."))
        }
        ConfigResource::Broker(id) => {
            // The ELR stands on one minimum for all replicas of a partition (KIP-966).
            if wanted.get(MIN_ISR) != current.get(MIN_ISR) {
                return invalid("Broker-level min.insync.replicas cannot be altered while ELR is enabled.");
            }
            validate_broker(wanted, true).map_err(invalid_broker_config)?;
            match image.broker(*id) {
                Some(_) => Ok(()),
                None => Err(refusal(ErrorCode::BrokerIdNotRegistered, format!("No broker with id {id} found."))),
            }
        }
        ConfigResource::Cluster => {
            if current.contains_key(MIN_ISR) && !wanted.contains_key(MIN_ISR) {
                return invalid("Cluster-level min.insync.replicas cannot be removed while ELR is enabled.");
            }
            validate_broker(wanted, false).map_err(invalid_broker_config)
        }
    }
}

/// Kafka's brokers check these before the controller does, and tell them by this code (KAFKA-13609).
fn invalid_broker_config(error: InvalidConfig) -> Refusal {
    refusal(ErrorCode::InvalidRequest, error.0)
}

/// A lower minimum empties ELRs; allowing unclean elections finds leaders.
fn consequences(image: &Image, records: &[Record]) -> Vec<Record> {
    let matters = |record: &Record| {
        let Record::ConfigChanged { name, .. } = record else { return false };
        name == "min.insync.replicas" || name == "unclean.leader.election.enable"
    };
    if !records.iter().any(matters) {
        return Vec::new();
    }
    let mut draft = image.clone();
    records.iter().for_each(|record| draft.apply(record));
    let mut consequences = Vec::new();
    for topic in draft.topics() {
        for (index, old) in topic.partitions.iter().enumerate() {
            if old.leader.is_some() && old.elr.is_empty() {
                continue;
            }
            let change = Change { isr: old.isr.clone(), ..Change::default() };
            if let Some(state) = changed(&draft, &topic.name, old, &change) {
                consequences.push(partition_record(topic.id, index, state));
            }
        }
    }
    consequences
}

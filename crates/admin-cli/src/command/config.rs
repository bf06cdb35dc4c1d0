//! `thalweg config`.

use kafka_wire::k32_describe_configs::{DescribeConfigsResource, DescribeConfigsResourceResult};
use kafka_wire::k44_incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use kafka_wire::{DescribeConfigsRequest, IncrementalAlterConfigsRequest, KafkaString};
use serde_json::json;

use crate::cli::{ConfigCommand, Resource, Target};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Table;

const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
/// Where a value comes from, by its number in the protocol.
const SOURCES: [&str; 8] = ["unknown", "topic", "broker", "cluster", "file", "default", "logger", "client-metrics"];
/// Set on the topic itself.
pub const TOPIC_SOURCE: i8 = 1;
/// From here on the numbers say that nobody has set it while the cluster ran.
const STATIC_SOURCE: i8 = 4;

pub fn run(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Describe { resource, all, target } => describe(&resource, all, &target),
        ConfigCommand::Alter { resource, set, unset, append, subtract, dry_run, target } => {
            let mut all = changes(&set, &unset);
            let listed = append.iter().map(|change| (change, APPEND));
            let listed = listed.chain(subtract.iter().map(|change| (change, SUBTRACT)));
            all.extend(listed.map(|((name, value), operation)| entry(name, operation, Some(value))));
            if all.is_empty() {
                return Err(Failure::Usage("nothing to alter: give --set, --unset, --append or --subtract".to_owned()));
            }
            change(&mut Client::connect(&target.bootstrap)?, &resource, all, dry_run)
        }
    }
}

fn describe(resource: &Resource, all: bool, target: &Target) -> Result<(), Failure> {
    let mut entries = described(&mut Client::connect(&target.bootstrap)?, resource)?;
    entries.retain(|entry| all || is_set(entry));
    entries.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    let mut table = Table::new(&["name", "value", "source"]);
    for entry in &entries {
        let source = usize::try_from(entry.config_source).ok().and_then(|source| SOURCES.get(source));
        table.row(vec![
            json!(entry.name.as_str()),
            json!(entry.value.as_deref()),
            json!(source.copied().unwrap_or("unknown")),
        ]);
    }
    table.print(target.output);
    Ok(())
}

/// All configs of one resource.
pub fn described(client: &mut Client, resource: &Resource) -> Result<Vec<DescribeConfigsResourceResult>, Failure> {
    let (resource_type, resource_name) = wire(resource);
    let resource = DescribeConfigsResource { resource_type, resource_name, ..DescribeConfigsResource::default() };
    let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    let mut entries = Vec::new();
    for result in client.call(4, &request)?.results {
        let what = format!("configs of {}", named(result.resource_type, result.resource_name.as_str()));
        Failure::check(&what, result.error_code, result.error_message.as_deref())?;
        entries.extend(result.configs);
    }
    Ok(entries)
}

/// Whether someone set it, against defaults and what a process was started with.
fn is_set(entry: &DescribeConfigsResourceResult) -> bool {
    (TOPIC_SOURCE..STATIC_SOURCE).contains(&entry.config_source)
}

pub fn changes(set: &[(String, String)], unset: &[String]) -> Vec<AlterableConfig> {
    let set = set.iter().map(|(name, value)| entry(name, SET, Some(value)));
    set.chain(unset.iter().map(|name| entry(name, DELETE, None))).collect()
}

fn entry(name: &str, config_operation: i8, value: Option<&String>) -> AlterableConfig {
    AlterableConfig { name: KafkaString::from(name), config_operation, value: value.map(KafkaString::from) }
}

pub fn change(
    client: &mut Client,
    resource: &Resource,
    configs: Vec<AlterableConfig>,
    dry_run: bool,
) -> Result<(), Failure> {
    let (resource_type, resource_name) = wire(resource);
    let resource = AlterConfigsResource { resource_type, resource_name, configs };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: dry_run };
    for answer in &client.call(1, &request)?.responses {
        let what = named(answer.resource_type, answer.resource_name.as_str());
        Failure::check(&what, answer.error_code, answer.error_message.as_deref())?;
    }
    Ok(())
}

fn wire(resource: &Resource) -> (i8, KafkaString) {
    match resource {
        Resource::Topic(name) => (TOPIC_RESOURCE, KafkaString::from(name)),
        Resource::Broker(id) => (BROKER_RESOURCE, KafkaString::from(id.to_string())),
        Resource::Cluster => (BROKER_RESOURCE, KafkaString::from("")),
    }
}

fn named(resource_type: i8, name: &str) -> String {
    match (resource_type, name) {
        (TOPIC_RESOURCE, name) => format!("topic {name}"),
        (_, "") => "the cluster".to_owned(),
        (_, id) => format!("broker {id}"),
    }
}

//! DescribeConfigs (32): every config with its value, its default and where it was set (trap 24).
//!
//! Versions 1–4. v1: synonyms (KIP-226). v3: type and documentation (KIP-569). v4: flexible.
//!
//! Topics, one broker, and the broker resource without a name, which holds what is set for all brokers. Any live broker's
//! configs may be asked of any gateway. Broker loggers are an empty list.
//!
//! Deviation from Kafka: a broker id other than the one asked is answered, where Kafka refuses it.

use std::ops::RangeInclusive;

use base_types::{BrokerId, ErrorCode};
use kafka_wire::k32_describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_wire::{DescribeConfigsRequest, DescribeConfigsResponse, KafkaString};
use peer_api::config::{Effective, Lookup};

use crate::api::k03_metadata::is_valid_name;
use crate::operation::{Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 1..=4;

pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
pub(crate) const BROKER_LOGGER: i8 = 8;

pub(crate) fn begin(cx: &mut Context<'_>, request: DescribeConfigsRequest) -> Begun {
    let mut response = DescribeConfigsResponse::default();
    for resource in &request.resources {
        let mut result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        };
        match describe(cx, resource) {
            Ok(configs) => {
                let wanted = |effective: &Effective| {
                    resource
                        .configuration_keys
                        .as_ref()
                        .is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| *key == *effective.definition.name))
                };
                let is_broker = resource.resource_type == BROKER;
                result.configs = configs
                    .into_iter()
                    .filter(wanted)
                    .map(|effective| config(effective, is_broker, &request, cx.version()))
                    .collect();
            }
            Err((code, text)) => {
                result.error_code = cx.code(code);
                result.error_message = Some(text.into());
            }
        }
        response.results.push(result);
    }
    Begun::Answered(cx.respond(&response))
}

fn describe(cx: &Context<'_>, resource: &DescribeConfigsResource) -> Result<Vec<Effective>, (ErrorCode, String)> {
    let lookup = Lookup::new(cx.image).with_static(&cx.config().statics);
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC if !is_valid_name(name) => {
            Err((ErrorCode::InvalidTopicException, format!("Topic name is illegal: {}", name.escape_default())))
        }
        // The code says it all: Kafka adds no words, and a client that prints both would say it twice.
        TOPIC if cx.image.topic_named(name).is_none() => Err((ErrorCode::UnknownTopicOrPartition, String::new())),
        TOPIC => Ok(lookup.topic_configs(name)),
        BROKER if name.is_empty() => Ok(lookup.cluster_configs()),
        BROKER => Ok(lookup.on_broker(broker(cx, name)?).broker_configs()),
        BROKER_LOGGER => broker(cx, name).map(|_| Vec::new()),
        other => Err((ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}"))),
    }
}

fn broker(cx: &Context<'_>, name: &str) -> Result<BrokerId, (ErrorCode, String)> {
    let refuse = |text: String| (ErrorCode::InvalidRequest, text);
    let id = name
        .parse()
        .map(BrokerId)
        .map_err(|_| refuse(format!("Broker id must be an integer, but it is: {}", name.escape_default())))?;
    match cx.image.broker(id) {
        Some(_) => Ok(id),
        None => Err(refuse(format!("Unexpected broker id: there is no broker {id}"))),
    }
}

fn config(
    effective: Effective,
    is_broker: bool,
    request: &DescribeConfigsRequest,
    version: i16,
) -> DescribeConfigsResourceResult {
    let definition = effective.definition;
    let synonyms = if request.include_synonyms {
        effective
            .synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name.into(),
                value: synonym.value.map(KafkaString::from),
                source: synonym.source.code(),
            })
            .collect()
    } else {
        Vec::new()
    };
    DescribeConfigsResourceResult {
        name: definition.name.into(),
        value: effective.value.map(KafkaString::from),
        read_only: is_broker && definition.is_read_only(),
        config_source: effective.source.code(),
        is_sensitive: definition.is_sensitive(),
        synonyms,
        config_type: if version >= 3 { definition.kind.code() } else { 0 },
        documentation: (version >= 3 && request.include_documentation).then(|| definition.documentation.into()),
    }
}

#[cfg(test)]
mod tests {
    use peer_api::metadata::{ConfigResource, Record};

    use super::*;
    use crate::testing::World;

    fn resource(resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
        let configuration_keys = keys.map(|keys| keys.iter().map(|key| (*key).into()).collect());
        DescribeConfigsResource { resource_type, resource_name: name.into(), configuration_keys }
    }

    fn request(resource: DescribeConfigsResource) -> DescribeConfigsRequest {
        DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, include_documentation: true }
    }

    fn set(resource: ConfigResource, name: &str, value: &str) -> Record {
        Record::ConfigChanged { resource, name: name.into(), value: Some(value.into()) }
    }

    /// Trap 24.
    #[test]
    fn a_topic_tells_every_config_with_default_source_type_and_synonyms() {
        for version in SUPPORTED {
            let mut world = World::new(1);
            world.topic("t", &[1]);
            world.change(vec![set(ConfigResource::Topic("t".into()), "cleanup.policy", "compact")]);
            let mut asked = request(resource(TOPIC, "t", None));
            asked.include_documentation = version >= 3;
            let result = &world.ask::<DescribeConfigsRequest>(version, &asked).results[0];
            assert_eq!((result.error_code, &*result.resource_name), (0, "t"));
            assert!(result.configs.len() > 20);
            let of = |name: &str| result.configs.iter().find(|config| config.name == *name).unwrap();
            // Connect insists on exactly this.
            assert_eq!(
                (of("cleanup.policy").value.as_deref(), of("cleanup.policy").config_source),
                (Some("compact"), 1)
            );
            assert_eq!(
                (of("max.message.bytes").value.as_deref(), of("max.message.bytes").config_source),
                (Some("1048588"), 5)
            );
            assert!(of("cleanup.policy").synonyms.len() > 1 && !of("cleanup.policy").read_only);
            assert_eq!(of("retention.ms").config_type, if version >= 3 { 5 } else { 0 });
            if version >= 3 {
                assert!(of("retention.ms").documentation.as_ref().is_some_and(|text| !text.is_empty()));
            }
        }
    }

    #[test]
    fn only_the_keys_asked_for_and_no_synonyms_unless_wanted() {
        let mut world = World::new(1);
        world.topic("t", &[1]);
        let keys = ["retention.ms", "nonsense"];
        let mut asked = request(resource(TOPIC, "t", Some(&keys)));
        asked.include_synonyms = false;
        let result = &world.ask::<DescribeConfigsRequest>(4, &asked).results[0];
        assert_eq!((result.configs.len(), result.configs[0].synonyms.len()), (1, 0));
    }

    #[test]
    fn brokers_have_configs_and_the_one_without_name_only_what_is_set() {
        let mut world = World::new(2);
        world.change(vec![set(ConfigResource::Cluster, "log.retention.ms", "5")]);
        let mut ask =
            |name| world.ask::<DescribeConfigsRequest>(4, &request(resource(BROKER, name, None))).results.remove(0);
        let broker = ask("2");
        assert!(broker.configs.len() > 50 && broker.configs.iter().any(|config| config.read_only));
        let cluster = ask("");
        assert_eq!((cluster.configs.len(), cluster.configs[0].config_source), (1, 3));
    }

    #[test]
    fn what_cannot_be_described_is_refused_by_resource() {
        let mut world = World::new(1);
        let mut code = |kind, name| {
            world.ask::<DescribeConfigsRequest>(4, &request(resource(kind, name, None))).results[0].error_code
        };
        assert_eq!((code(TOPIC, "x"), code(TOPIC, "a b")), (3, 17));
        assert_eq!((code(BROKER, "9"), code(BROKER, "one"), code(77, "x")), (42, 42, 42));
        assert_eq!(code(BROKER_LOGGER, "1"), 0);
        let asked = request(resource(TOPIC, "x", None));
        let unknown = world.ask::<DescribeConfigsRequest>(4, &asked).results.remove(0);
        assert_eq!(unknown.error_message.as_deref(), Some(""));
    }
}

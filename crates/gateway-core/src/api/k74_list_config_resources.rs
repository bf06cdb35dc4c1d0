//! ListConfigResources (74): names of what can have configs (KIP-1142).
//!
//! Versions 0–1. v0 was ListClientMetricsResources and lists client metrics, of which there are none. v1: any types; none named
//! means all.
//!
//! Deviation from Kafka: none known.

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use kafka_wire::k74_list_config_resources::ConfigResource;
use kafka_wire::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use crate::api::k32_describe_configs::{BROKER, BROKER_LOGGER, TOPIC};
use crate::operation::{Begun, Context};
use crate::route;

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=1;

const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

pub(crate) fn begin(cx: &mut Context<'_>, request: ListConfigResourcesRequest) -> Begun {
    let wanted = match (cx.version(), request.resource_types) {
        (0, _) => vec![CLIENT_METRICS],
        (_, types) if types.is_empty() => ALL.to_vec(),
        (_, types) => types,
    };
    if wanted.iter().any(|kind| !ALL.contains(kind)) {
        let error_code = cx.code(ErrorCode::UnsupportedVersion);
        return Begun::Answered(cx.respond(&ListConfigResourcesResponse { error_code, ..Default::default() }));
    }
    let mut config_resources = Vec::new();
    if wanted.contains(&TOPIC) {
        config_resources.extend(
            cx.image
                .topics_by_name()
                .map(|topic| ConfigResource { resource_name: (&topic.name).into(), resource_type: TOPIC }),
        );
    }
    for kind in [BROKER, BROKER_LOGGER].into_iter().filter(|kind| wanted.contains(kind)) {
        config_resources.extend(
            route::live_brokers(cx.image)
                .map(|broker| ConfigResource { resource_name: broker.id.to_string().into(), resource_type: kind }),
        );
    }
    Begun::Answered(cx.respond(&ListConfigResourcesResponse { config_resources, ..Default::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    fn ask(world: &mut World, version: i16, resource_types: Vec<i8>) -> (i16, Vec<(String, i8)>) {
        let response = world.ask::<ListConfigResourcesRequest>(version, &ListConfigResourcesRequest { resource_types });
        let found =
            response.config_resources.iter().map(|found| (found.resource_name.to_string(), found.resource_type));
        (response.error_code, found.collect())
    }

    #[test]
    fn names_are_listed_by_type() {
        let mut world = World::new(2);
        world.topic("b", &[1]);
        world.topic("a", &[1]);
        let named =
            |names: &[(&str, i8)]| names.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect::<Vec<_>>();
        assert_eq!(ask(&mut world, 0, Vec::new()), (0, Vec::new()));
        assert_eq!(ask(&mut world, 1, vec![TOPIC]), (0, named(&[("a", 2), ("b", 2)])));
        let all = [("a", 2), ("b", 2), ("1", 4), ("2", 4), ("1", 8), ("2", 8)];
        assert_eq!(ask(&mut world, 1, Vec::new()), (0, named(&all)));
        assert_eq!(ask(&mut world, 1, vec![CLIENT_METRICS, GROUP]), (0, Vec::new()));
        assert_eq!(ask(&mut world, 1, vec![TOPIC, 1]), (35, Vec::new()));
    }
}

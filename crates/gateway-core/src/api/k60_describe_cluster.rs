//! DescribeCluster (60): brokers and controller (KIP-700, trap 26).
//!
//! Versions 0–2. v1: endpoint type (KIP-919). v2: fenced brokers (KIP-1073).
//!
//! Deviation from Kafka: none known. Asked for controllers it says, as a broker does, that this is no controller's endpoint.

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use kafka_wire::k60_describe_cluster::DescribeClusterBroker;
use kafka_wire::{DescribeClusterRequest, DescribeClusterResponse, KafkaString};

use crate::api::k03_metadata::CLUSTER_OPERATIONS;
use crate::operation::{Begun, Context};
use crate::route;

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=2;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn begin(cx: &mut Context<'_>, request: DescribeClusterRequest) -> Begun {
    let refused = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
        )),
        _ => Some((ErrorCode::UnsupportedEndpointType, "Unsupported endpoint type")),
    };
    if let Some((code, text)) = refused {
        let error_code = cx.code(code);
        let error_message = Some(KafkaString::from_static(text));
        return Begun::Answered(cx.respond(&DescribeClusterResponse {
            error_code,
            error_message,
            ..Default::default()
        }));
    }
    let brokers = cx
        .image
        .brokers()
        .filter(|broker| route::is_live(broker) || request.include_fenced_brokers)
        .map(|broker| {
            let (host, port) = route::address_of(cx.image, broker, cx.shared.controller.advertised());
            DescribeClusterBroker {
                broker_id: broker.id.0,
                host,
                port,
                rack: broker.rack.as_ref().map(KafkaString::from),
                is_fenced: cx.version() >= 2 && !route::is_live(broker),
            }
        })
        .collect();
    Begun::Answered(cx.respond(&DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: cx.image.cluster_id().into(),
        controller_id: route::controller_id(cx.image).0,
        brokers,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..Default::default()
    }))
}

#[cfg(test)]
mod tests {
    use base_types::{BrokerEpoch, BrokerId};
    use peer_api::metadata::{BrokerState, Record};

    use super::*;
    use crate::testing::World;

    /// Trap 26.
    #[test]
    fn live_brokers_are_told_and_fenced_ones_on_request() {
        let mut world = World::new(3);
        let (broker, broker_epoch) = (BrokerId(1), BrokerEpoch(1));
        world.change(vec![Record::BrokerStateChanged { broker, broker_epoch, state: BrokerState::Fenced }]);
        for version in SUPPORTED {
            let mut request = DescribeClusterRequest { endpoint_type: BROKERS, ..Default::default() };
            let response = world.ask::<DescribeClusterRequest>(version, &request);
            assert_eq!(response.brokers.iter().map(|broker| broker.broker_id).collect::<Vec<_>>(), [2, 3]);
            assert_eq!((&*response.cluster_id, response.controller_id), ("cluster", 2));
            assert_eq!(response.cluster_authorized_operations, i32::MIN);
            if version >= 2 {
                request.include_fenced_brokers = true;
                let response = world.ask::<DescribeClusterRequest>(version, &request);
                let told: Vec<_> = response.brokers.iter().map(|broker| (broker.broker_id, broker.is_fenced)).collect();
                assert_eq!(told, [(1, true), (2, false), (3, false)]);
            }
        }
    }

    #[test]
    fn controllers_are_not_found_here() {
        let mut world = World::new(1);
        let mut code = |endpoint_type| {
            let request = DescribeClusterRequest { endpoint_type, ..Default::default() };
            world.ask::<DescribeClusterRequest>(1, &request).error_code
        };
        assert_eq!((code(1), code(2), code(3)), (0, 114, 115));
    }
}

//! DescribeCluster (60): brokers and controller (KIP-700, trap 26).
//!
//! Versions 0–2. v1: endpoint type (KIP-919). v2: fenced brokers (KIP-1073).
//!
//! An answer that would name no broker waits a while for one, as Metadata's does.
//!
//! Deviation from Kafka: none known. Asked for controllers it says, as a broker does, that this is no controller's endpoint.

use std::ops::RangeInclusive;

use base_types::{ErrorCode, Tick};
use kafka_wire::k60_describe_cluster::DescribeClusterBroker;
use kafka_wire::{DescribeClusterRequest, DescribeClusterResponse, KafkaString};

use crate::api::k03_metadata::CLUSTER_OPERATIONS;
use crate::limits::BROKER_WAIT_MS;
use crate::operation::{Begun, Context, Operation, Progress};
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
    Begun::settle(Describe { request, until: cx.now.tick.plus_ms(BROKER_WAIT_MS) }, cx)
}

struct Describe {
    request: DescribeClusterRequest,
    /// Until then no answer without brokers is given.
    until: Tick,
}

impl Describe {
    fn look(&self, cx: &mut Context<'_>) -> Progress {
        let brokers = brokers(cx, self.request.include_fenced_brokers);
        if brokers.is_empty() && cx.now.tick < self.until {
            return Progress::Pending;
        }
        let response = DescribeClusterResponse {
            endpoint_type: BROKERS,
            cluster_id: cx.image.cluster_id().into(),
            controller_id: route::controller_id(cx.image).0,
            brokers,
            cluster_authorized_operations: if self.request.include_cluster_authorized_operations {
                CLUSTER_OPERATIONS
            } else {
                i32::MIN
            },
            ..Default::default()
        };
        cx.respond(&response).into()
    }
}

impl Operation for Describe {
    fn begin(&mut self, cx: &mut Context<'_>) -> Progress {
        cx.wake_at(self.until);
        self.look(cx)
    }

    fn metadata_changed(&mut self, cx: &mut Context<'_>) -> Progress {
        self.look(cx)
    }

    fn woken(&mut self, cx: &mut Context<'_>) -> Progress {
        self.look(cx)
    }
}

fn brokers(cx: &Context<'_>, include_fenced: bool) -> Vec<DescribeClusterBroker> {
    cx.image
        .brokers()
        .filter(|broker| route::is_live(broker) || include_fenced)
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
        .collect()
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
    fn a_cluster_without_live_brokers_is_told_only_after_a_while() {
        let mut world = World::new(1);
        let (broker, broker_epoch) = (BrokerId(1), BrokerEpoch(1));
        world.change(vec![Record::BrokerStateChanged { broker, broker_epoch, state: BrokerState::Fenced }]);
        let mut request = DescribeClusterRequest { endpoint_type: BROKERS, ..Default::default() };
        world.send(2, &request);
        assert!(world.is_silent());
        world.change(vec![Record::BrokerStateChanged { broker, broker_epoch, state: BrokerState::Active }]);
        assert_eq!(world.answer::<DescribeClusterRequest>(2).1.brokers.len(), 1);
        world.change(vec![Record::BrokerStateChanged { broker, broker_epoch, state: BrokerState::Fenced }]);
        world.send(2, &request);
        world.pass(BROKER_WAIT_MS);
        assert_eq!(world.answer::<DescribeClusterRequest>(2).1.brokers.len(), 0);
        request.include_fenced_brokers = true;
        assert_eq!(world.ask::<DescribeClusterRequest>(2, &request).brokers.len(), 1, "those are brokers too");
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

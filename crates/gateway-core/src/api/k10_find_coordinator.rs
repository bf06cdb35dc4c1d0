//! FindCoordinator (10): who coordinates a group or a transaction.
//!
//! Versions 0–6. v1: key type. v3: flexible. v4: many keys at once (KIP-699, trap 46). v5, v6: share groups' key type (KIP-932).
//!
//! There are no coordinators yet: every key is answered `COORDINATOR_NOT_AVAILABLE`, the code real Kafka gives until its
//! internal topics exist, which makes clients ask again. It is served at all because librdkafka takes its absence for a
//! broker without LZ4 (trap 4).

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use kafka_wire::k10_find_coordinator::Coordinator;
use kafka_wire::{FindCoordinatorRequest, FindCoordinatorResponse, KafkaString};

use crate::operation::{Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=6;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub(crate) fn begin(cx: &mut Context<'_>, request: FindCoordinatorRequest) -> Begun {
    let (code, text) = match request.key_type {
        GROUP | TRANSACTION => (ErrorCode::CoordinatorNotAvailable, "the coordinator is not available"),
        SHARE if cx.version() >= 6 => (ErrorCode::CoordinatorNotAvailable, "the coordinator is not available"),
        _ => (ErrorCode::InvalidRequest, "this version knows no such type of key"),
    };
    let error_message = Some(KafkaString::from_static(text));
    let response = if cx.version() >= 4 {
        let coordinators = request
            .coordinator_keys
            .into_iter()
            .map(|key| Coordinator {
                key,
                node_id: -1,
                host: KafkaString::default(),
                port: -1,
                error_code: cx.code(code),
                error_message: error_message.clone(),
            })
            .collect();
        FindCoordinatorResponse { coordinators, ..Default::default() }
    } else {
        FindCoordinatorResponse {
            error_code: cx.code(code),
            error_message,
            node_id: -1,
            port: -1,
            ..Default::default()
        }
    };
    Begun::Answered(cx.respond(&response))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn there_is_no_coordinator_in_either_form() {
        let mut world = World::new(1);
        for version in 0..=3 {
            let request = FindCoordinatorRequest { key: "group".into(), ..Default::default() };
            let response = world.ask::<FindCoordinatorRequest>(version, &request);
            assert_eq!((response.error_code, response.node_id, response.port), (15, -1, -1));
            if version >= 1 {
                assert!(response.error_message.is_some_and(|message| !message.is_empty()));
            }
        }
        // Trap 46.
        for version in 4..=6 {
            let keys = vec!["a".into(), "b".into()];
            let request = FindCoordinatorRequest { coordinator_keys: keys, ..Default::default() };
            let response = world.ask::<FindCoordinatorRequest>(version, &request);
            let told: Vec<_> = response.coordinators.iter().map(|c| (&*c.key, c.error_code, c.node_id)).collect();
            assert_eq!(told, [("a", 15, -1), ("b", 15, -1)]);
        }
    }

    #[test]
    fn a_type_of_key_the_version_does_not_know_is_refused() {
        let mut world = World::new(1);
        let mut code = |version, key_type| {
            let request = FindCoordinatorRequest { coordinator_keys: vec!["a".into()], key_type, ..Default::default() };
            world.ask::<FindCoordinatorRequest>(version, &request).coordinators[0].error_code
        };
        assert_eq!((code(5, 2), code(6, 2), code(6, 1), code(6, 3)), (42, 15, 15, 42));
    }
}

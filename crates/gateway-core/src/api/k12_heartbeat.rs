//! Heartbeat (12): a member of a classic group is alive.
//!
//! Versions 0–4. v3: static members (KIP-345). v4: flexible.
//!
//! While the groups are being read nobody's session ends, so a heartbeat that meets that for too long is a success, as in Kafka.

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use kafka_wire::{HeartbeatRequest, HeartbeatResponse};
use peer_api::groups::{GroupRequest, GroupResponse, Heartbeat};

use crate::api::coordination::{self, Told};
use crate::limits::COORDINATOR_ANSWER_MS;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=4;

pub(crate) fn begin(cx: &mut Context<'_>, request: HeartbeatRequest) -> Begun {
    let heartbeat = Heartbeat {
        group_id: request.group_id.to_string(),
        generation_id: request.generation_id,
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
    };
    coordination::ask(cx, &request.group_id, GroupRequest::Heartbeat(heartbeat), COORDINATOR_ANSWER_MS, answer)
}

fn answer(cx: &mut Context<'_>, told: Told) -> Answer {
    let code = match told {
        Ok(GroupResponse::Heartbeat(Ok(()))) | Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
        Ok(GroupResponse::Heartbeat(Err(code))) | Err(code) => code,
        Ok(_) => ErrorCode::UnknownServerError,
    };
    let response = HeartbeatResponse { error_code: cx.code(code), ..Default::default() };
    cx.respond(&response)
}

#[cfg(test)]
mod tests {
    use peer_api::groups::CoordinatorError;

    use super::*;
    use crate::limits::COORDINATOR_RETRY_MS_MAX;
    use crate::testing::World;

    fn request(version: i16) -> HeartbeatRequest {
        HeartbeatRequest {
            group_id: "g".into(),
            generation_id: 3,
            member_id: "m".into(),
            group_instance_id: (version >= 3).then(|| "i".into()),
        }
    }

    #[test]
    fn every_version_beats() {
        for version in SUPPORTED {
            let mut world = World::with_groups(1);
            let alive = Ok(GroupResponse::Heartbeat(Ok(())));
            let (asked, response) = world.coordinate(version, &request(version), alive);
            let GroupRequest::Heartbeat(asked) = asked else { panic!("{asked:?}") };
            assert_eq!((&*asked.group_id, asked.generation_id, &*asked.member_id), ("g", 3, "m"));
            assert_eq!(asked.group_instance_id.as_deref(), (version >= 3).then_some("i"));
            assert_eq!(response.error_code, 0);
            let rebalancing = Ok(GroupResponse::Heartbeat(Err(ErrorCode::RebalanceInProgress)));
            assert_eq!(world.coordinate(version, &request(version), rebalancing).1.error_code, 27);
        }
    }

    #[test]
    fn a_group_that_is_being_read_has_no_members_that_are_late() {
        let mut world = World::with_groups(1);
        world.send(4, &request(4));
        let (node, id, _) = world.next_question();
        world.coordinator_answers(node, id, Err(CoordinatorError::LoadInProgress));
        world.now += COORDINATOR_RETRY_MS_MAX;
        world.step(crate::Event::Ticked);
        assert_eq!(world.answer::<HeartbeatRequest>(4).1.error_code, 0);
    }
}

//! JoinGroup (11): a member joins a classic group, or joins again, and waits for the others.
//!
//! Versions 0–9. v1: rebalance time-out; before, the session's. v4: a new dynamic member is first told its id (KIP-394, trap 45).
//! v5: static members (KIP-345). v6: flexible. v7: protocol type and a null protocol in the answer (KIP-559). v8: reason (KIP-800).
//! v9: a static leader may be told not to assign (KIP-814).
//!
//! What members tell each other is opaque (trap 53).

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use bytes::Bytes;
use kafka_wire::k11_join_group::JoinGroupResponseMember;
use kafka_wire::{JoinGroupRequest, JoinGroupResponse, KafkaString};
use peer_api::groups::{GroupRequest, GroupResponse, JoinGroup, JoinProtocol, JoinRefused, Joined};

use crate::api::coordination::{self, Told};
use crate::limits::JOIN_GRACE_MS;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=9;

pub(crate) fn begin(cx: &mut Context<'_>, request: JoinGroupRequest) -> Begun {
    let version = cx.version();
    let rebalance_timeout_ms = if version >= 1 { request.rebalance_timeout_ms } else { request.session_timeout_ms };
    let join = JoinGroup {
        group_id: request.group_id.to_string(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| JoinProtocol {
                name: protocol.name.to_string(),
                // A copy: a coordinator in this process keeps it, and must not keep the frame.
                metadata: Bytes::copy_from_slice(&protocol.metadata),
            })
            .collect(),
        reason: request.reason.map(|reason| reason.to_string()),
        requires_known_member_id: version >= 4,
        supports_skip_assignment: version >= 9,
    };
    let answer_ms = u64::try_from(rebalance_timeout_ms).unwrap_or(0) + JOIN_GRACE_MS;
    let member_id = request.member_id;
    coordination::ask(cx, &request.group_id, GroupRequest::JoinGroup(join), answer_ms, |cx, told| {
        answer(cx, member_id, told)
    })
}

fn answer(cx: &mut Context<'_>, member_id: KafkaString, told: Told) -> Answer {
    let (code, member_id) = match told {
        Ok(GroupResponse::JoinGroup(Ok(joined))) => return welcome(cx, joined),
        Ok(GroupResponse::JoinGroup(Err(JoinRefused { error, member_id }))) => (error, member_id.into()),
        Ok(_) => (ErrorCode::UnknownServerError, member_id),
        Err(code) => (code, member_id),
    };
    let response = JoinGroupResponse {
        error_code: cx.code(code),
        protocol_name: protocol_name(cx.version(), None),
        member_id,
        ..Default::default()
    };
    cx.respond(&response)
}

fn welcome(cx: &Context<'_>, joined: Joined) -> Answer {
    let members = joined.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: member.member_id.into(),
        group_instance_id: member.group_instance_id.map(Into::into),
        metadata: member.metadata,
    });
    cx.respond(&JoinGroupResponse {
        generation_id: joined.generation_id,
        protocol_type: joined.protocol_type.map(Into::into),
        protocol_name: protocol_name(cx.version(), joined.protocol_name),
        leader: joined.leader.into(),
        skip_assignment: joined.skip_assignment && cx.version() >= 9,
        member_id: joined.member_id.into(),
        members: members.collect(),
        ..Default::default()
    })
}

/// Older versions have no null.
fn protocol_name(version: i16, name: Option<String>) -> Option<KafkaString> {
    match name {
        Some(name) => Some(name.into()),
        None => (version < 7).then(KafkaString::default),
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::k11_join_group::JoinGroupRequestProtocol;
    use peer_api::groups::{CoordinatorError, JoinedMember};

    use super::*;
    use crate::testing::World;

    fn request(version: i16) -> JoinGroupRequest {
        JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: if version >= 1 { 60_000 } else { -1 },
            member_id: "m".into(),
            group_instance_id: (version >= 5).then(|| "i".into()),
            protocol_type: "connect".into(),
            protocols: vec![
                JoinGroupRequestProtocol { name: "b".into(), metadata: Bytes::from_static(&[0xff, 0]) },
                JoinGroupRequestProtocol { name: "a".into(), metadata: Bytes::new() },
            ],
            reason: (version >= 8).then(|| "because".into()),
        }
    }

    fn joined() -> Joined {
        Joined {
            generation_id: 4,
            protocol_type: Some("connect".into()),
            protocol_name: Some("b".into()),
            leader: "m".into(),
            skip_assignment: true,
            member_id: "m".into(),
            members: vec![JoinedMember {
                member_id: "m".into(),
                group_instance_id: Some("i".into()),
                metadata: Bytes::from_static(&[0xff, 0]),
            }],
        }
    }

    /// Traps 45 and 53.
    #[test]
    fn every_version_says_what_it_knows() {
        for version in SUPPORTED {
            let mut world = World::with_groups(1);
            let (asked, response) =
                world.coordinate(version, &request(version), Ok(GroupResponse::JoinGroup(Ok(joined()))));
            let GroupRequest::JoinGroup(asked) = asked else { panic!("{asked:?}") };
            assert_eq!(asked.rebalance_timeout_ms, if version >= 1 { 60_000 } else { 10_000 });
            assert_eq!(asked.requires_known_member_id, version >= 4);
            assert_eq!(asked.group_instance_id.as_deref(), (version >= 5).then_some("i"));
            assert_eq!(asked.reason.as_deref(), (version >= 8).then_some("because"));
            assert_eq!(asked.supports_skip_assignment, version >= 9);
            assert_eq!((&*asked.protocol_type, &*asked.member_id), ("connect", "m"));
            let protocols: Vec<_> = asked.protocols.iter().map(|p| (&*p.name, &p.metadata[..])).collect();
            assert_eq!(protocols, [("b", &[0xff, 0][..]), ("a", &[][..])]);

            assert_eq!((response.error_code, response.generation_id), (0, 4));
            assert_eq!(response.protocol_type.as_deref(), (version >= 7).then_some("connect"));
            assert_eq!(response.protocol_name.as_deref(), Some("b"));
            assert_eq!(response.skip_assignment, version >= 9);
            assert_eq!((&*response.leader, &*response.member_id), ("m", "m"));
            assert_eq!(response.members[0].group_instance_id.as_deref(), (version >= 5).then_some("i"));
            assert_eq!(response.members[0].metadata[..], [0xff, 0]);
        }
    }

    #[test]
    fn a_refusal_names_the_member_and_has_no_protocol() {
        for version in SUPPORTED {
            let mut world = World::with_groups(1);
            let refused = JoinRefused { error: ErrorCode::MemberIdRequired, member_id: "new".into() };
            let (_, response) =
                world.coordinate(version, &request(version), Ok(GroupResponse::JoinGroup(Err(refused))));
            assert_eq!((response.error_code, &*response.member_id, response.generation_id), (79, "new", -1));
            assert_eq!(response.protocol_name.as_deref(), (version < 7).then_some(""));
            let (_, response) = world.coordinate(version, &request(version), Err(CoordinatorError::Lost));
            assert_eq!((response.error_code, &*response.member_id), (16, "m"));
        }
    }

    #[test]
    fn what_a_member_says_does_not_keep_its_frame() {
        let mut world = World::with_groups(1);
        let mut asking = request(9);
        let metadata = Bytes::from(vec![7; 1000]);
        asking.protocols[0].metadata = metadata;
        world.send(9, &asking);
        let (_, _, question) = world.next_question();
        let GroupRequest::JoinGroup(asked) = question.request else { panic!() };
        // Alone in its memory, but for the copy that would be asked again.
        drop(world);
        assert!(asked.protocols.into_iter().next().unwrap().metadata.is_unique());
    }
}

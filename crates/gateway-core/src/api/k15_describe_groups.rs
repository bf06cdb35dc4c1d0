//! DescribeGroups (15): state and members of classic groups.
//!
//! Versions 0–6. v3: authorized operations (KIP-430). v4: instance ids (KIP-345). v5: flexible. v6: a group that is not there is
//! `GROUP_ID_NOT_FOUND` with a message (KIP-1043); before it is a group in state Dead (trap 51).

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use kafka_wire::k15_describe_groups::{DescribedGroup, DescribedGroupMember};
use kafka_wire::{DescribeGroupsRequest, DescribeGroupsResponse, KafkaString};
use peer_api::groups::{
    ClassicGroupDescription, ClassicMemberDescription, DescribeGroups, GroupNotFound, GroupRequest, GroupResponse,
    GroupState,
};

use crate::api::coordination::{self, Ask, Place, Told};
use crate::limits::COORDINATOR_ANSWER_MS;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=6;

/// Every operation on a group, as a bit field (KIP-430): nobody is refused anything yet.
pub(crate) const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

/// From this version on there is an error for a group that is not there, and a place for words.
const NOT_FOUND: i16 = 6;

pub(crate) fn begin(cx: &mut Context<'_>, request: DescribeGroupsRequest) -> Begun {
    if let Some(refused) = coordination::refuse_too_many(request.groups.len()) {
        return refused;
    }
    let asks = request.groups.iter().map(|group_id| Ask {
        place: Place::OfGroup(group_id.to_string()),
        request: GroupRequest::DescribeGroups(DescribeGroups { groups: vec![group_id.to_string()] }),
    });
    let operations = request.include_authorized_operations;
    coordination::ask_each(cx, asks.collect(), COORDINATOR_ANSWER_MS, move |cx, told| {
        answer(cx, request.groups, told, operations)
    })
}

fn answer(cx: &mut Context<'_>, groups: Vec<KafkaString>, told: Vec<Told>, operations: bool) -> Answer {
    let mut described = Vec::with_capacity(groups.len());
    for (group_id, told) in groups.into_iter().zip(told) {
        let group = describe(cx, told);
        let authorized_operations = if operations && group.error_code == 0 { GROUP_OPERATIONS } else { i32::MIN };
        described.push(DescribedGroup { group_id, authorized_operations, ..group });
    }
    cx.respond(&DescribeGroupsResponse { groups: described, ..Default::default() })
}

fn describe(cx: &mut Context<'_>, told: Told) -> DescribedGroup {
    let code = match told {
        Ok(GroupResponse::DescribeGroups(groups)) => match groups.into_iter().next() {
            Some((_, Ok(group))) => return found(group),
            Some((_, Err(missing))) => return dead(cx, missing),
            None => ErrorCode::UnknownServerError,
        },
        Ok(_) => ErrorCode::UnknownServerError,
        Err(code) => code,
    };
    DescribedGroup { error_code: cx.code(code), error_message: None, ..Default::default() }
}

fn found(group: ClassicGroupDescription) -> DescribedGroup {
    DescribedGroup {
        error_message: None,
        group_state: KafkaString::from_static(group.state.name()),
        protocol_type: group.protocol_type.into(),
        protocol_data: group.protocol_name.into(),
        members: group.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn member(member: ClassicMemberDescription) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: member.member_id.into(),
        group_instance_id: member.group_instance_id.map(Into::into),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}

fn dead(cx: &mut Context<'_>, missing: GroupNotFound) -> DescribedGroup {
    let (error_code, error_message) = if cx.version() >= NOT_FOUND {
        (cx.code(ErrorCode::GroupIdNotFound), Some(missing.message.into()))
    } else {
        (0, None)
    };
    DescribedGroup {
        error_code,
        error_message,
        group_state: KafkaString::from_static(GroupState::Dead.name()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use peer_api::groups::CoordinatorError;

    use super::*;
    use crate::testing::World;

    fn group() -> ClassicGroupDescription {
        ClassicGroupDescription {
            state: GroupState::Stable,
            generation: 1,
            protocol_type: "consumer".into(),
            protocol_name: "range".into(),
            members: vec![ClassicMemberDescription {
                member_id: "m".into(),
                group_instance_id: Some("i".into()),
                client_id: "c".into(),
                client_host: "/1.2.3.4".into(),
                metadata: Bytes::from_static(b"meta"),
                assignment: Bytes::from_static(b"assigned"),
            }],
        }
    }

    fn request(version: i16) -> DescribeGroupsRequest {
        DescribeGroupsRequest { groups: vec!["g".into()], include_authorized_operations: version >= 3 }
    }

    #[test]
    fn a_request_for_more_groups_than_it_may_name_closes_its_connection() {
        for (groups, closes) in [(50_000, false), (50_001, true)] {
            let mut world = World::with_groups(1);
            let request = DescribeGroupsRequest { groups: vec!["".into(); groups], ..Default::default() };
            world.send(5, &request);
            assert_eq!(world.closed.len(), usize::from(closes));
        }
    }

    #[test]
    fn every_version_describes() {
        for version in SUPPORTED {
            let mut world = World::with_groups(1);
            let found = GroupResponse::DescribeGroups(vec![("g".into(), Ok(group()))]);
            let (_, response) = world.coordinate(version, &request(version), Ok(found));
            let told = &response.groups[0];
            assert_eq!((told.error_code, &*told.group_id, &*told.group_state), (0, "g", "Stable"));
            assert_eq!((&*told.protocol_type, &*told.protocol_data), ("consumer", "range"));
            let member = &told.members[0];
            assert_eq!((&*member.member_id, &*member.client_id, &*member.client_host), ("m", "c", "/1.2.3.4"));
            assert_eq!((&member.member_metadata[..], &member.member_assignment[..]), (&b"meta"[..], &b"assigned"[..]));
            assert_eq!(member.group_instance_id.as_deref(), (version >= 4).then_some("i"));
            assert_eq!(told.authorized_operations, if version >= 3 { GROUP_OPERATIONS } else { i32::MIN });
        }
    }

    /// Trap 51.
    #[test]
    fn a_group_that_is_not_there_is_dead_and_from_v6_on_not_found() {
        for version in SUPPORTED {
            let mut world = World::with_groups(1);
            let missing = GroupNotFound { message: "no such group".into() };
            let missing = GroupResponse::DescribeGroups(vec![("g".into(), Err(missing))]);
            let (_, response) = world.coordinate(version, &request(version), Ok(missing));
            let told = &response.groups[0];
            assert_eq!(&*told.group_state, "Dead");
            if version >= 6 {
                assert_eq!((told.error_code, told.error_message.as_deref()), (69, Some("no such group")));
            } else {
                assert_eq!(told.error_code, 0);
            }
        }
    }

    #[test]
    fn each_group_has_its_own_error() {
        let mut world = World::with_groups(1);
        let groups = vec!["".into(), "a".into(), "b".into()];
        world.send(6, &DescribeGroupsRequest { groups, include_authorized_operations: true });
        let (node, first, _) = world.next_question();
        let (_, second, question) = world.next_question();
        let (_, third, _) = world.next_question();
        assert_eq!(question.request, GroupRequest::DescribeGroups(DescribeGroups { groups: vec!["a".into()] }));
        let found = |group_id: &str| Ok(GroupResponse::DescribeGroups(vec![(group_id.into(), Ok(group()))]));
        world.coordinator_answers(node, first, found(""));
        world.coordinator_answers(node, third, found("b"));
        world.coordinator_answers(node, second, Err(CoordinatorError::NotAvailable));
        let (_, response) = world.answer::<DescribeGroupsRequest>(6);
        let told: Vec<_> = response
            .groups
            .iter()
            .map(|group| (&*group.group_id, group.error_code, group.authorized_operations))
            .collect();
        assert_eq!(told, [("", 0, GROUP_OPERATIONS), ("a", 15, i32::MIN), ("b", 0, GROUP_OPERATIONS)]);
    }
}

//! LeaveGroup (13): members leave a group, or are removed by an administrator.
//!
//! Versions 0–5. v3: several members, static ones by instance id alone (KIP-345). v4: flexible. v5: reason (KIP-800).
//!
//! Up to version 2 there is one member, whose error is the error of the whole.

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use kafka_wire::k13_leave_group::MemberResponse;
use kafka_wire::{LeaveGroupRequest, LeaveGroupResponse};
use peer_api::groups::{GroupRequest, GroupResponse, LeaveGroup, LeavingMember, LeftMember};

use crate::api::coordination::{self, Told};
use crate::limits::COORDINATOR_ANSWER_MS;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=5;

const SEVERAL_MEMBERS: i16 = 3;

pub(crate) fn begin(cx: &mut Context<'_>, request: LeaveGroupRequest) -> Begun {
    let members = if cx.version() >= SEVERAL_MEMBERS {
        let member = |member: kafka_wire::k13_leave_group::MemberIdentity| LeavingMember {
            member_id: member.member_id.to_string(),
            group_instance_id: member.group_instance_id.map(|id| id.to_string()),
            reason: member.reason.map(|reason| reason.to_string()),
        };
        request.members.into_iter().map(member).collect()
    } else {
        vec![LeavingMember { member_id: request.member_id.to_string(), ..Default::default() }]
    };
    let leave = LeaveGroup { group_id: request.group_id.to_string(), members };
    coordination::ask(cx, &request.group_id, GroupRequest::LeaveGroup(leave), COORDINATOR_ANSWER_MS, answer)
}

fn answer(cx: &mut Context<'_>, told: Told) -> Answer {
    let (code, left) = match told {
        Ok(GroupResponse::LeaveGroup(Ok(left))) => (ErrorCode::None, left),
        Ok(GroupResponse::LeaveGroup(Err(code))) | Err(code) => (code, Vec::new()),
        Ok(_) => (ErrorCode::UnknownServerError, Vec::new()),
    };
    if cx.version() < SEVERAL_MEMBERS {
        let code = left.first().map_or(code, |only| only.error);
        let response = LeaveGroupResponse { error_code: cx.code(code), ..Default::default() };
        return cx.respond(&response);
    }
    let mut members = Vec::with_capacity(left.len());
    for LeftMember { member_id, group_instance_id, error } in left {
        members.push(MemberResponse {
            member_id: member_id.into(),
            group_instance_id: group_instance_id.map(Into::into),
            error_code: cx.code(error),
        });
    }
    let response = LeaveGroupResponse { error_code: cx.code(code), members, ..Default::default() };
    cx.respond(&response)
}

#[cfg(test)]
mod tests {
    use kafka_wire::k13_leave_group::MemberIdentity;
    use peer_api::groups::CoordinatorError;

    use super::*;
    use crate::testing::World;

    fn left(member_id: &str, instance_id: Option<&str>, error: ErrorCode) -> LeftMember {
        LeftMember { member_id: member_id.into(), group_instance_id: instance_id.map(Into::into), error }
    }

    #[test]
    fn one_member_up_to_v2_and_its_error_is_that_of_the_whole() {
        for version in 0..=2 {
            let mut world = World::with_groups(1);
            let request = LeaveGroupRequest { group_id: "g".into(), member_id: "m".into(), ..Default::default() };
            let gone = Ok(GroupResponse::LeaveGroup(Ok(vec![left("m", None, ErrorCode::UnknownMemberId)])));
            let (asked, response) = world.coordinate(version, &request, gone);
            let GroupRequest::LeaveGroup(asked) = asked else { panic!("{asked:?}") };
            assert_eq!((asked.members.len(), &*asked.members[0].member_id), (1, "m"));
            assert_eq!(response.error_code, 25);
            let gone = Ok(GroupResponse::LeaveGroup(Ok(vec![left("m", None, ErrorCode::None)])));
            assert_eq!(world.coordinate(version, &request, gone).1.error_code, 0);
        }
    }

    #[test]
    fn several_members_from_v3_on_each_with_its_error() {
        for version in 3..=5 {
            let mut world = World::with_groups(1);
            let members = vec![
                MemberIdentity { member_id: "m".into(), ..Default::default() },
                MemberIdentity {
                    group_instance_id: Some("i".into()),
                    reason: (version >= 5).then(|| "because".into()),
                    ..Default::default()
                },
            ];
            let request = LeaveGroupRequest { group_id: "g".into(), members, ..Default::default() };
            let gone = vec![left("m", None, ErrorCode::None), left("", Some("i"), ErrorCode::FencedInstanceId)];
            let (asked, response) = world.coordinate(version, &request, Ok(GroupResponse::LeaveGroup(Ok(gone))));
            let GroupRequest::LeaveGroup(asked) = asked else { panic!("{asked:?}") };
            assert_eq!(asked.members[1].group_instance_id.as_deref(), Some("i"));
            assert_eq!(asked.members[1].reason.as_deref(), (version >= 5).then_some("because"));
            let told: Vec<_> = response.members.iter().map(|m| (&*m.member_id, m.error_code)).collect();
            assert_eq!((response.error_code, told), (0, vec![("m", 0), ("", 82)]));
            assert_eq!(response.members[1].group_instance_id.as_deref(), Some("i"));
            let (_, response) = world.coordinate(version, &request, Err(CoordinatorError::Lost));
            assert_eq!((response.error_code, response.members.len()), (16, 0));
        }
    }
}

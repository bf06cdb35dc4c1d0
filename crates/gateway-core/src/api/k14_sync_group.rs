//! SyncGroup (14): the leader of a classic group hands out the assignment, the others wait for theirs.
//!
//! Versions 0–5. v3: static members (KIP-345). v4: flexible. v5: protocol type and name are checked (KIP-559).

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use bytes::Bytes;
use kafka_wire::{SyncGroupRequest, SyncGroupResponse};
use peer_api::groups::{GroupRequest, GroupResponse, SyncGroup, Synced};

use crate::api::coordination::{self, Told};
use crate::limits::SYNC_WAIT_MS_MAX;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=5;

/// From this version on protocol type and name must be said (KIP-559).
const PROTOCOL_IS_SAID: i16 = 5;

pub(crate) fn begin(cx: &mut Context<'_>, request: SyncGroupRequest) -> Begun {
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if cx.version() >= PROTOCOL_IS_SAID && !says_protocol {
        return Begun::Answered(answer(cx, Err(ErrorCode::InconsistentGroupProtocol)));
    }
    let sync = SyncGroup {
        group_id: request.group_id.to_string(),
        generation_id: request.generation_id,
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        protocol_type: request.protocol_type.map(|kind| kind.to_string()),
        protocol_name: request.protocol_name.map(|name| name.to_string()),
        assignments: request
            .assignments
            .into_iter()
            // A copy: a coordinator in this process keeps it, and must not keep the frame.
            .map(|assignment| (assignment.member_id.to_string(), Bytes::copy_from_slice(&assignment.assignment)))
            .collect(),
    };
    coordination::ask(cx, &request.group_id, GroupRequest::SyncGroup(sync), SYNC_WAIT_MS_MAX, answer)
}

fn answer(cx: &mut Context<'_>, told: Told) -> Answer {
    let (code, synced) = match told {
        Ok(GroupResponse::SyncGroup(Ok(synced))) => (ErrorCode::None, synced),
        Ok(GroupResponse::SyncGroup(Err(code))) | Err(code) => (code, Synced::default()),
        Ok(_) => (ErrorCode::UnknownServerError, Synced::default()),
    };
    let response = SyncGroupResponse {
        error_code: cx.code(code),
        protocol_type: synced.protocol_type.map(Into::into),
        protocol_name: synced.protocol_name.map(Into::into),
        assignment: synced.assignment,
        ..Default::default()
    };
    cx.respond(&response)
}

#[cfg(test)]
mod tests {
    use kafka_wire::k14_sync_group::SyncGroupRequestAssignment;
    use peer_api::groups::CoordinatorError;

    use super::*;
    use crate::testing::World;

    #[test]
    fn from_v5_on_a_member_says_what_it_speaks() {
        for (kind, name) in [(None, Some("range")), (Some("consumer"), None)] {
            let mut world = World::with_groups(1);
            let request = SyncGroupRequest {
                protocol_type: kind.map(Into::into),
                protocol_name: name.map(Into::into),
                ..Default::default()
            };
            assert_eq!(world.ask::<SyncGroupRequest>(5, &request).error_code, 23);
        }
    }

    #[test]
    fn every_version_carries_assignments_as_they_are() {
        for version in SUPPORTED {
            let mut world = World::with_groups(1);
            let bytes = Bytes::from_static(&[0, 0xff]);
            let request = SyncGroupRequest {
                group_id: "g".into(),
                generation_id: 4,
                member_id: "m".into(),
                group_instance_id: (version >= 3).then(|| "i".into()),
                protocol_type: (version >= 5).then(|| "sr".into()),
                protocol_name: (version >= 5).then(|| "v0".into()),
                assignments: vec![SyncGroupRequestAssignment { member_id: "m".into(), assignment: bytes.clone() }],
            };
            let synced = Synced {
                protocol_type: Some("sr".into()),
                protocol_name: Some("v0".into()),
                assignment: bytes.clone(),
            };
            let (asked, response) = world.coordinate(version, &request, Ok(GroupResponse::SyncGroup(Ok(synced))));
            let GroupRequest::SyncGroup(asked) = asked else { panic!("{asked:?}") };
            assert_eq!(asked.assignments, [("m".to_owned(), bytes.clone())]);
            assert_eq!((asked.generation_id, &*asked.member_id), (4, "m"));
            assert_eq!(asked.group_instance_id.as_deref(), (version >= 3).then_some("i"));
            assert_eq!(asked.protocol_type.as_deref(), (version >= 5).then_some("sr"));
            assert_eq!((response.error_code, &response.assignment), (0, &bytes));
            assert_eq!(response.protocol_name.as_deref(), (version >= 5).then_some("v0"));
            let (_, response) = world.coordinate(version, &request, Err(CoordinatorError::Lost));
            assert_eq!((response.error_code, response.assignment.len()), (16, 0));
        }
    }
}
